"""`RemotePolicy`: a model behind a server as a policy; every mode runs with it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from zoomzero.errors import ConfigError, ServerError
from zoomzero.policy.base import Choice, Completion, Sampling, Turn, Usage, Written
from zoomzero.policy.listening import Heard, listener
from zoomzero.policy.remote.client import Client, Reply
from zoomzero.policy.remote.layouts import FrameEncoder, messages
from zoomzero.policy.remote.probe import (
    PROBE_TIMES_S,
    ServerFacts,
    by_id_request,
    choice_request,
    chosen_label,
    label_ids,
    probe_server,
)
from zoomzero.policy.remote.replies import PEAK_TOKENS, completion, scores_by_id, scores_by_text, usage
from zoomzero.policy.remote.settings import ServerSettings
from zoomzero.prompts import option_labels, read_response
from zoomzero.video.types import Clip, Geometry

# Frames that travel as a video are paired by the model (the probe recognised Qwen3-VL's labels); images are not.
GEOMETRIES = {"native": Geometry(patch=16), "interleaved": Geometry(patch=16, temporal=1)}
# vLLM and SGLang take what a request leaves open from the checkpoint's generation_config.json: Qwen3-VL's has top_k 20,
# Qwen2.5-VL's a repetition penalty. A local model draws from its own distribution, and so shall these.
NEUTRAL: Mapping[str, float] = {
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
CHOICE_TOKENS = 16  # a model that must write to choose says little more than a letter


class RemotePolicy:
    """A model behind a server.

    Args:
        settings: where it is and how it is talked to.

    Raises:
        ServerError: the server cannot be reached, or takes no frames.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.client = Client(settings)
        self.facts = probe_server(self.client)
        self.settings = self.client.settings
        self.name = self.settings.name
        if self.facts.layout is None:
            raise ServerError(self.name, *_no_frames(self.facts, self.settings))
        self.layout = self.facts.layout
        self.geometry: Geometry = GEOMETRIES[self.layout]
        self._encode = FrameEncoder(self.settings)
        self._ids: dict[tuple[str, ...], tuple[int, ...] | None] = {}
        self._threads = ThreadPoolExecutor(self.settings.concurrency, "server")

    def write(self, turns: Sequence[Turn], n: int, sampling: Sampling) -> Written:
        """Draw n continuations of a chat, in one request where the server draws several.

        Raises:
            ServerError: it does not answer.
        """
        if n > 1 and not self.facts.many:
            each = [replace(sampling, seed=sampling.seed + i) for i in range(n)]
            parts = list(self._threads.map(lambda one: self._write(turns, 1, one), each))
            return Written(tuple(c for part in parts for c in part.completions), _sum([p.usage for p in parts]))
        return self._write(turns, n, sampling)

    def write_many(self, chats: Sequence[Sequence[Turn]], n: int, samplings: Sequence[Sampling]) -> list[Written]:
        """Draw n continuations of each chat; requests run side by side, as many as `server.concurrency` says."""
        if n > 1 and not self.facts.many:
            return [self.write(chat, n, one) for chat, one in zip(chats, samplings, strict=True)]
        return list(
            self._threads.map(lambda pair: self._write(pair[0], n, pair[1]), zip(chats, samplings, strict=True))
        )

    def choose(self, turns: Sequence[Turn], options: Sequence[str], *, closed: bool = False) -> Choice:
        """Return the log-probability of each option, or the option the model names where the server tells none.

        Options are scored after one prefill by their token ids, or among the likeliest first tokens. A server that
        tells neither is asked in words.

        Raises:
            ServerError: it does not answer.
            ConfigError: the options are texts of several tokens.
        """
        labels = tuple(options)
        if closed or labels != option_labels(len(labels)):
            fix = "set score_options_as=letter"
            raise ConfigError("score_options_as", "a server compares options by their letters, not their texts", fix)
        if self.facts.option_ids and (ids := self._label_ids(labels)) is not None:
            reply, cost = self.ask(turns, by_id_request(ids))
            if (scores := scores_by_id(reply, ids)) is not None:
                return Choice(scores, cost)
        if self.facts.top_logprobs >= len(labels):
            body = {"max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": self.facts.top_logprobs}
            reply, cost = self.ask(turns, body)
            if (scores := scores_by_text(reply, labels)) is not None:
                return Choice(scores, cost, scored_by=f"top {self.facts.top_logprobs} tokens")
        if self.facts.restricts:
            reply, cost = self.ask(turns, choice_request(labels))
            if (named := chosen_label(reply, labels)) is not None:
                said = _counted(reply, completion(reply["choices"][0]), 1)
                return Choice(None, cost, chosen=named, text=said.text, generated_tokens=said.generated_tokens)
        written = self._write(turns, 1, Sampling(max_tokens=CHOICE_TOKENS))
        said = written.completions[0]
        named = read_response(said.text, len(labels), "direct").option
        return Choice(None, written.usage, chosen=named, text=said.text, generated_tokens=said.generated_tokens)

    def _write(self, turns: Sequence[Turn], n: int, sampling: Sampling) -> Written:
        """Draw n continuations in one request."""
        body: dict[str, Any] = {
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
        }
        if self.facts.kind.startswith(("vLLM", "SGLang")):
            body |= NEUTRAL
        if n > 1:
            body["n"] = n
        if self.facts.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": min(self.facts.top_logprobs, PEAK_TOKENS)}
        reply, cost = self.ask(turns, body, listener() if n == 1 else None)
        choices = sorted(reply["choices"], key=lambda one: int(one.get("index") or 0))
        if len(choices) != n:
            fix = "look at the server's log; `zoomzero doctor --server URL` says what it can do"
            raise ServerError(self.name, f"sent {len(choices)} completions where {n} were asked for", fix)
        return Written(tuple(_counted(reply, completion(one), n) for one in choices), cost)

    def ask(self, turns: Sequence[Turn], body: Mapping[str, Any], heard: Heard | None = None) -> tuple[Reply, Usage]:
        """Send a chat, with whatever else the request's body holds; return the whole reply and what it cost.

        Args:
            turns: the chat.
            body: what else the request says.
            heard: told the words as they come.

        Raises:
            ServerError: it does not answer.
        """
        chat, extra = messages(turns, self.layout, self._encode)
        started = time.perf_counter()
        request = {"messages": chat, **extra, **body}
        reply = self.client.chat(request) if heard is None else self.client.chat_heard(request, heard)
        clips = [part for turn in turns for part in turn.parts if isinstance(part, Clip)]
        paired = [clip.visual_tokens(self.geometry) for clip in clips[:1]]
        single = [clip.visual_tokens(GEOMETRIES["interleaved"]) for clip in clips[1:]]
        return reply, usage(reply, sum(paired) + sum(single), time.perf_counter() - started)

    def _label_ids(self, labels: tuple[str, ...]) -> tuple[int, ...] | None:
        if labels not in self._ids:
            self._ids[labels] = label_ids(self.client, labels)
        return self._ids[labels]


def _counted(reply: Reply, one: Completion, n: int) -> Completion:
    """Return a completion that says how long it is; of one alone the reply's usage tells."""
    if one.generated_tokens or n > 1:
        return one
    return replace(one, counted_tokens=int((reply.get("usage") or {}).get("completion_tokens") or 0))


def _sum(costs: Sequence[Usage]) -> Usage:
    """Return what several requests about one chat cost."""
    return Usage(
        prompt_tokens=max(one.prompt_tokens for one in costs),
        new_tokens=sum(one.new_tokens for one in costs),
        visual_tokens=sum(one.visual_tokens for one in costs),
        seconds=max(one.seconds for one in costs),
        reported=all(one.reported for one in costs),
    )


def _no_frames(facts: ServerFacts, settings: ServerSettings) -> tuple[str, str]:
    """Return why a server cannot be shown a video, and what would help."""
    if settings.layout == "native":
        lost = f"{facts.video_frames} of {len(PROBE_TIMES_S)} frames arrive"
        why = facts.video_refusal or (lost if facts.video_times == "exact" else f"its times are {facts.video_times}")
        return f"cannot be told a video's exact times ({why})", "set server.layout=interleaved"
    why = facts.images_refusal or facts.video_refusal or "no reason given"
    return f"takes neither a video with exact times nor images ({why})", "serve a vision-language model"
