"""Miniatures on disk: written once, kept when there, refused when something else lies there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from cli_runner import Run, make_runner
from world_films import SEED, laid_out
from zoomzero.benchmarks.definitions.registry import benchmark
from zoomzero.errors import ConfigError
from zoomzero.video.probe import probe
from zoomzero.world.miniature import FORMATS, write_miniature
from zoomzero.world.miniatures.material import film
from zoomzero.world.write import world_item, write_video


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return make_runner(monkeypatch, capfd)


def shortest_seed() -> int:
    return min(range(100), key=lambda seed: world_item("short", seed, 0).scene.duration_s)


def test_writing_puts_the_worlds_videos_under_the_benchmarks_names(tmp_path: Path) -> None:
    seed = shortest_seed()
    seen: list[tuple[int, int]] = []
    made = write_miniature("nextgqa", tmp_path / "mini", 1, seed, progress=lambda a, b: seen.append((a, b)))
    (question, *_) = benchmark("nextgqa").load(made.annotation).questions
    assert re.fullmatch(r"0000/(\d{10})\.mp4", question.video)
    path = made.videos / question.video
    write_video(tmp_path / "own.mp4", world_item("short", seed, 0).scene)
    assert path.read_bytes() == (tmp_path / "own.mp4").read_bytes()
    assert probe(path).duration_s == pytest.approx(question.duration_s, abs=1e-3)
    assert seen == [(round(question.duration_s), round(question.duration_s))]
    assert (made.films, made.seconds, made.split) == (1, question.duration_s, "test")
    assert [p for p in tmp_path.rglob("*") if "partial" in p.name] == []


def test_writing_again_keeps_videos_and_annotation(cli: Run, tmp_path: Path) -> None:
    seed = shortest_seed()
    layout = FORMATS["mlvu"].lay_out([film("short", seed, 0)])
    video = tmp_path / "videos" / layout.videos[0]
    video.parent.mkdir(parents=True)
    video.write_bytes(b"kept")
    for _ in range(2):
        ran = cli("world", "--as", "mlvu", "--out", tmp_path, "--count", 1, "--seed", seed, "--workers", 1)
        assert (ran.code, ran.err) == (0, "")
        assert f"--data {tmp_path / 'annotation'} --videos {tmp_path / 'videos'}" in ran.out
    assert video.read_bytes() == b"kept"
    assert [p.name for p in (tmp_path / "annotation" / "json").iterdir()] == ["2_needle.json"]


def test_another_miniature_in_the_way_is_not_mixed_with(cli: Run, tmp_path: Path) -> None:
    """Readers take every file that looks like theirs: a left-over task file of MLVU would be counted."""
    left = laid_out("mlvu", tmp_path / "annotation") / "json" / "5_order.json"
    ran = cli("world", "--as", "mlvu", "--out", tmp_path, "--count", 1, "--seed", SEED)
    assert ran.code == 2
    assert ran.complaint == f"--out: {left} belongs to another miniature; give an empty directory".replace(
        "5_order", "1_plotQA"
    )
    assert not (tmp_path / "videos").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--as", "vqa"), "--as: 'vqa' has no miniature; choose from nextgqa, rextime"),
        (("--as", "nextgqa", "--count", "0"), "--count: 0 is not a number of videos"),
        (("--as", "qvhighlights", "--count", "1"), "--count: qvhighlights takes wrong options from other videos, so 1"),
        (("--as", "plm", "--kind", "medium"), "--kind: 'medium' is unknown"),
    ],
)
def test_wrong_arguments_are_named(cli: Run, tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    ran = cli("world", "--out", tmp_path / "out", *arguments)
    assert ran.code == 2
    assert ran.complaint.startswith(says)
    assert not (tmp_path / "out").exists()


def test_parquet_without_pyarrow_is_said_before_anything_is_written(
    cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    ran = cli("world", "--as", "videomme", "--out", tmp_path / "out", "--count", 1)
    assert ran.code == 2
    assert ran.complaint == (
        "--as: videomme is a parquet file, which needs pyarrow; install it with `pip install pyarrow`"
    )
    assert not (tmp_path / "out").exists()


def test_a_miniature_without_as_is_a_plain_world(cli: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose from"):
        write_miniature("", tmp_path, 1, 0)
