"""Characters that stand for plain ones, so that full-width brackets, Unicode minus signs and boxed letters are read.

Every character is replaced by exactly one: places in the result are places in the text.
"""

from __future__ import annotations

import unicodedata

_MINUS = dict.fromkeys("\u2212\ufe63\uff0d\u2010\u2011\u2012", "-")
_QUOTES = dict.fromkeys("\u2018\u2019\u201a\u201b", "'") | dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb", '"')
_BRACKETS = dict.fromkeys("\u300c\u300e\u3010\u3014\u3008\u300a", "[") | dict.fromkeys(
    "\u300d\u300f\u3011\u3015\u3009\u300b", "]"
)
_STOPS = {"\u3001": ",", "\u3002": ".", "\uff61": ".", "\u060c": ",", "\u061b": ";", "\u301c": "~", "\u066b": "."}
_NAMED = _MINUS | _QUOTES | _BRACKETS | _STOPS
# Letters in circles and mathematical letters and digits; full-width forms.
_STYLED = ((0x24B6, 0x24E9), (0x1D400, 0x1D7FF), (0xFF01, 0xFF5E))


class _Plain(dict[int, str | int]):
    """A table for `str.translate` that is filled as characters are met."""

    def __missing__(self, code: int) -> str | int:
        self[code] = code if code < 0x80 else _plain(chr(code))
        return self[code]


def _plain(char: str) -> str | int:
    if char in _NAMED:
        return _NAMED[char]
    if any(low <= ord(char) <= high for low, high in _STYLED):
        folded = unicodedata.normalize("NFKC", char)
        return folded if len(folded) == 1 and folded.isascii() else ord(char)
    if unicodedata.category(char) == "Zs":
        return " "
    digit = unicodedata.decimal(char, None)
    return str(digit) if digit is not None else ord(char)


_TABLE = _Plain()


def plain_letters(text: str) -> str:
    """Return a text of the same length with plain letters, digits, brackets, quotes, stops and minus signs."""
    return text if text.isascii() else text.translate(_TABLE)
