"""The command line as a user meets it: what it prints where, exit codes, one-line errors, Ctrl-C, closed pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import zoomzero
from cli_runner import Ran, Run, find_checkpoint, run_process
from processes import alive
from small_videos import write_small
from zoomzero import cli
from zoomzero.config import load_model_settings
from zoomzero.spans import intersection_s

QUESTION = "Which symbol is on the red circle?"
OPTIONS = ("--option", "E", "--option", "H", "--option", "M", "--option", "T")
MODES = ("direct", "coarse", "zoom", "context", "divide", "search")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("cli") / "small.mp4")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return find_checkpoint(tmp_path_factory.mktemp("checkpoint"))


# --- what it prints ---


def test_text_answers_with_evidence_and_one_line_a_pass(zoom: Run, video: Path, model: Path) -> None:
    ran = zoom("ask", video, QUESTION, *OPTIONS, "--model", model, "--set", "max_new_tokens=60")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["Answer", "Evidence", "Why"]
    table = lines[lines.index("") + 1 :]
    assert table[0].split() == ["pass", "frames", "size", "visual", "read", "written", "seconds", "answer"]
    name, frames, size, visual, *_ = table[1].split()
    assert (name, int(frames) % 2) == ("coarse", 0)
    assert 0 < int(visual) <= load_model_settings(model).coarse.max_tokens
    assert [int(side) % 32 for side in size.split("x")] == [0, 0]
    assert table[-1].startswith("all ")


def test_evidence_is_taken_away(zoom: Run, video: Path, model: Path, tmp_path: Path) -> None:
    places = ("--clip", tmp_path / "e.gif", "--srt", tmp_path / "e.srt", "--edl", tmp_path / "e.edl")
    ran = zoom("ask", video, QUESTION, *OPTIONS, "--model", model, "--set", "max_new_tokens=60", *places)
    assert (ran.code, ran.err) == (0, "")
    written = sorted(one.name for one in tmp_path.iterdir())
    if "Evidence  none named" in ran.out:
        assert written == []
        assert "nothing was written: the model named no moment" in ran.out
        return
    assert written == ["e.edl", "e.gif", "e.srt"]
    assert [line.split()[0] for line in ran.out.splitlines()[-3:]] == ["Clip", "SRT", "EDL"]
    assert QUESTION in (tmp_path / "e.srt").read_text(encoding="utf-8")
    assert "FROM CLIP NAME: small.mp4" in (tmp_path / "e.edl").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("option", "place", "complaint"),
    [
        ("--clip", "a.avi", "clips are not written as .avi"),
        ("--clip", "none/a.mp4", "there is no directory"),
        ("--srt", "none/a.srt", "there is no directory"),
    ],
)
def test_places_are_checked_before_the_work(
    zoom: Run, video: Path, tmp_path: Path, option: str, place: str, complaint: str
) -> None:
    ran = zoom("ask", video, QUESTION, option, tmp_path / place)
    assert ran.code == 2
    assert ran.complaint.startswith(f"{option}: ")
    assert complaint in ran.complaint


@pytest.mark.parametrize("mode", MODES)
def test_json_is_one_object_with_the_promised_keys(
    zoom: Run, video: Path, model: Path, tmp_path: Path, mode: str
) -> None:
    asked = ("ask", video, QUESTION, *OPTIONS, "--model", model, "--mode", mode, "--set", "max_new_tokens=60")
    ran = zoom(*asked, "--json", "--html", tmp_path / "page.html")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.count("\n") == 1
    answer = json.loads(ran.out)
    check_answer(answer)
    assert answer["mode"] == mode
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert all(one["name"] in page for one in answer["passes"])
    assert (answer["question"], answer["options"]) == (QUESTION, ["E", "H", "M", "T"])
    first = answer["passes"][0]["name"]
    assert first == {"direct": "direct", "divide": "window 1 of 1"}.get(mode, "coarse")
    assert answer["costs"]["visual_tokens"] == sum(one["visual_tokens"] for one in answer["passes"]) > 0


def check_answer(answer: dict[str, Any]) -> None:
    """The keys every answer has, and the form of their values."""
    assert {"answer", "option", "spans", "confidence", "mode", "passes"} <= set(answer)
    assert answer["option"] in (None, "A", "B", "C", "D")
    assert answer["answer"] == (answer["options"]["ABCD".index(answer["option"])] if answer["option"] else None)
    assert 0.0 <= answer["confidence"] <= 1.0
    for span in (*answer["spans"], *(span for one in answer["passes"] for span in one["found"])):
        assert isinstance(span, list)
        start, end = span
        assert 0.0 <= start < end <= answer["duration_s"]


def test_an_open_question_and_the_page(zoom: Run, video: Path, model: Path, tmp_path: Path) -> None:
    page = tmp_path / "evidence.html"
    ran = zoom("ask", video, "What <b>is</b> it?", "--model", model, "--mode", "direct", "--html", page)
    assert ran.code == 0
    assert ran.out.splitlines()[-1] == f"Page      {page}"
    html = page.read_text(encoding="utf-8")
    assert html.startswith("<!DOCTYPE html>")
    assert "What &lt;b&gt;is&lt;/b&gt; it?" in html
    assert "data:video/mp4;base64," in html
    ran = zoom("ask", video, "What is it?", "--model", model, "--mode", "direct", "--html", page, "--json")
    assert json.loads(ran.out)["option"] is None
    assert [file.name for file in tmp_path.iterdir()] == ["evidence.html"]


def test_a_home_directory_in_a_page_name_is_the_home_directory(
    zoom: Run, video: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert zoom("ask", video, "q", "--model", model, "--mode", "direct", "--html", "~/page.html").code == 0
    assert (tmp_path / "page.html").is_file()


def test_the_embedded_model_finds_and_reads_the_symbol_in_its_own_world(zoom: Run, tmp_path: Path) -> None:
    from zoomzero.data.example import read_examples
    from zoomzero.world.write import write_world

    write_world(tmp_path, 1, 3, "short")
    (example,) = read_examples(tmp_path / "examples.jsonl")
    assert example.question.startswith("Which symbol")
    options = [word for option in example.options for word in ("--option", option)]
    answer = json.loads(zoom("ask", example.video, example.question, *options, "--json").out)
    assert (answer["model"], answer["option"]) == ("tiny", example.answer)
    assert intersection_s(answer["spans"], example.spans) > 0
    assert answer["passes"][1]["name"] == "zoom"
    assert intersection_s(answer["passes"][1]["spans"], answer["passes"][0]["found"]) > 0


# --- errors: one line on stderr, nothing on stdout, the code says whose they are ---


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        ((), 2, "VIDEO: is not given; give a video and a question, or --questions FILE --out RUN"),
        (("{video}",), 2, "QUESTION: is not given; give a video and a question"),
        (("{video}", "q", "--quxx", "red"), 2, "No such option: --quxx; see `zoomzero ask --help`"),
        (("{video}", "q", "--budget", "many"), 2, "Invalid value for '--budget': "),
        (("{video}", "q", "--budget", "0"), 2, "--budget: 0 is too little; give a number above 0"),
        (("{video}", "q", "--timeout", "nan"), 2, "--timeout: nan is too little; give a number above 0"),
        (("{video}", "q", "--mode", "fast"), 2, "--mode: 'fast' is unknown; use one of direct, coarse, zoom"),
        (("{video}", "q", "--device", "meta"), 2, "--device: 'meta' is unknown; use auto, cpu, cuda"),
        (("{video}", "q", "--option", "a"), 2, "--option: one option leaves nothing to choose; give two or more"),
        (("{video}", "q", "--html", "{here}"), 2, "--html: {here} is a directory; give the name of a file"),
        (("{video}", "q", "--html", "{here}/no/p.html"), 2, "--html: there is no directory {here}/no; make it first"),
        (("{video}", "q", "--html", "{video}/p.html"), 2, "--html: there is no directory {video}; make it first"),
        (("{video}", "q", "--fps", "2"), 2, "--fps: {video} is a file and has its own times; leave it out"),
        (("{video}", "q", "--subtitles", "{here}/no.srt"), 2, "{here}/no.srt: file: does not exist; give an .srt"),
        (("{video}", "q", "--subtitles", "{video}"), 2, "{video}: content: is not text; give an .srt or .vtt file"),
        (("{here}/no.mp4", "q"), 3, "{here}/no.mp4: cannot open: no such file or directory; check the path"),
        (("{video}", "q", "--model", "{here}/no"), 4, "model {here}/no: no such directory; give `tiny`"),
        (("{video}", "q", "--model", "{here}"), 4, "model {here}: has no config.json; give the directory of a whole"),
        (("{video}", "q", "--model", "{model}", "--set", "zoom.colour=1"), 2, "--set zoom.colour=1: there is no such"),
        (("{video}", "q", "--model", "{model}", "--set", "zoom"), 2, "--set zoom: is not an assignment; write key=v"),
        (("{video}", "q", "--model", "{model}", "--dtype", "int8"), 4, "model {model}: unknown dtype int8; use auto"),
    ],
)
def test_errors_are_one_line_that_names_the_fix(
    zoom: Run, video: Path, model: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, complaint: str
) -> None:
    places = {"video": str(video), "here": str(tmp_path), "model": str(model)}
    ran = zoom("ask", *(argument.format(**places) for argument in arguments))
    assert ran.code == code
    assert ran.complaint.lower().startswith(complaint.format(**places).lower())


def test_weights_that_are_damaged(zoom: Run, video: Path, model: Path, tmp_path: Path) -> None:
    for file in model.iterdir():
        if file.is_file() and file.suffix in (".json", ".safetensors"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    ran = zoom("ask", video, "q", "--model", tmp_path)
    assert ran.code == 4
    assert ran.complaint.startswith(f"model {tmp_path}: weights are damaged")
    weights.unlink()
    ran = zoom("ask", video, "q", "--model", tmp_path)
    assert ran.code == 4
    assert ran.complaint.startswith(f"model {tmp_path}: has no .safetensors weights; ")


def test_a_page_that_cannot_be_written_does_not_cost_the_answer(
    zoom: Run, video: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, *args: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    ran = zoom("ask", video, "q", "--model", model, "--mode", "direct", "--json", "--html", tmp_path / "page.html")
    assert ran.code == 2
    assert json.loads(ran.out)["mode"] == "direct"
    expected = f"zoomzero: --html: cannot write {tmp_path}/page.html (No space left on device); give a file"
    assert ran.err.startswith(expected)


def test_a_system_error_is_one_line_too(zoom: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoomzero import doctor

    def fails() -> None:
        raise PermissionError(13, "Permission denied", "/some/place")

    monkeypatch.setattr(doctor, "report", fails)
    ran = zoom("doctor")
    assert (ran.code, ran.complaint.split(";")[0]) == (2, "/some/place: Permission denied")


def test_an_unknown_command_and_none_at_all(zoom: Run) -> None:
    ran = zoom("answer")
    assert (ran.code, ran.complaint) == (2, "No such command 'answer'; see `zoomzero --help`")
    ran = zoom()
    assert ran.out.startswith("Usage: zoomzero")
    assert ran.err == ""


def test_the_doctor_ends_with_its_finding(zoom: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoomzero import doctor

    for healthy, code in ((True, 0), (False, 4)):
        monkeypatch.setattr(doctor, "report", lambda healthy=healthy: ("said", healthy))
        assert zoom("doctor") == Ran(code, "said\n", "")


# --- processes of their own ---


def test_help_and_import_load_nothing_heavy() -> None:
    commands = [str(c.name or c.callback.__name__) for c in cli.app.registered_commands if c.callback]
    assert {"ask", "world", "demo", "sft", "doctor"} <= set(commands)
    helps = [[], *([name] for name in commands)]
    script = f"""
import sys, zoomzero
from zoomzero import cli
for words in {helps!r}:
    sys.argv = ["zoomzero", *words, "--help"]
    try:
        cli.main()
    except SystemExit as ended:
        assert not ended.code, (words, ended.code)
heavy = {{"torch", "transformers", "av", "numpy", "gradio", "safetensors", "PIL"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("Usage: zoomzero") == len(helps)
    for shown in (
        'ask walk.mp4 "Who enters first?"',
        "--option",
        "--html",
        "zoomzero sft configs/tiny.toml",
    ):
        assert shown in done.stdout


def test_the_version() -> None:
    ran = run_process("--version", limit_s=60)
    assert (ran.code, ran.out, ran.err) == (0, f"zoomzero {zoomzero.__version__}\n", "")


def test_a_whole_process_prints_the_object_and_nothing_else(video: Path, model: Path) -> None:
    ran = run_process(
        "ask", video.name, QUESTION, *OPTIONS, "--model", model, "--mode", "direct", "--json", cwd=video.parent
    )
    assert (ran.code, ran.err) == (0, "")
    answer = json.loads(ran.out)
    check_answer(answer)
    assert answer["video"] == str(video)


def test_a_reader_that_leaves_is_no_error() -> None:
    command = [sys.executable, "-m", "zoomzero", "doctor"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        error = process.stderr.read()
        assert (process.wait(60), error) in ((0, ""), (4, ""))  # 4: without the embedded model


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_ctrl_c_ends_without_a_trace_and_without_orphans(video: Path, model: Path) -> None:
    slow = ("--set", "coarse.fps=8", "--set", "coarse.max_frames=384", "--set", "coarse.max_tokens=10000")
    command = [sys.executable, "-m", "zoomzero", "ask", str(video), QUESTION, "--model", str(model), *slow]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # a suite started in the background may ignore Ctrl-C, and a program would inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 60
        while not (workers := children(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert workers
        time.sleep(0.5)  # loading the model by now, or later
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out, error.strip()) == (130, "", "zoomzero: interrupted"), (process.returncode, error)
    deadline = time.monotonic() + 20
    while (left := [pid for pid in workers if alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)  # one that was just starting ends when it looks at its socket
    assert not left


def test_ctrl_c_in_a_pass(zoom: Run, video: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoomzero.answer import writing

    def interrupted(*args: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "write", interrupted)
    ran = zoom("ask", video, "q", "--model", model)
    assert (ran.code, ran.complaint) == (130, "interrupted")


def children(pid: int) -> list[int]:
    """Return the processes a process started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found
