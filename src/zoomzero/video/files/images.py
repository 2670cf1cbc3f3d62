"""A directory of images as a video: which files, in which order, and what they are."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoomzero.errors import VideoError
from zoomzero.video.files.container import check_pixels
from zoomzero.video.types import VideoInfo

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})


def image_files(directory: Path) -> list[Path]:
    """Return the images of a directory in natural order (`2.png` before `10.png`)."""
    files = [f for f in directory.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".")]

    def natural(file: Path) -> list[tuple[int, int, str]]:
        parts = re.split(r"(\d+)", file.name.lower())
        return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts]

    return sorted(files, key=lambda f: (natural(f), f.name))


def load_image(file: Path) -> npt.NDArray[np.uint8]:
    """Read one image, upright, as (H, W, 3) uint8; VideoError when it does not open."""
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VideoError(
            file, "decode", f"not a readable image ({type(error).__name__})", "remove or replace it"
        ) from error


def examine_images(directory: Path, fps: float, max_pixels: int) -> VideoInfo:
    """Probe a directory of images shown at `fps`; every image must open and all must have one size.

    Raises:
        VideoError: no images, one that does not open, several sizes, or more than `max_pixels` in one.
    """
    from PIL import Image

    files = image_files(directory)
    if not files:
        kinds = " ".join(sorted(IMAGE_SUFFIXES))
        raise VideoError(directory, "open", "the directory holds no images", f"give a directory with {kinds}")
    sizes: dict[tuple[int, int], Path] = {}
    for file in files:
        try:
            with Image.open(file) as image:
                turned = image.getexif().get(0x0112, 1) >= 5
                sizes.setdefault(image.size[::-1] if turned else image.size, file)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise VideoError(file, "probe", f"not a readable image ({type(error).__name__})", "remove it") from error
    if len(sizes) > 1:
        (a, file_a), (b, file_b) = list(sizes.items())[:2]
        reason = f"images differ in size: {file_a.name} is {a[0]}x{a[1]}, {file_b.name} is {b[0]}x{b[1]}"
        raise VideoError(directory, "probe", reason, "give one directory per size")
    (width, height) = next(iter(sizes))
    check_pixels(str(directory), width, height, max_pixels)
    return VideoInfo(
        path=str(directory),
        kind="frames",
        duration_s=len(files) / fps,
        width=width,
        height=height,
        fps=fps,
        frame_count=len(files),
        stream_index=0,
        start_s=0.0,
        rotation=0,
        codec="images",
        max_pixels=max_pixels,
    )
