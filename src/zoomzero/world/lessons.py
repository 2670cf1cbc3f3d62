"""The embedded model's curriculum: endless lessons drawn from the world, each a pure function of (seed, index).

Frames are drawn straight from the scene at the planned times: what the mp4 file would show, without the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from zoomzero.config import ModelSettings
from zoomzero.data.sft_sample import SFTItem, SFTSample
from zoomzero.prompts import Mode, coarse_text, format_spans, video_header, zoom_text
from zoomzero.spans import Span, clip, intersection_s
from zoomzero.video.decode import resize_frames
from zoomzero.video.plan import plan_regular, plan_spans
from zoomzero.video.types import Clip, FrameBudget, FramePlan, Geometry, VideoInfo
from zoomzero.world.questions import NUMBERS, QUESTION_KINDS, Question, ask
from zoomzero.world.render import SIZE, render
from zoomzero.world.scenes import KINDS, SYMBOLS, Event, Scene, kind_name, make_scene
from zoomzero.world.write import FPS, LABELS

WINDOW_MARGIN_S = 20.0  # what happens around a window, so that events are cut at its edges
LIST_TEXT = "List what you see."
MIN_SEEN_S = 1.0  # an event shows in a window when at least this much of it does


@dataclass(frozen=True, slots=True)
class Stage:
    """Shares of the lesson kinds; what is left over are coarse lessons on whole short videos."""

    windows: float = 0.3  # coarse lessons on a window of a long video
    sparse: float = 0.05  # coarse lessons on longer videos than the short ones, and so at a lower frame rate
    zooms: float = 0.35
    listing: float = 0.5  # of coarse lessons: add the task of listing everything
    shortest_s: float = 48.0
    longest_s: float = 80.0
    questions: int = 6


@dataclass(frozen=True, slots=True)
class View:
    """A stretch of a scene as the model gets to see it: scene time + `shift_s` = video time."""

    scene: Scene
    shift_s: float
    span: Span  # in video time
    total_s: float

    def seen(self, spans: Sequence[Span]) -> tuple[Span, ...]:
        """Return the visible part of scene-time spans, in video time; parts too short to notice left out."""
        moved = ((s + self.shift_s, e + self.shift_s) for s, e in spans)
        return tuple(s for span in moved for s in clip([span], *self.span) if s.length_s >= MIN_SEEN_S)


def world_lesson(seed: int, index: int, stage: Stage, settings: ModelSettings, geometry: Geometry) -> SFTSample:
    """Return lesson `index` of the stream `seed`."""
    rng = np.random.default_rng((1, seed, index))
    draw = rng.random()
    if draw < stage.zooms:
        return _zoom_lesson(rng, settings, geometry)
    if draw < stage.zooms + stage.windows:
        return _coarse_lesson(rng, _window_view(rng), settings.window.budget(), stage, settings, geometry)
    if draw < stage.zooms + stage.windows + stage.sparse:
        duration_s = float(rng.integers(96, 400))
        view = View(make_scene(rng, duration_s), 0.0, Span(0, duration_s), duration_s)
        return _coarse_lesson(rng, view, settings.coarse.budget(), stage, settings, geometry)
    duration_s = float(rng.integers(round(stage.shortest_s), round(stage.longest_s) + 1))
    view = View(make_scene(rng, duration_s), 0.0, Span(0, duration_s), duration_s)
    return _coarse_lesson(rng, view, settings.coarse.budget(), stage, settings, geometry)


def _window_view(rng: np.random.Generator) -> View:
    """Draw a window of a long video: a local scene that goes on around it, at a random place in the long video."""
    length_s = float(rng.choice([64.0, 64.0, 64.0, 48.0, 32.0]))
    scene = make_scene(rng, length_s + 2 * WINDOW_MARGIN_S)
    place = int(rng.integers(0, 20))
    start_s = 64.0 * place
    if rng.random() < 0.2:  # the last window: it ends where the scene and the video end
        scene_start_s = scene.duration_s - length_s
        return View(scene, start_s - scene_start_s, Span(start_s, start_s + length_s), start_s + length_s)
    total_s = start_s + length_s + float(rng.integers(10, 600))
    return View(scene, start_s - WINDOW_MARGIN_S, Span(start_s, start_s + length_s), total_s)


def _coarse_lesson(
    rng: np.random.Generator,
    view: View,
    budget: FrameBudget,
    stage: Stage,
    settings: ModelSettings,
    geometry: Geometry,
) -> SFTSample:
    plan = plan_regular(_info(view), budget, geometry, view.span)
    items = [_coarse_item(rng, view, settings) for _ in range(stage.questions)]
    if rng.random() < stage.listing:
        items.append(_timeline_item(view))
    return SFTSample(_draw(view, plan), video_header(view.total_s), tuple(items))


def _coarse_item(rng: np.random.Generator, view: View, settings: ModelSettings) -> SFTItem:
    """Ask one question about a view, in one of the answer modes."""
    if rng.random() < 0.12:
        return _absent_item(rng, view, settings)
    question = _ask_visible(rng, view)
    label = LABELS[question.answer]
    seen = view.seen(question.spans)
    steps = [(name, view.seen([span])) for name, span in question.reasoning]
    whole = view.span.start_s == 0 and view.span.end_s == view.total_s
    if question.kind == "last" and view.span.end_s < view.total_s:
        seen = ()
    if question.kind == "count":
        steps = [(name, spans) for name, spans in steps if spans]
        if seen and not whole:
            label = LABELS[question.options.index(NUMBERS[len(steps) - 1])]
    if not seen or not all(spans for _, spans in steps):
        return _unseen_item(rng, question, settings)
    draw = rng.random()
    if draw < 0.12:
        return SFTItem(coarse_text(question.text, question.options, "direct", settings.style), label)
    answer = f"<answer>{label}</answer>\n<glue>{format_spans(seen)}</glue>"
    if draw < 0.24:
        return SFTItem(coarse_text(question.text, question.options, "no_think", settings.style), answer)
    think = f"<think>{_reasoning(question, steps)}</think>\n"
    return SFTItem(coarse_text(question.text, question.options, "think", settings.style), think + answer)


def _reasoning(question: Question, steps: Sequence[tuple[str, Sequence[Span]]]) -> str:
    """Write what to notice, in the order of noticing, each with its moment."""
    moments = [(name, f"<time>{format_spans(spans)[1:-1]}</time>") for name, spans in steps]
    if question.kind == "count":
        times = "".join(moment for _, moment in moments)
        return f"the {moments[0][0]} visible{times} {NUMBERS[len(moments) - 1]}"
    return " then ".join(f"the {name} visible{moment}" for name, moment in moments)


def _unseen_item(rng: np.random.Generator, question: Question, settings: ModelSettings) -> SFTItem:
    """Ask what this view cannot answer: no spans, and a letter that is not learned."""
    letter = LABELS[int(rng.integers(len(question.options)))]
    think = rng.random() < 0.85
    lead = "<think>not visible</think>\n<answer>" if think else "<answer>"
    mode: Mode = "think" if think else "no_think"
    text = coarse_text(question.text, question.options, mode, settings.style)
    return SFTItem(text, f"{lead}{letter}</answer>\n<glue>[]</glue>", ((len(lead), len(lead) + 1),))


def _absent_item(rng: np.random.Generator, view: View, settings: ModelSettings) -> SFTItem:
    """Ask for the symbol or the number of an object that is not there."""
    shown = {e.kind for e in view.scene.events if view.seen([e.span])}
    missing = [k for k in range(KINDS) if k not in shown]
    name = kind_name(int(rng.choice(missing))) if missing else "white circle"
    symbols = tuple(SYMBOLS[int(s)] for s in rng.permutation(len(SYMBOLS))[:4])
    order = tuple(NUMBERS[int(i)] for i in rng.permutation(4))
    if rng.random() < 0.7:
        question = Question("symbol", f"Which symbol is on the {name}?", symbols, 0, (), ())
    else:
        question = Question("count", f"How many times does the {name} appear?", order, 0, (), ())
    return _unseen_item(rng, question, settings)


def _timeline_item(view: View) -> SFTItem:
    """List everything that shows, in order, with its times: the densest lesson in finding moments."""
    rows = [(e.name, view.seen([e.span])) for e in view.scene.events]
    text = "".join(f" {name} {format_spans(spans)[1:-1]}" for name, spans in rows if spans)
    return SFTItem(LIST_TEXT, text)


def _zoom_lesson(rng: np.random.Generator, settings: ModelSettings, geometry: Geometry) -> SFTSample:
    """A close look at (about) the right spans, sometimes at wrong ones."""
    duration_s = float(rng.integers(48, 97))
    shift_s = float(rng.integers(0, 1200)) if rng.random() < 0.5 else 0.0
    scene = make_scene(rng, duration_s)
    total_s = duration_s + shift_s
    view = View(scene, shift_s, Span(shift_s, total_s), total_s)
    question = _ask_any(rng, scene)
    spans = [s for true in view.seen(question.spans) for s in _jitter(rng, true, view.span)]
    if rng.random() < 0.15:
        start = float(rng.uniform(view.span.start_s, view.span.end_s - 8))
        spans = [Span(start, start + float(rng.uniform(3, 8)))]
    plan = plan_spans(_info(view), spans, settings.zoom.budget(), geometry)
    shown = [e for e in scene.events if _frames_of(e, view, plan) >= 2]
    items = [_zoom_item(rng, question, settings, all(_noticed(s, view, plan) for s in question.spans))]
    singles = [e for e in shown if len(scene.events_of(e.kind)) == 1]
    items += [_zoom_item(rng, _symbol_question(rng, event, scene), settings, True) for event in singles[:3]]
    missing = [k for k in range(KINDS) if not any(_frames_of(e, view, plan) for e in scene.events_of(k))]
    stranger = replace(scene.events[0], kind=int(rng.choice(missing)), symbol=int(rng.integers(len(SYMBOLS))))
    items.append(_zoom_item(rng, _symbol_question(rng, stranger, scene), settings, False))
    listed = "".join(f" {e.name} {SYMBOLS[e.symbol]}" for e in shown)
    items.append(SFTItem(LIST_TEXT, listed))
    return SFTSample(_draw(view, plan), "", tuple(items))


def _zoom_item(rng: np.random.Generator, question: Question, settings: ModelSettings, knowable: bool) -> SFTItem:
    """Ask for the option's text (or letter); what cannot be known is answered at random: an honest uniform guess."""
    answer = question.answer if knowable else int(rng.integers(len(question.options)))
    as_text = rng.random() < 0.9
    text = zoom_text(question.text, question.options, settings.style, "text" if as_text else "letter")
    return SFTItem(text, question.options[answer] if as_text else LABELS[answer])


def _symbol_question(rng: np.random.Generator, event: Event, scene: Scene) -> Question:
    others = list(dict.fromkeys(e.symbol for e in scene.events if e.symbol != event.symbol))
    wrong = [SYMBOLS[int(s)] for s in rng.permutation(others)[:3]]
    options = [SYMBOLS[event.symbol], *wrong]
    order = [int(i) for i in rng.permutation(len(options))]
    text = f"Which symbol is on the {event.name}?"
    return Question("symbol", text, tuple(options[i] for i in order), order.index(0), (event.span,), ())


def _ask_any(rng: np.random.Generator, scene: Scene) -> Question:
    """Ask a question of a random kind that this scene allows."""
    for i in rng.permutation(len(QUESTION_KINDS)):
        question = ask(rng, scene, QUESTION_KINDS[i])
        if question is not None:
            return question
    raise AssertionError("a scene always allows a count question")


def _ask_visible(rng: np.random.Generator, view: View) -> Question:
    """Ask about something that shows in the view, as a rule: what does not show is asked for often enough anyway."""
    for _ in range(4):
        question = _ask_any(rng, view.scene)
        if all(view.seen([span]) for _, span in question.reasoning):
            break
    return question


def _jitter(rng: np.random.Generator, span: Span, within: Span) -> tuple[Span, ...]:
    """Move the ends of a span by up to two seconds, as a prediction would."""
    start = span.start_s + float(rng.uniform(-2, 2))
    end = max(span.end_s + float(rng.uniform(-2, 2)), start + 2)
    return clip([(start, end)], *within)


def _frames_of(event: Event, view: View, plan: FramePlan) -> int:
    """Count the planned frames that show an event."""
    return sum(event.start_s <= t - view.shift_s < event.end_s for t in plan.times_s)


def _noticed(span: Span, view: View, plan: FramePlan) -> bool:
    """Whether the planned frames cover enough of a scene-time span."""
    planned = [(s - view.shift_s, e - view.shift_s) for s, e in plan.spans]
    return intersection_s([span], planned) >= MIN_SEEN_S


def _info(view: View) -> VideoInfo:
    return VideoInfo("", "file", view.total_s, SIZE, SIZE, FPS, None, 0, 0.0, 0, "h264")


def _draw(view: View, plan: FramePlan) -> Clip:
    """Draw the planned frames: the video's own frame at each time, at the planned size."""
    times_s = np.floor(np.array(plan.times_s) * FPS + 1e-6) / FPS
    pictures = render(view.scene, (times_s - view.shift_s).tolist())
    frames = resize_frames(pictures, plan.height, plan.width)
    return Clip(frames, tuple(times_s.tolist()), plan.fps, plan.spans, len(frames))
