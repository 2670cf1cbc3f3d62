"""Worlds on disk: real mp4 files that show what the scenes say, and the examples beside them."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import av
import numpy as np
import pytest

from world_truth import truth
from zoomzero.data.example import FIELDS, read_examples
from zoomzero.data.fingerprint import content_key
from zoomzero.data.manifest import read_manifest
from zoomzero.errors import ConfigError
from zoomzero.video.probe import probe
from zoomzero.world import write
from zoomzero.world.render import render
from zoomzero.world.scenes import Scene, make_scene
from zoomzero.world.write import SHORT_DURATIONS_S, world_item, write_video, write_world

if TYPE_CHECKING:
    from conftest import Written


class Video(NamedTuple):
    """A written 24-second scene and what its file holds."""

    path: Path
    scene: Scene
    times_s: list[float]
    frames: np.ndarray  # (192, 128, 128, 3) uint8
    key_times_s: list[float]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    path = tmp_path_factory.mktemp("video") / "scene.mp4"
    scene = make_scene(np.random.default_rng(3), 24.0)
    write_video(path, scene)
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    pictures = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
    keys = [float(frame.time) for frame in frames if frame.key_frame]
    return Video(path, scene, [float(frame.time) for frame in frames], pictures, keys)


def test_file_is_h264_of_the_right_length_and_rate(video: Video) -> None:
    info = probe(video.path)
    assert (info.codec, info.width, info.height, info.kind) == ("h264", 128, 128, "file")
    assert info.duration_s == pytest.approx(24.0, abs=1e-3)
    assert info.fps == pytest.approx(8.0)
    assert info.frame_count == 192
    assert info.notes == ()


def test_frames_are_an_eighth_of_a_second_apart(video: Video) -> None:
    assert video.times_s == pytest.approx([i / 8 for i in range(192)], abs=1e-6)


def test_key_frames_are_at_most_two_seconds_apart(video: Video) -> None:
    assert video.key_times_s[0] == 0.0
    assert max(b - a for a, b in pairwise([*video.key_times_s, 24.0])) <= 2.0


def test_decoded_frames_show_the_drawn_ones(video: Video) -> None:
    """crf 20 costs about 2 grey levels; a frame one step off around a start or end costs far more there."""
    drawn = render(video.scene, [i / 8 for i in range(192)])
    errors = np.abs(video.frames.astype(np.int16) - drawn).mean((1, 2, 3))
    assert errors.max() < 4
    for event in video.scene.events[1:]:
        first = round(event.start_s * 8)
        appears = (drawn[first] != drawn[first - 1]).any(-1).sum() > 700
        assert appears, "an object covers hundreds of pixels"
        own = np.abs(video.frames[first].astype(np.int16) - drawn[first]).mean()
        before = np.abs(video.frames[first].astype(np.int16) - drawn[first - 1]).mean()
        assert before > 2 * own


def test_same_scene_gives_the_same_bytes(video: Video, tmp_path: Path) -> None:
    again = tmp_path / "again.mp4"
    write_video(again, video.scene)
    assert again.read_bytes() == video.path.read_bytes()
    assert sorted(tmp_path.iterdir()) == [again], "no partial file is left"


def test_video_is_there_complete_or_not_at_all(video: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(scene: Scene, times_s: list[float]) -> np.ndarray:
        if times_s[0] > 0:
            raise OSError("no space left")
        return render(scene, times_s)

    monkeypatch.setattr(write, "render", broken)
    with pytest.raises(OSError, match="no space left"):
        write_video(tmp_path / "cut.mp4", video.scene)
    assert not (tmp_path / "cut.mp4").exists()


def test_world_writes_videos_and_examples(written: Written) -> None:
    directory, item, (example,), _ = written
    assert example.id == item.id
    assert re.fullmatch(r"short-\d+-00000-symbol", item.id)
    assert example.video == f"videos/{item.id}.mp4"
    assert sorted(p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file()) == [
        "examples.jsonl",
        "examples.jsonl.manifest.json",
        example.video,
    ]
    manifest = read_manifest(directory / "examples.jsonl.manifest.json")
    assert (manifest.benchmark, manifest.split, manifest.examples, manifest.videos) == ("world-short", "test", 1, 1)
    assert manifest.listing[0].content == content_key(directory / example.video)
    info = probe(directory / example.video)
    assert info.duration_s == pytest.approx(item.scene.duration_s, abs=1e-3)
    assert example.duration_s == item.scene.duration_s


def test_world_video_is_its_items_scene(written: Written, tmp_path: Path) -> None:
    """The worker processes draw from (kind, seed, index) alone: the same bytes come out here."""
    write_video(tmp_path / "here.mp4", written.item.scene)
    assert (tmp_path / "here.mp4").read_bytes() == (written.directory / written.examples[0].video).read_bytes()


def test_examples_file_has_the_schema_and_reads_back(written: Written) -> None:
    directory, item, (example,), _ = written
    (line,) = (directory / "examples.jsonl").read_text(encoding="utf-8").splitlines()
    row = json.loads(line)
    assert tuple(row) == FIELDS
    right = truth(row["question"], item.scene)
    assert row["options"]["ABCD".index(row["answer"])] == right.answer
    assert [tuple(span) for span in row["spans"]] == right.spans
    assert (row["source"], row["split"]) == ("world-short", "test")
    (back,) = read_examples(directory / "examples.jsonl")
    assert back == dataclasses.replace(example, video=str(directory / example.video))
    assert Path(back.video).is_file()


def test_progress_is_told_in_seconds_of_video(written: Written) -> None:
    seconds = round(written.item.scene.duration_s)
    assert written.progress == [(seconds, seconds)]


def keep_files(directory: Path, kind: write.WorldKind, seed: int, count: int) -> None:
    """Put files where the world's videos go, so that nothing is encoded."""
    (directory / "videos").mkdir(parents=True)
    for index in range(count):
        item = world_item(kind, seed, index)
        (directory / "videos" / f"{item.id}.mp4").write_bytes(item.id.encode())


def test_files_that_are_there_are_kept(tmp_path: Path) -> None:
    keep_files(tmp_path, "long", 5, 8)
    seen: list[tuple[int, int]] = []
    examples = write_world(tmp_path, 8, 5, "long", workers=1, progress=lambda a, b: seen.append((a, b)))
    assert [e.id for e in examples[:2]] == ["long-5-00000-symbol", "long-5-00001-order"]
    for example in examples:
        assert (tmp_path / example.video).read_bytes() == example.id.encode()
    assert [e.duration_s for e in examples] == [1200.0] * 8
    assert seen == [(1200 * (i + 1), 9600) for i in range(8)]
    assert Counter(e.id.rsplit("-", 1)[1] for e in examples) == {"symbol": 2, "order": 2, "count": 2, "last": 2}
    assert read_examples(tmp_path / "examples.jsonl")[7].spans == examples[7].spans


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    keep_files(tmp_path, "short", 1, 6)
    durations = [world_item("short", 1, i).scene.duration_s for i in range(6)]
    seen: list[tuple[int, int]] = []
    write_world(tmp_path, 6, 1, "short", workers=1, progress=lambda a, b: seen.append((a, b)))
    assert seen[-1] == (round(sum(durations)), round(sum(durations)))
    assert seen == sorted(seen)


def test_world_item_is_a_pure_function() -> None:
    assert world_item("short", 7, 3) == world_item("short", 7, 3)
    items = [world_item(kind, seed, index) for kind in ("short", "long") for seed in (0, 1) for index in (0, 4)]
    assert len({item.id for item in items}) == len({item.scene.events for item in items}) == 8
    assert all(SHORT_DURATIONS_S[0] <= item.scene.duration_s <= SHORT_DURATIONS_S[1] for item in items[:4])


def test_right_letters_of_a_world_are_balanced() -> None:
    places = Counter(world_item("short", 5, index).question.answer for index in range(400))
    assert all(65 <= places[i] <= 135 for i in range(4)), places  # mean 100, standard deviation 8.7


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"count": 0}, "--count: 0"),
        ({"count": -3}, "--count: -3"),
        ({"kind": "medium"}, "--kind: 'medium'"),
        ({"seed": -1}, "--seed: -1"),
        ({"workers": 0}, "--workers: 0"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, change: dict[str, object], names: str) -> None:
    arguments = {"count": 1, "seed": 0, "kind": "short", "workers": 1} | change
    with pytest.raises(ConfigError, match=names):
        write_world(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_directory_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("here")
    with pytest.raises(ConfigError, match=r"--out: .*taken"):
        write_world(tmp_path / "taken", 1, 0, "short")
