"""`QwenPolicy`: a local checkpoint of a known family that reads, goes on reading, writes and scores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoomzero.policy.base import Choice, Context, Sampling, TokenCompletion, Turn, Written
from zoomzero.policy.listening import listener
from zoomzero.policy.local.attention import packed
from zoomzero.policy.local.attention.packed import Prompt
from zoomzero.policy.local.context import QwenState, Reader, clips_of
from zoomzero.policy.local.drawing.generate import Row, Start, Vocabulary, decode
from zoomzero.policy.local.drawing.recorded import Recorder
from zoomzero.policy.local.encoder import FrameEncoder
from zoomzero.policy.local.features import FeatureCache
from zoomzero.policy.local.memory import batches, in_halves, memory_named, token_bytes, tokens_that_fit
from zoomzero.policy.local.prompt import PromptBuilder
from zoomzero.policy.local.scoring import closes, score_after, score_packed
from zoomzero.policy.local.vision import VisualFeatures
from zoomzero.video.types import Clip, Geometry

# Prompt tokens of several chats read or scored together. A CPU is faster on less: its caches then hold a layer's work.
ROW_TOKENS = {"cpu": 2048, "cuda": 65536}
THINK_AT_LEAST = 128  # tokens; a reply that may not be longer has no room for thinking: its block is ended first
TOKENS_AT_ONCE = 65536  # prompt tokens of several chats that are written after together
NO_LIMIT = 1 << 40  # tokens


class QwenPolicy:
    """A policy over a prepared transformers model; `zoomzero.policy.base.Policy` says what each method promises.

    Args:
        name: what the user called the model.
        model: the transformers model, after `load.prepare`.
        builder: turns chats into prompts.
        stops: token ids that end an answer.
        files: the checkpoint's directory, whose tower the features' keys name; None for a model that was made here.
    """

    def __init__(
        self, name: str, model: Any, builder: PromptBuilder, stops: Sequence[int], files: Path | None = None
    ) -> None:
        self.name, self.model, self.builder = name, model, builder
        self.family = builder.family
        self.features: FeatureCache | None = None  # what a frozen tower has seen; none unless a policy is given one
        self.sees: Any = None  # holds a whole vision tower where the model's own is in shards (training)
        self._encoder = FrameEncoder(self.family)
        self._encoder.files = files
        self.geometry: Geometry = self.family.geometry
        self.stops = tuple(sorted(stops))
        text_config = packed.core(model).language_model.config
        self._reader = Reader(self)
        self._recorder = Recorder()
        number = packed.core(model).language_model.embed_tokens.weight.dtype
        self._bytes = token_bytes(type(builder.family), model.config, number.itemsize)
        self._encoder.seen_bytes = self._bytes.seen
        self.max_tokens = int(text_config.max_position_embeddings)
        visual = {getattr(model.config, name) for name in self.family.special}
        forbidden = sorted(visual | set(range(builder.codec.size, text_config.vocab_size)))
        self._vocabulary = Vocabulary(
            torch.tensor(forbidden, device=self.device), torch.tensor(self.stops, device=self.device)
        )

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        weight: Tensor = packed.core(self.model).language_model.embed_tokens.weight
        return weight.device

    def memory_named(self, tokens: int) -> AbstractContextManager[None]:
        """Turn running out of memory over so many tokens into one line."""
        return memory_named(self.name, self.device, f"with {tokens} tokens in the prompt")

    def _fit(self, bytes_per_token: float, most: int = NO_LIMIT) -> int:
        """Return how many tokens of so many bytes the free memory takes, on every GPU that has layers."""
        homes = {layer.input_layernorm.weight.device for layer in packed.core(self.model).language_model.layers}
        return min(tokens_that_fit(device, bytes_per_token, most) for device in homes | {self.device})

    def _row_tokens(self, wished: int | None) -> int:
        """Return how many prompt tokens to put in one row: what suits the device and fits its free memory."""
        most = ROW_TOKENS.get(self.device.type, ROW_TOKENS["cpu"])
        most = most if wished is None else min(wished, most)
        return self._fit(self._bytes.kept + self._bytes.work, most)

    def prompt(self, turns: Sequence[Turn]) -> Prompt:
        """Return the prompt `read` would run: what training packs with suffixes (`packed.packed_states`)."""
        return self.builder.build(turns)

    def prompt_length(self, turns: Sequence[Turn]) -> int:
        """Return how many tokens `read` would run for a chat, visual ones included."""
        return len(self.builder.layout(self.builder.messages(turns)))

    def tokens(self, text: str, end: bool = False) -> Tensor:
        """Return a continuation's token ids, (S,) int64; with `end`, the end-of-turn token after them.

        What the chat template has written of it already (an opened think block) is left out.
        """
        ids = self.builder.codec.encode(self.builder.unwritten(text))
        return torch.tensor(ids + ([self.end_of_turn] if end else []), dtype=torch.int64)

    @property
    def end_of_turn(self) -> int:
        """The token that closes an assistant's turn."""
        special = self.builder.codec.special
        return special["<|im_end|>"] if "<|im_end|>" in special else self.stops[0]

    def write(self, turns: Sequence[Turn], n: int, sampling: Sampling) -> Written:
        """Draw n continuations of a chat: `generate` after `read`."""
        context = self.read(turns)
        return Written(tuple(self.generate(context, n, sampling)), context.usage)

    def write_many(self, chats: Sequence[Sequence[Turn]], n: int, samplings: Sequence[Sampling]) -> list[Written]:
        """Draw n continuations of each chat: `generate_many` after `read_many`, as many at once as memory takes."""
        found: list[Written | None] = [None] * len(chats)
        longest = samplings[0].max_tokens if samplings else 0
        sizes = [self.prompt_length(turns) + n * longest for turns in chats]
        each = self._bytes.kept + self._bytes.state / max(min(sizes, default=1), 1) * (1 + n)

        def write(batch: Sequence[int]) -> None:
            contexts = self.read_many([chats[i] for i in batch])
            drawn = self.generate_many(contexts, n, [samplings[i] for i in batch])
            for i, some, context in zip(batch, drawn, contexts, strict=True):
                found[i] = Written(tuple(some), context.usage)

        for batch in batches(sizes, self._fit(each)):
            in_halves(batch, write)
        return [written for written in found if written is not None]

    def choose(self, turns: Sequence[Turn], options: Sequence[str], *, closed: bool = False) -> Choice:
        """Return the log-probability of each option: `score` after `read`."""
        context = self.read(turns)
        return Choice(tuple(self.score(context, options, closed=closed)), context.usage)

    @torch.inference_mode()
    def read(self, turns: Sequence[Turn]) -> Context:
        """Prefill a chat that ends before the assistant's next words.

        Raises:
            ModelError: more than the model or the memory takes.
        """
        return self._reader.read(self.builder.messages(turns), clips_of(turns), None)

    @torch.inference_mode()
    def read_many(self, chats: Sequence[Sequence[Turn]], *, max_prompt_tokens: int | None = None) -> list[Context]:
        """Prefill several chats as one packed row, without padding; equal to `read` of each.

        Args:
            chats: each ends before the assistant's next words.
            max_prompt_tokens: most tokens in one row, where it is less than what suits the device; more chats are read
                one row after the other.

        Returns:
            One context for each chat; `seconds` is its share of the row's time, by tokens.

        Raises:
            ModelError: more than the model or the memory takes.
        """
        messages = [self.builder.messages(turns) for turns in chats]
        prompts = [self.builder.layout(m) for m in messages]
        contexts: list[Context | None] = [None] * len(chats)

        def read(batch: Sequence[int]) -> None:
            began = time.perf_counter()
            states = self._reader.read_row(
                [messages[i] for i in batch], [prompts[i] for i in batch], [chats[i] for i in batch]
            )
            per_token_s = (time.perf_counter() - began) / sum(len(prompts[i]) for i in batch)
            for i, state in zip(batch, states, strict=True):
                size, seen = len(prompts[i]), len(prompts[i].visual_index)
                contexts[i] = Context(state, size, size, seen, per_token_s * size)

        for batch in batches([len(prompt) for prompt in prompts], self._row_tokens(max_prompt_tokens)):
            in_halves(batch, read, self._recorder.forget)
        return [context for context in contexts if context is not None]

    @torch.inference_mode()
    def extend(self, context: Context, turns: Sequence[Turn]) -> Context:
        """Read more turns after a context; equal to reading all turns at once, at the cost of the new ones.

        The tokens both chats share keep their keys and values (the old chat's opening of the assistant's turn
        is taken back where the new turns do not go on from it).

        Raises:
            ModelError: more than the model or the memory takes.
        """
        state: QwenState = context.state
        return self._reader.read(state.messages + self.builder.messages(turns), clips_of(turns), state)

    @torch.inference_mode()
    def resume(self, seen: Sequence[Turn], context: Context, turns: Sequence[Turn]) -> Context:
        """Read a chat that begins like one that was read before; equal to `read`, at the cost of what differs.

        Clips are taken for the same where their keys are: then they show the same pixels.

        Args:
            seen: the chat `context` came from.
            context: what reading it left.
            turns: the new chat, whole.

        Raises:
            ModelError: more than the model or the memory takes.
        """
        clips = clips_of(turns)
        same = 0
        for old, new in zip(clips_of(seen), clips, strict=False):
            if not new.key or old.key != new.key:
                break
            same += 1
        sizes = [clip.visual_tokens(self.geometry) for clip in clips]
        return self._reader.resume(self.builder.messages(turns), clips, sizes, same, context.state)

    def encode(self, clips: Sequence[Clip]) -> VisualFeatures | None:
        """Return what the vision tower makes of clips, in order; None without clips.

        Long clips are encoded a stretch of frames at a time, so that a long video needs no more memory, and short ones
        together. This is exact, since attention never crosses a temporal patch. With `features` set and a frozen
        tower, temporal patches seen before are not encoded again.
        """
        return self._encoder.encode(self.sees or packed.core(self.model), clips, self.features)

    def generate(self, context: Context, n: int, sampling: Sampling) -> list[TokenCompletion]:
        """Draw n continuations of one context, decoded together against the shared prefix.

        Raises:
            ModelError: the memory does not take n rows.
        """
        return self.generate_many([context], n, [sampling])[0]

    @torch.inference_mode()
    def generate_many(
        self,
        contexts: Sequence[Context],
        n: int,
        samplings: Sequence[Sampling],
        *,
        max_prefix_tokens: int = TOKENS_AT_ONCE,
    ) -> list[list[TokenCompletion]]:
        """Draw n continuations of each of several contexts; all rows of all contexts step together.

        Equal to `generate(contexts[i], n, samplings[i])` one by one: a row's random numbers depend on its own seed and
        its number among its context's rows alone.

        Args:
            contexts: what was read.
            n: rows of each.
            samplings: one for each context; they differ in nothing but the seed.
            max_prefix_tokens: prompt tokens whose keys and values are held side by side; more contexts are done one
                batch after the other.

        Returns:
            For each context its n completions.

        Raises:
            ModelError: the memory does not take so many rows.
            ValueError: samplings that differ in more than the seed, or not one for each context.
        """
        if samplings and samplings[0].max_tokens < THINK_AT_LEAST:
            contexts = [self._reader.closed(context) for context in contexts]
        starts = [
            Start(c.state.segments, c.state.last_hidden, c.state.prompt.next_position, sampling)
            for c, sampling in zip(contexts, samplings, strict=True)
        ]
        found: list[list[TokenCompletion]] = [[] for _ in contexts]
        if n < 1 or not starts:
            return found
        self._reader.check_length(max(start.length for start in starts) + starts[0].sampling.max_tokens)
        said = listener()

        def heard(ids: list[int]) -> None:
            opening = "" if contexts[0].state.closed else self.builder.opening
            assert said is not None
            said(opening + self.builder.codec.decode(ids)[0] if ids else "")

        def write(batch: Sequence[int]) -> None:
            with self.memory_named(sum(starts[i].length for i in batch)):
                some, told = [starts[i] for i in batch], heard if said else None
                rows = decode(self.model, some, n, self._vocabulary, self._recorder, heard=told)
            for i, drawn in zip(batch, rows, strict=True):
                opening = "" if contexts[i].state.closed else self.builder.opening
                found[i] = [self._completion(row, opening) for row in drawn]

        rows = max(1, self._fit(self._bytes.kept) // max(1, n * starts[0].sampling.max_tokens))
        for batch in batches([start.length for start in starts], max_prefix_tokens):
            for first in range(0, len(batch), rows):
                in_halves(batch[first : first + rows], write, self._recorder.forget)
        return found

    def drawn_elsewhere(
        self, token_ids: Sequence[int], logprobs: Sequence[float], *, finished: bool, drawn_at: int
    ) -> TokenCompletion:
        """Return tokens that a server drew after a prompt of this policy's as a completion.

        Args:
            token_ids: with the end-of-turn token when it was drawn.
            logprobs: of each token, as the server told them.
            finished: whether it was.
            drawn_at: the update whose weights the server had.
        """
        row = Row(tuple(token_ids), tuple(logprobs), (), finished)
        return replace(self._completion(row, self.builder.opening), drawn_at=drawn_at)

    @property
    def never_drawn(self) -> tuple[int, ...]:
        """The token ids that are never drawn: visual placeholders, and embedding rows without a token."""
        return tuple(self._vocabulary.forbidden.tolist())

    def _completion(self, row: Row, opening: str) -> TokenCompletion:
        text, offsets = self.builder.codec.decode(row.token_ids)
        if opening:  # the chat template began the reply
            text, by = opening + text, len(opening)
            offsets = tuple((start + by, end + by) for start, end in offsets)
        return TokenCompletion(text, row.token_ids, offsets, row.logprobs, row.peaks, row.finished)

    def score(self, context: Context, continuations: Sequence[str], *, closed: bool = False) -> list[float]:
        """Return the log-probability of each continuation, all from one packed row."""
        return [float(sum(tokens)) for tokens in self.score_tokens(context, continuations, end=closed)]

    @torch.inference_mode()
    def score_tokens(
        self, context: Context, continuations: Sequence[str], end: bool = False
    ) -> list[tuple[float, ...]]:
        """Return the log-probability of every token of each continuation.

        Args:
            context: what was read. A think block that the chat template opens is ended before answers are scored.
            continuations: texts the assistant might say next: answers, or whole replies that begin with `<think>`.
            end: include the end-of-turn token.
        """
        state: QwenState = (self._reader.closed(context) if closes(self.builder, continuations) else context).state
        tokens = [self.tokens(text, end) for text in continuations]
        with self.memory_named(len(state)):
            return score_after(self.model, state, tokens)

    def score_many(
        self,
        chats: Sequence[Sequence[Turn]],
        continuations: Sequence[Sequence[str]],
        *,
        closed: bool = False,
        max_prompt_tokens: int | None = None,
    ) -> list[list[float]]:
        """Return the log-probability of each continuation of each chat: reading and scoring as one packed row.

        Equal to `score(read(chats[i]), continuations[i])` one by one. Nothing is padded and nothing is kept;
        continuations of one token cost nothing beyond the prompt.

        Args:
            chats: each ends before the assistant's next words.
            continuations: for each chat, texts the assistant might say next.
            closed: count the end-of-turn token too.
            max_prompt_tokens: most prompt tokens in one row, where it is less than what suits the device; more chats
                are done one row after the other.

        Raises:
            ModelError: more than the model or the memory takes.
        """
        return [
            [float(sum(tokens)) for tokens in group]
            for group in self.score_tokens_many(chats, continuations, closed, max_prompt_tokens=max_prompt_tokens)
        ]

    @torch.inference_mode()
    def score_tokens_many(
        self,
        chats: Sequence[Sequence[Turn]],
        continuations: Sequence[Sequence[str]],
        end: bool = False,
        *,
        max_prompt_tokens: int | None = None,
    ) -> list[list[tuple[float, ...]]]:
        """Return the log-probability of every token of each continuation of each chat; see `score_many`."""
        prompts = [
            self.builder.layout(self.builder.messages(turns), closed=closes(self.builder, texts))
            for turns, texts in zip(chats, continuations, strict=True)
        ]
        tokens = [[self.tokens(text, end) for text in texts] for texts in continuations]
        self._reader.check_length(
            max((len(p) + max(map(len, group), default=0) for p, group in zip(prompts, tokens, strict=True)), default=0)
        )
        found: list[list[tuple[float, ...]]] = [[] for _ in chats]

        def score(batch: Sequence[int]) -> None:
            some, suffixes = [prompts[i] for i in batch], [tokens[i] for i in batch]
            with self.memory_named(sum(map(len, some))):
                features = self.encode([clip for i in batch for clip in clips_of(chats[i])])
                scores = score_packed(self.model, some, suffixes, features)
            for i, of_chat in zip(batch, scores, strict=True):
                found[i] = of_chat

        for batch in batches([len(prompt) for prompt in prompts], self._row_tokens(max_prompt_tokens)):
            in_halves(batch, score, self._recorder.forget)
        return found
