"""Video files changed by hand, as cameras, editors and people change them: what encoders in a test do not write."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

import made_videos as made

Matrix = tuple[int, int, int, int]
_SKIPPED_VOP = b"\x00\x00\x01\xb6\x5f\x7f"  # stands where the second frame of a packed packet would have been


def with_matrix(source: Path, target: Path, matrix: Matrix) -> Path:
    """Write a display matrix (a b; c d) into the header of an MP4's only track."""
    data = bytearray(source.read_bytes())
    place = data.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    target.write_bytes(data)
    return target


def with_edits(source: Path, target: Path, parts: Sequence[tuple[float, float]]) -> Path:
    """Give an MP4's only track an edit list of (seconds shown, second of the track it begins at)."""
    data = source.read_bytes()
    media_ticks = struct.unpack(">I", data[data.index(b"mdhd") + 16 : data.index(b"mdhd") + 20])[0]
    movie_ticks = struct.unpack(">I", data[data.index(b"mvhd") + 16 : data.index(b"mvhd") + 20])[0]
    entries = [struct.pack(">IiI", round(s * movie_ticks), round(t * media_ticks), 1 << 16) for s, t in parts]
    edits = _box(b"edts", _box(b"elst", struct.pack(">II", 0, len(entries)) + b"".join(entries)))
    movie = b""
    for kind, box in _boxes(dict(_boxes(data))[b"moov"][8:]):
        if kind == b"trak":
            inner = [(k, b) for k, b in _boxes(box[8:]) if k != b"edts"]
            box = _box(b"trak", b"".join(b + (edits if k == b"tkhd" else b"") for k, b in inner))
        movie += box
    # the index lies behind the pictures, so that its length does not move them
    target.write_bytes(b"".join(_box(b"moov", movie) if kind == b"moov" else box for kind, box in _boxes(data)))
    return target


def joined(target: Path, parts: Sequence[Path]) -> Path:
    """Put files one after the other, byte by byte."""
    target.write_bytes(b"".join(part.read_bytes() for part in parts))
    return target


def size_that_turns(target: Path, codec: str = "libvpx") -> Path:
    """Write 20 frames of 128x64 and 20 of 64x128 into one stream, 10 a second."""
    with av.open(str(target), "w") as container:
        stream: Any = None
        for turn, size in enumerate([(128, 64), (64, 128)]):
            part = made.write(
                target.with_name(f"{turn} {target.name}"), made.grid(20, 10), codec=codec, size=size, first=20 * turn
            )
            with av.open(str(part)) as source:
                stream = stream or container.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(source.streams.video[0]):
                    if packet.size:
                        packet.pts += round(2 * turn / packet.time_base)
                        packet.dts += round(2 * turn / packet.time_base)
                        packet.stream = stream
                        container.mux(packet)
    return target


def still_and_film(target: Path, count: int = 40) -> Path:
    """Write one large still, then a small film of `count` frames, 10 a second, as two ordinary tracks."""
    with av.open(str(target), "w") as container:
        still: Any = container.add_stream("mjpeg", rate=10)
        film: Any = container.add_stream("libx264", rate=10, options=made.presets("libx264"))
        still.width, still.height, still.pix_fmt = 1280, 720, "yuvj420p"
        film.width, film.height, film.pix_fmt = made.WIDTH, made.HEIGHT, "yuv420p"
        for number in range(count):
            if number == 0:
                container.mux(still.encode(av.VideoFrame.from_ndarray(made.picture(999, 1280, 720), "rgb24")))
            container.mux(film.encode(av.VideoFrame.from_ndarray(made.picture(number), "rgb24")))
        container.mux(still.encode(None))
        container.mux(film.encode(None))
    return target


def packed(target: Path, count: int = 60) -> Path:
    """Write an AVI as DivX and XviD do: a B-frame travels in the packet of the frame before it, 10 a second."""
    codec: Any = av.CodecContext.create("mpeg4", "w")
    codec.width, codec.height, codec.pix_fmt = made.WIDTH, made.HEIGHT, "yuv420p"
    codec.time_base, codec.framerate = Fraction(1, 10), Fraction(10)
    codec.gop_size, codec.max_b_frames = 20, 1
    codec.options = {"b_strategy": "0", "qscale": "2", "flags": "+qscale"}
    coded: list[tuple[bytes, bool]] = []
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(made.picture(number), "rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, 10)
        coded += [(bytes(packet), packet.is_keyframe) for packet in codec.encode(frame)]
    coded += [(bytes(packet), packet.is_keyframe) for packet in codec.encode(None)]
    chunks: list[tuple[bytes, bool]] = []
    for data, key in coded:
        is_b = data[data.index(b"\x00\x00\x01\xb6") + 4] >> 6 == 2
        if is_b and chunks and chunks[-1][0] != _SKIPPED_VOP:
            chunks[-1] = chunks[-1][0] + data, chunks[-1][1]
            chunks.append((_SKIPPED_VOP, False))
        else:
            chunks.append((data, key))
    place = chunks[0][0].index(b"\x00\x00\x01\xb6")
    chunks[0] = chunks[0][0][:place] + b"\x00\x00\x01\xb2DivX503b1393p" + chunks[0][0][place:], True
    with av.open(str(target), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = made.WIDTH, made.HEIGHT, "yuv420p"
        stream.codec_context.codec_tag = "DX50"
        for number, (data, key) in enumerate(chunks):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 10)
            packet.pts = packet.dts = number
            packet.is_keyframe = key
            container.mux(packet)
    return target


def timed_by_place(source: Path, target: Path) -> Path:
    """Copy a video as tools do from AVI: a packet's time is that of its place, also where frames are reordered."""
    with av.open(str(source)) as whole, av.open(str(target), "w") as container:
        stream = container.add_stream_from_template(whole.streams.video[0])
        packets = [packet for packet in whole.demux(whole.streams.video[0]) if packet.size]
        for packet, time in zip(packets, sorted(packet.pts for packet in packets), strict=True):
            packet.stream, packet.pts, packet.dts = stream, time, time
            container.mux(packet)
    return target


def shown_by(matrix: Matrix, picture: np.ndarray) -> np.ndarray:
    """Lay a picture down pixel by pixel as the matrix says: (x, y) goes to (a*x + c*y, b*x + d*y)."""
    a, b, c, d = matrix
    height, width = picture.shape[:2]
    places = {(a * x + c * y, b * x + d * y): picture[y, x] for y in range(height) for x in range(width)}
    left, top = min(x for x, _ in places), min(y for _, y in places)
    right, bottom = max(x for x, _ in places), max(y for _, y in places)
    return np.array([[places[x, y] for x in range(left, right + 1)] for y in range(top, bottom + 1)])


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (kind, whole box) of the boxes that lie side by side in some bytes."""
    place = 0
    while place < len(data):
        size = struct.unpack(">I", data[place : place + 4])[0]
        yield data[place + 4 : place + 8], data[place : place + size]
        place += size
