"""Files that are there whole or not at all, and JSON from anywhere."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any

_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
PARTIAL = ".partial"  # how the names of unfinished files end


def write_whole(path: str | Path, content: str | bytes, *, sync: bool = False) -> None:
    """Write a file beside its place and move it there: nobody sees half of it, and what was there stays until then.

    Processes that write the same file do not disturb each other. A kill leaves a hidden `.NAME.PID.partial`.

    Args:
        path: the file; its folder is there.
        content: text is written as UTF-8.
        sync: wait until the content is on the disk, where a power cut leaves it.

    Raises:
        OSError: it cannot be written; the error names `path`, and nothing is left beside it.
    """
    path, data = Path(path), content.encode("utf-8") if isinstance(content, str) else content
    partial = path.parent / f".{path.name}.{os.getpid()}{PARTIAL}"
    try:
        with partial.open("wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # the failed write is the error to report
            partial.unlink(missing_ok=True)  # on a full disk it is in the way
        error.filename = str(path)
        raise


def parse_json(text: str) -> Any:
    """Return the value of a JSON text, whoever wrote it.

    Raises:
        ValueError: it is not JSON (then a `json.JSONDecodeError`, which names the line), is nested too deeply, holds a
            number of thousands of digits, or half a character (a lone surrogate), which no file could take again.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("lists or objects are nested too deeply") from error
    if _HALF_CHARACTER.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError("a text holds half a character (\\ud800 to \\udfff without its partner)") from error
    return value
