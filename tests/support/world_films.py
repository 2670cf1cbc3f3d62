"""A few films of the world, and the miniatures of them without their videos."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from zoomzero.world.miniature import FORMATS
from zoomzero.world.miniatures.material import Film, Layout, film
from zoomzero.world.write import WorldKind

SEED = 3
COUNT = 6


@lru_cache
def films(kind: WorldKind) -> tuple[Film, ...]:
    return tuple(film(kind, SEED, index) for index in range(COUNT))


@lru_cache
def layout_of(name: str, kind: WorldKind = "short") -> Layout:
    return FORMATS[name].lay_out(films(kind))


def laid_out(name: str, folder: Path, kind: WorldKind = "short") -> Path:
    """Write a miniature's annotation without its videos."""
    for path, content in layout_of(name, kind).files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder
