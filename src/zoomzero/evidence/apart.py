"""Writing clips in a process of its own with a time limit: a damaged file may hang a decoder or crash it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from zoomzero.errors import VideoError, ZoomZeroError
from zoomzero.evidence.clips import Cut, leftovers, write_clips
from zoomzero.video.types import VideoInfo

# without the current directory, where a user's types.py would hide Python's; never the caller's own script
_START = """
import sys
sys.path[:] = [sys.argv[1], *filter(None, sys.path)]
from zoomzero.evidence.apart import main
main()
"""


def write_clips_apart(
    info: VideoInfo, spans: Sequence[Sequence[float]], out: Path, title: str, timeout_s: float = 120.0
) -> Cut:
    """Do what `write_clips` does, in another process.

    Args:
        info, spans, out, title: as `write_clips` takes them.
        timeout_s: seconds the work may take.

    Raises:
        ZoomZeroError, OSError: what `write_clips` raises.
        VideoError: it took too long, or the process died.
    """
    work = pickle.dumps((info, [tuple(span) for span in spans], out, title))
    command = [sys.executable, "-c", _START, str(Path(__file__).resolve().parents[2])]
    try:
        ended = subprocess.run(
            command, input=work, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        reason = f"no clip was written within {timeout_s:g} s"
        raise VideoError(info.path, "decode", reason, "raise --timeout if the disk is slow") from error
    finally:
        for half in leftovers(out):  # of a process that was stopped
            half.unlink(missing_ok=True)
    if ended.returncode or not ended.stdout:
        raise VideoError(info.path, "decode", "writing the clip crashed", "re-encode the file with ffmpeg")
    answer = pickle.loads(ended.stdout)  # from our own process
    if isinstance(answer, Cut):
        return answer
    raise answer


def main() -> None:
    """Do the work that stands on stdin and answer on stdout."""
    output = sys.stdout.buffer
    sys.stdout = sys.stderr  # a library that prints must not end up in the answer
    info, spans, out, title = pickle.load(sys.stdin.buffer)
    try:
        answer: Cut | Exception = write_clips(info, spans, out, title)
    except (ZoomZeroError, OSError) as error:
        answer = error
    output.write(pickle.dumps(answer))
    output.flush()
