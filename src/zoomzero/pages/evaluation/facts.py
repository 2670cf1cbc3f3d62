"""What the runs of an evaluation report were, in what they differ, and what a reader must know. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoomzero.config import flatten
from zoomzero.pages.evaluation.runs import Entry, QuestionSet, Run

HASH_DIGITS = 12
# What makes two runs different experiments: key of run.json -> what it is called.
IDENTITY = {
    "model": "model",
    "model_hash": "model files",
    "dtype": "number type",
    "source_hash": "code that answers",
    "data_hash": "annotation files",
    "seed": "seed",
    "fps": "frame rate of frame numbers",
}
# What makes their seconds incomparable.
PLACE = {"device": "device", "machine": "machine"}


@dataclass(frozen=True, slots=True)
class FactRow:
    """One line of the table of runs; `differs` says whether the runs do."""

    name: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether not all runs have the same value."""
        return len(set(self.values)) > 1


@dataclass(frozen=True, slots=True)
class Facts:
    """What the runs were: who and where, and every setting. `named` is (label, folder, model and code) of each."""

    runs: tuple[str, ...]
    named: tuple[tuple[str, str, str], ...]
    rows: tuple[FactRow, ...]
    settings: tuple[FactRow, ...]


def facts(runs: Sequence[Run]) -> Facts:
    """Return what the runs were, one column each."""
    columns = [_facts(run) for run in runs]
    settings = [flatten(run.record.get("settings", {})) for run in runs]
    return Facts(
        runs=tuple(run.label for run in runs),
        named=tuple((run.label, run.folder.name or str(run.folder), _named(run)) for run in runs),
        rows=tuple(row for row in _rows(columns) if any(value != "" for value in row.values)),
        settings=_rows(settings),
    )


def _named(run: Run) -> str:
    record = run.record
    return f"{record.get('model', 'a model')}, settings {record.get('settings_hash', 'unknown')}"


def _rows(columns: Sequence[Mapping[str, Any]]) -> tuple[FactRow, ...]:
    names = dict.fromkeys(name for column in columns for name in column)
    return tuple(FactRow(name, tuple(_text(column.get(name)) for column in columns)) for name in names)


def _facts(run: Run) -> dict[str, Any]:
    record = run.record
    code = record.get("code") or {}
    files = record["dataset"].get("files", {})
    machine = record.get("machine")
    machine = ", ".join(_machine(machine)) if isinstance(machine, Mapping) else machine
    versions = record.get("versions") or {}
    return {
        "folder": run.folder,
        "modes": ", ".join(record["modes"]),
        "benchmark": f"{record['benchmark']} {record['split']}",
        "questions to ask": record["dataset"].get("n"),
        "annotation": record["data"],
        "annotation SHA-256": ", ".join(f"{_name(path)} {value[:HASH_DIGITS]}" for path, value in files.items()),
        "videos": record.get("videos"),
        "model": record.get("model"),
        "model hash": record.get("model_hash"),
        "number type": record.get("dtype"),
        "settings hash": record.get("settings_hash"),
        "code": f"zoomzero {code.get('zoomzero', '')}, commit {_commit(code.get('commit'))}",
        "code hash": code.get("source_hash"),
        "seed": record.get("seed"),
        "begun": str(record.get("created") or "").replace("T", " "),
        "sittings": len(record.get("sessions") or ()) or None,
        "machine": machine,
        "device": record.get("device"),
        "libraries": ", ".join(f"{name} {version}" for name, version in versions.items() if name != "zoomzero"),
    }


def _machine(machine: Mapping[str, Any]) -> list[str]:
    return [f"{value} cores" if name == "cores" else str(value) for name, value in machine.items() if value]


def _commit(commit: str | None) -> str:
    if not commit:
        return "unknown"
    return commit[:HASH_DIGITS] + (" with changes" if commit.endswith("+") else "")


def _name(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]


def _text(value: Any) -> str:
    return "" if value is None else str(value)


# --- warnings -------------------------------------------------------------------------------------------


def warnings(sets: Sequence[QuestionSet]) -> tuple[str, ...]:
    """Return what a reader of the numbers must know, most important first."""
    several = sum(len(one.runs) for one in sets) > 1
    told = [text for found in sets for entry in found.entries if (text := unfinished(entry))]
    for found in sets:
        for run in found.runs:
            told += [f"{f'{run.label}: ' if several else ''}{note}." for note in run.notes]
        for run in found.runs[1:]:
            told += differing(found.runs[0], run)
    told += [text for found in sets for entry in found.entries if (text := _skipped(entry))]
    told += _namesakes(sets)
    return tuple(told)


def unfinished(entry: Entry) -> str:
    """Return that a mode has questions left, empty when it is done."""
    chosen, counted = int(entry.chosen.sum()), int(entry.counted.sum())
    if counted == chosen:
        return ""
    if not counted:
        return f"{entry.name}: not begun, {chosen:,} questions to answer."
    return f"{entry.name}: {counted:,} of {chosen:,} questions are done. Its numbers are over those and will change."


def differing(first: Run, other: Run) -> list[str]:
    """Return in what two runs differ, as sentences; none when they are the same experiment on the same machine."""
    before, after = (flatten(run.record.get("settings", {})) for run in (first, other))
    different = [(name, before.get(name), after.get(name)) for name in dict.fromkeys([*before, *after])]
    different += [(what, first.record.get(key), other.record.get(key)) for key, what in IDENTITY.items()]
    named = [f"{name} ({_short(a)}, {_short(b)})" for name, a, b in different if a != b]
    told = []
    if named:
        effect = "a difference between them is the effect of " + ("that" if len(named) == 1 else "all of it together")
        told.append(f"{first.label} and {other.label} differ in {', '.join(named)}: {effect}.")
    places = [what for key, what in PLACE.items() if first.record.get(key) != other.record.get(key)]
    if places:
        what = " and ".join(places)
        told.append(f"{first.label} and {other.label} ran on another {what}: their seconds do not compare.")
    return told


def _skipped(entry: Entry) -> str:
    count = int(entry.skipped.sum())
    if not count:
        return ""
    if count == 1:
        return f"{entry.name}: 1 question was never asked, as its video was not there; it counts 0."
    return f"{entry.name}: {count:,} questions were never asked, as their videos were not there; they count 0."


def _namesakes(sets: Sequence[QuestionSet]) -> list[str]:
    """Return which runs of one benchmark and split were asked different questions."""
    by_name: dict[tuple[str, str], list[Run]] = {}
    for found in sets:
        run = found.runs[0]
        by_name.setdefault((run.record["benchmark"], run.record["split"]), []).append(run)
    return [
        f"{' and '.join(run.label for run in runs)} have different questions under the same name ({' '.join(key)}): "
        "they are not compared."
        for key, runs in by_name.items()
        if len(runs) > 1
    ]


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:HASH_DIGITS]}…"
