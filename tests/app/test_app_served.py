"""The app with a model behind a server: words while they come, the answer, and a server that fails."""

from __future__ import annotations

import json

import pytest
from app_questions import OPTIONS, QUESTION
from test_app_asking import ask, kinds

from fake_server import FakeServer
from scripted_policy import ScriptedPolicy, rates, says
from zoomzero.app.asking import Desk
from zoomzero.policy.open import open_model

pytest.importorskip("openai")


def test_a_served_model_answers_and_its_faults_are_lines(user) -> None:
    place, me, _ = user
    with FakeServer(ScriptedPolicy(says("B", [(18.0, 20.0)], p=0.6), rates(1, 8, 1), forever=True)) as server:
        policy, settings = open_model(server.model, overrides=["server.retries=0"])
        place.desk = Desk(policy, settings, place.settings.limits, place.store)
        told = ask(place, me, QUESTION, OPTIONS)
        made = next(one for one in told if one["event"] == "answer")
        assert (made["option"], made["spans"]) == ("B", [[18.0, 20.0]])
        assert "words" in kinds(told)
        assert server.seen[-2].body["stream"]
        server.faults = ["429 slow down"] * 2
        (line,) = [one["message"] for one in ask(place, me, QUESTION, OPTIONS) if one["event"] == "error"]
        assert "is asked too much (429: slow down); lower server.concurrency" in line
    assert server.url not in json.dumps(told) + line
