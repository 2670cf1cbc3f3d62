"""Bytes of a subtitle file to text: what the file says of itself, UTF-8, else a guess that is told."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from zoomzero.errors import DataError

MOST_SAMPLE = 1 << 16
MOST_BYTES = 64 * 2**20  # a day of speech is under 5 MB
# What subtitles come in besides UTF-8, as the detector names them; it chooses among these.
GUESSES = (
    *("gb18030", "big5hkscs", "cp932", "euc_jis_2004", "cp949", "koi8-r", "cp874"),
    *(f"cp{page}" for page in range(1250, 1259)),
)
_LIKELY = 0.85  # Windows-1252 is taken where it is nearly as likely as the best: most files are of the west
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    *((mark, "utf-32") for mark in (b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")),
    *((mark, "utf-16") for mark in (b"\xff\xfe", b"\xfe\xff")),
)
_SURE_BYTES = 60  # letters beyond ASCII that a guess needs to be more than that
_CONTROLS = {code: " " for code in (*range(0x20), 0x7F, *range(0x80, 0xA0)) if chr(code) not in "\t\n\r\x0b\x0c\x85"}


def read_text(file: Path) -> tuple[str, tuple[str, ...]]:
    """Return a file's text and what was guessed or replaced in it.

    Raises:
        DataError: the file is too large, cannot be read, or is not text.
    """
    try:
        if file.stat().st_size > MOST_BYTES:
            raise DataError(file, "file", f"is larger than {MOST_BYTES >> 20} MB; give an .srt or .vtt file")
        data = file.read_bytes()
    except OSError as error:
        raise DataError(file, "file", f"cannot be read ({error.strerror}); check the path") from error
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None) or _declared(data)
    if encoding is None and b"\0" in data[:4096]:
        encoding = _without_mark(data)
        if encoding is None:
            raise DataError(file, "content", "is not text; give an .srt or .vtt file")
    try:
        return _clean(data.decode(encoding or "utf-8"), ())
    except UnicodeDecodeError as error:
        if encoding is None:
            return _guess(data)
        bad = data.decode(encoding, errors="replace")
        note = f"subtitles: not all of it is {encoding} (byte {error.start}); the rest is read as U+FFFD"
        return _clean(bad, (note,))


def _declared(data: bytes) -> str | None:
    """Return the encoding an XML declaration names, None when there is none that is known."""
    m = re.match(rb"\s*<\?xml[^>]{0,80}encoding=[\"']([A-Za-z0-9_.-]{1,30})[\"']", data[:200])
    try:
        name = codecs.lookup(m[1].decode()).name if m else None
        return name if name is not None and codecs.lookup(name)._is_text_encoding else None
    except LookupError:
        return None


def _without_mark(data: bytes) -> str | None:
    """Return UTF-16 without its mark, told by the zero bytes of its ASCII characters; None for anything else."""
    head = data[:4096]
    for name, zeros, letters in (("utf-16-le", head[1::2], head[0::2]), ("utf-16-be", head[0::2], head[1::2])):
        if zeros.count(0) > 0.3 * len(zeros) and not any(byte < 9 for byte in letters):
            return name
    return None


def _guess(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Return text whose encoding nothing states."""
    broken = data.decode("utf-8", errors="replace").count("\ufffd")
    beyond = sum(byte >= 0x80 for byte in data)
    if broken * 20 < beyond:  # UTF-8 with a damaged byte here and there
        note = f"subtitles: {broken} damaged characters in UTF-8 text are read as U+FFFD"
        return _clean(data.decode("utf-8", errors="replace"), (note,))
    encoding = _detect(data)
    sure = "" if beyond >= _SURE_BYTES else ", from few letters"
    note = f"subtitles: not UTF-8, read as {encoding} (guessed{sure}); save the file as UTF-8 if the letters are wrong"
    return _clean(data.decode(encoding, errors="replace"), (note,))


def _detect(data: bytes) -> str:
    """Return the likeliest encoding of the lines that hold letters beyond ASCII."""
    import chardet

    lines = [line for line in data.split(b"\n") if any(byte >= 0x80 for byte in line)]
    sample = b"\n".join(lines[:2000])[:MOST_SAMPLE]
    ranked = chardet.detect_all(sample, ignore_threshold=True, include_encodings=GUESSES)
    likely = {one["encoding"]: one["confidence"] for one in ranked if one["encoding"]}
    if not likely:
        return "cp1252"
    best = max(likely, key=lambda name: likely[name])
    western = next((name for name in likely if name.lower() == "windows-1252"), best)
    return western if likely[western] >= _LIKELY * likely[best] else best


def _clean(text: str, notes: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return a text without control characters and with plain line ends."""
    return text.translate(_CONTROLS).replace("\r\n", "\n").replace("\r", "\n"), notes
