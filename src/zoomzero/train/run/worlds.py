"""Videos of the procedural world that a run learns from or is asked about, written once for all runs that want them."""

from __future__ import annotations

from pathlib import Path

from zoomzero.train.settings import WorldData


def written_world(world: WorldData) -> str:
    """Write the world's videos, or find them, and return their examples file."""
    from zoomzero.progress import bar
    from zoomzero.world.write import write_world

    folder = Path(world.folder) / f"{world.kind}-{world.seed}-{world.count}"
    with bar(f"writing {folder}", "s of video") as step:
        write_world(folder, world.count, world.seed, world.kind, progress=step)
    return str(folder / "examples.jsonl")
