"""What frames lose on their way to a server, by format: bytes, and how far the options' log-probabilities move.

    python bench/frame_formats.py --count 32

Close looks at the true evidence of short videos of the world, by the embedded model in this process: frames go through
the encoder of docs/servers.md and back.
"""

from __future__ import annotations

import argparse
import base64
import io
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from zoomzero.answer.session import QuestionSession
from zoomzero.data.example import read_examples
from zoomzero.policy.open import open_model
from zoomzero.policy.remote.layouts import FrameEncoder
from zoomzero.policy.remote.settings import ServerSettings
from zoomzero.video.cache import FrameCache
from zoomzero.video.plan import plan_on_grid
from zoomzero.video.probe import probe
from zoomzero.video.types import Clip
from zoomzero.world.write import write_world

PATIENCE_S = 1800.0  # a busy machine is no broken video
FORMATS = (("png", 95), ("jpeg", 95), ("jpeg", 85), ("jpeg", 75))


def there_and_back(clip: Clip, encode: FrameEncoder) -> tuple[Clip, int]:
    """Return a clip as a server gets it, and the bytes it took on the way."""
    sent = encode(replace(clip, key=""))
    frames = [np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("RGB")) for one in sent]
    return replace(clip, frames=np.stack(frames), key=""), sum(map(len, sent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=32, help="videos")
    parser.add_argument("--folder", default=str(Path(tempfile.gettempdir()) / "frame-formats"), help="of the videos")
    given = parser.parse_args()
    write_world(given.folder, given.count, 77, "short")
    policy, settings = open_model("tiny", dtype="float32")
    looks = []
    for example in read_examples(Path(given.folder) / "examples.jsonl"):
        info = probe(example.video, timeout_s=PATIENCE_S)
        asked = QuestionSession(
            policy, settings, info, example.question, example.options, cache=FrameCache(1 << 28), timeout_s=PATIENCE_S
        )
        looks.append((asked, asked.frames(plan_on_grid(info, example.spans, settings.zoom.budget(), policy.geometry))))
    exact: list[tuple[float, ...]] = []
    print("format   KiB a look   mean |change|   largest   other option")
    for kind, quality in FORMATS:
        encode = FrameEncoder(ServerSettings(url="http://none", image_format=kind, jpeg_quality=quality))  # type: ignore[arg-type]
        scores, sizes = [], []
        for asked, frames in looks:
            clip, size = there_and_back(frames, encode)
            texts, closed = asked.answers
            chosen = policy.choose(tuple(asked.scoring_chat(clip)), texts, closed=closed)
            assert chosen.logprobs is not None
            scores.append(chosen.logprobs)
            sizes.append(size / 1024)
        exact = exact or scores
        moved = [abs(a - b) for one, other in zip(scores, exact, strict=True) for a, b in zip(one, other, strict=True)]
        other = sum(np.argmax(a) != np.argmax(b) for a, b in zip(scores, exact, strict=True)) / len(scores)
        name = kind if kind == "png" else f"{kind} {quality}"
        row = f"{statistics.fmean(sizes):>10.1f} {statistics.fmean(moved):>15.4f} {max(moved):>9.3f} {other:>14.3f}"
        print(f"{name:<8} {row}", flush=True)


if __name__ == "__main__":
    main()
