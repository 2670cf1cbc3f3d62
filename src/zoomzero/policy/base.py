"""What the project asks of a model: write continuations of a chat about video, and choose between given ones.

`Policy` is all a mode of answering needs, and a server can fill it: turns of clips and texts go in, texts and
log-probabilities come out, with what they cost. The other protocols are capabilities that some policies have on top;
`zoomzero.policy.capabilities.require` says in one line which one is missing where one is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from zoomzero.video.types import Clip, Geometry


@dataclass(frozen=True, slots=True)
class Turn:
    """One chat message: clips and texts in the order the model reads them."""

    role: str  # "user" or "assistant"
    parts: tuple[Clip | str, ...]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How continuations are drawn. Temperature 0 is greedy."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 512
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """One generated continuation, with what the model tells of its tokens; None where it tells nothing.

    `offsets[i]` is the character range of token i in `text`; `logprobs[i]` its log-probability under the
    model at temperature 1 (before top-p); `peaks[i]` the mean of -log p over the 20 likeliest tokens at that
    step (higher = more peaked). The end-of-turn token is counted in `token_ids` when it was drawn
    (`finished`), with an empty range.
    """

    text: str
    token_ids: tuple[int, ...] | None
    offsets: tuple[tuple[int, int], ...] | None
    logprobs: tuple[float, ...] | None
    peaks: tuple[float, ...] | None
    finished: bool
    counted_tokens: int = 0  # how many were generated, where the policy gives no `token_ids`

    @property
    def generated_tokens(self) -> int:
        """How many tokens were generated."""
        return self.counted_tokens if self.token_ids is None else len(self.token_ids)


@dataclass(frozen=True, slots=True)
class TokenCompletion(Completion):
    """A completion with everything about its tokens: what training learns from.

    `drawn_at` says that a server drew it: the update whose weights it had then. `peaks` is empty in that case.
    """

    token_ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    logprobs: tuple[float, ...]
    peaks: tuple[float, ...]
    drawn_at: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call cost.

    `visual_tokens` are those among `new_tokens`. `reported` says that a server counted the tokens; its visual ones are
    then computed here from the frames it was sent.
    """

    prompt_tokens: int  # all tokens before the first generated one, visual ones included
    new_tokens: int  # those that had to be read; fewer where a prefix was kept
    visual_tokens: int
    seconds: float
    reported: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """The continuations of one chat and what they cost."""

    completions: tuple[Completion, ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Choice:
    """What a model makes of given continuations.

    `logprobs[i]` is the log-probability of option i; None where the model names one without saying how sure it is:
    then `chosen` is its number, or None when it named no option.
    """

    logprobs: tuple[float, ...] | None
    usage: Usage
    chosen: int | None = None
    text: str = ""  # what the model wrote, where it had to write to choose
    generated_tokens: int = 0  # of that text
    scored_by: str = "option scores"  # where the log-probabilities come from


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What a policy that keeps prefixes has read so far. Immutable: going on from it leaves it as it is.

    `state` belongs to the policy (KV tensors for a local model).
    """

    state: Any
    prompt_tokens: int  # all tokens read, visual ones included
    new_tokens: int  # those read by the call that made this context: fewer after `extend`
    visual_tokens: int  # visual tokens among new_tokens
    seconds: float

    @property
    def usage(self) -> Usage:
        """What reading cost."""
        return Usage(self.prompt_tokens, self.new_tokens, self.visual_tokens, self.seconds)

    @property
    def kept(self) -> Usage:
        """What going on from here costs in prompt tokens: nothing new is read."""
        return Usage(self.prompt_tokens, 0, 0, 0.0)


class Policy(Protocol):
    """A model that is asked about clips and text. Local checkpoints and servers both fill it."""

    name: str
    geometry: Geometry

    def write(self, turns: Sequence[Turn], n: int, sampling: Sampling) -> Written:
        """Draw n continuations of a chat that ends before the assistant's next words."""
        ...

    def choose(self, turns: Sequence[Turn], options: Sequence[str], *, closed: bool = False) -> Choice:
        """Return the log-probability of each option as the assistant's next words.

        With `closed` the end-of-turn token counts too, so that a text is not preferred for being the
        beginning of another one.
        """
        ...


@runtime_checkable
class PrefixPolicy(Policy, Protocol):
    """A policy that keeps what it has read: several questions, draws and further turns on one prefill."""

    def read(self, turns: Sequence[Turn]) -> Context:
        """Prefill a chat that ends before the assistant's next words."""
        ...

    def extend(self, context: Context, turns: Sequence[Turn]) -> Context:
        """Read more turns after a context; what it already read is not computed again."""
        ...

    def generate(self, context: Context, n: int, sampling: Sampling) -> Sequence[Completion]:
        """Draw n continuations of one context, decoded together against the shared prefix."""
        ...

    def score(self, context: Context, continuations: Sequence[str], *, closed: bool = False) -> list[float]:
        """Return the log-probability of each continuation, all from one packed row; `closed` as in `choose`."""
        ...


@runtime_checkable
class ResumingPolicy(PrefixPolicy, Protocol):
    """A policy that begins a chat from what it read for another one: several questions about the same frames."""

    def resume(self, seen: Sequence[Turn], context: Context, turns: Sequence[Turn]) -> Context:
        """Prefill a chat as `read` does; what it shares with `seen`, which left `context`, is not read again."""
        ...


@runtime_checkable
class BatchPolicy(Policy, Protocol):
    """A policy that takes several chats at once, with the results of one by one."""

    def write_many(self, chats: Sequence[Sequence[Turn]], n: int, samplings: Sequence[Sampling]) -> list[Written]:
        """Draw n continuations of each chat; samplings differ in their seed only."""
        ...


@runtime_checkable
class TrainablePolicy(PrefixPolicy, BatchPolicy, Protocol):
    """A policy whose weights are in this process and whose completions carry all of their tokens."""

    model: Any  # torch.nn.Module
    device: Any  # torch.device
    builder: Any  # chats to packed prompts
    features: Any  # cache of a frozen vision tower, or None

    def read_many(self, chats: Sequence[Sequence[Turn]]) -> list[Context]:
        """Prefill several chats together."""
        ...

    def generate_many(
        self, contexts: Sequence[Context], n: int, samplings: Sequence[Sampling]
    ) -> Sequence[Sequence[TokenCompletion]]:
        """Draw n continuations of each context, all decoded together."""
        ...

    def score_many(
        self, chats: Sequence[Sequence[Turn]], continuations: Sequence[Sequence[str]], *, closed: bool = False
    ) -> list[list[float]]:
        """Return the log-probability of each continuation of each chat, read and scored as packed rows."""
        ...

    def prompt_length(self, turns: Sequence[Turn]) -> int:
        """Return how many tokens a chat has, visual ones included."""
        ...


class Facts(Protocol):
    """What is known of how a policy is reached."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        ...


@runtime_checkable
class ServedPolicy(Policy, Protocol):
    """A policy behind a server; `facts` is what a probe of it found and goes into every trace."""

    facts: Facts
