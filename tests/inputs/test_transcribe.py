"""Transcripts: their text, where they lie, when they are made anew; the recogniser itself needs weights."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from small_videos import write_small
from zoomzero.errors import ConfigError, ModelError, VideoError
from zoomzero.inputs import transcribe as transcribing
from zoomzero.inputs.transcribe import check_sound, hear, load_recogniser, srt_text, transcribe, transcript_places
from zoomzero.video.subtitles import read_subtitles

INSTALLED = importlib.util.find_spec("faster_whisper") is not None


@dataclass
class Segment:
    """What faster-whisper yields, as far as it is read."""

    start: float
    end: float
    text: str


class Recogniser:
    """faster-whisper's interface with fixed words: its weights cannot be had here."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def transcribe(self, path: str, vad_filter: bool) -> tuple[Any, Any]:
        self.heard.append(path)
        assert vad_filter
        said = [Segment(0.0, 1.5, " Hello  there. "), Segment(2.0, 2.0, "x"), Segment(3.0, 4.25, "Bye.")]
        return iter(said), Info(5.0)


@dataclass
class Info:
    duration: float


def with_sound(path: Path) -> Path:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_srt_is_read_back_by_our_reader(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_text(srt_text([(0.0, 1.5, " Hello  there. "), (2, 2, "x"), (3, 4, "  "), (3661.25, 3662.0, "Bye.")]))
    assert path.read_text().startswith("1\n00:00:00,000 --> 00:00:01,500\nHello there.\n")
    cues = read_subtitles(path)
    assert [(cue.start_s, cue.end_s, cue.text) for cue in cues] == [(0, 1.5, "Hello there."), (3661.25, 3662, "Bye.")]


def test_a_transcript_is_kept_beside_the_video_and_made_anew_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = with_sound(tmp_path / "talk.mp4")
    recogniser = Recogniser()
    monkeypatch.setattr(transcribing, "load_recogniser", lambda name: recogniser)
    seen: list[tuple[int, int]] = []
    path = transcribe(video, "small", lambda done, total: seen.append((done, total)))
    assert path == tmp_path / "talk.mp4.small.srt"
    assert [cue.text for cue in read_subtitles(path)] == ["Hello there.", "Bye."]
    assert seen[-1] == (4, 5)
    assert transcribe(video, "small") == path
    assert len(recogniser.heard) == 1, "it was kept"
    later = path.stat().st_mtime + 10
    os.utime(video, (later, later))
    transcribe(video, "small")
    assert len(recogniser.heard) == 2
    assert transcribe(video, "large-v3") != path, "another recogniser hears something else"


def test_places_are_safe_names(tmp_path: Path) -> None:
    beside, cached = transcript_places(tmp_path / "v.mp4", "org/model name")
    assert beside.name == "v.mp4.model-name.srt"
    assert cached.name.endswith(".model-name.srt")


def test_a_silent_video_and_no_video_are_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="has no sound; leave --transcribe out"):
        check_sound(write_small(tmp_path / "v.mp4"))
    (tmp_path / "t.mp4").write_text("text")
    with pytest.raises(VideoError, match="cannot be opened"):
        check_sound(tmp_path / "t.mp4")
    with pytest.raises(VideoError, match="is no file"):
        transcribe(tmp_path / "gone.mp4")


@pytest.mark.skipif(INSTALLED, reason="faster-whisper is installed")
def test_without_the_library_the_fix_is_named() -> None:
    with pytest.raises(ConfigError, match="--transcribe: needs faster-whisper"):
        load_recogniser("small")


@pytest.mark.skipif(not INSTALLED, reason="needs faster-whisper")
def test_a_recogniser_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no recogniser that loads"):
        load_recogniser(str(tmp_path))


def test_hearing_is_lazy_and_reports_progress() -> None:
    assert next(iter(hear(Path("v.mp4"), Recogniser()))) == (0.0, 1.5, " Hello  there. ")
