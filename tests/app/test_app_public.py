"""What users see: no path of the server, and candidates that were not believed in a lane of their own."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from zoomzero.answer.trace import PassTrace, Trace
from zoomzero.app.public import (
    drawing,
    frame_groups,
    public_model,
    public_text,
    public_trace,
    rejected_lane,
    thumbs,
    view,
)
from zoomzero.pages.page import PassFrames
from zoomzero.spans import Span
from zoomzero.video.types import Geometry

SECRET = "/srv/private/u1/abc.mp4"


def one_pass(name: str, found: tuple[tuple[float, float], ...] = (), **values) -> PassTrace:
    one = PassTrace(
        name=name, spans=(Span(0.0, 100.0),), times_s=(0.0, 50.0), height=32, width=32, decoded_frames=2,
        visual_tokens=2, prompt_tokens=20, new_tokens=20, generated_tokens=5, seconds=0.1, decode_seconds=0.0,
        text="", answer="a cat", option="B", confidence=0.9, found=tuple(Span(*one) for one in found),
    )  # fmt: skip
    return replace(one, **values)


def trace_of(*passes: PassTrace, spans: tuple[tuple[float, float], ...] = (), **values) -> Trace:
    trace = Trace(
        video=SECRET, duration_s=100.0, question="What?", options=("a dog", "a cat"), mode="search", answer="a cat",
        option="B", spans=tuple(Span(*one) for one in spans), confidence=0.9, reason="because", passes=passes,
        model="/srv/models/big", settings_hash="0", seconds=1.0,
    )  # fmt: skip
    return replace(trace, **values)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("tiny", "tiny"),
        ("Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-2B-Instruct"),
        ("/srv/models/big", "big"),
        ("./runs/best", "best"),
        ("http://10.0.0.7:8000/v1#qwen", "qwen"),
        ("http://10.0.0.7:8000/v1", "a model behind a server"),
    ],
)
def test_model_names(name: str, shown: str) -> None:
    assert public_model(name) == shown


def test_longest_path_is_named_first() -> None:
    names = {"/a/b": "folder", "/a/b/c.mp4": "film"}
    assert public_text("/a/b/c.mp4: cannot open; look into /a/b", names) == "film: cannot open; look into folder"


def test_no_path_is_left_in_a_trace() -> None:
    note = f"{SECRET} is damaged"
    trace = trace_of(one_pass("coarse", notes=(note,)), notes=(note,), reason=note, server={"url": "http://10.0.0.7"})
    shown = public_trace(trace, "film.mp4", {SECRET: "film.mp4"})
    for text in (json.dumps(shown.to_dict()), json.dumps(view(shown))):
        assert "/srv" not in text
        assert "10.0.0.7" not in text
        assert "film.mp4 is damaged" in text


def test_candidates_that_were_not_believed_have_a_lane() -> None:
    """Evidence 20-30; one candidate within it, one overlapping, one elsewhere: only the last is apart."""
    passes = (
        one_pass("coarse", ((20.0, 30.0),)),
        one_pass("candidate 1", ((25.0, 40.0),)),
        one_pass("candidate 2", ((60.0, 70.0),)),
        one_pass("candidate 3", ((65.0, 75.0), (90.0, 95.0))),
    )
    lane = rejected_lane(trace_of(*passes, spans=((20.0, 30.0),)), 100.0)
    assert lane is not None
    assert [(b.start_s, b.end_s, b.row) for b in lane.blocks] == [(60, 70, 0), (65, 75, 1), (90, 95, 0)]
    assert {b.role for b in lane.blocks} == {"rejected"}
    assert lane.rows == 2
    drawn = drawing(trace_of(*passes, spans=((20.0, 30.0),)), (Span(21.0, 29.0),))
    assert [one["label"] for one in drawn["lanes"]][:3] == ["true", "evidence", "rejected"]
    assert drawn["legend"][0] == ["rejected", "rejected", "candidate that was not believed"]
    assert rejected_lane(trace_of(passes[0], spans=((20.0, 30.0),)), 100.0) is None


def test_view_is_json_and_says_what_is_right() -> None:
    trace = trace_of(one_pass("coarse", ((20.0, 30.0),), text="x" * 30_000), spans=((20.0, 30.0),))
    shown = json.loads(json.dumps(view(trace, ((21.0, 29.0),), "B"), allow_nan=False))
    assert shown["right"] is True
    assert shown["truth"] == [[21.0, 29.0]]
    assert shown["passes"][0]["won"] is True
    assert shown["passes"][0]["kind"] == "coarse"
    assert len(shown["passes"][0]["text"]) == 20_000
    assert view(trace)["right"] is None
    # two frames of 32 x 32 pixels are one patch of one token; the costs say what was read now
    assert (view(trace)["shown_tokens"], view(trace, geometry=Geometry(16))["shown_tokens"]) == (2, 1)


def test_pictures_are_small_and_few() -> None:
    frames = np.zeros((100, 400, 600, 3), np.uint8)
    made = thumbs(tuple(map(float, range(100))), frames)
    assert len(made) == 48
    assert made[0]["time_s"] == 0.0
    assert all(one["url"].startswith("data:image/jpeg;base64,") and len(one["url"]) < 3000 for one in made)
    (group,) = frame_groups([PassFrames("zoom", (1.0, 2.0), frames[:2])])
    assert (group["kind"], group["count"], group["width"], group["height"]) == ("zoom", 2, 600, 400)
