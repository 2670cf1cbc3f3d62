"""What users stumbled over: options given twice, the toy model on a real video, settings of the other command, ..."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cli_runner import Run
from small_videos import write_small
from zoomzero.cli import refuse_repeated
from zoomzero.cli.ask import complete_mode, model_for, printable
from zoomzero.errors import ConfigError
from zoomzero.video.probe import probe
from zoomzero.world.write import write_world

GRPO = 'model = "tiny"\nout = "o"\nsteps = 1\nrollouts_logged = 1\n[data]\nexamples = ["e.jsonl"]\n'
SFT = 'model = "tiny"\nout = "o"\nsteps = 1\nworld_seed = 3\n[[stages]]\nsteps = 1\nzooms = 1\n'


@pytest.mark.parametrize(
    "arguments",
    [
        ("ask", "v.mp4", "q", "--mode", "zoom", "--mode", "coarse"),
        ("ask", "v.mp4", "q", "--mode=zoom", "--mode", "coarse"),
        ("ask", "v.mp4", "q", "--json", "--mode", "zoom", "--mode", "zoom"),
    ],
)
def test_an_option_with_one_value_given_twice_is_refused(zoom: Run, arguments: tuple[str, ...]) -> None:
    assert zoom(*arguments).complaint == "--mode: is given 2 times and takes one value; give it once"


def test_options_that_take_several_values_may_be_repeated() -> None:
    refuse_repeated(["ask", "v", "q", "--option", "a", "--option", "b", "--set", "x=1", "--set", "y=2", "--json"])
    refuse_repeated(["eval", "mlvu", "--mode", "zoom", "--mode", "coarse"])
    refuse_repeated(["ask", "v", "--mode", "zoom", "--", "--mode"])
    refuse_repeated([])
    refuse_repeated(["nonsense", "--mode", "a", "--mode", "b"])


def test_no_model_is_taken_for_a_video_of_another_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = probe(write_small(tmp_path / "v.mp4"))
    assert model_for(None, info) == "tiny"
    real = replace(info, width=1280, height=720)
    with pytest.raises(ConfigError, match=r"--model: no model is named, .* or say --model tiny"):
        model_for(None, real)
    assert model_for("tiny", real) == "tiny"
    assert "its answers say nothing about others" in capsys.readouterr().err
    assert model_for("DIR", real) == "DIR"
    assert capsys.readouterr().err == ""


def test_a_settings_file_of_the_other_command_is_said_to_be(zoom: Run, tmp_path: Path) -> None:
    (tmp_path / "grpo.toml").write_text(GRPO)
    (tmp_path / "sft.toml").write_text(SFT)
    complaint = zoom("train", tmp_path / "sft.toml").complaint
    assert "sft.toml: has settings of `zoomzero sft` (world_seed, stages); run `zoomzero sft" in complaint
    complaint = zoom("sft", tmp_path / "grpo.toml").complaint
    assert "grpo.toml: has settings of `zoomzero train` (rollouts_logged); run `zoomzero train" in complaint


@pytest.mark.parametrize(("command", "content"), [("train", GRPO), ("sft", SFT)])
def test_a_dry_run_prints_every_setting_and_starts_nothing(
    zoom: Run, tmp_path: Path, command: str, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text(content)
    ran = zoom(command, "run.toml", "--set", "seed=7", "--dry-run")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].startswith("# settings hash ")
    assert "seed = 7" in lines
    assert "steps = 1" in lines
    assert 'model = "tiny"' in lines
    assert sum(" = " in line for line in lines) > 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.toml"]
    (tmp_path / "again.toml").write_text(ran.out)  # what is printed can be given back
    again = zoom(command, "again.toml", "--dry-run")
    assert again.out == ran.out


def test_another_world_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "examples.jsonl").write_text('{"id": "short-3-00000-symbol"}\n')
    with pytest.raises(ConfigError, match="holds other examples than those of short seed 4; give another"):
        write_world(tmp_path, 1, 4, "short")
    assert not (tmp_path / "videos").exists()


def test_benchmarks_are_listed(zoom: Run) -> None:
    lines = zoom("benchmarks").out.splitlines()
    assert lines[0].split()[:3] == ["nextgqa", "test,", "val"]
    found = {one["name"] for one in json.loads(zoom("benchmarks", "--json").out)}
    assert {"timelens", "videomme-v2", "mcq"} <= found
    assert len(lines) == len(found)


def test_shells_are_helped(zoom: Run) -> None:
    assert "--install-completion" in zoom("--help").out
    assert complete_mode("c") == ["coarse", "context"]


def test_a_reply_cannot_move_the_cursor() -> None:
    assert printable("a\x1b[2J\nb\x07") == "a [2J\nb "
