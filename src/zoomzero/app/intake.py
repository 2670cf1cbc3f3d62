"""Taking videos in: an upload into the user's folder within limits, checked before a decoder sees it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath

from zoomzero.app.settings import MEGABYTE
from zoomzero.app.store import Store, User, Video
from zoomzero.data.fingerprint import VIDEO_SUFFIXES
from zoomzero.errors import ConfigError, VideoError
from zoomzero.pages.media import PLAYABLE
from zoomzero.video.probe import probe

UPLOADS_AT_ONCE = 2  # of one user
SILENT_S = 60.0  # how long an upload may say nothing
LONGEST_NAME = 100
_HEAD = 4096
_PLAYABLE = {**PLAYABLE, ".mov": "video/mp4"}


class TooLarge(ConfigError):
    """An upload that is larger than what is allowed."""


def shown_name(name: str) -> str:
    """Return a file's name as it is shown: its last part, printable, not long."""
    last = PurePosixPath(name.replace("\\", "/")).name
    plain = " ".join("".join(c if c.isprintable() else " " for c in last).split())
    if len(plain) > LONGEST_NAME:
        stem, dot, ending = plain.rpartition(".")
        plain = f"{stem[: LONGEST_NAME - 8]}…{dot}{ending[:6]}" if dot else f"{plain[:LONGEST_NAME]}…"
    return plain or "video"


def opened(ident: str, name: str, path: Path, timeout_s: float) -> Video:
    """Probe a file in a worker with a time limit and return it as a video.

    Raises:
        VideoError: it is no video, or opening it took too long.
    """
    info = probe(path, timeout_s=timeout_s)
    return Video(ident, name, path, info, _PLAYABLE.get(path.suffix.lower()), info.notes)


async def take_upload(store: Store, user: User, name: str, declared: int | None, body: AsyncIterator[bytes]) -> Video:
    """Write an upload into the user's folder and open it; nothing stays of one that fails.

    Args:
        store: the private folder.
        user: whose video it becomes.
        name: what the user calls it.
        declared: bytes the sender announced, None for unknown.
        body: the bytes.

    Raises:
        TooLarge: larger than allowed, or than what is left to this user.
        ConfigError: too many uploads at once, or too slow.
        VideoError: it is no video.
    """
    if user.uploading >= UPLOADS_AT_ONCE:
        raise ConfigError("upload", f"{UPLOADS_AT_ONCE} uploads are under way already", "wait for them")
    user.uploading += 1
    user.busy += 1
    suffix = PurePosixPath(name.replace("\\", "/")).suffix.lower()
    path = user.folder / f"{secrets.token_hex(12)}{suffix if suffix in VIDEO_SUFFIXES else '.video'}"
    kept = False
    try:
        room_mb = await asyncio.to_thread(store.room_mb, user)
        most = int(min(store.limits.upload_mb, room_mb) * MEGABYTE)
        await _receive(path, most, declared, body, store.limits.upload_s)
        await asyncio.to_thread(refuse_text, path)
        ident = "u" + secrets.token_urlsafe(18)
        video = await asyncio.to_thread(opened, ident, shown_name(name), path, store.limits.decode_s)
        with store.lock:
            user.videos[ident] = video
        kept = True
        return video
    except VideoError as error:
        raise VideoError(shown_name(name), error.stage, error.reason, error.fix) from error
    finally:
        user.uploading -= 1
        user.busy -= 1
        if not kept:
            path.unlink(missing_ok=True)


async def _receive(path: Path, most: int, declared: int | None, body: AsyncIterator[bytes], limit_s: float) -> None:
    """Write what comes, at most `most` bytes."""
    if declared is not None and declared > most:
        raise _too_large(most)
    began, size = time.monotonic(), 0
    chunks = body.__aiter__()
    with path.open("xb") as file:
        while True:
            left_s = limit_s - (time.monotonic() - began)
            try:
                chunk = await asyncio.wait_for(anext(chunks), max(0.0, min(SILENT_S, left_s)))
            except StopAsyncIteration:
                break
            except (TimeoutError, asyncio.TimeoutError) as error:
                raise ConfigError("upload", "took too long", "send a smaller file, or over a faster line") from error
            size += len(chunk)
            if size > most:
                raise _too_large(most)
            await asyncio.to_thread(file.write, chunk)
    if declared is not None and size < declared:
        raise ConfigError("upload", f"broke off after {size:,} of {declared:,} bytes", "send it again")


def _too_large(most: int) -> TooLarge:
    return TooLarge(
        "upload", f"is larger than the {most / MEGABYTE:,.0f} MB that are left to you", "send a shorter one"
    )


def refuse_text(path: Path) -> None:
    """Refuse text before any decoder sees it: playlists and scripts can name other files on this machine.

    Raises:
        VideoError: the file is empty or begins like text.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise VideoError(path, "open", "the file is empty (0 bytes)", "send it again")
    if not any(byte < 9 for byte in head):
        raise VideoError(path, "open", "this is text, not a video", "send a video file")
