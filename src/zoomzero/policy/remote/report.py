"""What `zoomzero doctor --server URL` prints: what a server can do, and what each mode will therefore do and cost."""

from __future__ import annotations

from collections.abc import Iterator

from zoomzero.config import ModelSettings
from zoomzero.policy.remote.client import Client
from zoomzero.policy.remote.probe import PROBE_TIMES_S, ServerFacts, probe_server
from zoomzero.policy.remote.settings import ServerSettings
from zoomzero.policy.remote.trials import IMAGES, kept_tokens, most_images

Line = tuple[str, str, str]  # mark, name, text
OUTER = "an extra vision_start / vision_end pair is put around a video (docs/servers.md: the chat template)"
RESIZED = "frames are resized by the server: passes cost other visual tokens than planned"
TRUST = "start vLLM with --trust-request-mm-kwargs"


def server_report(server: ServerSettings, asked: ModelSettings) -> tuple[str, bool]:
    """Probe a server and return what it can do, and whether a video can be asked about at all.

    Args:
        server: where it is.
        asked: how its model is asked: what a mode sends depends on it.

    Raises:
        ServerError: the server cannot be reached.
    """
    client = Client(server)
    facts = probe_server(client)
    found = (*_abilities(facts), *_images(facts, client), *_scores(facts), _cache_line(facts, client))
    lines = [*found, *_modes(facts, asked)]
    return "\n".join(f"{mark:<5} {name:<16} {text}" for mark, name, text in lines), facts.layout is not None


def _abilities(facts: ServerFacts) -> Iterator[Line]:
    yield "ok", "server", f"{facts.url}, {facts.kind}"
    yield "ok", "model", facts.model
    context = "not told" if facts.context_tokens is None else f"{facts.context_tokens} tokens"
    yield "ok" if facts.context_tokens else "--", "context length", context
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


def _modes(facts: ServerFacts, asked: ModelSettings) -> Iterator[Line]:
    """Say what every mode does here, and how many visual tokens it may send."""
    if facts.layout is None:
        yield "FAIL", "modes", "none: the server takes no frames"
        return
    native = facts.layout == "native"
    how = "one video with exact times" if native else "a time and an image a frame: about twice the visual tokens"
    yield "ok" if native else "slow", "frames travel", how
    sure = "" if facts.top_logprobs else "; the close look is believed, no confidence decides"
    coarse, zoom, window = asked.coarse.max_tokens, asked.zoom.max_tokens, asked.window.max_tokens
    draws = "1 request for" if facts.many else "1 request each for"
    whole = (coarse, f"1 request of at most {coarse} visual tokens")
    again = f"{coarse + zoom} visual tokens; a prefix cache saves reading {coarse} again"
    shown = f"at most {asked.divide_top} looks of {zoom} at what they show, and 1 at all that holds"
    elsewhere = f"when all are weak {asked.outside_looks} windows of {window}, each with a look"
    modes = {  # name -> (the longest request's visual tokens, what is sent)
        "direct": whole,
        "coarse": whole,
        "zoom": (max(coarse, zoom), f"2 requests, of at most {coarse} and {zoom} visual tokens{sure}"),
        "context": (coarse + zoom, f"2 requests, of at most {coarse} and {again}"),
        "divide": (max(window, zoom), f"1 request of at most {window} a window, side by side, {shown}"),
        "search": (
            max(coarse, zoom, window),
            f"1 request of at most {coarse}, {draws} {asked.candidates - 1} more candidates, a look of {zoom} at each; "
            f"{elsewhere}",
        ),
    }
    for mode, (longest, text) in modes.items():
        if facts.context_tokens is not None and longest >= facts.context_tokens:
            yield "slow", mode, f"{text}; more than its context: lower --budget"
        else:
            yield "ok", mode, text
