"""A small world video for the tests that ask: a real file, and the scene that says what is on screen when."""

from __future__ import annotations

from pathlib import Path

import av

from zoomzero.world.scenes import Event, Scene
from zoomzero.world.write import write_video

DURATION_S = 48.0
SCENE = Scene(
    DURATION_S,
    tuple(
        Event(start_s, end_s, kind, symbol, x=0.5, y=0.5, vx=0.0, vy=0.0)
        for start_s, end_s, kind, symbol in ((4.0, 9.0, 2, 1), (18.0, 25.0, 0, 3), (38.0, 44.0, 10, 5))
    ),
    base=(90.0, 100.0, 110.0),
    phase=0.5,
)


def write_small(path: Path) -> Path:
    """Write the scene as an mp4 file: 128 x 128 pixels, 8 frames a second, a key frame every 2 s."""
    write_video(path, SCENE)
    return path


def damage(source: Path, target: Path, start_s: float, end_s: float) -> Path:
    """Copy a video with the packets of a stretch of time overwritten by zeros."""
    content = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        for packet in container.demux(stream):
            if packet.size and start_s <= float(packet.pts * stream.time_base) < end_s:
                content[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    target.write_bytes(content)
    return target
