"""How well the reader of replies understands what is written: precision and recall on replies of known meaning.

    python bench/reading/reading.py [--replies 2000] [--seed 0] [--show 20]

Half of the replies name an option (or several, or none) in many ways (`reading_forms.json`), half give spans in many
notations. Each is made from its meaning, so what should be read is known; a reply whose meaning nobody could be sure of
should be left unread.

precision: of what was read, the share that is what was meant.
recall: of what was clearly meant, the share that was read.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoomzero.prompts import option_labels, read_response

TEXTS = (
    "a red ball", "a blue key", "The man sits down.", "two dogs", "He opens the door", "nothing", "in the kitchen",
    "by bus", "because it rains", "3 times", "She is Dr. A. Jones", "left to right", "the second one", "an apple",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """A reply and its meaning: `answer` is a label or None, `spans` are seconds (None: not about spans)."""

    kind: str
    text: str
    n_options: int
    options: tuple[str, ...]
    answer: str | None
    spans: tuple[tuple[float, float], ...] | None = None


# --- answers --------------------------------------------------------------------------------------------

FORMS = json.loads(Path(__file__).with_name("reading_forms.json").read_text(encoding="utf-8"))
# Sentences around a reply; none of them changes its meaning.
BEFORE = (
    "Let me look at the video.\n",
    "The video shows a person in a kitchen at 0:12.\n\n",
    "Okay, based on the frames I was given:\n",
    "I watched all 64 frames (0.0 s - 83.3 s).\n\n",
    "Sure! Here is my response.\n\n",
    "Step 1. Find the object.\nStep 2. Compare.\n\n",
)
AFTER = (
    "\n\nI am quite sure about this.",
    "\nConfidence: 0.9",
    "\n\nHope this helps!",
    "\n\nThe evidence is at 0:12 - 0:15.",
    "\n",
)


def answer_case(rng: random.Random) -> Case:
    n = rng.choice((2, 3, 4, 4, 4, 5, 5, 8))
    options = tuple(rng.sample(TEXTS, n))
    labels = option_labels(n)
    picked = rng.sample(range(n), min(3, n))
    x, y = picked[0], picked[1]
    z = picked[2] if n > 2 else y
    clear = rng.random() < 0.6
    form = rng.choice(FORMS["clear" if clear else "unclear"])
    if "Ｘ" in form:
        form = form.replace("Ｘ", chr(ord(labels[x]) + 0xFEE0))
    # One pass, so that letters of the inserted texts are not replaced.
    values = {"X": labels[x], "x": labels[x].lower(), "T": options[x], "Y": labels[y], "Z": labels[z], "U": options[y]}
    text = "".join(values[c] if c in values and _alone(form, i) else c for i, c in enumerate(form))
    if rng.random() < 0.3 and not text.startswith(options):
        around = rng.choice((f"{rng.choice(BEFORE)}{text}", f"{text}{rng.choice(AFTER)}"))
        return Case(f"{form} among sentences", around, n, options, labels[x] if clear else None)
    return Case(form, text, n, options, labels[x] if clear else None)


def _alone(form: str, at: int) -> bool:
    """Return whether the character is a placeholder, not a letter of a word."""
    near = form[max(0, at - 1) : at] + form[at + 1 : at + 2]
    return not any(c.isascii() and c.isalpha() for c in near)


# --- spans ----------------------------------------------------------------------------------------------


def _clock(seconds: float, digits: int = 0, mark: str = ".", hours: bool = False) -> str:
    whole = round(seconds * 10**digits)
    total, part = divmod(whole, 10**digits)
    tail = f"{mark}{part:0{digits}}" if digits else ""
    if hours or total >= 3600:
        return f"{total // 3600:02}:{total // 60 % 60:02}:{total % 60:02}{tail}"
    return f"{total // 60:02}:{total % 60:02}{tail}"


def _compound(seconds: float) -> str:
    return f"{int(seconds) // 60}m{int(seconds) % 60}s"


Writer = Callable[[float, float], str]
WRITTEN: Sequence[tuple[Writer, float]] = (  # how a pair is written, and what its times are multiples of
    (lambda a, b: f"({a:.1f}, {b:.1f})", 0.1),
    (lambda a, b: f"({a:.1f},{b:.1f})", 0.1),
    (lambda a, b: f"[{a:.2f}, {b:.2f}]", 0.01),
    (lambda a, b: f"[{a:g} - {b:g}]", 0.1),
    (lambda a, b: f"{a:g}-{b:g}", 1),
    (lambda a, b: f"{a:.1f}–{b:.1f}", 0.1),
    (lambda a, b: f"{a:.1f}s to {b:.1f}s", 0.1),
    (lambda a, b: f"{a:g}s-{b:g}s", 1),
    (lambda a, b: f"from {a:g} to {b:g} seconds", 0.1),
    (lambda a, b: f"from {a:g} seconds to {b:g} seconds", 1),
    (lambda a, b: f"between {a:g} and {b:g} seconds", 1),
    (lambda a, b: f"{a:g} s until {b:g} s", 0.1),
    (lambda a, b: f"{_clock(a)} - {_clock(b)}", 1),
    (lambda a, b: f"[{_clock(a)}, {_clock(b)}]", 1),
    (lambda a, b: f"{_clock(a, 2)} - {_clock(b, 2)}", 0.01),
    (lambda a, b: f"{_clock(a, hours=True)} to {_clock(b, hours=True)}", 1),
    (lambda a, b: f"{_clock(a, 3, ',', True)} --> {_clock(b, 3, ',', True)}", 0.001),
    (lambda a, b: f"{_clock(a, 3, '.', True)} --> {_clock(b, 3, '.', True)}", 0.001),
    (lambda a, b: f'["{_clock(a)}", "{_clock(b)}"]', 1),
    (lambda a, b: f'{{"start": {a:g}, "end": {b:g}}}', 0.1),
    (lambda a, b: f'{{"start_time": "{_clock(a)}", "end_time": "{_clock(b)}"}}', 1),
    (lambda a, b: f"start: {a:g}, end: {b:g}", 0.1),
    (lambda a, b: f"starts at {a:g} s and ends at {b:g} s", 1),
    (lambda a, b: f"{a / 60:g} to {b / 60:g} minutes", 6),
    (lambda a, b: f"{a / 60:g} min - {b / 60:g} min", 6),
    (lambda a, b: f"({a / 60:g}, {b / 60:g}) minutes", 6),
    (lambda a, b: f"{_compound(a)} - {_compound(b)}", 1),
    (lambda a, b: f"{a * 1000:.0f} ms - {b * 1000:.0f} ms", 0.001),
    (lambda a, b: f"({a:.3e}, {b:.3e})", 100),
    (lambda a, b: f"（{a:.1f}，{b:.1f}）", 0.1),
    (lambda a, b: f"{a:.1f}秒到{b:.1f}秒", 0.1),
    (lambda a, b: f"第{a:g} - {b:g}秒", 1),
    (lambda a, b: f"{a:.1f} → {b:.1f}", 0.1),
    (lambda a, b: f"{a:.1f} ~ {b:.1f} s", 0.1),
    (lambda a, b: f"**{a:.1f}** - **{b:.1f}**", 0.1),
    (lambda a, b: f"{a:,.1f} - {b:,.1f}", 0.1),
    (lambda a, b: f"{a:.1f} - {b:.1f}".replace(".", ","), 0.1),
    (lambda a, b: f"minutes {a / 60:g}-{b / 60:g}", 6),
    (lambda a, b: f"<{a:.1f}, {b:.1f}>", 0.1),
    (lambda a, b: f"({a:.1f}s; {b:.1f}s)", 0.1),
    (lambda a, b: f"{_compound(a)} to {_compound(b)}", 1),
    (lambda a, b: f"[{a:.1f}, {b:.1f}, 0.95]", 0.1),
)
NO_TIMES: Sequence[Writer] = (
    lambda a, b: f"{a:g}-{b:g}%",
    lambda a, b: f"{a:g}% - {b:g}%",
    lambda a, b: f"{a:g}-{b:g} frames",
    lambda a, b: f"frames {a:.0f}-{b:.0f}",
    lambda a, b: f"frame {a:.0f} to frame {b:.0f}",
    lambda a, b: f"frames: [({a:.0f}, {b:.0f})]",
    lambda a, b: f"({a:.0f}, {b:.0f}) frames",
    lambda a, b: f"confidence {a / 1000:.2f}, {b / 1000:.2f}",
    lambda a, b: f"scores: ({a / 1000:.2f}, {b / 1000:.2f})",
    lambda a, b: f"{a:.0f}k - {b:.0f}k",
    lambda a, b: f"(−{a:g}, {b:g})",
    lambda a, b: f"({b:g}, {a:g})",
    lambda a, b: f"({a:g}, inf)",
    lambda a, b: f"{_clock(a, hours=True)}:12 - {_clock(b, hours=True)}:07",
    lambda a, b: f"${a:g} - ${b:g}",
    lambda a, b: f"scene {a:.0f} - {b:.0f}",
    lambda a, b: f"{a:.0f}-{b:.0f}-{b + 5:.0f}",
    lambda a, b: f"{a:.0f}px - {b:.0f}px",
    lambda a, b: f"1 {a:03.0f} - 1 {b:03.0f}",
    lambda a, b: f"1'{a:03.0f} - 1'{b:03.0f}",
    lambda a, b: f"{a:.0f} 1/2 - {b:.0f}",
    lambda a, b: f"{a:.0f}±1 - {b:.0f}±1",
    lambda a, b: f"{a:.0f}^2 - {b:.0f}^2",
    lambda a, b: f"{a:.0f}x - {b:.0f}x",
    lambda a, b: f"{a:.0f} am - {b:.0f} am",
    lambda a, b: f"at {a:g} s",
    lambda a, b: "none",
    lambda a, b: "",
)
AROUND = ("{}", "[{}]", "The evidence is at {}.", "It is seen {}", "{}\n")


def span_case(rng: random.Random) -> Case:
    clear = rng.random() < 0.7
    number = rng.choice((1, 1, 2, 3)) if clear else 1
    if clear:
        place = rng.randrange(len(WRITTEN))
        write, grid = WRITTEN[place]
    else:
        place = rng.randrange(len(NO_TIMES))
        write, grid = NO_TIMES[place], 1
    times = sorted(rng.sample(range(1, max(2 * number + 2, int(rng.choice((90, 900, 7000)) / grid))), 2 * number))
    pairs = [(round(a * grid, 3), round(b * grid, 3)) for a, b in zip(times[::2], times[1::2], strict=True)]
    between = rng.choice((", ", "; ", " and ", "\n"))
    text = rng.choice(AROUND).format(between.join(write(a, b) for a, b in pairs))
    kind = f"{'span' if clear else 'no span'} {place}: {write(12, 345) if grid <= 1 else write(1200, 3600)}"
    return Case(kind, text, 4, (), "A", tuple(pairs) if clear else ())


# --- measuring ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """Replies in all, with a clear meaning, read, read right."""

    n: int = 0
    meant: int = 0
    read: int = 0
    right: int = 0

    def add(self, meant: bool, read: bool, right: bool) -> None:
        self.n += 1
        self.meant += meant
        self.read += read
        self.right += read and right

    def line(self, name: str) -> str:
        precision, recall = 100 * self.right / max(self.read, 1), 100 * self.right / max(self.meant, 1)
        return f"{name:<9}{self.n:>8}{self.meant:>8}{self.read:>7}{self.right:>8}{precision:>11.2f}{recall:>9.2f}"


def judge(case: Case) -> tuple[bool, bool, bool, str]:
    """Return (meant, read, right) and what was read."""
    if case.spans is None:
        reading = read_response(case.text, case.n_options, "direct", options=case.options)
        read = reading.answer is not None
        return case.answer is not None, read, reading.answer == case.answer, f"{reading.answer} {reading.problems}"
    reading = read_response(f"<answer>A</answer>\n<glue>{case.text}</glue>", 4, "no_think")
    got = tuple((round(s, 3), round(e, 3)) for s, e in reading.spans)
    return bool(case.spans), bool(got), got == case.spans, f"{got} {reading.problems}"


def make(replies: int, seed: int) -> list[Case]:
    """Return `replies` cases, answers and spans in turn."""
    rng = random.Random(seed)
    return [answer_case(rng) if i % 2 == 0 else span_case(rng) for i in range(replies)]


def main(argv: Sequence[str] | None = None) -> dict[str, Tally]:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replies", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=20, help="replies that were read wrongly or not at all")
    args = parser.parse_args(argv)
    tallies = {"answers": Tally(), "spans": Tally()}
    wrong: dict[str, str] = {}
    started = time.perf_counter()
    for case in make(args.replies, args.seed):
        meant, read, right, got = judge(case)
        tallies["answers" if case.spans is None else "spans"].add(meant, read, right)
        if (read or meant) and not right:
            want = case.answer if case.spans is None else case.spans
            wrong.setdefault(case.kind, f"{case.text!r}: meant {want}, read {got}")
    seconds = time.perf_counter() - started
    print(f"{'':<9}{'replies':>8}{'meant':>8}{'read':>7}{'right':>8}{'precision':>11}{'recall':>9}")
    for name, tally in tallies.items():
        print(tally.line(name))
    print(f"{seconds / args.replies * 1e6:.0f} us a reply; ways of writing not understood: {len(wrong)}")
    for line in list(wrong.values())[: args.show]:
        print(" ", line)
    return tallies


if __name__ == "__main__":
    main()
