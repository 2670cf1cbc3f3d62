"""`ServedEngine`: a vLLM draws the completions, with weights that follow those being trained.

Prompts travel as chats with their frames; tokens and the log-probabilities the server drew them with come back. Before
a server draws with new weights it is checked on a prompt: that it reads the same tokens, and that this process finds
its log-probabilities again. docs/training-server.md.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, current_thread, main_thread
from typing import Any

import torch

from zoomzero.errors import ServerError
from zoomzero.policy.base import Sampling, TokenCompletion, Turn
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.policy.remote.client import Client
from zoomzero.policy.remote.policy import NEUTRAL, RemotePolicy
from zoomzero.train.rollouts.engine import LocalEngine, RolloutEngine, Weights
from zoomzero.train.rollouts.publish import Adapters, Publisher, WholeWeights
from zoomzero.train.rollouts.record import RolloutGroup
from zoomzero.train.rollouts.scores import GroupScores
from zoomzero.train.settings import GrpoSettings
from zoomzero.train.stopwatch import Stopwatch

EQUAL = 1e-3  # log-probabilities that differ by less are called equal
CHECK_TOKENS = 16  # of each of the completions a server is checked by
CHECK_DRAWS = 2
NEVER = -100.0  # the least bias a server takes


@dataclass(frozen=True, slots=True)
class Gap:
    """How far a server's log-probabilities lie from the trained model's, over `tokens` that it drew."""

    tokens: int
    mean: float
    largest: float


class ServedEngine:
    """Draws on a server; see `RolloutEngine`.

    Args:
        policy: the model that is trained: it builds the prompts the server must read, and checks it.
        settings: of the run, with `rollout.server`.
        watch: gets the seconds of generate.
        computing: how the model computes, for example autocast.
        say: is told, in a line, how well the server agrees when it first draws.

    Raises:
        ServerError: the server cannot be reached, or does not show the model frames with their times.
    """

    def __init__(
        self,
        policy: QwenPolicy,
        settings: GrpoSettings,
        watch: Stopwatch,
        computing: Callable[[], AbstractContextManager[object]] = nullcontext,
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
    ) -> None:
        assert settings.rollout.server is not None
        self.rules = settings.rollout.server
        self.policy, self.settings, self.watch, self.computing, self.say = policy, settings, watch, computing, say
        self.remote = RemotePolicy(self.rules.model_copy(update={"layout": "native"}))
        self.name = self.remote.name
        self.draws_ahead = self.rules.draws_ahead(settings.mini_batches)
        folder = Path(self.rules.weights_dir or Path(settings.out) / "served")
        self.publisher = make_publisher(policy.model, self.remote.client, folder, settings)
        self.update_drawn = -1  # the update whose weights the server has
        self.gap: Gap | None = None  # what the last check found
        self._model = ""  # the name its weights go by
        # what a server kept of a prompt belongs to the weights that read it
        self._salt = os.urandom(8).hex()
        self._seen: Sequence[Turn] | None = None  # a chat to check the next weights by
        self._threads = ThreadPoolExecutor(self.rules.concurrency, "drawing")
        self._idle, self._busy = Condition(), 0
        self._bias = {str(token): NEVER for token in policy.never_drawn}

    def update(self, weights: Weights, update: int) -> None:
        """Have the server draw with the weights as they are after an update; what it is drawing is waited for.

        Raises:
            ServerError: it does not take them, or does not agree with this process about them.
        """
        if update == self.update_drawn:
            return
        with self._idle:
            self._idle.wait_for(lambda: self._busy == 0)
            self._model = self.publisher.publish(update)
            self.update_drawn = update
        if self._seen is not None:
            self._check(self._seen)

    def generate(
        self, chats: Sequence[Sequence[Turn]], n: int, samplings: Sequence[Sampling]
    ) -> list[list[TokenCompletion]]:
        """Draw n completions of every chat, requests side by side.

        Raises:
            ServerError: the server does not answer, or not with what was asked for.
        """
        if self._seen is None:
            self._seen = chats[0]
            self._check(self._seen)
        # the clock belongs to the main thread; what is drawn ahead costs it nothing
        with self.watch.phase("generate") if current_thread() is main_thread() else nullcontext(), self._drawing():
            if len(chats) == 1:
                return [self._draw(chats[0], n, samplings[0])]
            pairs = zip(chats, samplings, strict=True)
            return list(self._threads.map(lambda pair: self._draw(pair[0], n, pair[1]), pairs))

    def close(self) -> None:
        """Let go of requests that have not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Keep the weights as they are."""
        with self._idle:
            self._busy += 1
        try:
            yield
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def _draw(self, chat: Sequence[Turn], n: int, sampling: Sampling) -> list[TokenCompletion]:
        """Draw n completions of one chat in one request."""
        reply = self._ask(chat, n, sampling)
        return [self._completion(choice) for choice in self._choices(reply, n)]

    def _ask(self, chat: Sequence[Turn], n: int, sampling: Sampling) -> dict[str, Any]:
        body = {
            "model": self._model,
            "n": n,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            **NEUTRAL,
            "logprobs": True,
            "top_logprobs": 0,
            "return_token_ids": True,
            "stop_token_ids": list(self.policy.stops),
            "logit_bias": self._bias,
            "cache_salt": f"{self._salt}-{self.update_drawn}",
        }
        return self.remote.ask(chat, body)[0]

    def _choices(self, reply: dict[str, Any], n: int) -> list[dict[str, Any]]:
        choices = sorted(reply["choices"], key=lambda one: int(one.get("index") or 0))
        if len(choices) != n:
            fix = "serve the model with vLLM (docs/training-server.md)"
            raise ServerError(self.name, f"sent {len(choices)} completions where {n} were asked for", fix)
        return choices

    def _completion(self, choice: dict[str, Any]) -> TokenCompletion:
        """Return a choice as a completion.

        Raises:
            ServerError: its tokens, or what they were drawn with, are not told.
        """
        ids = choice.get("token_ids")
        told = (choice.get("logprobs") or {}).get("content") or []
        if not isinstance(ids, list) or not ids or len(ids) != len(told):
            fix = "serve the model with vLLM (docs/training-server.md)"
            raise ServerError(self.name, "does not tell the drawn tokens and their log-probabilities", fix)
        finished = choice["finish_reason"] == "stop"
        logprobs = [float(one["logprob"]) for one in told]
        return self.policy.drawn_elsewhere(ids, logprobs, finished=finished, drawn_at=self.update_drawn)

    # --- does the server do what this process would? -----------------------------------------------------------------

    def _check(self, chat: Sequence[Turn]) -> None:
        """Compare the server's prompt and log-probabilities with this process's own.

        Raises:
            ServerError: it reads another prompt, or its weights, numbers or temperature are others.
        """
        rules = self.settings.rollout
        sampling = Sampling(rules.temperature, rules.top_p, min(CHECK_TOKENS, rules.max_new_tokens), 0)
        with self._drawing():
            reply = self._ask(chat, CHECK_DRAWS, sampling)
        self._check_prompt(reply.get("prompt_token_ids"), self.policy.prompt(chat).ids.tolist())
        drawn = [self._completion(choice) for choice in self._choices(reply, CHECK_DRAWS)]
        first, self.gap = self.gap is None, self._gap(chat, drawn)
        if self.gap.mean > self.rules.max_gap:
            raise ServerError(self.name, f"draws with other weights or numbers than are trained: {told(self.gap)}", FIX)
        if first:
            equal = "equal" if self.gap.largest <= EQUAL else "not equal"
            self.say(f"zoomzero: {self.name} draws the rollouts; {told(self.gap)} ({equal} within {EQUAL:g})")

    def _check_prompt(self, theirs: Any, ours: Sequence[int]) -> None:
        if not isinstance(theirs, list):
            fix = "serve the model with vLLM (docs/training-server.md)"
            raise ServerError(self.name, "does not tell the tokens of a prompt", fix)
        if theirs == list(ours):
            return
        pairs = list(zip(theirs, ours, strict=False))
        at = next((i for i, (their, our) in enumerate(pairs) if their != our), len(pairs))
        near = self.policy.builder.codec.tokenizer.decode(theirs[max(at - 4, 0) : at + 4], skip_special_tokens=False)
        reason = (
            f"reads another prompt: {len(theirs)} tokens instead of {len(ours)}, first other one {at}, near {near!r}"
        )
        fix = "serve with --chat-template FILE as in docs/servers.md, and the checkpoint's own processor settings"
        raise ServerError(self.name, reason, fix)

    def _gap(self, chat: Sequence[Turn], drawn: Sequence[TokenCompletion]) -> Gap:
        """Return how far the log-probabilities of drawn tokens lie from those of the model that is trained."""
        training = self.policy.model.training
        self.policy.model.eval()
        scores = GroupScores(self.policy.model, self.settings.rollout.temperature, self.settings.head_chunk)
        scores.train(False)
        ids = [torch.tensor(one.token_ids, dtype=torch.int64) for one in drawn]
        with torch.no_grad(), self.computing():
            own = scores([self.policy.prompt(chat)], [ids])["log_probs"].float().cpu()
        self.policy.model.train(training)
        theirs = torch.tensor([value for one in drawn for value in one.logprobs])
        apart = (own - theirs).abs()
        return Gap(len(apart), float(apart.mean()), float(apart.max()))


FIX = (
    "start it with this run's number type (float32 without bf16, else bfloat16), with --logprobs-mode "
    "processed_logprobs where rollout.temperature is not 1, or raise rollout.server.max_gap"
)


def check_drift(groups: Sequence[RolloutGroup], engine: RolloutEngine) -> None:
    """Refuse a batch that the weights of now drew, where server and trained model differ about its tokens.

    Args:
        groups: with both log-probabilities of every token where a server drew them.
        engine: drew them.

    Raises:
        ServerError: the mean difference is more than `rollout.server.max_gap`.
    """
    if not isinstance(engine, ServedEngine):
        return
    fresh = [one for group in groups for one in group.rollouts if one.drawn_at == engine.update_drawn]
    pairs = [(one.old_log_probs or (), one.server_log_probs or ()) for one in fresh]
    apart = [abs(own - theirs) for pair in pairs for own, theirs in zip(*pair, strict=True)]
    if apart and (gap := Gap(len(apart), math.fsum(apart) / len(apart), max(apart))).mean > engine.rules.max_gap:
        raise ServerError(engine.name, f"has drifted from what is trained: {told(gap)}", FIX)


def told(gap: Gap) -> str:
    """Return a gap in words."""
    return f"log-probabilities of {gap.tokens} tokens differ by {gap.largest:.1e} at most, {gap.mean:.1e} on average"


def make_engine(
    settings: GrpoSettings,
    policy: QwenPolicy,
    copied: QwenPolicy,
    watch: Stopwatch,
    computing: Callable[[], AbstractContextManager[object]],
) -> RolloutEngine:
    """Return who draws: a server, or the model itself.

    Args:
        settings: of the run.
        policy: the model that is trained.
        copied: a whole copy of it where it is sharded, else itself.
        watch, computing: see the engines.
    """
    if settings.rollout.server is not None:
        return ServedEngine(policy, settings, watch, computing)
    return LocalEngine(copied, watch, shares_weights=copied is policy, computing=computing)


def make_publisher(model: Any, client: Client, folder: Path, settings: GrpoSettings) -> Publisher:
    """Return how trained weights get to the server."""
    if settings.lora is not None:
        return Adapters(model, client, folder)
    return WholeWeights(model, client, folder, torch.bfloat16 if settings.in_bf16 else torch.float32)
