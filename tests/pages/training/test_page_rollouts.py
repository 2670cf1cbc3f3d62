from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rollout_groups import EXAMPLE, draw_group, group, rollout, write_run

from cli_runner import Run, find_checkpoint
from small_videos import write_small
from zoomzero.errors import ConfigError, DataError
from zoomzero.pages.training.rollouts import colour_scale, read_log, read_run, rollouts_page
from zoomzero.spans import Span
from zoomzero.train.credit.answers import ZoomResult
from zoomzero.train.credit.rewards import RewardValues
from zoomzero.train.rollouts.record import RolloutGroup

EVIL = "</script><!--<script><img src=x onerror=alert(1)>\u2028"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> RolloutGroup:
    """Four completions that the embedded model really wrote about a real video."""
    from zoomzero.policy.local.load import load_policy

    folder = tmp_path_factory.mktemp("drawn")
    checkpoint, video = find_checkpoint(folder), write_small(folder / "small.mp4")
    example = replace(
        EXAMPLE, video=str(video), options=("E", "H", "M", "T"), answer="C", spans=(Span(18, 25),), duration_s=48.0
    )
    return draw_group(load_policy(str(checkpoint), device="cpu"), checkpoint, example, 4, index=7, step=3)


def data_of(page: Any) -> dict[str, Any]:
    """Return the data a page holds, read as a browser does."""
    return json.loads("".join(page.one("script", id="run-data").texts))


# --- reading ---


def test_files_of_several_processes_become_one_run(tmp_path: Path) -> None:
    write_run(tmp_path, group(0, 0), group(2, 1), group(4, 2))
    write_run(tmp_path, group(1, 0), group(3, 1), group(5, 2), name="rollouts.1.jsonl")
    run = read_run(tmp_path, last=3)
    assert [one.place for one in run.facts] == [(0, 0), (0, 1), (1, 2), (1, 3), (2, 4), (2, 5)]
    assert [json.loads(one)["index"] for one in run.shown] == [3, 4, 5]
    assert (run.left_out, run.rewritten) == (3, 0)


def test_only_the_last_groups_are_kept_while_reading(tmp_path: Path) -> None:
    write_run(tmp_path, *(group(i, i // 2) for i in range(120)))
    said: list[str] = []
    run = read_run(tmp_path, last=5, progress=said.append)
    assert [json.loads(one)["index"] for one in run.shown] == [115, 116, 117, 118, 119]
    assert len(run.facts) == 120
    assert said == ["reading rollouts.jsonl: 50 groups", "reading rollouts.jsonl: 100 groups"]


def test_what_a_resumed_run_drew_again_counts_once(tmp_path: Path) -> None:
    write_run(tmp_path, group(0, 0), group(1, 1), group(1, 1, kept=False), group(2, 1))
    run = read_run(tmp_path)
    assert [json.loads(one)["kept"] for one in run.shown] == [True, False, True]
    assert run.rewritten == 1


def test_a_half_written_line_is_left_out(tmp_path: Path) -> None:
    write_run(tmp_path, group(0), tail=group(1).to_json()[:-5])
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo', encoding="utf-8")
    run = read_run(tmp_path)
    assert len(run.facts) == 1
    assert run.log == {"loss": ((1.0, 0.5),)}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"index": 0}\n', "line 2: is no rollout group"),
        ("[]\n", "line 2: is no rollout group"),
        ("{\n", "line 2: is no rollout group"),
        (group(step="2").to_json() + "\n", "line 2: is no rollout group (step and index must be whole numbers)"),
        (group(rollouts=()).to_json() + "\n", "line 2: is no rollout group (it has no rollouts)"),
        (group(rollouts=(rollout(advantages=(1.0,)),)).to_json() + "\n", "rollout 0 has token_ids, offsets"),
        (re.sub(r'"iou": [0-9.]+', '"iou": NaN', group().to_json()) + "\n", "rollout 0 has advantages or rewards that"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    write_run(tmp_path, group(0), tail=line)
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        read_run(tmp_path)
    assert "\n" not in str(caught.value)
    assert "rollouts.jsonl" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"), [("{\n", "line 2: not JSON"), ('{"loss": 1}\n', "line 2: is no JSON object with a step")]
)
def test_a_damaged_log_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    write_run(tmp_path, group())
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n' + line, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        read_run(tmp_path)


def test_a_run_without_rollouts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such directory; give the directory a training run writes to"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"rollouts\.jsonl: no such file; a training run writes it"):
        read_run(tmp_path)
    write_run(tmp_path, tail='{"index"')
    with pytest.raises(DataError, match="holds no whole rollout group yet"):
        read_run(tmp_path)


def test_the_log_is_read_by_name(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    lines = [
        '{"step": 2, "loss": 1.5, "device": "cpu", "ok": true}',
        '{"step": 1, "loss": NaN}',
        '{"step": 2, "loss": 2}',
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    log, others = read_log(path)
    assert others == ("device", "ok")
    (first, second) = log["loss"]
    assert (first[0], math.isnan(first[1]), second) == (1.0, True, (2.0, 2.0))
    assert read_log(tmp_path / "none") == ({}, ())


# --- the page ---


def test_the_colour_scale_ends_where_few_rollouts_have_more() -> None:
    assert colour_scale([0.5] * 95 + [2.0] * 5) == 0.5
    assert colour_scale([0.5] * 90 + [2.0] * 10) == 2.0
    assert colour_scale([0.0, 0.0]) == 1.0
    assert colour_scale([]) == 1.0


def test_the_page_holds_every_group_and_says_what_it_leaves_out(tmp_path: Path, read) -> None:
    write_run(tmp_path, *(group(i, i) for i in range(4)))
    page = read(rollouts_page(read_run(tmp_path, last=3)))
    data = data_of(page)
    assert [one["index"] for one in data["groups"]] == [1, 2, 3]
    assert data["rewards"] == ["format", "iou", "answer", "zoom"]
    assert page.one("p", "facts").text == "3 groups · 6 rollouts · steps 1 to 3"
    assert any(one.text.startswith("1 earlier group is left out here") for one in page.all("p", "hint"))
    assert len(data["curves"]["charts"]) == len(page.all("div", "area"))
    assert "from the rollouts, as there is no log.jsonl" in page.one("h2", id="curves").text


def test_the_page_draws_the_log(tmp_path: Path, read) -> None:
    write_run(tmp_path, group())
    line = {
        "step": 1,
        "loss/kl": 0.01,
        "seconds/decode": 1.5,
        "seconds/backward": 0.5,
        "grad_norm": 2.0,
        "device": "cpu",
    }
    (tmp_path / "log.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    page = read(rollouts_page(read_run(tmp_path)))
    names = [one.text for one in page.all("span", "name")]
    assert names[-2:] == ["seconds a step", "grad_norm"]
    assert "KL to the reference" in names
    assert "iou reward from the rollouts" in names
    assert [one.text for one in page.all("li") if "ul" in one.parents] == ["decode 1.50 75 %", "backward 0.50 25 %"]
    assert any(one.text == "Logged but no numbers: device." for one in page.all("p", "hint"))
    charts = data_of(page)["curves"]["charts"]
    assert [[line["label"] for line in chart] for chart in charts][-2:] == [[""], ["decode", "backward"]]
    places = [int(one.attrs["data-chart"]) for one in page.all("div", "area")]
    assert sorted(places) == list(range(len(charts)))
    assert charts[places[names.index("grad_norm")]][0]["points"] == [[1.0, 2.0]]


def test_nothing_a_model_wrote_can_leave_the_data(tmp_path: Path, read) -> None:
    one = rollout(EVIL, problems=(EVIL,), option=EVIL, zoom=ZoomResult(True, None, EVIL))
    example = replace(EXAMPLE, id=EVIL, question=EVIL, options=(EVIL, "\ud800"), video=EVIL)
    run = read_run(write_run(tmp_path / "<b>run", group(example=example, prompt=EVIL, rollouts=(one,))))
    html = rollouts_page(run)
    html.encode("utf-8")
    page = read(html)
    assert "<img" not in html
    assert len(page.all("script")) == 2
    (shown,) = data_of(page)["groups"]
    assert (shown["question"], shown["options"][1], shown["prompt"]) == (EVIL, "\ud800", EVIL)
    assert "".join(shown["rollouts"][0]["pieces"]) == EVIL
    assert page.one("h1").text == "<b>run"


def test_what_the_model_really_wrote_is_on_the_page(drawn: RolloutGroup, tmp_path: Path, read) -> None:
    page = read(rollouts_page(read_run(write_run(tmp_path, drawn))))
    (shown,) = data_of(page)["groups"]
    for one, packed in zip(drawn.rollouts, shown["rollouts"], strict=True):
        assert "".join(packed["pieces"]) == one.text
        credit = [(a, bool(role)) for n, a, role in packed["credit"] for _ in range(n)]
        assert [role for _, role in credit] == list(one.answer_mask)
        assert [a for a, _ in credit] == pytest.approx(one.advantages, abs=1e-6)
        assert packed["rewards"] == pytest.approx(
            [one.rewards.format, one.rewards.iou, one.rewards.answer, one.rewards.zoom], abs=1e-6
        )
    assert any(any(one.answer_mask) for one in drawn.rollouts)


# --- in a browser ---


@pytest.fixture
def browse(tmp_path: Path, read) -> Callable[..., Any]:
    """Return a function that opens a page in a browser and reads what its script made of it."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium on the PATH")

    def open_page(html: str, view: str = "") -> Any:
        path = tmp_path / "page.html"
        path.write_text(html, encoding="utf-8")
        options = (
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            f"--user-data-dir={tmp_path}/browser",
        )
        url = f"{path.as_uri()}#{view}"
        command = [CHROMIUM, *options, "--virtual-time-budget=2000", "--dump-dom", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return read(done.stdout[done.stdout.index("<!DOCTYPE html>") :].strip())

    return open_page


def test_the_script_shows_the_chosen_group(drawn: RolloutGroup, tmp_path: Path, browse) -> None:
    run = read_run(write_run(tmp_path, *(group(i, i) for i in range(3)), drawn))
    page = browse(rollouts_page(run), "group=7")
    assert page.one("h3", "asked").text == drawn.example.question
    assert [one.text for one in page.all("pre", "tokens")] == [" ".join(one.text.split()) for one in drawn.rollouts]
    tokens = [one for one in page.all("span", "t") if "data-say" in one.attrs]
    assert len(tokens) == sum(len(one.token_ids) for one in drawn.rollouts)
    advantages = [a for one in drawn.rollouts for a in one.advantages]
    for token, advantage in zip(tokens, advantages, strict=True):
        said = float(token.attrs["data-say"].rsplit(" ", 1)[1].replace("\u2212", "-"))
        assert said == pytest.approx(advantage, rel=1e-6)
        assert ({"plus", "minus"} & token.classes) == (
            {"plus"} if advantage > 0 else {"minus"} if advantage < 0 else set()
        )
    answers = [flag for one in drawn.rollouts for flag in one.answer_mask]
    assert ["is-answer" in one.classes for one in tokens] == answers
    assert [one.attrs["style"] for one in page.all("span", "true") if "block" in one.classes] == [
        "left: 37.5%; width: 14.583%;"  # 18 to 25 of 48 s
    ]


def test_the_script_filters_and_sorts(tmp_path: Path, browse) -> None:
    flat = replace(group(5, 2), rollouts=(rollout(), rollout()))
    better = replace(
        group(6, 4),
        rollouts=(
            rollout("<answer>B</answer> found", rewards=RewardValues(1.0, 0.9, 1.0, 0.0)),
            rollout(problems=("bad_glue",)),
        ),
    )
    html = rollouts_page(read_run(write_run(tmp_path, group(1, 1), flat, better, group(9, 9, kept=False))))

    def found(view: str) -> list[str]:
        return [one.text[0] for one in browse(html, view).all("div", "numbers")]  # steps of one digit

    assert found("") == ["9", "4", "2", "1"]
    assert found("sort=-step&from=2&to=8") == ["2", "4"]
    assert found("sort=iou&kept=kept&flat=answer") == ["4", "2"]
    assert found("cut=1&problem=some") == ["9", "1"]
    assert found("text=B%3C/ANSWER%3E+found") == ["4"]


# --- the command ---


def test_the_command_writes_the_page(zoom: Run, tmp_path: Path, read) -> None:
    run = write_run(tmp_path / "run", group(0), group(1))
    ran = zoom("rollouts", run, "--last", 1)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"{run / 'rollouts.html'}: 1 group (1 earlier one left out), 0.1 MB\n"
    read((run / "rollouts.html").read_text(encoding="utf-8"))
    assert zoom("rollouts", run, "--out", tmp_path / "here.html").code == 0
    assert (tmp_path / "here.html").is_file()


def test_the_command_says_what_is_wrong_in_one_line(zoom: Run, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", group(0))
    assert zoom("rollouts", tmp_path / "nowhere").complaint.endswith(
        "directory: no such directory; give the directory a training run writes to (its `out`)"
    )
    assert "--last: 0 groups are none" in zoom("rollouts", run, "--last", 0).complaint
    assert "--out: there is no directory" in zoom("rollouts", run, "--out", tmp_path / "no" / "page.html").complaint
    assert "--out" in zoom("rollouts", run, "--out", tmp_path).complaint
    (run / "rollouts.jsonl").write_bytes(b"\xff\xfe\n")
    ran = zoom("rollouts", run)
    assert (ran.code, ran.complaint.partition(" (")[0]) == (2, f"{run / 'rollouts.jsonl'}: line 1: is no rollout group")


def test_a_page_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    from zoomzero.pages.training.rollouts import write_rollouts_page

    run = read_run(write_run(tmp_path / "run", group(0)))
    with pytest.raises(ConfigError, match="--out: cannot write"):
        write_rollouts_page(tmp_path, run)
