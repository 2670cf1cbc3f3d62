"""What `zoomzero doctor --server URL` prints: what a server can do, and what each mode will therefore do and cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zoomzero.policy.remote.client import Client
from zoomzero.policy.remote.probe import PROBE_TIMES_S, ServerFacts, probe_server
from zoomzero.policy.remote.settings import read_server
from zoomzero.policy.remote.trials import IMAGES, kept_tokens, most_images

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
    client = Client(settings)
    facts = probe_server(client)
    lines = [*_abilities(facts), *_images(facts, client), *_scores(facts), _cache_line(facts, client), *_modes(facts)]
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
    yield _frames_line(facts.video_frames)


def _images(facts: ServerFacts, client: Client) -> Iterator[Line]:
    """Say what becomes of images: in a video's place, and of the close look in `context`."""
    if not facts.images:
        yield "FAIL", "images", facts.images_refusal
        return
    most, refusal = most_images(client)
    native = facts.layout == "native"
    yield "ok", "images", "for the second clip in `context` alone" if native else "a time in words before each"
    if most == IMAGES and not refusal:
        yield "ok", "images at most", f"{IMAGES} were taken; more than it takes are refused with its limit"
    else:
        yield "slow", "images at most", f"{'not told' if most is None else most}: {refusal}"


def _scores(facts: ServerFacts) -> Iterator[Line]:
    """Say where confidences come from, and how many answers a request draws."""
    top = facts.top_logprobs
    yield "ok" if top else "slow", "logprobs", f"{top} candidates a token" if top else "none: confidences are unknown"
    yield ("ok" if facts.option_ids or top else "slow"), "options", _options_text(facts)
    yield "ok" if facts.many else "slow", "n", "several answers a request" if facts.many else "one answer a request"


def _cache_line(facts: ServerFacts, client: Client) -> Line:
    """Say how much of a second question about the same frames is not read again."""
    kept = kept_tokens(client, facts.layout) if facts.cached_tokens and facts.layout else None
    if kept is None:
        return "--", "prefix cache", "not told (vLLM: --enable-prompt-tokens-details)"
    text = f"of a second question about the same frames {kept[0]} of {kept[1]} tokens are not read again"
    return "ok" if kept[0] else "slow", "prefix cache", text


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


def _frames_line(told: int | None) -> Line:
    if told is None:
        return "--", "frames", "not told"
    if told == len(PROBE_TIMES_S):
        return "ok", "frames", f"all {told} arrive"
    return "slow", "frames", f"cut: {told} of {len(PROBE_TIMES_S)} arrive, so videos are not used"


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
