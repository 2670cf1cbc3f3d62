"""SFT samples drawn from the world: looks at videos with questions and listings, and close looks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from zoomzero.config import ModelSettings
from zoomzero.data.sft_sample import Exchange, Look, SFTItem, SFTSample
from zoomzero.prompts import Mode, coarse_text, format_spans, format_time, video_header, zoom_text
from zoomzero.spans import Span, clip, intersection_s, widen
from zoomzero.video.plan import plan_on_grid, plan_regular, plan_spans
from zoomzero.video.types import FrameBudget, FramePlan, Geometry
from zoomzero.world.questions import NUMBERS, QUESTION_KINDS, Question, ask
from zoomzero.world.scenes import GRID_S, KINDS, SYMBOLS, Event, Scene, kind_name
from zoomzero.world.views import MIN_SEEN_S, View, even_s, sparse_view, whole_view
from zoomzero.world.write import LABELS, LONG_DURATION_S

LIST_TEXT = "List what you see."
_BEGINS = re.compile(r"<time>\((\d+)\.")  # where a span is written, the whole seconds of its start
_FIRST = (len("<think>"), len("<think>") + 1)  # "the ..." or "not visible": the first word of the reasoning decides
# shares of items about what does not show: a window of a long video, or a few of its frames, show nothing of most
ABSENT, ABSENT_IN_PART = 0.12, 0.35
LONGEST_WHOLE_S = 96.0  # of a video that a pass sees all of
LONG_CLOSE = 0.5  # share of close looks at a long video, where moments lie far apart
# of QUESTION_KINDS: what is learned last is asked for most; symbols are asked for besides in close looks
COARSE_SHARES = (0.2, 0.25, 0.5, 0.05)
CLOSE_SHARES = (0.15, 0.3, 0.4, 0.15)
JOINT_SHARES = (0.1, 0.2, 0.65, 0.05)  # what needs several moments of a video is what they are looked at together for
FEWER = 0.2  # share of questions with two or three options instead of four: users ask with as many as they like
LEFT_OUT, MOST_OTHERS = 0.2, 2  # how often a moment of the evidence is not among the pieces, and how many others are


def picture_sample(rng: np.random.Generator, budget: FrameBudget, geometry: Geometry, *, symbols: bool) -> SFTSample:
    """One pair of frames, its objects listed; with their symbols where the frames are large enough to read them."""
    view = whole_view(rng, 4, 4)
    plan = plan_regular(view.info, budget, geometry, Span(0.0, 2.0))
    shown = [event for event in view.scene.events if view.frames_of(event, plan) == len(plan.times_s)]
    text = "".join(f" {e.name} {SYMBOLS[e.symbol]}" if symbols else f" {e.name}" for e in shown)
    return SFTSample(view.draw(plan), "", (SFTItem(LIST_TEXT, text),))


def coarse_sample(
    rng: np.random.Generator,
    view: View,
    budget: FrameBudget,
    settings: ModelSettings,
    geometry: Geometry,
    *,
    questions: int,
    lookups: int,
    listing: float,
) -> SFTSample:
    """A look at a whole video or a window of one: questions about it and, sometimes, everything it shows.

    Args:
        rng: the only source of randomness.
        view: what is looked at.
        budget: of the pass.
        settings: how the model is asked.
        geometry: of the model.
        questions: how many.
        lookups: how many objects are looked up: when they show, and nothing else.
        listing: share of samples that list everything as well; all do without questions and lookups.
    """
    plan = plan_regular(view.info, budget, geometry, view.span)
    items = [_coarse_item(rng, view, plan, settings) for _ in range(questions)]
    items += _lookup_items(rng, view, plan, lookups)
    if not items or rng.random() < listing:
        items.append(_timeline_item(view, plan))
    return SFTSample(view.draw(plan), video_header(view.total_s), tuple(items))


def joint_sample(
    rng: np.random.Generator, budget: FrameBudget, settings: ModelSettings, geometry: Geometry, *, lookups: int
) -> SFTSample:
    """A look at pieces of a long video together: a question's evidence as windows named it, and other moments."""
    view = sparse_view(rng)
    question = _ask_any(rng, view.scene, JOINT_SHARES)
    pieces = [s for _, span in question.reasoning for s in _jitter(rng, span, view.span)]
    if len(pieces) > 1 and rng.random() < LEFT_OUT:
        pieces.pop(int(rng.integers(len(pieces))))
    for _ in range(int(rng.integers(MOST_OTHERS + 1))):
        start_s = float(rng.uniform(0, view.total_s - 10))
        pieces.append(Span(start_s, start_s + float(rng.uniform(4, 10))))
    wide = widen(pieces, float(rng.uniform(2, 6)), *view.span)
    plan = plan_on_grid(view.info, wide, budget, geometry)
    items = [_answer_item(rng, view, plan, settings, question), _absent_item(rng, view, plan, settings)]
    items += _lookup_items(rng, view, plan, lookups)
    return SFTSample(view.draw(plan), video_header(view.total_s), tuple(items))


def zoom_sample(
    rng: np.random.Generator,
    settings: ModelSettings,
    geometry: Geometry,
    *,
    weight: float = 1.0,
    strangers: float = 1.0,
) -> SFTSample:
    """A close look at (about) the right spans, sometimes at wrong ones.

    A token of its answers counts `weight`; a share `strangers` of the looks is also asked about what it does not show.
    """
    long = rng.random() < LONG_CLOSE
    whole = whole_view(rng, 400, LONG_DURATION_S) if long else whole_view(rng, 48, LONGEST_WHOLE_S)
    shift_s = even_s(rng, 0, LONG_DURATION_S - LONGEST_WHOLE_S) if not long and rng.random() < 0.5 else 0.0
    total_s = whole.total_s + shift_s
    view = View(whole.scene, shift_s, Span(shift_s, total_s), total_s)
    question = _ask_any(rng, view.scene, CLOSE_SHARES)
    plan = _zoom_plan(rng, view, question, settings, geometry)
    items = [_zoom_item(rng, question, settings, _knowable(question, view, plan))]
    singles = [e for e in view.scene.events if view.frames_of(e, plan) >= 2 and _lone(view.scene, e)]
    items += [_zoom_item(rng, _symbol_question(rng, event, view.scene), settings, True) for event in singles[:3]]
    if strangers == 1 or rng.random() < strangers:
        items.append(_zoom_item(rng, _stranger(rng, view, plan), settings, False))
    shown = [e for e in view.scene.events if view.frames_of(e, plan) >= 2]
    listing = SFTItem(LIST_TEXT, "".join(f" {e.name} {SYMBOLS[e.symbol]}" for e in shown))
    return SFTSample(view.draw(plan), "", (*(replace(item, weight=weight) for item in items), listing))


def context_sample(
    rng: np.random.Generator, settings: ModelSettings, geometry: Geometry, *, weight: float = 1.0
) -> SFTSample:
    """A close look that goes on from a look at the whole video and the answer written there."""
    view = whole_view(rng, 48, 80)
    question = _ask_any(rng, view.scene, CLOSE_SHARES)
    coarse_plan = plan_regular(view.info, settings.coarse.budget(), geometry, view.span)
    guess = LABELS[question.answer] if question.kind != "symbol" else LABELS[int(rng.integers(len(question.options)))]
    seen = view.seen(question.spans, coarse_plan)
    steps = [(name, view.seen([span], coarse_plan)) for name, span in question.reasoning]
    think = f"<think>{_reasoning(question, steps, question.options[question.answer])}</think>\n"
    reply = f"{think}<answer>{guess}</answer>\n<glue>{format_spans(seen)}</glue>"
    asked = video_header(view.total_s) + coarse_text(question.text, question.options, "think", settings.style)
    plan = _zoom_plan(rng, view, question, settings, geometry)
    item = _zoom_item(rng, question, settings, question.kind != "symbol" or _knowable(question, view, plan))
    return SFTSample(
        view.draw(plan), "", (replace(item, weight=weight),), (Exchange(view.draw(coarse_plan), asked, reply),)
    )


def _coarse_item(rng: np.random.Generator, view: View, plan: FramePlan, settings: ModelSettings) -> SFTItem:
    """Ask one question about a view, in one of the answer modes."""
    if rng.random() < _absent_share(view):
        return _absent_item(rng, view, plan, settings)
    return _answer_item(rng, view, plan, settings, _ask_visible(rng, view, plan, COARSE_SHARES))


def _answer_item(
    rng: np.random.Generator, view: View, plan: FramePlan, settings: ModelSettings, question: Question
) -> SFTItem:
    """Answer a question from what the planned frames show of it."""
    label = LABELS[question.answer]
    seen = view.seen(question.spans, plan)
    steps = [(name, view.seen([span], plan)) for name, span in question.reasoning]
    if question.kind == "last" and view.span.end_s < view.total_s:
        seen = ()
    if question.kind == "count":
        steps = [(name, spans) for name, spans in steps if spans]
        if seen:  # in a window, or between frames far apart, only some of them show
            label = LABELS[question.options.index(NUMBERS[len(steps) - 1])]
    if not seen or not all(spans for _, spans in steps):
        return _unseen_item(rng, question, settings)
    draw = rng.random()
    if draw < 0.1:
        return SFTItem(coarse_text(question.text, question.options, "direct", settings.style), label)
    answer = f"<answer>{label}</answer>\n<glue>{format_spans(seen)}</glue>"
    if draw < 0.2:
        return SFTItem(coarse_text(question.text, question.options, "no_think", settings.style), answer)
    option = LABELS.index(label)
    think = f"<think>{_reasoning(question, steps, question.options[option])}</think>\n"
    decisive, looks = (_FIRST, *_starts(think)), _looks(think)
    if question.kind == "count":  # whether there is another appearance
        decisive += tuple((m.end(), m.end() + 1) for m in re.finditer("</time>", think))
    text = coarse_text(question.text, question.options, "think", settings.style)
    if question.kind != "symbol":  # whose letter only a close look can tell
        letter = len(think) + len("<answer>")
        decisive += ((letter, letter + 1),)
        looks += (Look("which", letter, option),)
    if question.kind in ("order", "last"):  # what is named there was not in the question
        looks += _named(think, think.rindex("the "), steps[-1][1][0].start_s)
    return SFTItem(text, think + answer, decisive=decisive, looks=looks, options=option_places(text))


def _reasoning(question: Question, steps: Sequence[tuple[str, Sequence[Span]]], said: str) -> str:
    """Write what to notice, in the order of noticing, each with its moment, and at last what it says, if it does."""
    moments = [(name, f"<time>{format_spans(spans)[1:-1]}</time>") for name, spans in steps]
    if question.kind == "count":
        noticed = f"the {moments[0][0]} visible{''.join(moment for _, moment in moments)}"
    else:
        noticed = " then ".join(f"the {name} visible{moment}" for name, moment in moments)
    return noticed if question.kind == "symbol" else f"{noticed} {said}"


def option_places(text: str) -> tuple[tuple[int, int], ...]:
    """Return where each option's letter stands and its last character, in a question with options."""
    listed = text.index("Options:")
    return tuple((m.start(), m.end() - 1) for m in re.finditer(r"\([A-Z]\) [^(\n]*[^(\n ]", text) if m.start() > listed)


def _unseen_item(rng: np.random.Generator, question: Question, settings: ModelSettings) -> SFTItem:
    """Ask what this view cannot answer: no spans, and a letter that is not learned."""
    letter = LABELS[int(rng.integers(len(question.options)))]
    think = rng.random() < 0.85
    lead = "<think>not visible</think>\n<answer>" if think else "<answer>"
    mode: Mode = "think" if think else "no_think"
    text = coarse_text(question.text, question.options, mode, settings.style)
    unknown = (len(lead), len(lead) + 1)
    return SFTItem(text, f"{lead}{letter}</answer>\n<glue>[]</glue>", (unknown,), decisive=(_FIRST,) if think else ())


def _absent_share(view: View) -> float:
    """Return how often to ask for what does not show: a few frames of a long video miss most of it, like a window."""
    return ABSENT if view.whole and view.total_s <= LONGEST_WHOLE_S else ABSENT_IN_PART


def _absent_item(rng: np.random.Generator, view: View, plan: FramePlan, settings: ModelSettings) -> SFTItem:
    """Ask for the symbol, the number or the neighbour of an object that is not there."""
    shown = {e.kind for e in view.scene.events if view.seen([e.span], plan)}
    missing = [k for k in range(KINDS) if k not in shown]
    name = kind_name(int(rng.choice(missing))) if missing else "white ring"
    draw = rng.random()
    if draw < 0.5:
        symbols = tuple(SYMBOLS[int(s)] for s in rng.permutation(len(SYMBOLS))[:4])
        question = Question("symbol", f"Which symbol is on the {name}?", symbols, 0, (), ())
    elif draw < 0.7:
        numbers = tuple(NUMBERS[int(i)] for i in rng.permutation(4))
        question = Question("count", f"How many times does the {name} appear?", numbers, 0, (), ())
    else:
        others = [other for other in map(kind_name, rng.permutation(KINDS).tolist()) if other != name]
        where = "next after" if rng.random() < 0.5 else "last before"
        question = Question("order", f"Which object appears {where} the {name}?", tuple(others[:4]), 0, (), ())
    return _unseen_item(rng, _with_fewer(rng, question), settings)


def _lookup_items(rng: np.random.Generator, view: View, plan: FramePlan, count: int) -> list[SFTItem]:
    """Look objects up by their names, some in vain: what finding is, in the words of an answer."""
    spans: dict[int, list[Span]] = {}
    for event in view.scene.events:
        for span in view.seen([event.span], plan):
            spans.setdefault(event.kind, []).append(span)
    missing = [k for k in range(KINDS) if k not in spans]  # none in some long videos
    items = []
    for kind in (int(k) for k in rng.permutation(list(spans) or [0])[:count]):
        if rng.random() < _absent_share(view) and missing:
            kind = int(rng.choice(missing))
        text = f"List when the {kind_name(kind)} is visible."
        if kind not in spans:
            items.append(SFTItem(text, "not visible", decisive=((0, 1),)))
            continue
        target = f"the {kind_name(kind)} visible" + "".join(format_time(span) for span in spans[kind])
        items.append(SFTItem(text, target, decisive=((0, 1), *_starts(target)), looks=_looks(target)))
    return items


def _starts(target: str) -> tuple[tuple[int, int], ...]:
    """Return where the seconds at which spans begin stand in an answer's reasoning."""
    return tuple(m.span(1) for m in _BEGINS.finditer(target))


def _looks(target: str) -> tuple[Look, ...]:
    """Return where the spans that an answer's reasoning names begin; numbers are written two digits at a time.

    The first word, which says whether there is anything to see, looks at the first of them; what says that the object
    appears once more looks at the next.
    """
    spans = list(_BEGINS.finditer(target))
    return (
        Look("when", target.index("the "), float(spans[0][1])),
        *(Look("when", m.start(), float(m[1])) for m in spans if target[: m.start()].endswith("</time>")),
        *(
            Look("when", max(place, m.start(1)), float(m[1]))
            for m in spans
            for place in range(m.end(1) - 2, m.start(1) - 2, -2)
        ),
    )


def _named(target: str, after: int, start_s: float) -> tuple[Look, ...]:
    """Return what the two words of a name after a character look at: the moment when that object begins to show."""
    words = re.compile(r" (\w+) (\w+)").search(target, after)
    assert words is not None
    return tuple(Look("what", words.start(i), start_s) for i in (1, 2))


def _timeline_item(view: View, plan: FramePlan) -> SFTItem:
    """List everything that shows in the planned frames, in order, with its times: the densest lesson in finding."""
    rows = [(e.name, view.seen([e.span], plan)) for e in view.scene.events]
    text, looks = "", tuple[Look, ...]()
    for name, spans in rows:
        if spans:
            begun = len(text)
            text += f" {name} {format_spans(spans)[1:-1]}"
            looks += _named(text, begun, spans[0].start_s)
    return SFTItem(LIST_TEXT, text, looks=looks)


def _zoom_plan(
    rng: np.random.Generator, view: View, question: Question, settings: ModelSettings, geometry: Geometry
) -> FramePlan:
    """Plan a close look at the question's spans as a pass finds them: right, a little off, at times wrong."""
    moved = ((s + view.shift_s, e + view.shift_s) for s, e in question.spans)
    spans: Sequence[Span] = clip(moved, *view.span)
    draw = rng.random()
    if draw < 0.15:
        start_s = float(rng.uniform(view.span.start_s, view.span.end_s - 8))
        spans = [Span(start_s, start_s + float(rng.uniform(3, 8)))]
    elif draw < 0.55:
        spans = [s for true in spans for s in _jitter(rng, true, view.span)]
    return plan_spans(view.info, widen(spans, settings.widen_s, *view.span), settings.zoom.budget(), geometry)


def _zoom_item(rng: np.random.Generator, question: Question, settings: ModelSettings, knowable: bool) -> SFTItem:
    """Ask for the option's text (or letter); what cannot be known is answered at random: an honest uniform guess."""
    answer = question.answer if knowable else int(rng.integers(len(question.options)))
    as_text = rng.random() < 0.9
    text = zoom_text(question.text, question.options, settings.style, "text" if as_text else "letter")
    return SFTItem(text, question.options[answer] if as_text else LABELS[answer])


def _knowable(question: Question, view: View, plan: FramePlan) -> bool:
    """Whether the planned frames show enough of every span of the evidence."""
    planned = [(s - view.shift_s, e - view.shift_s) for s, e in plan.spans]
    return all(intersection_s([span], planned) >= MIN_SEEN_S for span in question.spans)


def _lone(scene: Scene, event: Event) -> bool:
    return len(scene.events_of(event.kind)) == 1


def _stranger(rng: np.random.Generator, view: View, plan: FramePlan) -> Question:
    """Ask for the symbol of an object that the planned frames do not show."""
    scene = view.scene
    missing = [k for k in range(KINDS) if not any(view.frames_of(e, plan) for e in scene.events_of(k))]
    kind, symbol = int(rng.choice(missing)), int(rng.integers(len(SYMBOLS)))
    return _symbol_question(rng, replace(scene.events[0], kind=kind, symbol=symbol), scene)


def _symbol_question(rng: np.random.Generator, event: Event, scene: Scene) -> Question:
    others = list(dict.fromkeys(e.symbol for e in scene.events if e.symbol != event.symbol))
    wrong = [SYMBOLS[int(s)] for s in rng.permutation(others)[:3]]
    options = [SYMBOLS[event.symbol], *wrong]
    order = [int(i) for i in rng.permutation(len(options))]
    text = f"Which symbol is on the {event.name}?"
    return Question("symbol", text, tuple(options[i] for i in order), order.index(0), (event.span,), ())


def _ask_any(
    rng: np.random.Generator, scene: Scene, shares: Sequence[float] | None = None, *, end: bool = True
) -> Question:
    """Ask a question of a random kind (in these shares) that this scene allows; of its end only where `end` says so."""
    for i in rng.choice(len(QUESTION_KINDS), len(QUESTION_KINDS), replace=False, p=shares):
        question = ask(rng, scene, QUESTION_KINDS[i]) if end or QUESTION_KINDS[i] != "last" else None
        if question is not None:
            return _with_fewer(rng, question)
    raise AssertionError("a scene always allows a count question")


def _with_fewer(rng: np.random.Generator, question: Question) -> Question:
    """Leave out one or two wrong options of some questions; not of counts: a window may show another number."""
    if question.kind == "count" or rng.random() >= FEWER:
        return question
    wrong = [i for i in range(len(question.options)) if i != question.answer]
    kept = sorted([question.answer, *rng.permutation(wrong)[: int(rng.integers(1, len(wrong)))].tolist()])
    return replace(question, options=tuple(question.options[i] for i in kept), answer=kept.index(question.answer))


def _ask_visible(rng: np.random.Generator, view: View, plan: FramePlan, shares: Sequence[float]) -> Question:
    """Ask about something that shows in the view, as a rule: what does not show is asked for often enough anyway."""
    for _ in range(4):
        question = _ask_any(rng, view.scene, shares, end=_end_is_known(view))
        if all(view.seen([span], plan) for _, span in question.reasoning):
            break
    return question


def _end_is_known(view: View) -> bool:
    """Whether asking for the object at the video's end has one answer: the scene's last object, or `not visible`.

    A short video may be a piece of a scene that goes on: what shows at its end is another object, or several.
    """
    if view.span.end_s < view.total_s:
        return True
    end_s = view.span.end_s - view.shift_s
    at_end = [e for e in view.scene.events if e.start_s < end_s and e.end_s > end_s - GRID_S]
    return at_end == [view.scene.events[-1]]


def _jitter(rng: np.random.Generator, span: Span, within: Span) -> tuple[Span, ...]:
    """Move the ends of a span by up to two seconds, as a prediction would."""
    start = span.start_s + float(rng.uniform(-2, 2))
    end = max(span.end_s + float(rng.uniform(-2, 2)), start + 2)
    return clip([(start, end)], *within)
