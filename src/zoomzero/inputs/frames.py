"""Frames in memory as a video: they are laid down as images for as long as questions about them are asked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoomzero.errors import ConfigError
from zoomzero.video.probe import probe
from zoomzero.video.types import VideoInfo


def is_frames(video: object) -> bool:
    """Return whether a video is given as an array or tensor, or as a list of them."""
    one = video[0] if isinstance(video, (list, tuple)) and video else video
    return hasattr(one, "__array__") and not isinstance(one, os.PathLike)


@contextmanager
def frames_video(frames: Any, fps: float | None) -> Iterator[VideoInfo]:
    """Yield frames as a video that `Model.ask` and `ask_many` take; it is gone afterwards.

    Args:
        frames: (T, H, W, 3) uint8 RGB: an array, a tensor on the CPU, or a list of (H, W, 3) pictures.
        fps: frames a second; the first is shown at 0 s.

    Raises:
        ConfigError: no such frames, or no `fps`.
        OSError: the temporary folder is full.
    """
    from PIL import Image

    pictures = _checked(frames)
    if fps is None:
        raise ConfigError("fps", f"{len(pictures)} frames have no times", "give their frames a second")
    with tempfile.TemporaryDirectory(prefix="zoomzero-frames-") as folder:
        for number, picture in enumerate(pictures):
            Image.fromarray(picture, "RGB").save(Path(folder) / f"{number:06d}.png", compress_level=1)
        yield probe(folder, fps=fps)


def _checked(frames: Any) -> npt.NDArray[np.uint8]:
    try:
        array = np.asarray(frames)
    except (TypeError, ValueError, RuntimeError) as error:  # pictures of several sizes; a tensor on a GPU
        reason = f"frames make no array ({' '.join(str(error).split())[:120]})"
        raise ConfigError("VIDEO", reason, "give one array of shape (T, H, W, 3)") from error
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3 or not array.size:
        reason = f"frames are {array.dtype} of shape {array.shape}"
        raise ConfigError("VIDEO", reason, "give RGB, uint8, of shape (T, H, W, 3)")
    return array
