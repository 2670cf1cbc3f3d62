"""The page to browse a training run: its curves, and every rollout with its tokens coloured by advantage."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoomzero.errors import DataError
from zoomzero.pages.charts.lines import Points
from zoomzero.pages.render import compact_json, embedded, render, write_page
from zoomzero.pages.training.curves import Curves, curves
from zoomzero.pages.training.rows import GroupFacts, Place, group_facts, pack_group
from zoomzero.prompts import PROBLEMS
from zoomzero.train.credit.rewards import REWARDS
from zoomzero.train.rollouts.record import read_groups

LOG_FILE = "log.jsonl"
ASSETS = (
    "training/rollouts.css",
    "elements.js",
    "training/rollouts-charts.js",
    "training/rollouts-group.js",
    "training/rollouts.js",
)
STRONG_SHARE = 0.95  # of the rollouts have no stronger advantage than the colour scale's ends
_SAY_EVERY = 50  # groups


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What is known of a run.

    `facts` are the numbers of every group in the order of the run, `shown` the last groups as JSON objects in the same
    order. `rewritten` groups stood in the files more than once (a resumed run draws some again): the last one counts.
    `log` holds the logged numbers by name, `unplotted` the names of logged values that are no numbers.
    """

    name: str
    facts: tuple[GroupFacts, ...]
    shown: tuple[str, ...]
    rewritten: int
    log: dict[str, Points]
    unplotted: tuple[str, ...]

    @property
    def left_out(self) -> int:
        """Groups that are not shown."""
        return len(self.facts) - len(self.shown)


def read_run(run: str | Path, last: int = 500, progress: Callable[[str], None] = lambda text: None) -> RunRecord:
    """Read a run's directory: rollouts.jsonl, rollouts.1.jsonl, ... and log.jsonl where there is one.

    Half-written last lines are left out: the run may be going on.

    Args:
        run: the directory.
        last: groups to keep for showing.
        progress: called with what is being read.

    Raises:
        DataError: no such directory, no rollouts in it, or a damaged line.
    """
    run = Path(run)
    if not run.is_dir():
        raise DataError(run, "directory", "no such directory; give the directory a training run writes to (its `out`)")
    paths = sorted(run.glob("rollouts*.jsonl"))
    if not paths:
        raise DataError(run, "rollouts.jsonl", "no such file; a training run writes it with its first rollouts")
    facts: dict[Place, GroupFacts] = {}
    shown: dict[Place, str] = {}
    lines = 0
    for path in paths:
        for number, group in enumerate(read_groups(path), 1):
            try:
                found = group_facts(group)
                shown[found.place] = compact_json(pack_group(group, found))
            except (TypeError, ValueError) as error:
                raise DataError(path, f"line {number}", f"is no rollout group ({error})") from error
            facts[found.place] = found
            lines += 1
            if len(shown) >= 2 * last + _SAY_EVERY:
                shown = _latest(shown, last)
            if lines % _SAY_EVERY == 0:
                progress(f"reading {path.name}: {lines:,} groups")
    if not facts:
        raise DataError(paths[0], "line 1", "holds no whole rollout group yet; try again when the run has drawn some")
    log, unplotted = read_log(run / LOG_FILE)
    return RunRecord(
        name=run.resolve().name,
        facts=tuple(facts[place] for place in sorted(facts)),
        shown=tuple(_latest(shown, last).values()),
        rewritten=lines - len(facts),
        log=log,
        unplotted=unplotted,
    )


def read_log(path: Path) -> tuple[dict[str, Points], tuple[str, ...]]:
    """Return a run's logged numbers by name, and the names of what is no number; both empty without a log.

    Of several values of one step the last counts. A value that is NaN or infinite is kept: it leaves a gap.

    Raises:
        DataError: a line that is no JSON object with a step.
    """
    series: dict[str, dict[float, float]] = {}
    others: set[str] = set()
    if not path.exists():
        return {}, ()
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                break
            values = _log_line(path, number, line)
            step = float(values.pop("step"))
            for name, value in values.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    series.setdefault(name, {})[step] = float(value)
                else:
                    others.add(name)
    return {name: tuple(sorted(points.items())) for name, points in series.items()}, tuple(sorted(others))


def rollout_curves(facts: Iterable[GroupFacts]) -> dict[str, Points]:
    """Return what the rollouts themselves say, by step: numbers to draw where there is no log."""
    steps: dict[int, list[GroupFacts]] = {}
    for one in facts:
        steps.setdefault(one.place[0], []).append(one)
    table: dict[str, list[tuple[float, float]]] = {}
    for step, groups in sorted(steps.items()):
        for name, value in _step_numbers(groups).items():
            table.setdefault(name, []).append((float(step), value))
    return {name: tuple(points) for name, points in table.items()}


def rollouts_page(run: RunRecord) -> str:
    """Return the page as one self-contained HTML document."""
    drawn = curves(run.log, rollout_curves(run.facts))
    steps = [one.place[0] for one in run.facts[run.left_out :]]
    head = {
        "rewards": REWARDS,
        "problems": dict(PROBLEMS),
        "scale": colour_scale([a for one in run.facts[run.left_out :] for a in one.strongest]),
        "curves": _hover(drawn),
    }
    return render(
        "training/rollouts.html.j2",
        assets=ASSETS,
        run=run,
        drawn=drawn,
        first_step=min(steps),
        last_step=max(steps),
        rollouts=sum(one.rollouts for one in run.facts[run.left_out :]),
        data=embedded(f'{compact_json(head)[:-1]},"groups":[{",".join(run.shown)}]}}'),
    )


def write_rollouts_page(path: str | Path, run: RunRecord) -> Path:
    """Write `rollouts_page` to a file, complete or not at all, and return its path.

    Raises:
        ConfigError: the file cannot be written (names --out).
    """
    return write_page(path, rollouts_page(run), "--out")


def colour_scale(strongest: Sequence[float]) -> float:
    """Return the advantage at which a colour is full, from every rollout's strongest: few rollouts have more."""
    found = sorted(value for value in strongest if value > 0)
    if not found:
        return 1.0
    return float(f"{found[min(len(found) - 1, math.ceil(STRONG_SHARE * len(found)) - 1)]:.2g}")


def _step_numbers(groups: Sequence[GroupFacts]) -> dict[str, float]:
    """Return the means of one step's groups, by the names the trainer logs them under."""
    numbers = {}
    for name in REWARDS:
        there = [one for one in groups if name in one.means]
        if there:
            numbers[f"reward/{name}"] = statistics.fmean(one.means[name] for one in there)
            numbers[f"reward/{name}_std"] = statistics.fmean(one.stds[name] for one in there)
            numbers[f"zero_variance/{name}"] = statistics.fmean(one.flat[name] for one in there)
    numbers["completion/tokens"] = statistics.fmean(one.mean_tokens for one in groups)
    numbers["completion/parse_failures"] = statistics.fmean(one.misread_share for one in groups)
    numbers["completion/truncated"] = statistics.fmean(one.cut_share for one in groups)
    return numbers


def _log_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise DataError(path, f"line {number}", f"not JSON ({error}); remove the line") from error
    if not isinstance(values, dict) or not isinstance(values.get("step"), int | float):
        raise DataError(path, f"line {number}", "is no JSON object with a step; remove the line")
    return values


def _latest(shown: dict[Place, str], last: int) -> dict[Place, str]:
    return {place: shown[place] for place in sorted(shown)[-last:]}


def _hover(drawn: Curves | None) -> dict[str, Any] | None:
    """Return the drawn points for reading them off: charts in the page's order, the phases last."""
    if drawn is None:
        return None
    lines = [[asdict(line) for line in chart.lines] for chart in (*drawn.charts, *drawn.others)]
    lines += [[asdict(phase) for phase in drawn.phases]] if drawn.phases else []
    charts = [[{"label": one["label"], "points": _plain(one["points"])} for one in chart] for chart in lines]
    return {"low": drawn.low, "high": drawn.high, "first": drawn.first, "last": drawn.last, "charts": charts}


def _plain(points: Points) -> list[list[float | None]]:
    return [[float(f"{step:.7g}"), float(f"{value:.4g}") if math.isfinite(value) else None] for step, value in points]
