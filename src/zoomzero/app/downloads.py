"""An answer to take away: its moments as a clip, all of it as JSON, or as the evidence page."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path

from zoomzero.app.asking import Stored
from zoomzero.app.store import User, Video
from zoomzero.errors import ConfigError
from zoomzero.evidence.apart import write_clips_apart
from zoomzero.evidence.lists import edl, srt
from zoomzero.pages.page import EMBED_VIDEO_BYTES, evidence_page


def json_text(answer: Stored, video: Video) -> str:
    """Return an answer as JSON, as `zoomzero ask --json` prints it."""
    return json.dumps(answer.trace.to_dict(), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def page_text(answer: Stored, video: Video) -> str:
    """Return the evidence page of an answer, the video inside where it is small enough."""
    return evidence_page(
        answer.trace,
        video=video.path,
        frames=answer.frames(),
        embed_video_bytes=EMBED_VIDEO_BYTES,
        true_spans=answer.view["truth"],
        linked=False,
    )


def srt_text(answer: Stored, video: Video) -> str:
    """Return the found moments as subtitles."""
    said = answer.trace.question if answer.trace.answer is None else f"{answer.trace.question} {answer.trace.answer}"
    return srt(answer.trace.spans, said)


def edl_text(answer: Stored, video: Video) -> str:
    """Return the found moments as an edit list."""
    return edl(answer.trace.spans, video.info.fps, video.name, answer.trace.question)


TEXTS: dict[str, tuple[Callable[[Stored, Video], str], str]] = {
    "json": (json_text, "application/json"),
    "html": (page_text, "text/html; charset=utf-8"),
    "srt": (srt_text, "application/x-subrip"),
    "edl": (edl_text, "text/plain; charset=utf-8"),
}


def write_clip(answer: Stored, video: Video, user: User, timeout_s: float) -> Path:
    """Write an answer's moments into the user's folder as an mp4 file; who sends it removes it.

    Raises:
        ConfigError: the answer shows no moment.
        VideoError: the video cannot be read again, or writing took too long.
    """
    if not answer.trace.spans:
        raise ConfigError("clip", "the answer names no moment", "ask differently")
    path = user.folder / f"{secrets.token_hex(8)}.mp4"
    return write_clips_apart(video.info, answer.trace.spans, path, answer.trace.question, timeout_s).path
