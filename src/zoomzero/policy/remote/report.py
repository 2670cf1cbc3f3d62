"""What `zoomzero doctor --server URL` prints: what a server can do, and what each mode will therefore do and cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zoomzero.policy.remote.client import Client
from zoomzero.policy.remote.probe import ServerFacts, probe_server
from zoomzero.policy.remote.settings import read_server

Line = tuple[str, str, str]  # mark, name, text
OUTER = "an extra vision_start / vision_end pair is put around a video (docs/servers.md: the chat template)"
RESIZED = "frames are resized by the server: passes cost other visual tokens than planned"
TRUST = "start vLLM with --trust-request-mm-kwargs"


def server_report(address: str, overrides: Sequence[str] = ()) -> tuple[str, bool]:
    """Probe a server and return what it can do, and whether a video can be asked about at all.

    Args:
        address: `http://HOST:PORT/v1`, with `#NAME` where it serves several models.
        overrides: of the server's settings.

    Raises:
        ConfigError: no such address or setting. ServerError: the server cannot be reached.
    """
    settings, _, _ = read_server(address, overrides)
    facts = probe_server(Client(settings))
    lines = [*_abilities(facts), *_modes(facts)]
    return "\n".join(f"{mark:<5} {name:<16} {text}" for mark, name, text in lines), facts.layout is not None


def _abilities(facts: ServerFacts) -> Iterator[Line]:
    yield "ok", "server", f"{facts.url}, {facts.kind}"
    yield "ok", "model", facts.model
    context = "not told" if facts.context_tokens is None else f"{facts.context_tokens} tokens"
    yield "ok" if facts.context_tokens else "--", "context", context
    yield _video_line(facts)
    yield _times_line(facts)
    if facts.outer_pair is not None:
        yield "slow" if facts.outer_pair else "ok", "markers", OUTER if facts.outer_pair else "as Qwen3-VL was trained"
    if facts.resized is not None:
        yield "slow" if facts.resized else "ok", "pixels", RESIZED if facts.resized else "frames keep their size"
    told = facts.video_frames
    yield ("--" if told is None else "ok" if told == 4 else "FAIL"), "frames", _frames_text(told)
    images = "a time in words before each" if facts.images else facts.images_refusal
    if facts.layout == "native":
        images = "not tried: the video's times are exact"
    yield "ok" if facts.images else "FAIL", "images", images
    yield "--", "images at most", "not told; a request with too many is refused with the server's limit"
    top = facts.top_logprobs
    yield "ok" if top else "slow", "logprobs", f"{top} candidates a token" if top else "none: confidences are unknown"
    yield ("ok" if facts.option_ids or top else "slow"), "options", _options_text(facts)
    yield "ok" if facts.many else "slow", "n", "several answers a request" if facts.many else "one answer a request"
    cached = "told in every reply" if facts.cached_tokens else "not told (vLLM: --enable-prompt-tokens-details)"
    yield "ok" if facts.cached_tokens else "--", "prefix cache", cached


def _video_line(facts: ServerFacts) -> Line:
    if not facts.video:
        return "slow", "video", f"frames are not taken as a video: {facts.video_refusal}"
    return "ok", "video", "frames are taken as one video"


def _times_line(facts: ServerFacts) -> Line:
    if facts.video_times == "exact" and facts.times_by == "answers":
        return "ok", "times", "exact: the model names the last frame's time in two videos that differ in nothing else"
    if facts.video_times == "exact":
        return "ok", "times", "exact: the model is told the times of the frames that are sent"
    if not facts.video:
        return "--", "times", "not tried"
    if facts.video_times == "invented":
        return "slow", "times", f"invented: the model is told other times than were sent; {TRUST}"
    return "slow", "times", "unknown: neither the prompt's tokens nor its text can be had, so videos are not used"


def _frames_text(told: int | None) -> str:
    return "not told" if told is None else f"{told} of 4 arrive"


def _options_text(facts: ServerFacts) -> str:
    if facts.option_ids:
        return "all scored in one request, whatever their probability"
    if facts.top_logprobs:
        return f"scored in one request, those among the {facts.top_logprobs} likeliest tokens; the rest get the least"
    if facts.restricts:
        return "not scored: the answer is restricted to the options, how sure it is stays unknown"
    return "not scored: the model names one, how sure it is stays unknown"


def _modes(facts: ServerFacts) -> Iterator[Line]:
    """Say what every mode does here."""
    if facts.layout is None:
        yield "FAIL", "modes", "none: the server takes no frames"
        return
    native = facts.layout == "native"
    how = "one video with exact times" if native else "a time and an image a frame: about twice the visual tokens"
    yield "ok" if native else "slow", "frames travel", how
    sure = "" if facts.top_logprobs else "; the close look is believed, no confidence decides"
    yield "ok", "direct", "1 request"
    yield "ok", "coarse", "1 request"
    yield "ok", "zoom", f"2 requests{sure}"
    again = "the second sends the first one's frames again; a prefix cache saves reading them"
    yield "ok", "context", f"2 requests, {again}"
    yield "ok", "divide", "1 request a window, side by side, and 2 more"
    draws = "1 request for all candidates" if facts.many else "1 request a candidate"
    yield "ok", "search", f"1 request, {draws}, and 1 for each that is verified"
