"""`zoomzero doctor --server`: what it says of servers of several kinds, and that it ends in 4 where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fake_server import Abilities, FakeServer
from scripted_policy import ScriptedPolicy, rates, says
from small_videos import write_small
from zoomzero.errors import ModelError

pytest.importorskip("openai")
KEY = "sk-a-key-nobody-may-see"


def brain() -> ScriptedPolicy:
    return ScriptedPolicy(says("B", [(18.0, 20.0)]), rates(1, 8), forever=True)


def lines(text: str) -> dict[str, tuple[str, str]]:
    """Return name -> (mark, text)."""
    return {line[6:22].strip(): (line[:5].strip(), line[23:]) for line in text.strip().splitlines()}


def test_a_server_that_can_do_everything(zoom: Any) -> None:
    with FakeServer(brain(), Abilities(cache=True)) as server:
        ran = zoom("doctor", "--server", server.url)
    found = lines(ran.out)
    assert ran.code == 0
    assert found["server"] == ("ok", f"{server.url}, vLLM 0.32.0")
    assert found["model"] == ("ok", "fake")
    assert found["times"] == ("ok", "exact: the model is told the times of the frames that are sent")
    assert found["frames"] == ("ok", "all 36 arrive")
    assert found["images at most"] == ("ok", "36 were taken; more than it takes are refused with its limit")
    kept = "of a second question about the same frames 304 of 315 tokens are not read again"  # whole blocks of 16
    assert found["prefix cache"] == ("ok", kept)
    assert found["options"] == ("ok", "all scored in one request, whatever their probability")
    assert found["frames travel"] == ("ok", "one video with exact times")
    assert found["zoom"] == ("ok", "2 requests, of at most 4096 and 2048 visual tokens")
    assert found["search"][1].startswith(
        "1 request of at most 4096, 1 request for 3 more candidates, a look of 2048 at each"
    )


@pytest.mark.parametrize(
    ("can", "name", "mark", "said"),
    [
        (Abilities(trust=False), "video", "slow", "start vLLM with --trust-request-mm-kwargs"),
        (
            Abilities(outer_pair=True),
            "markers",
            "slow",
            "an extra vision_start / vision_end pair is put around a video",
        ),
        (Abilities(times="invented"), "times", "slow", "invented: the model is told other times than were sent"),
        (Abilities(ids=False), "times", "slow", "unknown: neither the prompt's tokens nor its text can be had"),
        (Abilities(ids=False, top=5), "options", "ok", "those among the 5 likeliest tokens"),
        (Abilities(top=0), "logprobs", "slow", "none: confidences are unknown"),
        (Abilities(trust=False), "frames travel", "slow", "about twice the visual tokens"),
        (Abilities(most_frames=32), "frames", "slow", "cut: 32 of 36 arrive, so videos are not used"),
        (Abilities(most_frames=32), "frames travel", "slow", "a time and an image a frame"),
        (Abilities(video=False, most_images=16), "images at most", "slow", "16: refuses the request (400: At most 16"),
        (Abilities(), "prefix cache", "slow", "0 of "),
        (Abilities(context=6000), "context", "slow", "of at most 4096 and 6144 visual tokens; a prefix cache"),
        (Abilities(context=6000), "context", "slow", "again; more than its context: lower --budget"),
        (Abilities(cached=False), "prefix cache", "--", "not told (vLLM: --enable-prompt-tokens-details)"),
        (Abilities(many=False), "n", "slow", "one answer a request"),
    ],
)
def test_what_a_server_cannot_do_is_said(zoom: Any, can: Abilities, name: str, mark: str, said: str) -> None:
    with FakeServer(brain(), can) as server:
        ran = zoom("doctor", "--server", server.url, "--set", "server.retries=0")
    assert ran.code == 0
    found = lines(ran.out)[name]
    assert found[0] == mark
    assert said in found[1]


def test_a_server_that_takes_no_frames_ends_in_4(zoom: Any) -> None:
    with FakeServer(brain(), Abilities(video=False, images=False)) as server:
        ran = zoom("doctor", "--server", server.url, "--set", "server.retries=0")
    assert ran.code == 4
    assert lines(ran.out)["modes"] == ("FAIL", "none: the server takes no frames")


def test_what_is_no_address_is_one_line(zoom: Any) -> None:
    ran = zoom("doctor", "--server", "localhost:8000")
    assert ran.code == 2
    assert ran.complaint == "--server: 'localhost:8000' is no address; write http://HOST:PORT/v1#NAME"


def test_nobody_there_is_one_line_and_4(zoom: Any) -> None:
    ran = zoom("doctor", "--server", "http://127.0.0.1:9/v1", "--set", "server.retries=0")
    assert ran.code == 4
    assert "http://127.0.0.1:9/v1: cannot be reached (" in ran.complaint
    assert "\n" not in ran.complaint


# --- the other commands ---


def test_ask_shows_the_evidence_and_no_key(zoom: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOOMZERO_API_KEY", KEY)
    video, page = write_small(tmp_path / "small.mp4"), tmp_path / "page.html"
    options = ("--option", "E", "--option", "H", "--html", page, "--json")
    with FakeServer(brain(), Abilities(key=KEY)) as server:
        ran = zoom("ask", video, "Which symbol is shown?", "--model", server.model, *options)
    assert ran.code == 0
    trace = json.loads(ran.out)
    assert (trace["option"], trace["spans"], trace["model"]) == ("B", [[18.0, 20.0]], server.model)
    assert trace["server"]["video_times"] == "exact"
    assert KEY not in ran.out + ran.err + page.read_text()


def test_a_confidence_that_is_not_told_is_shown_as_unknown(zoom: Any, tmp_path: Path) -> None:
    video, page = write_small(tmp_path / "small.mp4"), tmp_path / "page.html"
    with FakeServer(ScriptedPolicy(says(text="B"), forever=True), Abilities(top=0)) as server:
        command = ("ask", video, "q", "--model", server.model, "--option", "E", "--option", "H", "--mode", "direct")
        ran = zoom(*command, "--html", page)
    assert ran.code == 0
    assert "confidence unknown" in ran.out
    assert "how sure the model is, is not known" in page.read_text()


def test_filter_draws_its_answers_from_a_server(zoom: Any, tmp_path: Path) -> None:
    write_small(tmp_path / "small.mp4")
    row = {
        "id": "q",
        "video": "small.mp4",
        "question": "Which?",
        "options": ["E", "H"],
        "answer": "A",
        "duration_s": 48.0,
    }
    (tmp_path / "all.jsonl").write_text(
        json.dumps(row | {"spans": [[1.0, 2.0]], "source": "mine", "split": "train"}) + "\n"
    )
    out = tmp_path / "kept.jsonl"
    with FakeServer(brain()) as server:
        ran = zoom("filter", tmp_path / "all.jsonl", "--out", out, "--model", server.model, "--samples", 2)
    assert ran.code == 0, ran.err
    drawn = [json.loads(line) for line in Path(f"{out}.samples.jsonl").read_text().splitlines()]
    assert [(one["answer"], one["spans"], one["finished"]) for one in drawn] == [("B", [[18.0, 20.0]], True)] * 2


def test_what_needs_weights_refuses_a_server() -> None:
    from zoomzero.policy.local.load import find

    with pytest.raises(ModelError, match=r"^model http://host/v1#m: is a server, and this needs the weights"):
        find("http://host/v1#m")
