"""Questions as they are asked: events in order, stopping, limits, and what further questions save."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace

import pytest
from app_questions import OPTIONS, QUESTION

from plain_policy import PlainPolicy
from zoomzero.answer.ask import answer
from zoomzero.app import asking
from zoomzero.app.asking import Desk, events, stored
from zoomzero.app.store import new_token
from zoomzero.errors import ConfigError
from zoomzero.policy.kept import KeptPrefixes
from zoomzero.world.render import ITS_WORLD


def follow(place, user, asked, stop=None, until=None):
    """Return a question's events; with `until`, stop at the first event of that kind."""
    stop = stop or threading.Event()

    async def collect():
        told = []
        async for some in events(place.desk, asked, user, stop):
            told += some
            if until is not None and any(one["event"] == until for one in some):
                stop.set()
        return told

    return asyncio.run(collect())


def ask(place, user, question=QUESTION, options=OPTIONS, modes="zoom", video="film.mp4"):
    return follow(place, user, place.check(user, video, question, options, modes))


def kinds(told):
    return [one["event"] for one in told]


def test_events_tell_what_happens(user) -> None:
    place, me, _ = user
    told = ask(place, me)
    order = [kind for kind in kinds(told) if kind not in ("decoding", "words")]
    assert order == ["mode", "pass", "frames", "read", "passed", "pass", "frames", "read", "passed", "answer", "end"]
    frames = [one for one in told if one["event"] == "frames"]
    assert [one["name"] for one in frames] == ["coarse", "zoom"]
    assert frames[0]["count"] == len(frames[0]["thumbs"])
    (words,) = [one["text"] for one in told if one["event"] == "words"][-1:]
    coarse = next(one["pass"] for one in told if one["event"] == "passed")
    assert words in coarse["text"]
    assert next(one for one in told if one["event"] == "decoding")["total"] == frames[0]["count"]
    json.dumps(told, allow_nan=False)


def test_answer_is_that_of_ask_and_is_kept(user, film) -> None:
    place, me, _ = user
    made = next(one for one in ask(place, me) if one["event"] == "answer")
    plain, _ = answer(place.desk.policy, place.desk.settings, place.find(None, "film.mp4").info, QUESTION, OPTIONS)
    assert (made["option"], made["answer"], made["reason"]) == (plain.option, plain.answer, plain.reason)
    assert made["spans"] == [list(span) for span in plain.spans]
    assert made["confidence"] == pytest.approx(plain.confidence, abs=1e-4)
    kept = stored(me, made["id"])
    assert asking.without_frames(kept.view) == {name: value for name, value in made.items() if name != "event"}
    assert kept.trace.video == "film.mp4"
    assert [one.name for one in kept.frames()] == [one["name"] for one in kept.view["frames"]] == ["zoom"]
    assert "frames" not in made
    assert stored(me, "a" + "x" * 24) is None
    other = place.store.user(new_token(), make=True)
    assert stored(other, made["id"]) is None


def test_a_second_question_reads_no_frame_again(user) -> None:
    """Frames and prefill are reused; the answer is the one that reading everything gives."""
    place, me, _ = user
    ask(place, me)
    second = "Which symbol is on the blue ring?"
    made = next(one for one in ask(place, me, second, modes="coarse") if one["event"] == "answer")
    (coarse,) = made["passes"]
    assert coarse["visual_tokens"] == 0
    assert coarse["new_tokens"] < coarse["prompt_tokens"] / 2
    assert coarse["decoded_frames"] == 0
    plain, _ = answer(
        place.desk.policy, place.desk.settings, place.find(None, "film.mp4").info, second, OPTIONS, mode="coarse"
    )
    assert made["option"] == plain.option
    assert made["spans"] == [list(span) for span in plain.spans]
    place.desk.kept = KeptPrefixes(0)
    again = next(one for one in ask(place, me, second, modes="coarse") if one["event"] == "answer")
    assert again["passes"][0]["visual_tokens"] > 0
    assert again["passes"][0]["text"] == coarse["text"]


def test_modes_are_compared_on_one_prefill(user) -> None:
    place, me, _ = user
    told = ask(place, me, modes=["direct", "coarse", "context", "search"])
    made = [one for one in told if one["event"] == "answer"]
    assert [one["mode"] for one in made] == ["direct", "coarse", "context", "search"]
    assert kinds(told).count("mode") == 4
    reads = [one["passes"][0] for one in made[1:]]
    assert [one["visual_tokens"] for one in reads] == [0, 0, 0]
    assert reads[1]["new_tokens"] == 1  # context begins with the very prompt of coarse
    assert list(me.answers) == [one["id"] for one in made]


@pytest.mark.parametrize("until", ["pass", "frames", "words"])
def test_stopping(user, until) -> None:
    place, me, _ = user
    asked = place.check(me, "film.mp4", QUESTION, OPTIONS, ["zoom", "search"])
    told = follow(place, me, asked, until=until)
    assert kinds(told)[-2:] == ["stopped", "end"]
    assert "answer" not in kinds(told)[:-1] or until != "pass"
    assert me.busy == 0
    assert kinds(ask(place, me))[-2:] == ["answer", "end"]  # the model is free again


def test_a_question_has_a_time_limit(make_place) -> None:
    place = make_place(answer_s=0.0)
    told = ask(place, None)
    assert kinds(told) == ["mode", "error", "end"]
    assert "no answer within 0 s" in told[1]["message"]


def test_errors_are_one_public_line(user, monkeypatch, shelf) -> None:
    place, me, _ = user
    asked = place.check(me, "film.mp4", QUESTION, OPTIONS, "zoom")
    gone = replace(asked.video, info=replace(asked.video.info, path=str(shelf / "gone.mp4")), path=shelf / "gone.mp4")
    told = follow(place, me, replace(asked, video=gone))
    assert kinds(told)[-2:] == ["error", "end"]
    assert told[-2]["message"].startswith("film.mp4: cannot")
    assert str(shelf) not in told[-2]["message"]


def test_nobody_is_asked_to_keep(make_place) -> None:
    """Without a user nothing is stored; the embedded model says when a video is not of its world."""
    place = make_place()
    video = place.find(None, "film.mp4")
    foreign = replace(video, info=replace(video.info, width=640, height=480))
    policy = place.desk.policy
    name, policy.name = policy.name, "tiny"
    try:
        asked = replace(place.check(None, "film.mp4", QUESTION, OPTIONS, "direct"), video=foreign)
        made = next(one for one in follow(place, None, asked) if one["event"] == "answer")
    finally:
        policy.name = name
    assert made["kept"] is False
    assert made["notes"] == [ITS_WORLD]


def test_no_room_is_said(make_place) -> None:
    place = make_place(user_mb=0.0001)
    me = place.store.user(new_token(), make=True)
    made = next(one for one in ask(place, me) if one["event"] == "answer")
    assert made["kept"] is False
    assert me.answers == {}


@pytest.mark.parametrize("tells", [True, False])
def test_a_model_behind_a_wire(make_place, tells) -> None:
    """A policy that keeps nothing and takes one chat at a time, as a server is, gives the same events."""
    place = make_place()
    desk = place.desk
    place.desk = Desk(PlainPolicy(desk.policy, tells=tells), desk.settings, desk.limits, desk.store)
    told = ask(place, None)
    steps = [kind for kind in kinds(told) if kind in ("pass", "frames", "passed", "answer")]
    assert steps == [*["pass", "frames", "passed"] * 2, "answer"]
    made = next(one for one in told if one["event"] == "answer")
    assert (made["confidence"] is None) is not tells


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"video": 7}, "no name of a video"),
        ({"video": "other.mp4"}, "no such video"),
        ({"question": ""}, "is empty"),
        ({"question": None}, "no text"),
        ({"question": "x" * 5000}, "no text of at most"),
        ({"options": "yes"}, "no list of texts"),
        ({"options": [1, 2]}, "no list of texts"),
        ({"options": [{"path": "/etc/passwd"}]}, "no list of texts"),
        ({"options": ["yes"]}, "one option"),
        ({"options": [str(i) for i in range(27)]}, "too many"),
        ({"modes": []}, "no way of looking"),
        ({"modes": ["zoom", 3]}, "no way of looking"),
        ({"modes": ["fast"]}, "'fast' is unknown"),
    ],
)
def test_what_cannot_be_asked(make_place, values, reason) -> None:
    place = make_place()
    given = {"video": "film.mp4", "question": QUESTION, "options": OPTIONS, "modes": ["zoom"]} | values
    with pytest.raises(ConfigError, match=reason):
        place.check(None, given["video"], given["question"], given["options"], given["modes"])
