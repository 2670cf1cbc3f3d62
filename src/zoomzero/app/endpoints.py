"""The app's queue, API and MCP tools, which gradio makes of typed functions: `ask`, `watch` and `videos`."""

import os
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr

from zoomzero.app.asking import Asked, Desk, events
from zoomzero.app.place import Place
from zoomzero.app.routes import token_of
from zoomzero.app.store import User
from zoomzero.errors import ZoomZeroError


def make_blocks(place: Place) -> gr.Blocks:
    """Return what gradio serves: one queue for everything that asks the model, its API, and its MCP tools."""
    limits = place.settings.limits
    shared = {"concurrency_limit": limits.at_once, "concurrency_id": "model"}
    with gr.Blocks(analytics_enabled=False, title="zoomzero") as blocks:
        gr.api(_ask(place), api_name="ask", **shared)
        gr.api(_watch(place), api_name="watch", api_visibility="undocumented", **shared)  # no tool: it streams
        gr.api(_videos(place), api_name="videos", concurrency_limit=4)
    return blocks.queue(max_size=limits.queue, status_update_rate=1, default_concurrency_limit=limits.at_once)


def _ask(place: Place) -> Any:
    async def ask(
        video: str, question: str, request: gr.Request, options: list[str] | None = None, mode: str = "zoom"
    ) -> dict[str, Any]:
        """Answer a question about a video and show when the evidence is on screen.

        Args:
            video: the id that uploading a video returned, or the name of a listed video (see `videos`).
            question: in plain words.
            options: the answers to choose from, two or more; none for an open question.
            mode: how to look: direct, coarse, zoom, context, divide or search. zoom is a good choice.

        Returns:
            answer, option, spans (seconds), confidence, reason, notes, passes and costs.
        """
        user, asked = _checked(place, request, video, question, options or [], mode)
        found: dict[str, Any] = {}
        progress, passes = gr.Progress(), 0  # not a parameter: gr.api would make an input of it
        async for some in _events(place.desk, asked, user, threading.Event()):
            for event in some:
                if event["event"] == "pass":
                    passes += 1
                    progress((passes - 1, None), desc=event["name"], unit="passes")
                elif event["event"] == "error":
                    raise gr.Error(event["message"], print_exception=False)
                elif event["event"] == "answer":
                    found = {name: value for name, value in event.items() if name not in _DRAWN}
        return found

    return ask


_DRAWN = ("event", "frames", "lanes", "ticks", "legend", "axis_s")  # for the page alone


def _watch(place: Place) -> Any:
    async def watch(
        video: str, question: str, options: list[str], modes: list[str], request: gr.Request
    ) -> AsyncIterator[list[Any]]:
        """Answer a question in one mode or several, and stream what happens.

        Args:
            video: the id that uploading a video returned, or the name of a listed video.
            question: in plain words.
            options: the answers to choose from; an empty list for an open question.
            modes: ways of looking, asked one after the other.

        Returns:
            Lists of events: mode, pass, decoding, frames, read, words, passed, answer, stopped, error; the last is end.
        """
        session = request.session_hash
        try:
            user, asked = _checked(place, request, video, question, options or [], modes or ["zoom"])
        except gr.Error as error:
            yield [{"event": "error", "message": error.message}, {"event": "end"}]
            return
        stop = place.begin(session)
        try:
            async for some in _events(place.desk, asked, user, stop):
                yield some
        finally:
            place.end(session, stop)

    return watch


def _videos(place: Place) -> Any:
    def videos(request: gr.Request) -> list[dict[str, Any]]:
        """List the videos that can be asked about: listed ones, and what this user uploaded.

        Returns:
            For each its id and name; for examples of the embedded model a question about it.
        """
        state = place.state(place.store.user(token_of(request)))
        mine = [{"id": one["id"], "name": one["name"], "example": None} for one in state["mine"]]
        listed: list[dict[str, Any]] = state["listed"]
        return listed + mine

    return videos


def _checked(
    place: Place, request: gr.Request, video: object, question: object, options: object, modes: object
) -> tuple[User | None, Asked]:
    try:
        user = place.store.user(token_of(request), make=True)
        return user, place.check(user, video, question, options, modes)
    except ZoomZeroError as error:
        raise gr.Error(place.public_error(error), print_exception=False) from error


async def _events(
    desk: Desk, asked: Asked, user: User | None, stop: threading.Event
) -> AsyncIterator[list[dict[str, Any]]]:
    """Yield a question's events; when nobody listens any more, the question is stopped."""
    follow = events(desk, asked, user, stop)
    try:
        async for some in follow:
            yield some
    finally:
        await follow.aclose()  # type: ignore[attr-defined]


def private_gradio(root: Path) -> None:
    """Keep what gradio writes in the app's private folder, and gradio itself from talking to anybody."""
    folder = root / "gradio"
    folder.mkdir(mode=0o700, exist_ok=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    assert tempfile.gettempdir()  # chosen once, before gradio asks
