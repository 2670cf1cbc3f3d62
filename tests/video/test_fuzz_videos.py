"""The fuzz campaign itself: a few rounds always, minutes or hours with the marker `fuzz`."""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path

import pytest

import made_videos as made

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench" / "fuzz"))
import fuzz_videos

MINUTES = "ZOOMZERO_FUZZ_MINUTES"


def test_the_judge_finds_a_wrong_picture(folder: Path) -> None:
    path = made.write(folder / "judged.mp4", made.grid(20, 10), gop=10)
    assert fuzz_videos.judge(path, 30, whole_fps=10) == ("ok", "")
    shifted = made.write(folder / "shifted.mp4", made.grid(20, 10), gop=10, first=1)
    verdict, detail = fuzz_videos.judge(shifted, 30, whole_fps=10)
    assert verdict == "wrong"
    assert "wrong pictures [(0.0, 1)" in detail


def test_a_typed_line_is_right_and_a_missing_time_limit_is_not(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "noise.mp4").write_bytes(random.Random(1).randbytes(5000))
    assert fuzz_videos.judge(tmp_path / "noise.mp4", 30)[0] == "typed"
    path = made.write(folder / "slow.mp4", made.grid(20, 10), gop=10)
    assert fuzz_videos.judge(path, 1e-6)[0] == "stopped"


def test_mutations_repeat_with_their_seed() -> None:
    data = bytes(range(256)) * 40
    first, second = ([fuzz_videos.mutate(data, data, random.Random(n)) for n in range(30)] for _ in range(2))
    assert first == second
    assert len(set(first)) > 20


@pytest.mark.fuzz
@pytest.mark.skipif(MINUTES not in os.environ, reason=f"runs for {MINUTES} minutes")
def test_no_mutated_video_breaks_probe_or_decode() -> None:
    out = Path("outputs/fuzz-videos")
    tally = fuzz_videos.campaign(out, float(os.environ[MINUTES]), int(os.environ.get("ZOOMZERO_FUZZ_SEED", "1")), 20.0)
    print(json.dumps(tally))
    assert set(tally) <= {"ok", "typed"}, f"see {out}/failures.jsonl"
