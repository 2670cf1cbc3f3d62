"""The spine of a training run: rollouts of one prompt, with everything needed to learn from them and to look at them.

Rollouting makes them, updating takes them, checkpoints keep those that are still to be learned from, and
`rollouts.jsonl` keeps them all. Light: loads neither torch nor transformers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoomzero.data.example import Example
from zoomzero.errors import DataError
from zoomzero.spans import Span
from zoomzero.train.credit.answers import ZoomResult
from zoomzero.train.credit.rewards import RewardValues

Floats = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Rollout:
    """One completion of a prompt.

    `offsets[i]` is the character range of token i in `text` (empty for the end-of-turn token); `answer_mask[i]` is True
    where token i belongs to the answer. `option`, `spans` and `problems` are what the reader found in the text.
    `advantages`, `old_log_probs` (under the model that wrote it), `ref_log_probs` (under the reference) and
    `teacher_log_probs` have one number for every token; the last three are None where no update needs them. Where a
    server drew it, `old_log_probs` are under the model as it was when the batch was complete, `server_log_probs` what
    the server said, and `drawn_at` the update whose weights the server had.
    """

    text: str
    token_ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    finished: bool
    option: str | None
    spans: tuple[Span, ...]
    problems: tuple[str, ...]
    answer_mask: tuple[bool, ...]
    rewards: RewardValues
    zoom: ZoomResult | None = None
    advantages: Floats = ()
    old_log_probs: Floats | None = None
    ref_log_probs: Floats | None = None
    teacher_log_probs: Floats | None = None
    server_log_probs: Floats | None = None
    drawn_at: int | None = None


@dataclass(frozen=True, slots=True)
class RolloutGroup:
    """The rollouts of one prompt.

    `index` is the prompt's place in the run (its random numbers follow from it and the run's seed), `step` the number
    of updates made when they were collected. `kept` is False for groups the online filter dropped.
    `pseudo_truth` is what the group's verified rollouts agreed on, where that stood in for spans the example lacks.
    """

    index: int
    step: int
    example: Example
    prompt: str
    rollouts: tuple[Rollout, ...]
    kept: bool = True
    pseudo_truth: tuple[Span, ...] = ()

    def to_json(self, *, finite: bool = True) -> str:
        """Return the group as one JSON line, without the line end. Floats survive exactly.

        Args:
            finite: refuse numbers that JSON does not know (NaN, infinity); off for the rollouts of a failed update.
        """
        return json.dumps(asdict(self), ensure_ascii=False, allow_nan=not finite)


def group_from_json(values: dict[str, Any]) -> RolloutGroup:
    """Return the group that `to_json` wrote.

    Raises:
        KeyError, TypeError, ValueError: it is no such object.
    """
    example = values["example"]
    spans = _spans(example["spans"])
    return RolloutGroup(
        index=values["index"],
        step=values["step"],
        example=Example(**(example | {"options": tuple(example["options"]), "spans": spans})),
        prompt=values["prompt"],
        rollouts=tuple(_rollout(one) for one in values["rollouts"]),
        kept=values["kept"],
        pseudo_truth=_spans(values.get("pseudo_truth", [])),
    )


def read_groups(path: str | Path) -> Iterator[RolloutGroup]:
    """Read a rollouts file; a half-written last line (of a run that was killed, or is running) is left out.

    Raises:
        DataError: no such file, or a line that is no rollout group.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(path, "file", "no such file; a training run writes rollouts.jsonl into its directory")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield group_from_json(json.loads(line))
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(path, f"line {number}", f"is no rollout group ({error})") from error


def _rollout(values: dict[str, Any]) -> Rollout:
    zoom = values["zoom"]
    return Rollout(
        text=values["text"],
        token_ids=tuple(values["token_ids"]),
        offsets=tuple((start, end) for start, end in values["offsets"]),
        finished=values["finished"],
        option=values["option"],
        spans=_spans(values["spans"]),
        problems=tuple(values["problems"]),
        answer_mask=tuple(values["answer_mask"]),
        rewards=RewardValues(**values["rewards"]),
        zoom=None if zoom is None else ZoomResult(zoom["on_span"], _floats(zoom["option_log_probs"]), zoom["text"]),
        advantages=tuple(values["advantages"]),
        old_log_probs=_floats(values["old_log_probs"]),
        ref_log_probs=_floats(values["ref_log_probs"]),
        teacher_log_probs=_floats(values.get("teacher_log_probs")),
        server_log_probs=_floats(values.get("server_log_probs")),
        drawn_at=values.get("drawn_at"),
    )


def _spans(pairs: list[list[float]]) -> tuple[Span, ...]:
    return tuple(Span(start, end) for start, end in pairs)


def _floats(values: list[float] | None) -> Floats | None:
    return None if values is None else tuple(values)
