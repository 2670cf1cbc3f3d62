"""Clips of real files: copied where a key frame begins the moment, encoded again where none does."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from zoomzero.errors import ConfigError, VideoError
from zoomzero.evidence.apart import write_clips_apart
from zoomzero.evidence.clips import clip_name, target_kind, write_clips
from zoomzero.spans import Span
from zoomzero.video.probe import probe

FPS, GOP, SECONDS = 10, 20, 8  # a key frame every 2 s


def write_video(path: Path, sound: bool = True, size: tuple[int, int] = (64, 48)) -> Path:
    """Write frames whose stripes are the bits of their number, with B-frames, and a tone."""
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"g": str(GOP), "keyint_min": str(GOP), "sc_threshold": "0", "bf": "2", "crf": "10"}
        tone = container.add_stream("aac", rate=16000) if sound else None
        for i in range(FPS * SECONDS):
            bits = [255 * (i >> bit & 1) for bit in range(8)]
            pixels = np.repeat(np.array(bits, np.uint8), width // 8)[None, :, None]
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(np.broadcast_to(pixels, (height, width, 3))), format="rgb24"
            )
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if tone is not None:
            wave = np.sin(np.arange(16000 * SECONDS) / 10).astype(np.float32)[None]
            for i in range(0, wave.shape[1], 1024):
                piece = av.AudioFrame.from_ndarray(wave[:, i : i + 1024], format="fltp", layout="mono")
                piece.sample_rate, piece.pts, piece.time_base = 16000, i, Fraction(1, 16000)
                container.mux(tone.encode(piece))
            container.mux(tone.encode(None))
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4")


def shown(path: Path) -> list[tuple[float, int]]:
    """Every frame's time and number."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [(float(f.pts * f.time_base), f.to_ndarray(format="rgb24")) for f in container.decode(stream)]
    middles = [8 * bit + 4 for bit in range(8)]
    return [(round(t, 2), sum(int(p[20, x, 0] > 127) << bit for bit, x in enumerate(middles))) for t, p in frames]


def packets(path: Path) -> set[bytes]:
    with av.open(str(path)) as container:
        return {bytes(p) for p in container.demux(container.streams.video[0]) if p.size}


def test_a_moment_at_a_key_frame_is_copied(film: Path, tmp_path: Path) -> None:
    made = write_clips(probe(film), [Span(2.0, 4.0)], tmp_path / "a.mp4", "What\nis it?")
    assert (made.path, made.how) == (tmp_path / "a.mp4", "copied")
    assert packets(made.path) <= packets(film)
    found = shown(made.path)
    assert found[:20] == [(round(i / 10, 2), 20 + i) for i in range(20)]
    assert len(found) <= 23  # the frames the last ones lean on may follow
    with av.open(str(made.path)) as container:
        assert container.metadata["title"] == "What is it?"
        sound = container.streams.audio[0]
        assert float(sound.duration * sound.time_base) == pytest.approx(2.0, abs=0.15)
    assert not list(tmp_path.glob(".*"))


def test_a_moment_shortly_after_a_key_frame_is_copied_with_its_lead(film: Path, tmp_path: Path) -> None:
    made = write_clips(probe(film), [(2.4, 3.0)], tmp_path / "a.mp4", "")
    assert made.how == "copied"
    assert shown(made.path)[0] == (0.0, 20)


def test_a_moment_far_from_a_key_frame_is_encoded_again(film: Path, tmp_path: Path) -> None:
    made = write_clips(probe(film), [(3.0, 4.5)], tmp_path / "a.mp4", "x")
    assert made.how == "encoded"
    assert shown(made.path) == [(round(i / 10, 2), 30 + i) for i in range(15)]


def test_several_moments_follow_each_other(film: Path, tmp_path: Path) -> None:
    copied = write_clips(probe(film), [(0.0, 2.0), (4.0, 6.0)], tmp_path / "a.mp4", "x")
    assert copied.how == "copied"
    numbers = [number for _, number in shown(copied.path)]
    assert numbers[:20] == list(range(20))
    assert [n for n in numbers if n >= 40][:20] == list(range(40, 60))
    encoded = write_clips(probe(film), [(1.0, 1.5), (5.0, 5.5)], tmp_path / "b.mp4", "x")
    assert encoded.how == "encoded"
    assert shown(encoded.path) == [(round(i / 10, 2), n) for i, n in enumerate([*range(10, 15), *range(50, 55)])]


def test_a_folder_gets_a_file_for_each_moment(film: Path, tmp_path: Path) -> None:
    made = write_clips(probe(film), [(2.0, 4.0), (5.0, 100.0)], tmp_path / "out", "x")
    assert [one.name for one in sorted(made.path.iterdir())] == [
        "01_00m02.0s-00m04.0s.mp4",
        "02_00m05.0s-00m08.0s.mp4",
    ]
    assert made.how == "encoded"
    assert clip_name(3, Span(59.96, 3600.0)) == "03_01m00.0s-60m00.0s"


def test_an_animated_image(film: Path, tmp_path: Path) -> None:
    from PIL import Image

    made = write_clips(probe(film), [(3.0, 4.0)], tmp_path / "a.gif", "What is it?")
    with Image.open(made.path) as image:
        assert image.n_frames == 8
        assert image.size == (64, 48)
        assert image.info["comment"] == b"What is it?"
        lasting = []
        for i in range(image.n_frames):
            image.seek(i)
            lasting.append(image.info["duration"])
        assert sum(lasting) == pytest.approx(1000, abs=20)


def test_odd_sizes_images_and_other_containers_are_encoded(tmp_path: Path) -> None:
    from PIL import Image

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(6):
        Image.new("RGB", (33, 21), (40 + 40 * i,) * 3).save(pictures / f"{i:03d}.png")
    made = write_clips(probe(pictures, fps=2.0), [(1.0, 2.0)], tmp_path / "a.mp4", "x")
    assert made.how == "encoded"
    with av.open(str(made.path)) as container:
        greys = [float(frame.to_ndarray(format="rgb24").mean()) for frame in container.decode(video=0)]
        assert greys == pytest.approx([120, 160], abs=4)
        assert (container.streams.video[0].width, container.streams.video[0].height) == (32, 20)
    stream = write_video(tmp_path / "film.ts")
    assert write_clips(probe(stream), [(2.0, 3.0)], tmp_path / "b.mp4", "x").how == "encoded"


def test_what_cannot_be_written_is_said(film: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not written as \.avi"):
        target_kind(tmp_path / "a.avi")
    with pytest.raises(ConfigError, match="no moment inside the video"):
        write_clips(probe(film), [(20.0, 30.0)], tmp_path / "a.mp4", "x")
    with pytest.raises(OSError, match=r"nowhere|No such"):
        write_clips(probe(film), [(2.0, 4.0)], tmp_path / "nowhere" / "a.mp4", "x")
    assert not list(tmp_path.iterdir())


def test_in_another_process_with_a_limit(film: Path, tmp_path: Path) -> None:
    made = write_clips_apart(probe(film), [Span(2.0, 4.0)], tmp_path / "a.mp4", "x", timeout_s=120)
    assert made.how == "copied"
    with pytest.raises(ConfigError, match="no moment inside"):
        write_clips_apart(probe(film), [(20.0, 30.0)], tmp_path / "b.mp4", "x")
    with pytest.raises(VideoError, match=r"no clip was written within 0\.01 s"):
        write_clips_apart(probe(film), [(3.0, 7.0)], tmp_path / "c.mp4", "x", timeout_s=0.01)
