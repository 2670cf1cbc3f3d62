"""`QwenPolicy`: a local Qwen2.5-VL or Qwen3-VL checkpoint that reads, goes on reading, writes and scores."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoomzero.errors import ModelError
from zoomzero.policy import packed, vision
from zoomzero.policy.base import Completion, Context, Sampling, Turn
from zoomzero.policy.generate import Vocabulary, decode
from zoomzero.policy.group_attention import CachedPass, Segment
from zoomzero.policy.packed import Prompt
from zoomzero.policy.positions import continue_positions
from zoomzero.policy.prompt import Message, PromptBuilder
from zoomzero.policy.vision import VisualFeatures
from zoomzero.video.types import Clip, Geometry

PATCHES_AT_ONCE = {"cpu": 8192, "cuda": 65536}  # in the vision tower; 8192 float32 patches are 50 MB


@dataclass(frozen=True, slots=True, eq=False)
class QwenState:
    """What a `Context` of this policy holds.

    `segments` are the keys and values of everything read, one stretch for every call, shared between
    contexts; `last_hidden` (D,) predicts the next token; `prompt` keeps ids and positions (its patches are
    dropped).
    """

    messages: tuple[Message, ...]
    prompt: Prompt
    segments: tuple[Segment, ...]
    last_hidden: Tensor

    def __len__(self) -> int:
        return len(self.prompt)


class QwenPolicy:
    """A policy over a prepared transformers model; see `zoomzero.policy.base.Policy` for what each method
    promises.

    Args:
        name: what the user called the model.
        model: the transformers model, after `load.prepare`.
        builder: turns chats into prompts.
        stops: token ids that end an answer.
    """

    def __init__(self, name: str, model: Any, builder: PromptBuilder, stops: Sequence[int]) -> None:
        self.name, self.model, self.builder = name, model, builder
        self.family = builder.family
        self.geometry: Geometry = self.family.geometry
        self.stops = tuple(sorted(stops))
        text_config = packed.core(model).language_model.config
        self.max_tokens = int(text_config.max_position_embeddings)
        visual = {model.config.image_token_id, model.config.video_token_id}
        visual |= {self.family.vision_start, self.family.vision_end}
        forbidden = sorted(visual | set(range(builder.codec.size, text_config.vocab_size)))
        self._vocabulary = Vocabulary(
            torch.tensor(forbidden, device=self.device), torch.tensor(self.stops, device=self.device)
        )

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        weight: Tensor = packed.core(self.model).language_model.embed_tokens.weight
        return weight.device

    def prompt(self, turns: Sequence[Turn]) -> Prompt:
        """Return the prompt `read` would run: what training packs with suffixes (`packed.packed_states`)."""
        return self.builder.build(turns)

    def encode(self, text: str, end: bool = False) -> Tensor:
        """Return a continuation's token ids, (S,) int64; with `end`, the end-of-turn token after them."""
        ids = self.builder.codec.encode(text)
        return torch.tensor(ids + ([self.end_of_turn] if end else []), dtype=torch.int64)

    @property
    def end_of_turn(self) -> int:
        """The token that closes an assistant's turn."""
        special = self.builder.codec.special
        return special["<|im_end|>"] if "<|im_end|>" in special else self.stops[0]

    @torch.inference_mode()
    def read(self, turns: Sequence[Turn]) -> Context:
        """Prefill a chat that ends before the assistant's next words.

        Raises:
            ModelError: more than the model or the memory takes.
        """
        return self._read(self.builder.messages(turns), _clips(turns), None)

    @torch.inference_mode()
    def extend(self, context: Context, turns: Sequence[Turn]) -> Context:
        """Read more turns after a context; equal to reading all turns at once, at the cost of the new ones.

        The tokens both chats share keep their keys and values (the old chat's opening of the assistant's turn
        is taken back where the new turns do not go on from it).

        Raises:
            ModelError: more than the model or the memory takes.
        """
        state: QwenState = context.state
        return self._read(state.messages + self.builder.messages(turns), _clips(turns), state)

    def _read(self, messages: tuple[Message, ...], clips: list[Clip], past: QwenState | None) -> Context:
        began = time.perf_counter()
        prompt = self.builder.layout(messages)
        self._check_length(len(prompt))
        shared = _common_prefix(past.prompt.ids, prompt.ids) if past else 0
        shared = min(shared, len(prompt) - 1)  # the last state must be computed here
        new = torch.arange(shared, len(prompt))
        where = prompt.visual_index[prompt.visual_index >= shared] - shared
        with self._memory(len(prompt)):
            segments = _cut(past.segments, shared) if past else ()
            attention = CachedPass(segments, [len(new)], self.device, keep=True)
            features = self._encode(clips)
            hidden = packed.text_forward(
                self.model,
                prompt.ids[new].to(self.device),
                prompt.positions[:, new].to(self.device),
                where.to(self.device),
                features,
                attention,
            )
        state = QwenState(messages, prompt, (*segments, tuple(attention.kept)), hidden[-1].clone())
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # so that `seconds` is the time it took
        return Context(state, len(prompt), len(new), len(where), time.perf_counter() - began)

    def _encode(self, clips: Sequence[Clip]) -> VisualFeatures | None:
        """Run the vision tower over clips, a stretch of frames at a time: a long video needs no more memory.

        This is exact, since attention never crosses a temporal patch.
        """
        parts: list[VisualFeatures] = []
        for clip in clips:
            _, height, width = self.family.layout(clip).grid
            patches = PATCHES_AT_ONCE["cuda" if self.device.type == "cuda" else "cpu"]
            step = self.geometry.temporal * max(1, patches // (height * width))
            for start in range(0, len(clip.frames), step):
                frames = clip.frames[start : start + step]
                grid = torch.tensor([[len(frames) // self.geometry.temporal, height, width]])
                pixels = self.family.patches(frames).to(self.device)
                parts.append(vision.encode(packed.core(self.model), pixels, grid))
        return vision.join_features(parts) if parts else None

    @torch.inference_mode()
    def generate(self, context: Context, n: int, sampling: Sampling) -> list[Completion]:
        """Draw n continuations of one context, decoded together against the shared prefix.

        Raises:
            ModelError: the memory does not take n rows.
        """
        state: QwenState = context.state
        room = self.max_tokens - len(state)
        if sampling.max_tokens > room:
            self._check_length(len(state) + sampling.max_tokens)
        with self._memory(len(state)):
            rows = decode(
                self.model,
                state.segments,
                state.last_hidden,
                state.prompt.next_position,
                n,
                sampling,
                self._vocabulary,
            )
        completions = []
        for row in rows:
            text, offsets = self.builder.codec.decode(row.token_ids)
            completions.append(Completion(text, row.token_ids, offsets, row.logprobs, row.peaks, row.finished))
        return completions

    def score(self, context: Context, continuations: Sequence[str], *, closed: bool = False) -> list[float]:
        """Return the log-probability of each continuation, all from one packed row."""
        return [float(sum(tokens)) for tokens in self.score_tokens(context, continuations, end=closed)]

    @torch.inference_mode()
    def score_tokens(
        self, context: Context, continuations: Sequence[str], end: bool = False
    ) -> list[tuple[float, ...]]:
        """Return the log-probability of every token of each continuation.

        Args:
            context: what was read.
            continuations: texts the assistant might say next.
            end: include the end-of-turn token.
        """
        state: QwenState = context.state
        tokens = [self.encode(text, end) for text in continuations]
        lengths = [max(len(ids) - 1, 0) for ids in tokens]
        bodies = [ids[:-1] for ids in tokens if len(ids) > 1]
        states = state.last_hidden[None]  # (1 + sum of bodies, D)
        with self._memory(len(state)):
            if bodies:
                start = state.prompt.next_position
                hidden = packed.text_forward(
                    self.model,
                    torch.cat(bodies).to(self.device),
                    torch.cat([continue_positions(start, len(b)) for b in bodies], 1).to(self.device),
                    torch.empty(0, dtype=torch.int64, device=self.device),
                    None,
                    CachedPass(state.segments, [len(b) for b in bodies], self.device, keep=False),
                )
                states = torch.cat([states, hidden])
            predictors, at = [], 1
            for ids, length in zip(tokens, lengths, strict=True):
                predictors += [0, *range(at, at + length)] if len(ids) else []
                at += length
            flat = packed.PackedStates(
                states[torch.tensor(predictors, dtype=torch.int64, device=self.device)],
                torch.cat([*tokens, torch.empty(0, dtype=torch.int64)]).to(self.device),
                (tuple(len(ids) for ids in tokens),),
            )
            scores = flat.split(packed.suffix_logprobs(self.model, flat))[0]
        return [tuple(piece.tolist()) for piece in scores]

    def _check_length(self, tokens: int) -> None:
        if tokens > self.max_tokens:
            raise ModelError(
                self.name,
                f"{tokens} tokens are more than its {self.max_tokens} positions",
                "lower --budget or the number of frames, or shorten the text",
            )

    @contextmanager
    def _memory(self, tokens: int) -> Iterator[None]:
        """Turn running out of memory into an error that says what to do."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise self._no_memory(tokens) from error
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):
                raise
            raise self._no_memory(tokens) from error

    def _no_memory(self, tokens: int) -> ModelError:
        return ModelError(
            self.name,
            f"out of memory with {tokens} tokens in the prompt",
            "lower --budget or use a smaller model",
        )


def _clips(turns: Sequence[Turn]) -> list[Clip]:
    return [part for turn in turns for part in turn.parts if isinstance(part, Clip)]


def _common_prefix(a: Tensor, b: Tensor) -> int:
    """Return how many tokens two prompts share from the start."""
    length = min(len(a), len(b))
    different = (a[:length] != b[:length]).nonzero()
    return int(different[0]) if len(different) else length


def _cut(segments: tuple[Segment, ...], length: int) -> tuple[Segment, ...]:
    """Return the first `length` tokens of what was read, without copying."""
    kept: list[Segment] = []
    for segment in segments:
        size = segment[0][0].shape[2]
        if length >= size:
            kept.append(segment)
        elif length > 0:
            kept.append(tuple((k[:, :, :length], v[:, :, :length]) for k, v in segment))
        length -= min(size, length)
    return tuple(kept)
