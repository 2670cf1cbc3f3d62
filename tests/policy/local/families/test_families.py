"""Frames to patches, times to text and positions, for both families."""

import numpy as np
import pytest
import torch
from policy_models import make_clip

from zoomzero.policy.local.families.base import ClipLayout, VisionRun, nearest_span
from zoomzero.policy.local.families.qwen2_5_vl import Qwen25VL
from zoomzero.policy.local.families.qwen3_vl import Qwen3VL
from zoomzero.spans import Span
from zoomzero.video.types import Clip, Geometry

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
QWEN3 = Qwen3VL(Geometry(16), (0.5,) * 3, (0.5,) * 3, vision_start=1, vision_end=2)
QWEN25 = Qwen25VL(Geometry(14, free_times=False), MEAN, STD, vision_start=1, vision_end=2)


def clip_at(times, spans, fps=2.0):
    frames = np.zeros((len(times), 28, 56, 3), dtype=np.uint8)
    return Clip(frames, tuple(times), fps, tuple(Span(*s) for s in spans), len(times))


def test_patches_value_by_value():
    """Every number of every patch, by the loops the layout is defined with."""
    p, frames = 14, make_clip("qwen2_5_vl", frames=4, rows=2, columns=3).frames
    found = QWEN25.patches(frames)
    rows = []
    for t in range(2):
        for big_row in range(2):
            for big_column in range(3):
                for row in (0, 1):
                    for column in (0, 1):
                        top, left = (2 * big_row + row) * p, (2 * big_column + column) * p
                        cut = frames[2 * t : 2 * t + 2, top : top + p, left : left + p].astype(np.float64) / 255
                        values = (cut - MEAN) / STD  # (2, p, p, 3)
                        rows.append(values.transpose(3, 0, 1, 2).ravel())  # channel, time, row, column
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), np.array(rows), atol=2e-6)


def test_patches_leave_the_frames_alone():
    clip = make_clip("qwen3_vl")
    before = clip.frames.copy()
    QWEN3.patches(clip.frames)
    assert np.array_equal(clip.frames, before)


@pytest.mark.filterwarnings("error")
def test_cached_frames_which_cannot_be_written_are_read_without_a_complaint():
    clip = make_clip("qwen3_vl")
    kept = clip.frames.copy()
    kept.flags.writeable = False  # as the frame cache hands them out
    said = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # torch complains of the first one only
    try:
        found = QWEN3.patches(kept)
    finally:
        torch.set_warn_always(said)
    assert torch.equal(found, QWEN3.patches(clip.frames))


def test_frames_that_do_not_fill_patches_are_refused():
    for shape in ((3, 28, 28, 3), (2, 30, 28, 3), (2, 28, 14, 3), (0, 28, 28, 3)):
        clip = Clip(np.zeros(shape, dtype=np.uint8), (0.0,) * shape[0], 1.0, (), 0)
        with pytest.raises(ValueError, match="28n pixels"):
            QWEN25.layout(clip)


def test_qwen3_writes_the_middle_of_every_pair():
    layout = ClipLayout((2, 2, 4), ((0.0, 0.5), (7.25, 9.0)), 2.0, ())
    run = VisionRun((1, 1, 2), 0.0)
    assert QWEN3.pieces(layout) == ["<0.2 seconds>", 1, run, 2, "<8.1 seconds>", 1, run, 2]


def test_qwen25_one_span_from_the_beginning_is_one_block_without_text():
    layout = QWEN25.layout(clip_at([0, 0.5, 1, 1.5], [(0, 2)]))
    assert layout.grid == (2, 2, 4)
    # two frames a patch at 2 fps: a second a patch, two positions a second
    assert QWEN25.pieces(layout) == [1, VisionRun((2, 1, 2), 2.0), 2]


def test_qwen25_names_the_times_of_several_spans_each_at_its_rate():
    times = [1.0, 1.5, 2.0, 2.5, 20.0, 22.0, 24.0, 26.0, 40.0, 40.5]
    pieces = QWEN25.pieces(QWEN25.layout(clip_at(times, [(1, 3), (20, 28), (40, 41)])))
    assert pieces == [
        "[1.0s - 2.5s]", 1, VisionRun((2, 1, 2), 2.0), 2,
        "[20.0s - 26.0s]", 1, VisionRun((2, 1, 2), 8.0), 2,
        "[40.0s - 40.5s]", 1, VisionRun((1, 1, 2), 2.0), 2,
    ]  # fmt: skip


def test_qwen25_names_the_times_of_a_clip_from_the_middle():
    pieces = QWEN25.pieces(QWEN25.layout(clip_at([60.0, 60.5], [(60, 61)])))
    assert pieces == ["[60.0s - 60.5s]", 1, VisionRun((1, 1, 2), 2.0), 2]


def test_nearest_span():
    spans = [Span(0, 1), Span(5, 6)]
    assert [nearest_span(t, spans) for t in (0.5, 2.9, 3.1, 5.5, 9)] == [0, 0, 1, 1, 1]
    assert nearest_span(3, []) == 0
