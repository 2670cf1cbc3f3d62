"""Tolerant reading of an answer: which option a text names, if it names exactly one.

A text that names several options names none (`several_options`): the first is never taken in silence. Repetition in
patterns is bounded: time is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from zoomzero.prompts.grammar import AnswerAs, option_labels
from zoomzero.prompts.letters import plain_letters

_NOUN = r"(?:answers?|ans|options?|choices?|答案|选项|選項|正解|答え|ответ|antwort|respuesta|réponse|risposta|resposta)"
_ANSWER = r"(?:answers?|答案|正解|答え|ответ|antwort|respuesta|réponse|risposta|resposta)"
_BEST = r"(?:(?:correct|right|best|final|most\s(?:likely|fitting|accurate)|正确|正確|最终|最終)的?\s{0,3})"
# What may stand around a label: brackets, quotes, emphasis, LaTeX, HTML.
_HTML = r"(?:b|i|u|strong|em|ans|option)>"
_OPEN = rf"""(?:[("'*`\[{{$_]|\\(?:boxed|text|textbf|mathrm|mathbf|mathit)\s?\{{|\\[(\[]|<{_HTML}){{0,6}}"""
_SHUT = rf"""(?:[)"'*`\]}}$_]|\\[)\]]|</{_HTML}){{0,6}}"""
_END = rf"(?:{_SHUT}[.,;:!?]{{0,3}}{_SHUT}[.!]{{0,2}})"
_IS = r"(?:\s{0,3}(?:is|are|was|would\sbe|should\sbe|must\sbe|will\sbe|是|为|為|:|=|->|→|-|es|ist|est|é|è)\s{0,3}){0,2}"
_THUS = r"(?:(?:so|thus|hence|therefore|my|the|your|i\sthink)[,\s]{1,3}){0,3}"
_LEAD = rf"(?:[#>\s*_`\"'{{(\[]{{0,6}}{_THUS}{_BEST}?{_NOUN}"
_LEAD += rf"[\"'*_`)\]]{{0,4}}{_IS}[\"'*_`\s]{{0,5}})"
_THE = r"(?:(?:the|option|choice|answer|letter)[\s:]{1,3}){0,2}"

# At the start: an optional lead, the label, then the end, a stop with text behind it, or a new line.
_HEAD_RE = re.compile(
    rf"""[>\s-]{{0,4}}(?P<lead>(?:{_LEAD}{_THE}){{0,2}}){_OPEN}(?P<label>[a-z]{{1,3}})
        (?:(?P<alone>{_END}\s{{0,9}}(?:\Z|\n))|{_SHUT}(?P<mark>[)\].:]|\s-|\s–|\s—){_SHUT}(?=\s)|(?P<reason>{_END}\s(?=because\b))
        |(?P<right>{_SHUT}\sis\s(?:the\s)?(?:correct|right|best|final)(?:\s(?:answer|option|choice))?(?:[.!]?\s{{0,9}}(?:\Z|\n)|,?\s(?=because\b|since\b))))""",
    re.IGNORECASE | re.VERBOSE,
)
_CONCLUSION_RE = re.compile(
    rf"""(?:(?<![\w]){_BEST}?(?i:{_ANSWER})[\"'*_`)\]]{{0,4}}\s{{0,3}}
           (?i:(?:is|would\sbe|should\sbe|must\sbe|是|为|為|:|=|->|→){{1,2}})
         |(?<![\w])(?i:{_BEST}{_NOUN})[\"'*_`)\]]{{0,4}}(?i:{_IS}))
        [\"'*_`\s]{{0,5}}(?:(?i:the|option|choice|answer|letter)[\s:]{{1,3}}){{0,2}}{_OPEN}(?P<label>[A-Z]{{1,3}})
        (?={_SHUT}[)\].,:;!?\n]|{_SHUT}\Z|{_SHUT}\s+(?:because|since|as|for|and|or|but)\b|{_SHUT}\s?[,/&、]|[)"'*`\]}}$])
      |\\boxed\s?\{{\s?(?:\\(?:text|textbf|mathrm|mathbf)\s?\{{)?[(]?(?P<boxed>[A-Z]{{1,3}})[)]?\s?\}}
      |(?:答案|正确选项|正確選項|故选|因此选|所以选|应选|選擇|选择|选|正解)(?:是|为|為|:)?\s?[(\[]?(?P<cjk>[A-Z])(?![A-Za-z])""",
    re.VERBOSE,
)
# Behind a label: another one in a list (`A, C and D`, `(A) (C)`, `A/B`).
_NEXT_RE = re.compile(
    rf"""{_SHUT}\s{{0,3}}(?P<link>[,/&+;、|]|-|–|~|(?:,\s?)?(?:and|or|to|through|和|或|与|及)(?![a-z])|(?=[(\[])|[.)\]]\s{{0,2}}(?=[(\[A-Z]))
        \s{{0,3}}(?:(?:and|or)\s{{1,3}})?(?:(?:options?|choices?)\s{{1,3}})?{_OPEN}(?P<label>[A-Z]{{1,2}})
        (?=\s{{0,3}}(?:[)\]}}.,;:!?/&+"'*`|、]|\n|\Z|(?:and|or|和|或)\b|和|或))""",
    re.VERBOSE,
)
# A change of mind: another label behind one that was named (`Answer: A. Actually B.`).
_TURN_RE = re.compile(
    rf"""\b(?i:actually|wait|rather|instead|correction|sorry|hmm+|i\smean|on\ssecond\sthought|(?<=[.!?\n]\s)no(?=[,.:;!]))[\s,.:;!…—–-]{{1,6}}
        (?i:(?:it|that|the\sanswer)(?:'s|\sis)\s{{1,3}})?(?i:option\s)?{_OPEN}(?P<label>[A-Z]{{1,2}}){_SHUT}(?=[.,;!?\n]|\Z)""",
    re.VERBOSE,
)
# Options listed again: `A. a red ball` at the start of a line or behind a blank.
_LISTED_RE = re.compile(
    r"(?:^[\s>*#-]{0,6}(?:(?i:option|choice)\s)?|(?<=[\s;,.]))[*(\[]{0,3}(?P<label>[A-Z]{1,2})[*]{0,2}[.):\]][*]{0,2}(?=\s|\w)|^\s{0,4}[*(\[]{0,3}(?P<line>[A-Z]{1,2})[*)\].]{0,3}\s{0,4}$",
    re.MULTILINE,
)
_OPTION_WORD_RE = re.compile(r"\b(?:options?|choices?|answers?|and|or|than|unlike|with)\s?[(\[*]{0,3}\Z", re.IGNORECASE)
_DENIED_RE = re.compile(
    r"""\s{0,3}(?:(?:is|was|seems|looks|are)(?:n't|\snot|\snever)?\s{1,3}(?:clearly\s|obviously\s|also\s)?
        (?:wrong|incorrect|false|not|out|ruled|impossible|unlikely)|(?:is|was|can|could|does|do)(?:n't|\snot)\b|cannot\b
        |(?:wrong|incorrect|false|no|not|nope)\b)""",
    re.IGNORECASE | re.VERBOSE,
)
_DOUBT_RE = re.compile(
    r"""(?:\b(?:not|n't|never|neither|nor|whether|if|unless|wrong\s(?:to\s(?:say|think))?|doubt)\b|n't)
        [^.!?\n]{0,24}\Z""",
    re.IGNORECASE | re.VERBOSE,
)
_CLAUSE_RE = re.compile(r"[,;:]|\b(?:so|hence|thus|therefore|but)\b", re.IGNORECASE)


_FIRST_RE = re.compile(rf"(?:{_LEAD}{_THE}){{0,2}}{_OPEN}(?P<label>[A-Z]{{1,2}})(?![\w'])", re.IGNORECASE)


class Option(NamedTuple):
    """An option that was named: its place in the list, and the characters of its label if one was written."""

    place: int
    label_at: tuple[int, int] | None = None


# A label with its option's text in brackets, or the other way round.
_BRACKETED_RES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"[>\s-]{{0,4}}(?i:{_LEAD}{_THE}){{0,2}}{_OPEN}(?P<label>[A-Z]{{1,2}}){_SHUT}\s?[(\[](?P<said>[^\n]+)[)\]][.!]?\s{{0,3}}\Z",
        r"[>\s-]{0,4}(?P<said>[^\n(\[]+?)\s?[(\[](?P<label>[A-Z]{1,2})[)\]][.!]?\s{0,3}\Z",
    )
)
_LONGEST_LINE = 400  # a line that is an answer is shorter


class _Claim(NamedTuple):
    """One way in which a text names options: labels found (several when it lists them)."""

    labels: frozenset[str]
    at: tuple[int, int]


def read_option(
    text: str, n_options: int, options: Sequence[str], answer_as: AnswerAs
) -> tuple[Option | None, str | None]:
    """Return the option a text names, and why none when it names none.

    Args:
        text: what was written as the answer, stripped.
        n_options: how many options there are; labels beyond them name nothing.
        options: the option texts, to recognise an answer that repeats one; may be empty.
        answer_as: which of label and text is tried first (an option's text may look like a label).

    Returns:
        The option or None, and None or a code of `PROBLEMS`.
    """
    by_label, problem = _by_label(text, option_labels(n_options), options)
    same = _same_text(text, options)
    by_text = Option(same[0]) if len(same) == 1 else None
    first, second = (by_label, by_text) if answer_as == "letter" else (by_text, by_label)
    found = first or second
    if found is not None:
        return found, None
    return None, "ambiguous_option" if len(same) > 1 else problem or "unknown_option"


# --- by text --------------------------------------------------------------------------------------------


def _same_text(text: str, options: Sequence[str]) -> list[int]:
    """Return the options whose text this is, to the letter, else but for case, spacing and end punctuation."""
    same = [i for i, option in enumerate(options) if option.strip() == text]
    if same or not options:
        return same
    plain_options = _plain_all(tuple(options))
    led = [m for line in text.split("\n") if (m := _BY_TEXT_LEAD_RE.match(line)) and len(line) < _LONGEST_LINE]
    for said in (text, *(m.string[m.end() :] for m in led)):
        if (plain := _plain(said)) and (same := [i for i, option in enumerate(plain_options) if option == plain]):
            return same
    return []


_BY_TEXT_LEAD_RE = re.compile(rf"\A{_LEAD}{{1,2}}", re.IGNORECASE)


def _plain(text: str) -> str:
    """Return a text without the differences of case, spacing and end punctuation."""
    return " ".join(text.casefold().split()).strip(" .,;:!\"'`*")


@lru_cache(maxsize=64)
def _plain_all(options: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_plain(option) for option in options)


# --- by label -------------------------------------------------------------------------------------------


def _by_label(text: str, labels: tuple[str, ...], options: Sequence[str]) -> tuple[Option | None, str | None]:
    """Find the one label a text names, at its start (`B`, `(b)`, `B. red`) or in conclusions (`... answer is B.`)."""
    if text in labels:
        return Option(labels.index(text), (0, len(text))), None
    plain = plain_letters(text)
    head = _HEAD_RE.match(plain)
    claims = list(_conclusions(plain, labels))
    # Longer labels look like words, so they must be written in capitals.
    if head and (len(head["label"]) == 1 or head["label"].isupper()):
        label = head["label"].upper()
        if label not in labels:
            return None, None
        claim = _head_claim(plain, head, labels, options)
        if claim is not None:
            claims.insert(0, claim)
    several = _next_labels(plain, _FIRST_RE.match(plain), labels)
    if not claims and len(several) < 2:
        claims = list(_line_claims(plain, labels, options))
    if claims:
        turns = _TURN_RE.finditer(plain, claims[0].at[1])
        claims += [_Claim(frozenset({m["label"]}), m.span("label")) for m in turns if m["label"] in labels]
    said = frozenset().union(*(claim.labels for claim in claims))
    if len(said) > 1:
        return None, "several_options"
    if not said:
        return None, "several_options" if len(several) > 1 else None
    return Option(labels.index(next(iter(said))), claims[0].at), None


def _line_claims(text: str, labels: tuple[str, ...], options: Sequence[str]) -> Iterator[_Claim]:
    """Yield the lines that are a label alone, or a label with its own option's text."""
    start = 0
    for line in text.split("\n"):
        head = _HEAD_RE.match(line) if len(line) < _LONGEST_LINE else None
        label = head["label"].upper() if head and len(head["label"]) == 1 else head["label"] if head else ""
        if head and label in labels and (_alone(head) or _is_own(line[head.end() :], label, labels, options)):
            low, high = head.span("label")
            yield _Claim(frozenset({label, *_list_behind(line, high, labels)}), (start + low, start + high))
        elif m := _bracketed(line, labels, options):
            yield _Claim(frozenset({m["label"]}), (start + m.start("label"), start + m.end("label")))
        start += len(line) + 1


def _bracketed(line: str, labels: tuple[str, ...], options: Sequence[str]) -> re.Match[str] | None:
    """Return the match of a line that is a label and its own option's text, one of them in brackets."""
    ways = (pattern.match(line) for pattern in _BRACKETED_RES if len(line) < _LONGEST_LINE)
    return next(
        (m for m in ways if m and m["label"] in labels and _is_own(m["said"], m["label"], labels, options)), None
    )


def _alone(head: re.Match[str]) -> bool:
    """Return whether nothing but a reason follows the label."""
    return any(head[way] is not None for way in ("alone", "reason", "right"))


def _is_own(said: str, label: str, labels: tuple[str, ...], options: Sequence[str]) -> bool:
    """Return whether a text is that of the option with this label."""
    return bool(options) and _plain(said) == _plain(plain_letters(options[labels.index(label)]))


def _next_labels(text: str, first: re.Match[str] | None, labels: tuple[str, ...]) -> set[str]:
    if first is None or first["label"] not in labels:
        return set()
    return {first["label"], *_list_behind(text, first.end("label"), labels)}


def _list_behind(text: str, at: int, labels: tuple[str, ...]) -> Iterator[str]:
    """Yield the labels that are listed right behind the one that ends at `at`."""
    while (m := _NEXT_RE.match(text, at)) and m["label"] in labels:
        yield m["label"]
        at = m.end("label")


def _head_claim(text: str, head: re.Match[str], labels: tuple[str, ...], options: Sequence[str]) -> _Claim | None:
    """Return what a label at the start claims, together with those the text lists beside it."""
    label, at = head["label"].upper(), head.span("label")
    rest = text[head.end() :]
    named = {label, *_list_behind(text, at[1], labels)}
    after = head.end()
    if head["mark"] and _is_own(rest.partition("\n")[0], label, labels, options):
        after += len(rest.partition("\n")[0])
    elif head["mark"] and _DENIED_RE.match(rest):
        return None
    firm = _alone(head) or "answer" in head["lead"].casefold()
    for m in _LISTED_RE.finditer(text, after):
        other = m["label"] or m["line"]
        if other not in labels or other == label:
            continue
        at_line = m.start() == 0 or text[m.start() - 1] == "\n"
        before = text[max(0, m.start() - 12) : m.start()]
        bare_line = m["line"] is not None
        if bare_line or (not firm and (at_line or not _OPTION_WORD_RE.search(before))):
            named.add(other)
    return _Claim(frozenset(named), at)


def _conclusions(text: str, labels: tuple[str, ...]) -> Iterator[_Claim]:
    """Yield every conclusion of a text that is not denied or doubted in its own clause."""
    for m in _CONCLUSION_RE.finditer(text):
        group = next(name for name in ("label", "boxed", "cjk") if m[name])
        label = m[group]
        if label not in labels:
            continue
        before = _CLAUSE_RE.split(text[max(0, m.start() - 40) : m.start()])[-1]
        if _DOUBT_RE.search(before) or _DENIED_RE.match(text, m.end(group)):
            continue
        yield _Claim(frozenset((label, *_list_behind(text, m.end(group), labels))), m.span(group))
