"""The app's own addresses: its page, what it lists, uploads, videos, answers and what is made of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from importlib import resources
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse

from zoomzero.app.asking import stored, without_frames
from zoomzero.app.downloads import TEXTS, write_clip
from zoomzero.app.intake import TooLarge, take_upload
from zoomzero.app.place import Place
from zoomzero.app.store import User, Video, new_token
from zoomzero.errors import ConfigError, ZoomZeroError

COOKIE, HEADER = "zoomzero_user", "x-zoomzero-user"
SANDBOX = "sandbox; default-src 'none'; media-src 'self'"  # a video is never a page, whatever is in it
DOWNLOADS_AT_ONCE = 2  # a clip is encoded for as long as it takes
DRAINED, DRAINED_S = 64_000_000, 20.0  # bytes and seconds of an upload that is refused
STYLES = ("style.css", "app.css")
SCRIPTS = ("elements.js", "timeline.js", "answer.js", "asking.js", "app.js")


def token_of(request: Any) -> str | None:
    """Return the secret a request's user is known by: a browser's cookie, or the header of a program."""
    found = request.headers.get(HEADER) or request.cookies.get(COOKIE)
    return found if isinstance(found, str) else None


def make_routes(place: Place) -> APIRouter:
    """Return the addresses of an app."""
    routes = APIRouter(default_response_class=JSONResponse)
    turns = asyncio.Semaphore(DOWNLOADS_AT_ONCE)

    @routes.get("/")
    def page(request: Request) -> Response:
        shown = Response(asset("app.html"), media_type="text/html; charset=utf-8")
        if token_of(request) is None:
            shown.set_cookie(COOKIE, new_token(), httponly=True, samesite="lax", secure=request.url.scheme == "https")
        return shown

    @routes.get("/app.css")
    def style() -> Response:
        return Response("\n".join(map(asset, STYLES)), media_type="text/css")

    @routes.get("/app.js")
    def script() -> Response:
        body = "\n".join(map(asset, SCRIPTS))
        return Response(f'"use strict";\n(() => {{\n{body}\n}})();\n', media_type="text/javascript")

    @routes.get("/state")
    def state(request: Request) -> Any:
        user = place.store.user(token_of(request))
        return place.state(user)

    @routes.post("/upload")
    async def upload(request: Request, name: str = "video") -> Response:
        try:
            user = place.store.user(token_of(request), make=True)
            if user is None:
                return _refused(400, f"give yourself a secret of 32 characters or more in the header {HEADER}")
            length = request.headers.get("content-length", "")
            declared = int(length) if length.isdecimal() else None
            video = await take_upload(place.store, user, name, declared, request.stream())
        except ClientDisconnect:  # nobody is there to be told
            return _refused(400, "the upload broke off")
        except ZoomZeroError as error:
            await _drain(request)
            status = 413 if isinstance(error, TooLarge) else 429 if isinstance(error, ConfigError) else 422
            return _refused(status, place.public_error(error))
        return JSONResponse(place.video(video, mine=True))

    @routes.get("/videos/{ident}")
    async def video(request: Request, ident: str) -> Response:
        return await _about(place, request, ident, lambda found, mine: JSONResponse(place.video(found, mine=mine)))

    @routes.get("/videos/{ident}/file")
    async def file(request: Request, ident: str) -> Response:
        def sent(found: Video, mine: bool) -> Response:
            headers = {"content-security-policy": SANDBOX, "cache-control": "private, max-age=600"}
            kind = found.mime or "application/octet-stream"
            return FileResponse(found.path, media_type=kind, headers=headers, content_disposition_type="inline")

        return await _about(place, request, ident, sent)

    @routes.delete("/videos/{ident}")
    def forget(request: Request, ident: str) -> Response:
        user = place.store.user(token_of(request))
        if user is None or ident not in user.videos:
            return _refused(404, "there is no such video")
        place.store.forget_video(user, ident)
        return JSONResponse({"forgotten": ident})

    @routes.get("/videos/{ident}/answers")
    def history(request: Request, ident: str) -> Any:
        user = place.store.user(token_of(request))
        ids = [] if user is None else [one for one, of in user.answers.items() if of == ident]
        found = [stored(user, one) for one in ids] if user is not None else []
        return [without_frames(one.view) for one in found if one is not None]

    @routes.post("/stop/{session}")
    def stop(session: str) -> Any:
        return {"stopped": place.stop(session)}

    @routes.get("/answers/{ident}/{name}")
    async def answer(request: Request, ident: str, name: str) -> Response:
        user = place.store.user(token_of(request))
        found = None if user is None else await asyncio.to_thread(stored, user, ident)
        of = None if user is None else user.answers.get(ident)
        if user is None or found is None or of is None:
            return _refused(404, "there is no such answer")
        if name == "view":
            return JSONResponse(found.view)
        try:
            about = await asyncio.to_thread(place.find, user, of)
            user.busy += 1
            try:
                async with turns:
                    return await asyncio.to_thread(_made, place, user, found, about, name)
            finally:
                user.busy -= 1
        except ZoomZeroError as error:
            return _refused(422, place.public_error(error))

    return routes


def _made(place: Place, user: User, answer: Any, video: Video, name: str) -> Response:
    """Return a download of an answer."""
    kind = name.rpartition(".")[2]
    if name == "clip.mp4":
        path = write_clip(answer, video, user, place.settings.limits.decode_s * 2)
        return FileResponse(
            path, media_type="video/mp4", headers=_download(video, "mp4"), background=BackgroundTask(path.unlink, True)
        )
    if kind not in TEXTS or name != f"answer.{kind}":
        return _refused(404, "there is no such download")
    make, media = TEXTS[kind]
    return Response(make(answer, video), media_type=media, headers=_download(video, kind))


def _download(video: Video, ending: str) -> dict[str, str]:
    """Return headers that make a browser save a reply and never show it as a page of this app."""
    stem = video.name.rpartition("/")[2].rpartition(".")[0] or video.name
    name = quote(f"{stem}-answer.{ending}", safe="")
    return {
        "content-disposition": f"attachment; filename*=UTF-8''{name}",
        "content-security-policy": "sandbox; default-src 'none'",
    }


async def _about(place: Place, request: Request, ident: str, make: Callable[[Video, bool], Response]) -> Response:
    """Answer about a video its user may see."""
    user = place.store.user(token_of(request))
    try:
        found = await asyncio.to_thread(place.find, user, ident)
    except ZoomZeroError as error:
        return _refused(404, place.public_error(error))
    return make(found, user is not None and ident in user.videos)


async def _drain(request: Request) -> None:
    """Read on for a while what is refused: a browser that is still sending does not hear the reason."""

    async def rest() -> None:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > DRAINED:
                return

    with contextlib.suppress(ClientDisconnect, RuntimeError, asyncio.TimeoutError):  # RuntimeError: all was read
        await asyncio.wait_for(rest(), DRAINED_S)


def _refused(status: int, reason: str) -> Response:
    return PlainTextResponse(reason, status)


def asset(name: str) -> str:
    """Return one of our files: the app's own, or one it shares with the pages."""
    for package, folder in (("zoomzero.app", "assets"), ("zoomzero.pages", "templates")):
        file = resources.files(package).joinpath(folder, name)
        if file.is_file():
            return file.read_text(encoding="utf-8")
    raise FileNotFoundError(name)
