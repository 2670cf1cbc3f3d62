"""What a server can do, found out by asking it: a few requests of tiny frames whose times nobody would guess."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from zoomzero.errors import ServerError
from zoomzero.policy.base import Turn
from zoomzero.policy.remote.client import Client, Reply
from zoomzero.policy.remote.layouts import FrameEncoder, Layout, messages, time_label
from zoomzero.policy.remote.settings import ServerSettings
from zoomzero.spans import Span
from zoomzero.video.types import Clip

Times = Literal["exact", "invented", "unknown"]
# More frames than the 32 that servers cut a list to; each pair is 2.6 s apart, the pairs ever further.
_FIRSTS_S = tuple((3 + 37 * i + 11 * i * i) / 10 for i in range(18))
PROBE_TIMES_S = tuple(t for first_s in _FIRSTS_S for t in (first_s, round(first_s + 2.6, 1)))
PAIR_LABELS = tuple(time_label(first_s + 1.3) for first_s in _FIRSTS_S)  # a pair goes by its middle
NAMED_TIMES_S = ((0.3, 2.9, 61.2, 75.4), (0.3, 2.9, 131.3, 138.6))  # of two videos that differ in nothing else
LAST_TIME = (
    "Every frame of this video has a time in seconds. What is the time of the last one? Answer with a number alone."
)
QUESTION = "What is shown?"
SIDE = 64
LETTERS = ("A", "B", "C", "D")
MOST_TOP = 20
VISION_START, VIDEO_PAD = "<|vision_start|>", "<|video_pad|>"
PAIR_TOKENS = 4  # 2 x 2 tokens of 32 pixels
CHOICE_TOKENS = 24  # of a label in JSON
UNREACHABLE = (401, 403, 404, 429, 503)


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a probe found out.

    Args:
        url, model: what was probed.
        kind: the server's name and version where it tells them.
        context_tokens: the longest prompt; None: not told.
        video: whether a list of frames is taken as one video.
        video_times: what became of the frames' times in it.
        times_by: how that was found out: `prompt` (its tokens were told) or `answers` (the model was asked); else "".
        video_frames: how many of the probe's frames arrived; None: not told.
        video_refusal: why a video was refused.
        outer_pair: whether a video is wrapped in a vision_start / vision_end pair of its own, which Qwen3-VL was not
            trained with; None: not told.
        resized: whether the frames of a video became more or fewer visual tokens than their size makes; None: not told.
        images: whether images are taken.
        images_refusal: why not.
        top_logprobs: candidates told for a generated token; 0: no log-probabilities at all.
        option_ids: whether all options are scored in one request by their token ids.
        restricts: whether an answer can be restricted to the options; only tried where no log-probabilities are told.
        many: whether one request draws several completions.
        cached_tokens: whether it tells how much of a prompt it had read before.
        layout: how frames will travel; None: they cannot.
    """

    url: str
    model: str
    kind: str
    context_tokens: int | None
    video: bool
    video_times: Times
    times_by: str
    video_frames: int | None
    video_refusal: str
    outer_pair: bool | None
    resized: bool | None
    images: bool
    images_refusal: str
    top_logprobs: int
    option_ids: bool
    restricts: bool
    many: bool
    cached_tokens: bool
    layout: Layout | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def probe_server(client: Client) -> ServerFacts:
    """Find out what a server can do.

    Raises:
        ServerError: it cannot be reached, refuses the key, or has no such model.
    """
    settings = client.settings
    served = _served_model(client)
    client.settings = settings = settings.model_copy(update={"model": str(served.get("id"))})
    top, many, cached = _text_abilities(client)
    video = _video(client)
    images, images_refusal = (True, "") if video.whole else _images(client)
    return ServerFacts(
        url=settings.url,
        model=settings.model,
        kind=_kind(client),
        context_tokens=served.get("max_model_len"),
        video=video.taken,
        video_times=video.times,
        times_by=video.by,
        video_frames=video.frames,
        video_refusal=video.refusal,
        outer_pair=video.outer_pair,
        resized=video.resized,
        images=images,
        images_refusal=images_refusal,
        top_logprobs=top,
        option_ids=top > 0 and label_ids(client, LETTERS) is not None and _scores_ids(client),
        restricts=top == 0 and _restricts(client),
        many=many,
        cached_tokens=cached,
        layout=_pick(settings, video.whole, images),
    )


def _pick(settings: ServerSettings, whole: bool, images: bool) -> Layout | None:
    """Return how frames will travel: as a video where all arrive with their times, else as images, else not at all."""
    if settings.layout == "native":
        return "native" if whole else None
    if settings.layout == "auto" and whole:
        return "native"
    return "interleaved" if images else None


def _served_model(client: Client) -> dict[str, Any]:
    """Return the entry of the model in the server's list.

    Raises:
        ServerError: it is not in the list, or none was named and there are several.
    """
    wished = client.settings.model
    try:
        listed = client.get("/models").get("data")
    except ServerError as error:
        if not wished or error.status in (None, 401, 403):
            raise
        listed = ()
    models = {str(one.get("id")): one for one in listed or () if isinstance(one, dict)}
    if wished in models:
        return dict(models[wished])
    # transformers serve lists what lies in its cache, which need not be what it serves
    hello = {"messages": [{"role": "user", "content": "Say A."}], "max_tokens": 1, "temperature": 0}
    if wished and attempt(client, lambda: client.chat(hello)) is not None:
        return {"id": wished}
    names = ", ".join(sorted(models)[:8]) or "none"
    if not wished and len(models) == 1:
        return dict(next(iter(models.values())))
    reason = f"serves {names}; which one is meant is not said" if not wished else f"has no model {wished}"
    raise ServerError(client.settings.name, reason, f"write {client.settings.url}#NAME with one of: {names}", 404)


def _kind(client: Client) -> str:
    """Return a server's name and version; only vLLM and SGLang tell theirs."""
    found = attempt(client, lambda: client.get("/version", at_root=True))
    if found and found.get("version"):
        return f"vLLM {found['version']}"
    info = attempt(client, lambda: client.get("/get_server_info", at_root=True))
    return f"SGLang {info['version']}" if info and info.get("version") else "unknown"


def _text_abilities(client: Client) -> tuple[int, bool, bool]:
    """Return how many candidates are told for a token, whether one request draws several, whether caching is told."""
    ask = [{"role": "user", "content": "Say A or B."}]
    top, told = 0, None
    for wished in (MOST_TOP, 5):
        body = {"messages": ask, "max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": wished}
        told = attempt(client, lambda body=body: client.chat(body))
        if told is not None:
            content = (told["choices"][0].get("logprobs") or {}).get("content") or []
            top = len(content[0].get("top_logprobs") or ()) if content else 0
            break
    if told is None:  # what is wrong without log-probabilities is wrong with the server
        told = client.chat({"messages": ask, "max_tokens": 1, "temperature": 0})
    drawn = attempt(client, lambda: client.chat({"messages": ask, "max_tokens": 1, "temperature": 1.0, "n": 2}))
    details = (told.get("usage") or {}).get("prompt_tokens_details") or {}
    return min(top, MOST_TOP), drawn is not None and len(drawn["choices"]) == 2, "cached_tokens" in details


def label_ids(client: Client, texts: tuple[str, ...]) -> tuple[int, ...] | None:
    """Return the token id of each text where each is one token; None where not, or where the server does not tell."""
    ids = []
    for text in texts:
        body = {"model": client.settings.model, "prompt": text, "add_special_tokens": False}
        tokens = (attempt(client, lambda body=body: client.post("/tokenize", body)) or {}).get("tokens")
        if not isinstance(tokens, list) or len(tokens) != 1:
            return None
        ids.append(int(tokens[0]))
    return tuple(ids)


def _scores_ids(client: Client) -> bool:
    """Return whether the log-probabilities of chosen token ids are told."""
    from zoomzero.policy.remote.replies import scores_by_id

    ids = label_ids(client, LETTERS)
    body = {"messages": [{"role": "user", "content": "Say A."}], **by_id_request(ids or ())}
    reply = attempt(client, lambda: client.chat(body))
    return bool(ids) and reply is not None and scores_by_id(reply, ids or ()) is not None


def by_id_request(ids: tuple[int, ...]) -> dict[str, Any]:
    """Return what a request needs to be told the log-probabilities of token ids at its first token."""
    return {
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": True,
        "logprob_token_ids": list(ids),
        "return_tokens_as_token_ids": True,
    }


@dataclass(frozen=True, slots=True)
class _Video:
    taken: bool
    times: Times
    frames: int | None
    refusal: str = ""
    outer_pair: bool | None = None
    resized: bool | None = None
    by: str = ""

    @property
    def whole(self) -> bool:
        """Whether every frame arrives, and with its time."""
        return self.times == "exact" and self.frames in (None, len(PROBE_TIMES_S))


def probe_clip(times_s: tuple[float, ...] = NAMED_TIMES_S[0]) -> Clip:
    """Return small frames of which neighbours differ, at times that no sampler would give them."""
    frames = np.zeros((len(times_s), SIDE, SIDE, 3), np.uint8)
    for i in range(len(times_s)):
        frames[i, :, :, i % 3] = 60 * (i % 4 + 1)
    return Clip(frames, times_s, 1.0, (Span(0.0, times_s[-1] + 0.6),), len(times_s))


def probe_chat(layout: Layout, times_s: tuple[float, ...], question: str, client: Client) -> dict[str, Any]:
    """Return a request about the probe's frames, for one greedy token."""
    turns = [Turn("user", (probe_clip(times_s), question))]
    chat, extra = messages(turns, layout, FrameEncoder(client.settings))
    return {"messages": chat, "max_tokens": 1, "temperature": 0, **extra}


def _video(client: Client) -> _Video:
    """Send frames as one video and read back, from the prompt's token ids, which times the model was told."""
    body = probe_chat("native", PROBE_TIMES_S, QUESTION, client)
    try:
        reply = client.chat(body | {"return_token_ids": True})
    except ServerError as error:
        return _Video(False, "unknown", None, why_refused(error))
    text = _prompt_text(client, reply)
    labels = re.findall(r"<\d+(?:\.\d+)? seconds>", text or "")
    if text is None or not labels:
        return _Video(True, "exact", None, by="answers") if _names_times(client) else _Video(True, "unknown", None)
    times: Times = "exact" if labels == [one for one in PAIR_LABELS if one in labels] else "invented"
    pads = text.count(VIDEO_PAD)
    resized = pads != PAIR_TOKENS * len(labels) if pads else None
    return _Video(True, times, 2 * len(labels), "", f"{VISION_START}{labels[0]}" in text, resized, "prompt")


def _names_times(client: Client) -> bool:
    """Return whether the model names the last time of two videos that differ in nothing but their times."""
    for times_s in NAMED_TIMES_S:
        body = probe_chat("native", times_s, LAST_TIME, client) | {"max_tokens": 16}
        reply = attempt(client, lambda body=body: client.chat(body))
        said = re.findall(
            r"\d+(?:\.\d+)?", "" if reply is None else reply["choices"][0]["message"].get("content") or ""
        )
        # pairs of frames may be told their middle
        if not said or not times_s[2] - 0.1 <= float(said[-1]) <= times_s[3] + 0.1:
            return False
    return True


def choice_request(labels: tuple[str, ...]) -> dict[str, Any]:
    """Return what a request needs for its answer to be one of the labels, in JSON."""
    answer = {"type": "string", "enum": list(labels)}
    schema = {"type": "object", "properties": {"answer": answer}, "required": ["answer"], "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "choice", "strict": True, "schema": schema}}
    return {"max_tokens": CHOICE_TOKENS, "temperature": 0, "response_format": wanted}


def chosen_label(reply: Reply, labels: tuple[str, ...]) -> int | None:
    """Return the number of the label that a restricted answer names, None when it is no such answer."""
    try:
        answer = json.loads(reply["choices"][0]["message"].get("content") or "")["answer"]
    except (ValueError, KeyError, TypeError):
        return None
    return labels.index(answer) if answer in labels else None


def _restricts(client: Client) -> bool:
    """Return whether an answer can be restricted to given ones: asked for a word, it must say a letter."""
    body = {"messages": [{"role": "user", "content": "Say hello."}], **choice_request(LETTERS)}
    reply = attempt(client, lambda: client.chat(body))
    return reply is not None and chosen_label(reply, LETTERS) is not None


def _prompt_text(client: Client, reply: Reply) -> str | None:
    """Return the prompt as the model had it, where the server tells its tokens and what they say."""
    ids = reply.get("prompt_token_ids")
    if not isinstance(ids, list):
        return None
    body = {"model": client.settings.model, "tokens": ids}
    found = attempt(client, lambda: client.post("/detokenize", body))
    return str(found["prompt"]) if found and "prompt" in found else None


def _images(client: Client) -> tuple[bool, str]:
    """Return whether images are taken, and why not."""
    try:
        client.chat(probe_chat("interleaved", NAMED_TIMES_S[0], QUESTION, client))
        return True, ""
    except ServerError as error:
        return False, why_refused(error)


def why_refused(error: ServerError) -> str:
    """Return why a server did not take something; that it cannot be asked at all is no answer about it.

    Raises:
        ServerError: the connection, the key, the model or the load is the problem.
    """
    if error.status is None or error.status in UNREACHABLE:
        raise error
    return f"{error.reason}; {error.fix}"


def attempt(client: Client, ask: Any) -> Reply | None:
    """Return a reply, None where the server refuses this request.

    Raises:
        ServerError: it cannot be reached, or refuses the key.
    """
    try:
        reply: Reply = ask()
        return reply
    except ServerError as error:
        if error.status is None or error.status in (401, 403):
            raise
        return None
