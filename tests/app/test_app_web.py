"""The running app over HTTP: users apart, downloads, API, MCP tool, the queue's limit, and no path of the server."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import av
import pytest
from app_questions import HEADER, OPTIONS, QUESTION, request

from zoomzero.app.store import new_token

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "app.md"
pytest.importorskip("gradio", reason="needs gradio: pip install 'gradio[mcp]>=6.31'")


@pytest.fixture(scope="module")
def mine(web: Any, film: Path) -> tuple[str, str]:
    """A user with an upload: (secret, the upload's id)."""
    address, _ = web
    token = new_token()
    status, body, _ = request(f"{address}/upload?name=holiday.mp4", token, method="POST", body=film.read_bytes())
    assert status == 200, body
    return token, json.loads(body)["id"]


def client_of(address: str, token: str) -> Any:
    from gradio_client import Client

    return Client(f"{address}/api/", headers={HEADER: token}, verbose=False, analytics_enabled=False)


@pytest.fixture(scope="module")
def answered(web: Any, mine: tuple[str, str]) -> dict[str, Any]:
    """An answer given through the API, as its documentation shows."""
    address, _ = web
    token, video = mine
    client = client_of(address, token)
    found: dict[str, Any] = client.predict(
        video=video, question=QUESTION, options=OPTIONS, mode="zoom", api_name="/ask"
    )
    return found


def test_page_is_ours_alone(web: Any) -> None:
    address, _ = web
    status, body, headers = request(f"{address}/")
    assert status == 200
    assert "script-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert "HttpOnly" in headers["set-cookie"]
    assert "SameSite=lax" in headers["set-cookie"]
    page = body.decode()
    assert "<style" not in page
    assert not re.search(r"(src|href)=\"(?!app\.|data:,|#)", page)
    for name in ("app.css", "app.js"):
        assert request(f"{address}/{name}")[0] == 200


def test_api_answers(answered: dict[str, Any]) -> None:
    assert answered["option"] in "ABCD"
    assert answered["video_name"] == "holiday.mp4"
    assert answered["spans"]
    assert {one["name"] for one in answered["passes"]} == {"coarse", "zoom"}
    assert answered["costs"]["visual_tokens"] > 0
    assert "lanes" not in answered


def test_api_streams(web: Any, mine: tuple[str, str]) -> None:
    address, _ = web
    token, video = mine
    job = client_of(address, token).submit(video, QUESTION, OPTIONS, ["direct", "coarse"], api_name="/watch")
    told = [event for some in job for event in some]
    assert [one["mode"] for one in told if one["event"] == "answer"] == ["direct", "coarse"]
    assert told[-1]["event"] == "end"


def test_api_lists_videos(web: Any, mine: tuple[str, str]) -> None:
    address, _ = web
    names = [one["name"] for one in client_of(address, mine[0]).predict(api_name="/videos")]
    assert names == ["Example 1", "film.mp4", "deeper/second.mp4", "holiday.mp4"]
    assert "holiday.mp4" not in [one["name"] for one in client_of(address, new_token()).predict(api_name="/videos")]


def test_the_guides_example_runs(
    web: Any, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "walk.mp4").write_bytes(film.read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(compile(code.replace("http://127.0.0.1:7860", web[0]), str(GUIDE), "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert any(re.fullmatch(r"[AB] \[.*\] [01]\.\d+", line) for line in said), said
    assert [said.count(one) for one in ("mode", "answer", "end")] == [2, 2, 1]
    assert said[-1] == "end"


def test_mcp_tool_answers(web: Any, mine: tuple[str, str]) -> None:
    """The tool a model is given: listed with its parameters, and called."""
    import httpx
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    address, _ = web

    async def call() -> tuple[Any, Any]:
        async with (
            httpx.AsyncClient(headers={HEADER: mine[0]}, timeout=120) as client,
            streamable_http_client(f"{address}/api/gradio_api/mcp/", http_client=client) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = await session.list_tools()
            arguments = {"video": mine[1], "question": QUESTION, "options": OPTIONS, "mode": "zoom"}
            return tools, await session.call_tool("ask", arguments)

    tools, called = asyncio.run(call())
    ask = next(one for one in tools.tools if one.name == "ask")
    assert set(ask.inputSchema["properties"]) == {"video", "question", "options", "mode"}
    assert "evidence is on screen" in ask.description
    assert not called.isError, called
    text = called.content[0].text
    assert "holiday.mp4" in text
    assert '"spans"' in text or "'spans'" in text


@pytest.mark.parametrize("name", ["answer.json", "answer.html", "answer.srt", "answer.edl", "clip.mp4"])
def test_downloads(web: Any, mine: tuple[str, str], answered: dict[str, Any], name: str, tmp_path: Path) -> None:
    address, place = web
    status, body, headers = request(f"{address}/answers/{answered['id']}/{name}", mine[0])
    assert status == 200
    assert headers["content-disposition"].startswith("attachment; filename*=UTF-8''holiday-answer.")
    assert "sandbox" in headers["content-security-policy"]
    assert str(place.store.root).encode() not in body
    if name == "clip.mp4":
        (tmp_path / name).write_bytes(body)
        with av.open(str(tmp_path / name)) as clip:
            seconds = float(clip.duration / 1e6)
        assert seconds == pytest.approx(sum(end - start for start, end in answered["spans"]), abs=1.0)
    if name == "answer.json":
        assert json.loads(body)["spans"] == answered["spans"]
    if name == "answer.html":
        assert b"data:video/mp4;base64," in body
    me = place.store.user(mine[0])
    for _ in range(50):  # a clip is removed after it was sent
        left = [one.name for one in me.folder.iterdir() if one.suffix != ".answer" and one != me.videos[mine[1]].path]
        if not left:
            break
        time.sleep(0.1)
    assert left == []


def test_video_plays_in_parts(web: Any, mine: tuple[str, str], film: Path) -> None:
    address, _ = web
    status, body, headers = request(f"{address}/videos/{mine[1]}/file", mine[0], Range="bytes=10-19")
    assert (status, body) == (206, film.read_bytes()[10:20])
    assert headers["content-type"] == "video/mp4"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("sandbox")


def test_two_users_see_nothing_of_each_other(web: Any, mine: tuple[str, str], answered: dict[str, Any]) -> None:
    """Whoever knows every address and id but not the secret gets what nobody gets."""
    address, _ = web
    other = new_token()
    places = [f"videos/{mine[1]}", f"videos/{mine[1]}/file", f"answers/{answered['id']}/answer.json"]
    for token in (other, None, mine[0][:-1]):
        for place in places:
            assert request(f"{address}/{place}", token)[0] == 404, place
        assert request(f"{address}/videos/{mine[1]}", token, method="DELETE")[0] == 404
        assert json.loads(request(f"{address}/videos/{mine[1]}/answers", token)[1]) == []
        assert json.loads(request(f"{address}/state", token)[1])["mine"] == []
    with pytest.raises(Exception, match="no such video"):
        client_of(address, other).predict(mine[1], QUESTION, OPTIONS, "zoom", api_name="/ask")
    assert [one["id"] for one in json.loads(request(f"{address}/videos/{mine[1]}/answers", mine[0])[1])][:1] == [
        answered["id"]
    ]


def test_bad_uploads(web: Any) -> None:
    address, place = web
    token = new_token()
    cases = [
        (b"", 422, "empty"),
        (b"<script>alert(1)</script>", 422, "text, not a video"),
        (b"\0" * 1000, 422, "cannot"),
        (b"\0" * 5_100_000, 413, "larger than the 5 MB"),
    ]
    for content, status, said in cases:
        got, body, _ = request(f"{address}/upload?name=film.mp4", token, method="POST", body=content)
        assert got == status, body
        assert said in body.decode()
        assert str(place.store.root) not in body.decode()
    assert list(place.store.user(token).folder.iterdir()) == []
    status, body, _ = request(f"{address}/upload?name=film.mp4", method="POST", body=b"x")
    assert (status, HEADER in body.decode()) == (400, True)


def test_nothing_of_gradio_that_serves_files_is_reachable(web: Any, film: Path) -> None:
    address, _ = web
    for path in (
        f"gradio_api/file={film}", f"file={film}", "gradio_api/file=/etc/passwd", "gradio_api/upload", "monitoring",
        "gradio_api/run/ask", "gradio_api/proxy=http://127.0.0.1/", "gradio_api/vibe-code/", "gradio_api/runs", "login",
        "gradio_api/component_server", "gradio_api/stream/x", "assets/index.js", "static/x", "gradio_api/../config",
        "gradio_api/call/other", "theme.css", "", "gradio_api/dev/reload",
    ):  # fmt: skip
        for method in ("GET", "POST"):
            status, body, _ = request(f"{address}/api/{path}", method=method, body=b"{}" if method == "POST" else None)
            assert status == 404, (path, method, body[:100])


def test_other_sites_and_names_are_refused(web: Any) -> None:
    address, _ = web
    port = address.rpartition(":")[2]
    assert request(f"{address}/state", Host=f"evil.test:{port}")[0] == 421
    assert request(f"{address}/state", Host=f"localhost:{port}")[0] == 200
    config = request(f"{address}/api/config", X_Forwarded_Host="evil.test", X_Forwarded_Proto="https")[1]
    assert b"evil.test" not in config  # where the MCP tool would be sent
    assert request(f"{address}/state", Origin="http://evil.test")[0] == 403
    assert request(f"{address}/upload", method="POST", body=b"x", Origin="null")[0] == 403
    assert request(f"{address}/upload", method="POST", body=b"x", Sec_Fetch_Site="cross-site")[0] == 403
    assert request(f"{address}/api/gradio_api/call/ask", method="POST", body=b"x" * 1_100_000)[0] == 413


def test_a_full_queue_says_so(web: Any, mine: tuple[str, str]) -> None:
    """Two may wait behind the one that is answered; while the model is taken, the next is refused."""
    address, place = web
    token, video = mine
    body = {"data": [video, QUESTION, OPTIONS, ["direct"]]}
    url = f"{address}/api/gradio_api/call/watch"
    place.desk._turn.acquire()
    try:
        statuses = [request(url, token, method="POST", body=body)[0] for _ in range(8)]
    finally:
        place.desk._turn.release()
    assert statuses[0] == 200
    assert statuses[-1] == 503
    assert sorted(statuses) == statuses


def test_replies_hold_no_path_of_the_server(
    web: Any, mine: tuple[str, str], answered: dict[str, Any], shelf: Path
) -> None:
    address, place = web
    token, video = mine
    bodies = [json.dumps(answered)]
    for path in ("state", f"videos/{video}", f"videos/{video}/answers", "api/config", "api/gradio_api/info",
                 "api/gradio_api/openapi.json", "api/gradio_api/mcp/schema", "videos/none", "answers/x/y"):  # fmt: skip
        status, body, _ = request(f"{address}/{path}", token)
        assert status < 500, path
        bodies.append(body.decode("utf-8", "replace"))
    for secret in (place.store.root, shelf, Path(__file__).parents[2], Path.home()):
        assert not [body[:200] for body in bodies if str(secret) in body], secret
    assert not [body for body in bodies if "site-packages" in body]


def test_stopping_by_the_sessions_name_alone(web: Any) -> None:
    address, place = web
    stop = place.begin("f" * 32)
    assert json.loads(request(f"{address}/stop/{'e' * 32}", method="POST")[1]) == {"stopped": False}
    assert not stop.is_set()
    assert json.loads(request(f"{address}/stop/{'f' * 32}", method="POST")[1]) == {"stopped": True}
    assert stop.is_set()
    place.end("f" * 32, threading.Event())
    place.end("f" * 32, stop)
    assert not place.stop("f" * 32)


def test_forgetting_a_video(web: Any, film: Path) -> None:
    address, place = web
    token = new_token()
    video = json.loads(request(f"{address}/upload?name=a.mp4", token, method="POST", body=film.read_bytes())[1])["id"]
    client_of(address, token).predict(video, QUESTION, OPTIONS, "direct", api_name="/ask")
    folder = place.store.user(token).folder
    assert len(list(folder.iterdir())) == 2
    assert request(f"{address}/videos/{video}", token, method="DELETE")[0] == 200
    assert list(folder.iterdir()) == []
    assert request(f"{address}/videos/{video}", token)[0] == 404
