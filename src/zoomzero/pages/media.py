"""Pixels and videos as parts of a page: JPEG data URIs, and the video embedded, linked or absent."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from zoomzero.errors import VideoError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PLAYABLE = {".mp4": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm"}
JPEG_QUALITY = 82
MAX_FRAME_SIDE = 640  # pixels; larger frames are shrunk, so that a page of 256 stays near 20 MB


@dataclass(frozen=True, slots=True)
class VideoSource:
    """How a page shows a video. `player_url` is None when nothing can play; `note` says why or how."""

    player_url: str | None
    link_url: str | None
    mime: str
    note: str
    embedded: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame as an image: a JPEG data URI and its size in pixels."""

    url: str
    width: int
    height: int


def picture(frame: npt.NDArray[np.uint8], max_side: int = MAX_FRAME_SIDE) -> Picture:
    """Return a frame, (H, W, 3) uint8 RGB, as a JPEG data URI with no side above `max_side` pixels."""
    from PIL import Image

    image = Image.fromarray(frame, "RGB")
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return Picture(_data_uri(buffer.getvalue(), "image/jpeg"), image.width, image.height)


def video_source(video: Path, embed_bytes: int, page_folder: Path, *, linked: bool = True) -> VideoSource:
    """Decide how a page shows a video: inside the page, as a file beside it, as a link only, or not at all.

    Args:
        video: the file, or a directory of images.
        embed_bytes: a playable file up to this size goes into the page.
        page_folder: where the page will lie; links are relative to it.
        linked: whether a video that is not inside the page may be linked; a link says where it lies.

    Raises:
        VideoError: the file cannot be read.
    """
    if video.is_dir():
        return VideoSource(None, None, "", "The video is a directory of images, so there is nothing to play.")
    try:
        size = video.stat().st_size
        mime = PLAYABLE.get(video.suffix.lower(), "")
        if mime and size <= embed_bytes:
            return VideoSource(_data_uri(video.read_bytes(), mime), None, mime, "", embedded=True)
    except OSError as error:
        fix = "leave it where it was until the page is written"
        raise VideoError(video, "open", error.strerror or str(error), fix) from error
    if not linked:
        return VideoSource(None, None, "", "The video is not inside this page.")
    link = relative_url(video, page_folder)
    if not mime:
        note = f"Browsers do not play {video.suffix or 'such'} files; open the file in a player."
        return VideoSource(None, link, "", note)
    note = f"The video ({size / 2**20:,.0f} MiB) is not inside this page; it plays while it stays where it is."
    return VideoSource(link, link, mime, note)


def relative_url(target: Path, folder: Path) -> str:
    """Return a quoted URL from a page in `folder` to a file; absolute (file:) where none leads."""
    target, folder = target.resolve(), folder.resolve()
    if target.drive != folder.drive:  # Windows: nothing relative leads from C: to D:
        return target.as_uri()
    path = Path(os.path.relpath(target, folder)).as_posix()
    return quote(path if path.startswith("../") else f"./{path}")  # "./" keeps a name like "javascript:x" a path


def _data_uri(content: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"
