"""A run's folder: its settings and hashes, one predictions file for each mode, one writer at a time.

    RUN/run.json                    what was asked of what, by which model, settings and code
    RUN/predictions.MODE.jsonl      one row for each question; `zoomzero score` reads it as it is
    RUN/summary.json                scores, costs and evidence of every mode

Rows are appended one by one. A process that dies at any byte leaves at most one half line, which is cut when the run
goes on; its question is asked again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoomzero.benchmarks.scoring.shapes import Answered, Begun, Record, fault
from zoomzero.config import flatten
from zoomzero.errors import ConfigError, DataError, EvaluationError
from zoomzero.files import locked, parse_json, write_whole

RUN_FILE, SUMMARY_FILE, LOCK_FILE = "run.json", "summary.json", "run.lock"
SYNC_EVERY_S = 1.0
# What rows of one run must have in common: key in run.json -> what it is called, and the way out.
ANOTHER = "give another --out"
MUST_MATCH: dict[str, tuple[str, str]] = {
    "benchmark": ("the benchmark", ANOTHER),
    "split": ("the split", f"give its --split, or {ANOTHER.removeprefix('give ')}"),
    "seed": ("the seed", f"give its --seed, or {ANOTHER.removeprefix('give ')}"),
    "fps": ("the frame rate of frame numbers", f"give its --fps, or {ANOTHER.removeprefix('give ')}"),
    "data_hash": ("the annotation", f"take the same files, or {ANOTHER.removeprefix('give ')}"),
    "model_hash": ("the model's files", f"give the same --model, or {ANOTHER.removeprefix('give ')}"),
    "quantize": ("the rounding of weights", f"give its --quantize, or {ANOTHER.removeprefix('give ')}"),
    "settings": ("the settings", f"give the same --set and --budget, or {ANOTHER.removeprefix('give ')}"),
    "dtype": ("the number type", f"give its --dtype, or {ANOTHER.removeprefix('give ')}"),
    "faithfulness": ("whether faithfulness is measured", f"do as it did, or {ANOTHER.removeprefix('give ')}"),
    "source_hash": ("the code that answers", f"install that version again, or {ANOTHER.removeprefix('give ')}"),
}
Row = dict[str, Any]


def predictions_path(folder: str | Path, mode: str) -> Path:
    """Return where a mode's rows lie."""
    return Path(folder) / f"predictions.{mode}.jsonl"


def read_run(folder: str | Path) -> dict[str, Any]:
    """Return a run's `run.json`.

    Raises:
        DataError: the folder holds no run, or its file is damaged.
    """
    path = Path(folder) / RUN_FILE
    if not path.is_file():
        raise DataError(folder, RUN_FILE, "is not there; give the --out of a `zoomzero eval`")
    record = _read_object(path)
    if wrong := fault(Record, record):
        raise DataError(path, "file", f"{wrong} (damaged since it was written); restore it, or give another --out")
    return record


def read_rows(folder: str | Path, mode: str) -> list[Row]:
    """Return the complete rows of a mode, none when it was not begun. A half-written last line is left out.

    Raises:
        DataError: a damaged line, or two rows for one question.
    """
    path = predictions_path(folder, mode)
    return _parse(path, _whole_lines(path)[0], Answered) if path.is_file() else []


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(path, "file", f"cannot be read ({error}); restore it, or give another --out") from error
    if not isinstance(value, dict):
        raise DataError(path, "file", "holds no JSON object; restore it, or give another --out")
    return value


def _whole_lines(path: Path) -> tuple[list[bytes], int]:
    """Return the complete lines of a file and the bytes they take."""
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    return data[:end].split(b"\n")[:-1], end


def _parse(path: Path, lines: list[bytes], shape: type[Begun] = Begun) -> list[Row]:
    rows: list[Row] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        try:
            row = parse_json(line.decode("utf-8"))
            wrong = fault(shape, row)
        except ValueError as error:
            wrong = f"is not JSON ({error})"
        if wrong is not None:
            reason = f"is no row ({wrong}; damaged since it was written); remove this line, its question is asked again"
            raise DataError(path, f"line {number}", reason)
        id_ = row["id"]
        if id_ in seen:
            reason = f"question {id_!r} was answered on line {seen[id_]} already; remove one of the two lines"
            raise DataError(path, f"line {number}", reason)
        seen[id_] = number
        rows.append(row)
    return rows


# --- the folder -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which a run and what is asked of it now differ."""

    what: str
    was: str
    now: str
    fix: str


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Return what keeps rows asked for now out of a run; a key that one of them does not know yet is no difference.

    Args:
        before: a `run.json`.
        now: the same keys, as they would be written now.
    """
    found = []
    for key, (what, fix) in MUST_MATCH.items():
        was, is_ = before.get(key), now.get(key)
        if was == is_ or (key == "dtype" and None in (was, is_)):
            continue
        if isinstance(was, Mapping) and isinstance(is_, Mapping):
            old, new = flatten(was), flatten(is_)
            name = next(name for name in (*old, *new) if old.get(name) != new.get(name))
            found.append(Difference(f"{what} ({name})", f"{old.get(name)}", f"{new.get(name)}", fix))
        else:
            found.append(Difference(what, f"{was}", f"{is_}", fix))
    return found


class RunFolder:
    """An open run: the only writer of its folder. Make one with `open_run`.

    `rows` holds the rows that are there, by mode and id.
    """

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        self.folder, self.record = folder, record
        self.rows: dict[str, dict[str, Row]] = {}
        self._files: dict[str, int] = {}
        self._synced = time.monotonic()

    def load(self, modes: Iterable[str], *, retry_failed: bool = False) -> None:
        """Read the rows of modes; half-written ones are cut, with `retry_failed` failed ones are left out.

        Rows that failed because a server was away are always left out: their questions are asked again.
        """
        for mode in modes:
            path = predictions_path(self.folder, mode)
            if not path.is_file():
                self.rows[mode] = {}
                continue
            lines, end = _whole_lines(path)
            rows = _parse(path, lines)
            kept = [row for row in rows if row["failed"] is None or not (retry_failed or row.get("again"))]
            if len(kept) < len(rows):
                self._replace(path, "".join(json.dumps(row) + "\n" for row in kept))
            elif end < path.stat().st_size:
                with self._writing(path):
                    os.truncate(path, end)
            self.rows[mode] = {row["id"]: row for row in kept}

    def append(self, mode: str, line: str) -> Row:
        """Append a row, given as one JSON line, and return it. It survives this process from here on.

        Raises:
            EvaluationError: the disk is full or was taken away; what is written can be gone on from.
        """
        path = predictions_path(self.folder, mode)
        row: Row = json.loads(line)
        data = (line + "\n").encode("ascii")
        with self._writing(path):
            if mode not in self._files:
                self._files[mode] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            while data:
                data = data[os.write(self._files[mode], data) :]
            if time.monotonic() - self._synced >= SYNC_EVERY_S:
                self._sync()
        self.rows[mode][row["id"]] = row
        return row

    def write_record(self) -> None:
        """Write `run.json`, complete or not at all."""
        self._replace(self.folder / RUN_FILE, json.dumps(self.record, indent=1, allow_nan=False) + "\n")

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`, complete or not at all."""
        self._replace(self.folder / SUMMARY_FILE, json.dumps(summary, indent=1, allow_nan=False) + "\n")

    def close(self) -> None:
        """Make sure that everything is on the disk, and close the files."""
        try:
            with self._writing(self.folder):
                self._sync()
        finally:
            for descriptor in self._files.values():
                os.close(descriptor)
            self._files.clear()

    def _sync(self) -> None:
        for descriptor in self._files.values():
            os.fsync(descriptor)
        self._synced = time.monotonic()

    def _replace(self, path: Path, text: str) -> None:
        with self._writing(path):
            write_whole(path, text, sync=True)

    @contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = f"{path.name} cannot be written ({error.strerror})"
            fix = "make room or give it back, then give the same command: the run goes on where it stopped"
            raise EvaluationError(self.folder, reason, fix) from error


@contextmanager
def open_run(folder: str | Path, identity: Mapping[str, Any], *, retry_failed: bool = False) -> Iterator[RunFolder]:
    """Make or reopen a run's folder, locked against other processes.

    Args:
        folder: the `--out`.
        identity: `run.json` as it would be written now; `modes` are those asked for.
        retry_failed: forget failed rows, so that their questions are asked again.

    Raises:
        ConfigError: the folder cannot be written, another process writes it, or it holds another run (says in what).
        DataError: its files are damaged.
    """
    folder = make_folder(folder)
    with locked(folder / LOCK_FILE, "--out", ANOTHER):
        record = _reopened(folder, identity)
        run = RunFolder(folder, record)
        run.load(record["modes"], retry_failed=retry_failed)
        run.write_record()
        try:
            yield run
        except BaseException:  # that is what went wrong: a disk that fails again while closing is not
            with contextlib.suppress(EvaluationError):
                run.close()
            raise
        run.close()


def make_folder(folder: str | Path) -> Path:
    """Make a run's folder and check that it can be written.

    Raises:
        ConfigError: it cannot.
    """
    folder = Path(folder).expanduser()
    probe = folder / ".writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with probe.open("w") as file:
            file.write("x" * 4096)
            file.flush()
            os.fsync(file.fileno())
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
        fix = f"make room, or {ANOTHER}" if error.errno == errno.ENOSPC else ANOTHER
        raise ConfigError("--out", f"{folder} cannot be written ({error.strerror})", fix) from error
    return folder


def _reopened(folder: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the run's record: a new one, or the old one with what is asked for now added."""
    if not (folder / RUN_FILE).is_file():
        if stray := sorted(folder.glob("predictions.*.jsonl")):
            raise ConfigError("--out", f"{folder} holds {stray[0].name} but no {RUN_FILE}", ANOTHER)
        return dict(identity)
    before = read_run(folder)
    if found := differences(before, identity):
        one = found[0]
        more = f" (also: {', '.join(other.what for other in found[1:])})" if found[1:] else ""
        reason = f"{folder} holds another run: {one.what} was {_short(one.was)}, now {_short(one.now)}{more}"
        raise ConfigError("--out", reason, one.fix)
    modes = list(dict.fromkeys([*before["modes"], *identity["modes"]]))
    kept = {key: before[key] for key in ("created", "dtype", "device") if before.get(key) is not None}
    return {**before, **identity, **kept, "modes": modes, "sessions": [*before["sessions"], *identity["sessions"]]}


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
