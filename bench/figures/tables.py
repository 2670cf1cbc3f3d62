"""Tables in Markdown: those of docs/ from the numbers in docs/results or in a run's directory.

python bench/figures/tables.py docs/results/ablation.json
python bench/figures/tables.py docs/results/embedded-short.json docs/results/embedded-long.json
python bench/figures/tables.py outputs/tiny
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoomzero.files import read_rows

MEASURES = {"iou": "mIoU", "coarse": "accuracy, coarse", "zoom": "accuracy, zoom"}
KINDS = ("symbol", "order", "count", "last")
CONTROLS = ("true span", "random span", "uniform", "no frames")


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in rows)])


def named(first: str, heads: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """Return a table, its rows named in the first column."""
    return markdown([first, *heads], ([name, *cells] for name, cells in rows.items()))


# --- bench/ablation.py -----------------------------------------------------------------------------------------------


def ablation_tables(result: Mapping[str, Any]) -> str:
    """Return all arms, their differences to the start, to plain GRPO and to their twins, and long videos."""
    arms = {
        arm: [*(_share(found[m]) for m in (*MEASURES, "format")), _seconds(result["cost"].get(arm))]
        for arm, found in result["arms"].items()
    }
    tables = [named("arm", [*MEASURES.values(), "format", "s per update"], arms)]
    for base in ("start", "GRPO", "twins"):
        if gaps := result[f"against {base}"]:
            rows = {arm: [_points(gap[m]) for m in MEASURES] for arm, gap in gaps.items()}
            tables.append(f"Points over {base}:\n\n" + named("arm", list(MEASURES.values()), rows))
    if found := result["long"]:
        heads = ("coarse", "zoom", "divide", "zoom over coarse", "divide over coarse", "mIoU of divide")
        rows = {
            arm: [
                *(f"{of[m]['mean']:.3f}" for m in heads[:3]),
                *(_points(of[m]) for m in heads[3:5]),
                _share(of["iou"]),
            ]
            for arm, of in found.items()
        }
        tables.append("Long videos:\n\n" + named("arm", heads, rows))
        over = result["long against start"]
        rows = {arm: [_points(gap[m]) for m in ("zoom", "divide", "iou")] for arm, gap in over.items()}
        heads = ("zoom", "divide", "mIoU of divide")
        tables.append("Long videos, points over start:\n\n" + named("arm", heads, rows))
    return "\n\n".join(tables)


def _share(value: Mapping[str, Any]) -> str:
    low, high = value["interval"]
    return f"{value['mean']:.3f} [{low:.3f}, {high:.3f}]"


def _points(value: Mapping[str, Any]) -> str:
    """Write a difference in points, bold where its interval does not hold 0."""
    low, high = value["interval"]
    text = f"{100 * value['mean']:+.1f} [{100 * low:.1f}, {100 * high:.1f}]"
    return f"**{text}**" if low > 0 or high < 0 else text


def _seconds(cost: Mapping[str, float] | None) -> str:
    return "" if cost is None else f"{cost['all']:.1f}"


# --- bench/embedded.py -----------------------------------------------------------------------------------------------


def embedded_tables(result: Mapping[str, Any]) -> str:
    """Return what modes reach on short and long videos, what the close look sees elsewhere, and the aims."""
    tables = []
    for kind in ("short", "long"):
        if kind not in result:
            continue
        found = result[kind]
        modes = {mode: of for mode, of in found.items() if "by_kind" in of}
        n = max(of["n"] for of in modes.values())
        heads = ["accuracy", *KINDS, "mIoU", "format", "visual tokens", "seconds", "right when sure"]
        tables.append(named(f"{n} {kind} videos", heads, {mode: _mode(of) for mode, of in modes.items()}))
        elsewhere = {name: found[f"close look, {name} questions"] for name in KINDS}
        rows = {where: [f"{of[where]:.3f}" for of in elsewhere.values()] for where in CONTROLS}
        tables.append(named(f"close look at, {kind} videos", KINDS, rows))
        random = found["a random span as long as the true one, mIoU"]["mIoU"]
        tables.append(f"A random span as long as the true one has an mIoU of {random:.3f} in {kind} videos.")
    if exits := result.get("short", {}).get("zoom without a close look from a confidence of"):
        rows = {
            "never" if enough == "1" else enough: said.removesuffix(" tokens").split(" with ")
            for enough, said in exits.items()
        }
        tables.append(named("no close look from a coarse confidence of", ("accuracy", "visual tokens"), rows))
    if aims := embedded_aims(result):
        tables.append(named("aim", ("reached?", "measured"), aims))
    return "\n\n".join(tables)


def _mode(of: Mapping[str, Any]) -> list[str]:
    written = of["format"] is not None
    return [
        f"{of['accuracy']:.3f}",
        *(f"{of['by_kind'][kind]['accuracy']:.3f}" for kind in KINDS),
        f"{of['miou']:.3f}" if written else "",
        f"{of['format']:.3f}" if written else "",
        f"{of['visual_tokens']:.0f}",
        f"{of['seconds']:.2f}",
        f"{of['sure']['right']:.3f} of {of['sure']['n']}",
    ]


def embedded_aims(result: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return which aims are reached, of those whose modes were asked."""
    short, long = result.get("short", {}), result.get("long", {})
    aims: dict[str, list[str]] = {}

    def aim(name: str, value: float, reached: bool, of: str = "") -> None:
        aims[name] = ["reached" if reached else "missed", f"{value:.3f}{of}"]

    if zoom := short.get("zoom"):
        kinds = {kind: zoom["by_kind"][kind]["accuracy"] for kind in KINDS}
        worst = min(kinds, key=lambda kind: kinds[kind])
        aim("short: format 0.99", zoom["format"], zoom["format"] >= 0.99)
        aim("short: mIoU 0.75", zoom["miou"], zoom["miou"] >= 0.75)
        aim("short: all kinds with zoom 0.85", zoom["accuracy"], zoom["accuracy"] >= 0.85)
        aim("short: symbols with zoom 0.95", kinds["symbol"], kinds["symbol"] >= 0.95)
        aim("short: no kind below 0.70", kinds[worst], kinds[worst] >= 0.7, f" ({worst})")
        if "coarse" in short:
            value = short["coarse"]["by_kind"]["symbol"]["accuracy"]
            aim("short: coarse on symbols at chance", value, value < 0.35)
        if "context" in short:
            value = short["context"]["accuracy"]
            aim("short: context within 0.05 of zoom", value, value >= zoom["accuracy"] - 0.05)
        aim("right when sure 0.93", zoom["sure"]["right"], zoom["sure"]["right"] >= 0.93)
    for mode, least in (("divide", 0.75), ("search", 0.6)):
        if mode in long:
            aim(f"long: {mode} {least:.2f}", long[mode]["accuracy"], long[mode]["accuracy"] >= least)
    if "coarse" in long:
        aim("long: coarse at most 0.40", long["coarse"]["accuracy"], long["coarse"]["accuracy"] <= 0.4)
    if "divide" in long:
        aim("long: divide mIoU 0.5", long["divide"]["miou"], long["divide"]["miou"] >= 0.5)
    return aims


# --- zoomzero sft configs/tiny.toml ----------------------------------------------------------------------------------


def curve_tables(run: Path) -> str:
    """Return how a run from random weights learned to see, and to find."""
    pictures = ("exact_small", "exact_large", "symbols")
    seen = {
        f"{row['step']:,}": [f"{row['minutes']:.0f}", *(f"{row[m]:.3f}" for m in pictures)]
        for row in read_rows(run / "vision.jsonl")
        if row["step"] % 1000 == 0
    }
    measures = ("accuracy", "coarse_accuracy", "miou", "format", *(f"{kind}_miou" for kind in KINDS))
    found = {
        f"{row['step']:,}": [f"{row[m]:.3f}" for m in measures]
        for row in read_rows(run / "validation.jsonl")
        if row["step"]
    }
    heads = ("accuracy", "coarse accuracy", "mIoU", "format", "mIoU symbol", *KINDS[1:])
    small = ("minutes", "small pictures", "large pictures", "letters")
    return "\n\n".join([named("step", small, seen), named("step", heads, found)])


def main() -> None:
    """Print the tables of one run, or of one file or several of one bench."""
    paths = [Path(path) for path in sys.argv[1:]]
    if paths[0].is_dir():
        print(curve_tables(paths[0]))
        return
    result: dict[str, Any] = {}
    for path in paths:
        result |= json.loads(path.read_text(encoding="utf-8"))
    print(ablation_tables(result) if "arms" in result else embedded_tables(result))


if __name__ == "__main__":
    main()
