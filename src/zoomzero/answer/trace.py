"""What an answer is made of: every pass with what it saw, said and cost, and why the final answer was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from zoomzero.spans import Span


@dataclass(frozen=True, slots=True)
class PassTrace:
    """One pass over the video: frames in, words or option scores out.

    `spans` is the part of the video it looked at, `found` the evidence it named (empty for a pass that only scores).
    `option` is the label of the option it chose (None for open questions or when it named none), `confidence` that
    option's probability, None where the model does not tell it. `prompt_tokens` are all tokens the model had before it,
    `new_tokens` those it had to read.
    """

    name: str  # direct, coarse, zoom, window 3, candidate 2, outside, context
    spans: tuple[Span, ...]
    times_s: tuple[float, ...]  # true times of its frames
    height: int
    width: int
    decoded_frames: int
    visual_tokens: int
    prompt_tokens: int
    new_tokens: int
    generated_tokens: int
    seconds: float  # waiting for frames, reading and writing together
    decode_seconds: float  # of windows some passes beside the model's work
    text: str  # what the model wrote; empty when options were scored
    answer: str | None
    option: str | None
    confidence: float | None  # None: unknown
    found: tuple[Span, ...] = ()
    span_confidence: float | None = 0.0  # None: unknown
    option_probabilities: tuple[float, ...] = ()
    problems: tuple[str, ...] = ()  # what was wrong with the text, as codes
    notes: tuple[str, ...] = ()  # what was wrong with the video
    confidence_from: str = "nothing"  # `option scores`, `top 20 tokens`, `answer tokens`, `unknown`; `nothing` was said
    span_confidence_from: str = "nothing"  # `span tokens`, `unknown`; `nothing` was found
    tokens_from: str = "model"  # who counted the tokens: `model` in this process, or `server` in its reply


@dataclass(frozen=True, slots=True)
class Trace:
    """An answer with its evidence and its whole history.

    `answer` is the chosen option's text (or the open answer), `option` its label. `reason` says in words why this
    pass's answer won. `notes` repeats what a reader of the answer must know (a damaged video, an unreadable reply).
    """

    video: str
    duration_s: float
    question: str
    options: tuple[str, ...]
    mode: str
    answer: str | None
    option: str | None
    spans: tuple[Span, ...]
    confidence: float | None  # None: unknown
    reason: str
    passes: tuple[PassTrace, ...]
    model: str
    settings_hash: str
    seconds: float
    notes: tuple[str, ...] = field(default=())
    server: dict[str, Any] | None = None  # what a probe of the server found; None: the model is in this process

    @property
    def costs(self) -> dict[str, float]:
        """The whole answer's cost: visual tokens, tokens read, tokens written, frames decoded and shown, seconds."""
        return total_costs(self.passes) | {"seconds": self.seconds}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: the fields above and `costs`."""
        return asdict(self) | {"costs": self.costs}


def total_costs(passes: Sequence[PassTrace]) -> dict[str, float]:
    """Sum what passes cost."""
    return {
        "visual_tokens": sum(p.visual_tokens for p in passes),
        "prefill_tokens": sum(p.new_tokens for p in passes),
        "generated_tokens": sum(p.generated_tokens for p in passes),
        "frames": sum(len(p.times_s) for p in passes),
        "decoded_frames": sum(p.decoded_frames for p in passes),
        "decode_seconds": round(sum(p.decode_seconds for p in passes), 3),
    }


def said_confidence(confidence: float | None) -> str:
    """Return a confidence as text."""
    return "unknown" if confidence is None else f"{confidence:.2f}"
