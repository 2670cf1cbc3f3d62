"""Video-MME-v2: four questions of eight options on each video, scored as a group: a lucky hit is worth little.

The rows of the release (video_id, group_type, group_structure, question_id, question, options, answer, level,
second_head, third_head) as .parquet, .tsv, .jsonl or .json. Questions 1 to 4 of a video are a group; level and heads
are stated in its last row. A `relevance` group asks about one thing four times and is worth (right / 4)^2. A `logic`
group leads step by step to its last question and is worth what its unbroken chain of right answers reaches; two steps
may be taken in either order, as `group_structure` says.

Source: MME-Benchmarks/Video-MME-v2, evaluation/test_video_mme_v2.py; EvolvingLMMs-Lab/lmms-eval, tasks/videomme_v2.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator

from zoomzero.benchmarks.definitions.base import Benchmark, Pairs, ReadOptions, Source, accuracy
from zoomzero.benchmarks.definitions.choice.letters import first_capital, without_letters
from zoomzero.benchmarks.metrics import BoolArray, FloatArray, Measure
from zoomzero.data.annotation import Dataset, Question, read_label, read_rows, require
from zoomzero.data.values import Id, Options, Text, shown, typed
from zoomzero.errors import DataError
from zoomzero.files import parse_json

# A list, or a text with one option a line.
Choices = Annotated[Options, BeforeValidator(lambda v: v.strip().split("\n") if isinstance(v, str) else v)]
COLUMNS = {
    "video_id": Id,
    "group_type": Text,
    "group_structure": Any,
    "question_id": Id,
    "question": Text,
    "options": Choices,
    "answer": Text,
}
OF_THE_GROUP = ("level", "second_head", "third_head")
SIZE = 4
USUAL_S = 600.0
RELEVANCE = "relevance"
CHAIN = "logic [1, 2, 3, 4]"
FORK_LATE = "logic [1, [2, 3], 4]"  # 2 and 3 in either order
FORK_FIRST = "logic [[1, 2], 3, 4]"  # 1 and 2 in either order
# What a group is worth, by the number of steps taken (relevance: of right answers).
WORTH: Mapping[str, tuple[float, ...]] = {
    RELEVANCE: (0, 1 / 16, 4 / 16, 9 / 16, 1),
    CHAIN: (0, 1 / 16, 4 / 16, 9 / 16, 1),
    FORK_LATE: (0, 1 / 12, 4 / 12, 7 / 12, 1),
    FORK_FIRST: (0, 1 / 10, 2 / 10, 5 / 10, 1),
}
LEADS = (
    "Final Answer:",
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option is",
    "The correct option is",
    "Best answer:",
    "Best option:",
    "Answer:",
    "Option:",
)


def _read(source: Source, options: ReadOptions) -> Dataset:
    groups: defaultdict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    path = source.files[0]
    for number, row in enumerate(read_rows(path, keep_line_ends=True), 1):
        row = require(row, COLUMNS, path, f"row {number}")
        groups[row["video_id"]].append((f"row {number}", row))
    questions = [one for rows in groups.values() for one in _group(rows, path)]
    return Dataset("videomme-v2", source.split, tuple(questions), (path,))


def _group(rows: list[tuple[str, dict[str, Any]]], path: Path) -> list[Question]:
    """Return a video's questions in their order; what the group's last row states holds for all of them."""
    rows = sorted(rows, key=lambda pair: _place(pair[1], path, pair[0]))
    where, last = rows[-1]
    given = [name for name in OF_THE_GROUP if str(last.get(name) or "None") not in ("None", "nan")]
    kind = _kind(last, path, where)
    groups = {"video": (last["video_id"],), "scored_as": (kind,), "group_type": (kind.partition(" ")[0],)}
    groups |= {name: (typed(last[name], Id, name, path, where),) for name in given}
    return [_question(row, groups, path, place) for place, row in rows]


def _place(row: dict[str, Any], path: Path, where: str) -> int:
    number = row["question_id"].rpartition("-")[2]
    if not number.isdecimal() or len(number) > 9:
        raise DataError(
            path, where, f"question_id {shown(row['question_id'])} must end in its place in the group: 001-1"
        )
    return int(number)


def _kind(row: dict[str, Any], path: Path, where: str) -> str:
    """Return how a group is scored, a key of WORTH."""
    kind: str = row["group_type"]
    if kind == "logic":
        structure = row["group_structure"]
        try:
            listed = parse_json(structure) if isinstance(structure, str) else structure
        except ValueError as error:
            raise DataError(path, where, f"group_structure {shown(structure)} is no list") from error
        kind = f"logic {listed}"
    if kind not in WORTH:
        raise DataError(path, where, f"a group scored as {shown(kind)} is unknown; known are {', '.join(WORTH)}")
    return kind


def _question(row: dict[str, Any], groups: Mapping[str, tuple[str, ...]], path: Path, where: str) -> Question:
    choices = without_letters(row["options"])
    return Question(
        id=row["question_id"],
        video=f"{row['video_id']}.mp4",
        question=row["question"],
        options=choices,
        answer=read_label(row["answer"], len(choices), path, where),
        spans=(),
        estimate_s=USUAL_S,
        groups=groups,
    )


def official_letter(response: str, question: Question) -> str:
    """Return the first capital A to H in a response without the leads the official evaluator knows."""
    return first_capital(response, LEADS, "ABCDEFGH")


def group_worth(kind: str, right: Sequence[bool]) -> float:
    """Return what a group of four answers is worth, 0 to 1.

    Args:
        kind: a key of WORTH.
        right: whether answers 1 to 4 are right.

    Source: MME-Benchmarks/Video-MME-v2, evaluation/test_video_mme_v2.py (`cal_relevance`, `cal_logic`).
    """
    if kind == RELEVANCE:
        return WORTH[kind][sum(right)]
    steps = next((i for i, one in enumerate(right) if not one), len(right))
    if (kind == FORK_LATE and steps == 1 and right[2]) or (kind == FORK_FIRST and steps == 0 and right[1]):
        steps += 1  # the other branch of the fork was taken
    return WORTH[kind][steps]


def _measure(pairs: Pairs) -> list[Measure]:
    """Score groups, and answers one by one; a group is scored when all its four questions are there."""
    worth, whole, counted = _worth(pairs)
    kinds = np.array([question.groups["group_type"][0] for question in pairs.questions])
    linear = Measure("relevance_linear_score", pairs.right, counted, whole & (kinds == RELEVANCE), in_tables=False)
    levels = np.array([question.groups.get("level", ("",))[0] for question in pairs.questions])
    return [
        Measure("total", worth, counted, whole, also=("Non-Lin",)),
        accuracy(pairs, "Acc@QA", pairs.present),
        Measure("relevance_score", worth, counted, whole & (kinds == RELEVANCE), in_tables=False),
        linear,
        Measure("logic_score", worth, counted, whole & (kinds == "logic"), in_tables=False),
        *(Measure(f"level_{n}", worth, counted, whole & (levels == str(n)), in_tables=False) for n in (1, 2, 3)),
    ]


def _worth(pairs: Pairs) -> tuple[FloatArray, BoolArray, BoolArray]:
    """Return, for each question, its group's worth, whether the group is whole, and whether all its rows are present.

    All questions of a group carry the group's worth, so that the mean over questions is the mean over groups.
    """
    places: defaultdict[str, list[int]] = defaultdict(list)
    for i, question in enumerate(pairs.questions):
        places[question.groups["video"][0]].append(i)
    n = len(pairs.questions)
    worth, whole, counted = np.zeros(n), np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    for group in places.values():
        if len(group) == SIZE:
            kind = pairs.questions[group[0]].groups["scored_as"][0]
            worth[group] = group_worth(kind, [bool(pairs.right[i]) for i in group])
            whole[group], counted[group] = True, pairs.present[group].all()
    return worth, whole, counted


BENCHMARKS = (
    Benchmark(
        name="videomme-v2",
        about="Video-MME-v2: four questions a video scored as a group (bring your own annotation)",
        splits={"test": ("test*.parquet", "*/test*.parquet", "*.tsv", "videomme*v2*.json*", "test*.json*")},
        default_split="test",
        read=_read,
        measure=_measure,
        groups=("group_type", "level", "second_head", "third_head"),
        headline=("total", "Acc@QA"),
        response_rule=official_letter,
        scores_spans=False,
    ),
)
