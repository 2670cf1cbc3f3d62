"""Chats as messages of the OpenAI protocol: frames as one video with exact times, or a time and an image each."""

from __future__ import annotations

import base64
import io
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from zoomzero.policy.base import Turn
from zoomzero.policy.remote.settings import ServerSettings
from zoomzero.video.types import Clip

Layout = Literal["native", "interleaved"]
KEPT_CLIPS = 8  # encoded clips kept: a video's next question or draw sends the same frames
MILLISECONDS = 1000.0


class FrameEncoder:
    """Encodes frames for the wire; the last clips are kept, whoever asks for them.

    Args:
        settings: format and quality.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.format, self.quality = settings.image_format, settings.jpeg_quality
        self._kept: OrderedDict[str, list[str]] = OrderedDict()
        self._lock = Lock()

    def __call__(self, clip: Clip) -> list[str]:
        """Return every frame as base64 text."""
        with self._lock:
            if clip.key and clip.key in self._kept:
                self._kept.move_to_end(clip.key)
                return self._kept[clip.key]
        encoded = [self._encode(frame) for frame in clip.frames]
        with self._lock:
            if clip.key:
                self._kept[clip.key] = encoded
                while len(self._kept) > KEPT_CLIPS:
                    self._kept.popitem(last=False)
        return encoded

    def _encode(self, frame: npt.NDArray[np.uint8]) -> str:
        """Encode one frame, (H, W, 3) uint8."""
        from PIL import Image

        out, image = io.BytesIO(), Image.fromarray(np.ascontiguousarray(frame))
        if self.format == "png":
            image.save(out, "PNG", compress_level=1)
        else:
            image.save(out, "JPEG", quality=self.quality, subsampling=0)
        return base64.b64encode(out.getvalue()).decode()


def messages(
    turns: Sequence[Turn], layout: Layout, encode: FrameEncoder
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return a chat as messages, and what else the request needs.

    The frames come before the question, so that a server that keeps prefixes reads them once. A request has one set of
    frame times, so in the native layout the first clip is the video and later ones are interleaved.

    Args:
        turns: the chat.
        layout: how clips travel.
        encode: frames to base64.

    Returns:
        `messages`, and extra keys of the request's body.
    """
    out: list[dict[str, Any]] = []
    extra: dict[str, Any] = {}
    for turn in turns:
        if all(isinstance(part, str) for part in turn.parts):
            out.append({"role": turn.role, "content": "".join(str(part) for part in turn.parts)})
            continue
        content: list[dict[str, Any]] = []
        for part in turn.parts:
            if isinstance(part, str):
                content.append({"type": "text", "text": part})
            elif layout == "native" and not extra:
                content.append(_video(encode(part)))
                extra = _times(part)
            else:
                content += _interleaved(part, encode(part), encode.format)
        out.append({"role": turn.role, "content": content})
    return out, extra


def _video(frames: Sequence[str]) -> dict[str, Any]:
    """Return frames as one video part; `video/jpeg` is what the protocol calls any list of images."""
    return {"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{','.join(frames)}"}}


def _times(clip: Clip) -> dict[str, Any]:
    """Return the keys that tell a server each frame's time: its index at a thousand frames a second."""
    at = [round(t * MILLISECONDS) for t in clip.times_s]
    video = {
        "num_frames": -1,  # all that were sent
        "fps": MILLISECONDS,
        "frames_indices": at,
        "total_num_frames": max(at[-1] + 1, len(at)),
        "duration": max(at[-1] + 1, len(at)) / MILLISECONDS,
    }
    return {"media_io_kwargs": {"video": video}}


def _interleaved(clip: Clip, frames: Sequence[str], kind: str) -> list[dict[str, Any]]:
    """Return a time in words before each frame's image."""
    parts: list[dict[str, Any]] = []
    for time_s, frame in zip(clip.times_s, frames, strict=True):
        parts.append({"type": "text", "text": time_label(time_s)})
        parts.append({"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{frame}"}})
    return parts


def time_label(time_s: float) -> str:
    """Return a time as Qwen3-VL writes it."""
    return f"<{time_s:.1f} seconds>"
