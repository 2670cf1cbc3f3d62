"""The app's own addresses without gradio and without a model: whose they are, what they send, what they refuse."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_questions import HEADER
from PIL import Image

from scripted_policy import ScriptedPolicy
from zoomzero.answer.trace import PassTrace, Trace
from zoomzero.app.asking import Desk, Stored
from zoomzero.app.guard import Guard
from zoomzero.app.library import Library
from zoomzero.app.place import Place
from zoomzero.app.public import view
from zoomzero.app.settings import AppSettings, Limits
from zoomzero.app.store import Store, new_token
from zoomzero.config import ModelSettings
from zoomzero.spans import Span

fastapi = pytest.importorskip("fastapi", reason="needs gradio, which brings fastapi")
pytest.importorskip("httpx", reason="needs gradio, which brings httpx")
COOKIE = "zoomzero_user"


@pytest.fixture
def place(tmp_path: Path, shelf: Path) -> Iterator[Place]:
    settings = AppSettings(videos=shelf, store=tmp_path, limits=Limits(upload_mb=5.0))
    store = Store(tmp_path, settings.limits)
    desk = Desk(ScriptedPolicy(), ModelSettings(), settings.limits, store)
    yield Place(settings, store, Library(shelf, (), 60.0), desk)
    store.close()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def client(place: Place) -> Any:
    from fastapi.testclient import TestClient

    from zoomzero.app.routes import make_routes

    app = fastapi.FastAPI()
    app.include_router(make_routes(place))
    return TestClient(Guard(app, ()), base_url="http://127.0.0.1", headers={HEADER: new_token()})


def keep_answer(place: Place, token: str, video: str) -> str:
    """Store an answer as the desk does and return its id."""
    me = place.store.user(token)
    assert me is not None
    one = PassTrace(
        name="zoom", spans=(Span(0.0, 48.0),), times_s=(18.0, 20.0), height=32, width=32, decoded_frames=2,
        visual_tokens=1, prompt_tokens=20, new_tokens=20, generated_tokens=5, seconds=0.1, decode_seconds=0.0,
        text="look", answer="a cat", option="B", confidence=0.9, found=(Span(18.0, 22.0),),
    )  # fmt: skip
    trace = Trace(
        video="holiday.mp4", duration_s=48.0, question="What?", options=("a dog", "a cat"), mode="zoom", answer="a cat",
        option="B", spans=(Span(18.0, 22.0),), confidence=0.9, reason="because", passes=(one,), model="tiny",
        settings_hash="0", seconds=1.0,
    )  # fmt: skip
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(buffer, "JPEG")
    looks = (("zoom", (18.0, 20.0), (buffer.getvalue(),) * 2),)
    ident = "a" + "x" * 24
    shown = view(trace) | {"id": ident, "video": video, "frames": [{"name": "zoom"}], "kept": True}
    me.answer_file(ident).write_bytes(pickle.dumps(Stored(shown, replace(trace), looks)))
    me.answers[ident] = video
    return ident


def test_a_users_way(client: Any, place: Place, film: Path, tmp_path: Path) -> None:
    """Upload, answer, history, downloads, and forgetting it all; another user finds nothing of it."""
    token = client.headers[HEADER]
    sent = client.post("/upload", params={"name": "holiday.mp4"}, content=film.read_bytes())
    assert sent.status_code == 200, sent.text
    video = sent.json()["id"]
    assert sent.json() | {"id": ""} == {
        "id": "", "name": "holiday.mp4", "mine": True, "duration_s": 48.0, "width": 128, "height": 128, "fps": 8.0,
        "plays": True, "notes": [],
    }  # fmt: skip
    ident = keep_answer(place, token, video)
    assert [one["id"] for one in client.get("/state").json()["mine"]] == [video]
    (listed,) = client.get(f"/videos/{video}/answers").json()
    assert (listed["id"], "frames" in listed) == (ident, False)
    assert client.get(f"/answers/{ident}/view").json()["frames"] == [{"name": "zoom"}]
    replies = {name: client.get(f"/answers/{ident}/answer.{name}") for name in ("json", "html", "srt", "edl")}
    for name, reply in replies.items():
        assert reply.status_code == 200, name
        assert reply.headers["content-disposition"] == f"attachment; filename*=UTF-8''holiday-answer.{name}"
        assert reply.headers["content-security-policy"] == "sandbox; default-src 'none'"
        assert str(tmp_path) not in reply.text
    assert json.loads(replies["json"].text)["spans"] == [[18.0, 22.0]]
    assert "data:video/mp4;base64," in replies["html"].text
    assert "00:00:18,000 --> 00:00:22,000" in replies["srt"].text
    assert client.get(f"/answers/{ident}/other.txt").status_code == 404
    part = client.get(f"/videos/{video}/file", headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, film.read_bytes()[10:20])
    client.headers[HEADER] = new_token()
    for path in (
        f"/videos/{video}",
        f"/videos/{video}/file",
        f"/answers/{ident}/view",
        f"/answers/{ident}/answer.json",
    ):
        assert client.get(path).status_code == 404
    assert client.get(f"/videos/{video}/answers").json() == []
    assert client.delete(f"/videos/{video}").status_code == 404
    client.headers[HEADER] = token
    assert client.delete(f"/videos/{video}").status_code == 200
    assert client.get(f"/answers/{ident}/view").status_code == 404
    assert list(place.store.user(token).folder.iterdir()) == []


def test_page_and_its_parts(client: Any) -> None:
    del client.headers[HEADER]
    page = client.get("/")
    assert page.headers["set-cookie"].startswith(f"{COOKIE}=")
    assert "HttpOnly" in page.headers["set-cookie"]
    assert "unsafe" not in page.headers["content-security-policy"]
    for name in ("app.css", "app.js"):
        assert f'"{name}"' in page.text
        assert client.get(f"/{name}").status_code == 200
    assert [one["name"] for one in client.get("/state").json()["listed"]] == ["film.mp4", "deeper/second.mp4"]


def test_what_is_refused(client: Any, place: Place) -> None:
    for content, status, said in ((b"", 422, "empty"), (b"#EXTM3U\nx", 422, "text"), (b"\0" * 5_100_000, 413, "5 MB")):
        reply = client.post("/upload", content=content)
        assert (reply.status_code, said in reply.text) == (status, True), reply.text
        assert str(place.store.root) not in reply.text
    client.headers[HEADER] = "short"
    assert client.post("/upload", content=b"x").status_code == 400
    assert client.get("/videos/none").status_code == 404
    assert client.get("/api/gradio_api/upload").status_code == 404
