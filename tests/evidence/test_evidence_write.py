"""What an answer leaves beside itself, and what is said about it."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_evidence_clips import write_video

from zoomzero.answer.trace import Trace
from zoomzero.errors import ConfigError
from zoomzero.evidence.write import Places, write_evidence
from zoomzero.spans import Span
from zoomzero.video.probe import probe


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", sound=False)


def traced(film: Path, *spans: Span) -> Trace:
    return Trace(
        video=str(film),
        duration_s=8.0,
        question="What is shown?",
        options=(),
        mode="coarse",
        answer="stripes",
        option=None,
        spans=spans,
        confidence=0.5,
        reason="",
        passes=(),
        model="tiny",
        settings_hash="0",
        seconds=1.0,
    )


def test_everything_wanted_is_written_and_told(film: Path, tmp_path: Path) -> None:
    places = Places(tmp_path / "a.mp4", tmp_path / "a.srt", tmp_path / "a.edl")
    lines = write_evidence(places, traced(film, Span(2.0, 4.0)), probe(film))
    assert lines == [
        f"Clip      {tmp_path / 'a.mp4'} (packets of the video itself)",
        f"SRT       {tmp_path / 'a.srt'}",
        f"EDL       {tmp_path / 'a.edl'}",
    ]
    assert (tmp_path / "a.mp4").stat().st_size > 500
    assert "00:00:02,000 --> 00:00:04,000\nWhat is shown? stripes" in (tmp_path / "a.srt").read_text(encoding="utf-8")
    assert "* FROM CLIP NAME: film.mp4" in (tmp_path / "a.edl").read_text(encoding="utf-8")


def test_without_a_moment_nothing_is_written(film: Path, tmp_path: Path) -> None:
    lines = write_evidence(Places(srt=tmp_path / "a.srt"), traced(film), probe(film))
    assert lines == ["Evidence  nothing was written: the model named no moment"]
    assert not list(tmp_path.iterdir())
    assert write_evidence(Places(), traced(film), probe(film)) == []


@pytest.mark.parametrize("option", ["clip", "srt", "edl"])
def test_a_place_that_cannot_be_written_is_named(film: Path, tmp_path: Path, option: str) -> None:
    place = tmp_path / "gone" / f"a.{'mp4' if option == 'clip' else option}"
    with pytest.raises(ConfigError, match=rf"--{option}: cannot write"):
        write_evidence(Places(**{option: place}), traced(film, Span(2.0, 4.0)), probe(film))
