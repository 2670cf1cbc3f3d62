"""Grounding-only data made into grounded question answering: options are captions of the same video.

Data of this kind says when a caption is true and nothing else. Two ways to ask about it:

- `order_questions`, for videos with several captions in order: what comes first, what comes right after another. Every
  option happens in the video, so only looking at the right time tells them apart.
- `shown_questions`, for captions of short clips cut from longer recordings: which of these can be seen. The wrong
  options are captions of OTHER clips of the same recording, since those of the same clip are true as well.

Where a video has too few captions of its own the rest is borrowed from other videos, and counted.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from zoomzero.data.annotation import Question
from zoomzero.prompts import option_labels
from zoomzero.spans import Span

N_OPTIONS = 4
FIRST = "Which of these happens first in the video?"
SHOWN = "Which of these can be seen in the video?"
TRIES = 100


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption with the time it holds.

    `video` is the file that is watched. `recording` groups captions that look alike: the recording the video was cut
    from, or the one subject the captions are about.
    """

    id: str
    video: str
    recording: str
    text: str
    spans: tuple[Span, ...]
    duration_s: float
    saliency: tuple[tuple[float, ...], ...] = ()


Lender = Callable[[random.Random, Caption], str]


def order_questions(captions: Sequence[Caption], seed: int) -> tuple[list[Question], Counter[str]]:
    """Return one question for every caption: what happens first, or right after the caption before it.

    A caption that starts at the same time as a neighbour, or says the same, has no clear place in the order: it is
    left out and counted (`left_out_unclear_order`).

    Args:
        captions: in any order; those of one recording are put in order of their first span's start.
        seed: draws and shuffles the options; the same seed gives the same questions, whatever else is asked.
    """
    notes = _notes("left_out_unclear_order")
    lend = _lender(captions)
    questions = []
    for group in _by(captions, lambda one: one.recording).values():
        ordered = sorted(group, key=lambda one: one.spans[0].start_s)
        for place, one in enumerate(ordered):
            before = ordered[place - 1] if place else None
            if _unclear(ordered, place):
                notes["left_out_unclear_order"] += 1
                continue
            asked = FIRST if before is None else f'What happens right after this in the video: "{before.text}"?'
            own = [other.text for other in ordered if other is not one and other is not before]
            questions += _question(one, asked, own, [o.text for o in ordered], lend, seed, notes)
    return questions, notes


def shown_questions(captions: Sequence[Caption], seed: int) -> tuple[list[Question], Counter[str]]:
    """Return one question for every caption: which of these can be seen in the video.

    Args:
        captions: in any order.
        seed: draws and shuffles the options.
    """
    notes = _notes()
    lend = _lender(captions)
    recordings = _by(captions, lambda one: one.recording)
    videos = _by(captions, lambda one: one.video)
    questions = []
    for one in captions:
        own = [other.text for other in recordings[one.recording] if other.video != one.video]
        true = [other.text for other in videos[one.video]]
        questions += _question(one, SHOWN, own, true, lend, seed, notes)
    return questions, notes


def _notes(*names: str) -> Counter[str]:
    names += ("options_from_same_video", "options_from_other_videos", "left_out_no_other_option")
    return Counter(dict.fromkeys(names, 0))


def _by(captions: Iterable[Caption], key: Callable[[Caption], str]) -> dict[str, list[Caption]]:
    groups: dict[str, list[Caption]] = defaultdict(list)
    for one in captions:
        groups[key(one)].append(one)
    return groups


def _lender(captions: Sequence[Caption]) -> Lender:
    """Return a function that draws the text of a caption of another video and recording, empty when it finds none."""

    def lend(rng: random.Random, borrower: Caption) -> str:
        for _ in range(TRIES):
            other = captions[rng.randrange(len(captions))]
            if other.recording != borrower.recording and other.video != borrower.video:
                return other.text
        return ""

    return lend


def _unclear(ordered: Sequence[Caption], place: int) -> bool:
    one = ordered[place]
    neighbours = [ordered[i] for i in (place - 1, place + 1) if 0 <= i < len(ordered)]
    tied = any(other.spans[0].start_s == one.spans[0].start_s for other in neighbours)
    return tied or any(_same(other.text, one.text) for other in ordered if other is not one)


def _same(a: str, b: str) -> bool:
    return a.casefold() == b.casefold()


def _question(
    one: Caption,
    asked: str,
    own: Sequence[str],
    banned: Sequence[str],
    lend: Lender,
    seed: int,
    notes: Counter[str],
) -> list[Question]:
    """Make a question of four options, of fewer when no more can be found, none when there is no wrong one.

    Args:
        one: the caption that is the right answer.
        asked: the question's text.
        own: wrong options of the same video or recording, preferred.
        banned: texts that must not be borrowed, since they are true in this video.
        lend: draws a text of another recording.
        seed: see `order_questions`.
        notes: counter to add to.
    """
    rng = random.Random(f"{seed}:{one.id}")
    taken = {one.text.casefold()}
    wrong: list[str] = []
    for text in rng.sample(own, len(own)):
        if len(wrong) < N_OPTIONS - 1 and text.casefold() not in taken:
            wrong.append(text)
            taken.add(text.casefold())
    notes["options_from_same_video"] += len(wrong)
    taken |= {text.casefold() for text in banned}
    for _ in range(TRIES):
        if len(wrong) == N_OPTIONS - 1:
            break
        text = lend(rng, one)
        if text and text.casefold() not in taken:
            wrong.append(text)
            taken.add(text.casefold())
            notes["options_from_other_videos"] += 1
    if not wrong:
        notes["left_out_no_other_option"] += 1
        return []
    options = [one.text, *wrong]
    rng.shuffle(options)
    return [
        Question(
            id=one.id,
            video=one.video,
            question=asked,
            options=tuple(options),
            answer=option_labels(len(options))[options.index(one.text)],
            spans=one.spans,
            duration_s=one.duration_s,
            saliency=one.saliency,
        )
    ]
