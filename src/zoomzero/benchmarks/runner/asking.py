"""From a question to its row: what every process of a run does, whoever hands it the questions.

Questions come in batches: those of one video in one mode, so that frames are decoded once for all of them while every
mode pays for its own.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from zoomzero.answer import scoring
from zoomzero.answer.ask import answer
from zoomzero.answer.names import AskMode
from zoomzero.answer.result import PassResult
from zoomzero.answer.session import QuestionSession
from zoomzero.answer.trace import PassTrace, Trace, total_costs
from zoomzero.benchmarks.scoring.costs import evidence_hit, random_span, right_minus_right, rounded
from zoomzero.config import ModelSettings
from zoomzero.data.annotation import Question
from zoomzero.data.convert import repair_spans
from zoomzero.errors import ServerError, VideoError, ZoomZeroError
from zoomzero.policy.base import Policy, ServedPolicy
from zoomzero.policy.kept import KeptPrefixes, keeping
from zoomzero.policy.open import open_policy
from zoomzero.policy.remote.settings import ServerSettings
from zoomzero.spans import Span, widen
from zoomzero.video.cache import FrameCache
from zoomzero.video.probe import probe
from zoomzero.video.types import VideoInfo

CACHE_BYTES = 256 << 20
# What one question may do to itself; anything else (Ctrl-C, a lost import) ends the run.
ITEM_ERRORS = (
    ZoomZeroError,
    OSError,
    MemoryError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
)
Key = tuple[str, str]  # question, mode


@dataclass(frozen=True, slots=True)
class Item:
    """One question to be asked in one mode; `video` is the file."""

    question: Question
    video: str
    mode: AskMode

    @property
    def key(self) -> Key:
        """What its row goes by."""
        return self.question.id, self.mode


Batch = tuple[Item, ...]  # questions about one video in one mode


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a process needs to make its own model.

    Args:
        model, device, dtype: as `load_policy` takes them.
        settings: how it is asked, budgets included.
        timeout_s: seconds a decoding job may be silent.
        faithfulness: take the two extra looks behind the faithfulness gap.
        server: where the model is, None for one in this process.
        adapter, quantize: as `load_policy` takes them.
        keep_tokens: prompt tokens whose prefill further questions about the same frames begin from; 0: every question
            reads its own prompt, so that its costs do not depend on what was asked before.
    """

    model: str
    settings: ModelSettings
    device: str = "auto"
    dtype: str = "auto"
    timeout_s: float = 120.0
    faithfulness: bool = False
    server: ServerSettings | None = None
    adapter: str | None = None
    quantize: str | None = None
    keep_tokens: int = 0


def make_batches(items: Iterable[Item]) -> list[Batch]:
    """Group items by video and mode: all modes of a video one after another, videos in the order they first come."""
    videos: dict[str, dict[str, list[Item]]] = {}
    for item in items:
        videos.setdefault(item.video, {}).setdefault(item.mode, []).append(item)
    return [tuple(batch) for modes in videos.values() for batch in modes.values()]


def load_asker(spec: ModelSpec, index: int = 0, count: int = 1) -> tuple[Asker, dict[str, Any]]:
    """Load a model and return what asks it, and the facts a run records.

    Args:
        spec: which model.
        index: which of the models on this machine; they take turns on its GPUs.
        count: how many models share the machine.

    Returns:
        The asker, and {"dtype", "device", "parameters"}; of a server {"dtype": "server", "device": its kind, "server":
        what its probe found}.

    Raises:
        ModelError: it does not load.
    """
    if spec.server is not None:
        served = open_policy(spec.model, spec.server, spec.settings)
        assert isinstance(served, ServedPolicy)
        found = served.facts.to_dict()
        return Asker(served, spec), {"dtype": "server", "device": found["kind"], "server": found}
    import torch

    from zoomzero.policy.local import load

    device = spec.device
    if device in ("auto", "cuda") and count > 1 and torch.cuda.is_available():
        device = f"cuda:{index % torch.cuda.device_count()}"
    policy = load.load_policy(
        spec.model,
        device=device,
        dtype=spec.dtype,
        settings=spec.settings,
        adapter=spec.adapter,
        quantize=spec.quantize,
    )
    load.settle_threads(policy, count)
    return Asker(policy, spec), facts_of(policy)


def facts_of(policy: Any) -> dict[str, Any]:
    """Return what a run records of a model in this process."""
    import torch

    weights = list(policy.model.parameters())
    on_gpu = policy.device.type == "cuda"
    return {
        "dtype": str(weights[0].dtype).removeprefix("torch."),
        "device": torch.cuda.get_device_name(policy.device) if on_gpu else policy.device.type,
        "parameters": sum(p.numel() for p in weights),
    }


class OneBase:
    """Loads askers of one base model with one adapter after the other; the base is read once."""

    def __init__(self) -> None:
        self._base: Any = None

    def __call__(self, spec: ModelSpec) -> tuple[Asker, dict[str, Any]]:
        """Do as `load_asker`; the asker made before must not be asked any more."""
        from zoomzero.policy.local import load
        from zoomzero.policy.local.checkpoint.adapters import find_both

        adapter = find_both(spec.model, spec.adapter).adapter
        if self._base is None:
            self._base = load.BaseModel(spec.model, device=spec.device, dtype=spec.dtype, quantize=spec.quantize)
        policy = self._base.policy(adapter, spec.settings)
        load.settle_threads(policy)
        return Asker(policy, spec), facts_of(policy)


class Asker:
    """One model that turns items into rows. It remembers the video it looked at last."""

    def __init__(self, policy: Policy, spec: ModelSpec) -> None:
        self._kept = KeptPrefixes(spec.keep_tokens)
        self.policy, self.spec = keeping(policy, self._kept), spec
        self._video = ""
        self._info: VideoInfo | VideoError | None = None
        self._mode = ""
        self._cache = FrameCache(CACHE_BYTES)

    def ask(self, item: Item) -> str:
        """Return the item's row as one JSON line; an error is a row too."""
        started = time.perf_counter()
        try:
            row = self._row(item)
            row["seconds"] = round(time.perf_counter() - started, 4)
            return json.dumps(row, allow_nan=False)
        except ITEM_ERRORS as error:
            reason, again = describe(error), isinstance(error, ServerError) and error.passing
        self._kept.forget()
        free_memory()
        row = failed_row(item, reason, time.perf_counter() - started)
        return json.dumps(row | {"again": True} if again else row)

    def _row(self, item: Item) -> dict[str, Any]:
        info = self._look_up(item)
        question = item.question
        trace, _ = answer(
            self.policy,
            self.spec.settings,
            info,
            question.question,
            question.options,
            mode=item.mode,
            timeout_s=self.spec.timeout_s,
            cache=self._cache,
            as_annotated=True,
        )
        truth = repair_spans(question.spans, info.duration_s, Counter())
        evidence: dict[str, Any] = {"hit": evidence_hit(trace.passes, truth), "gap": None}
        if self.spec.faithfulness:
            evidence |= self._faithfulness(item, info, trace)
        return answered_row(item, trace, evidence)

    def _look_up(self, item: Item) -> VideoInfo:
        """Return what the item's video is; every video is opened once, every mode decodes and reads its own frames."""
        if (item.video, item.mode) != (self._video, self._mode):
            self._cache.clear()
            self._kept.forget()
        if item.video != self._video or self._info is None:
            self._info = _probe(item.video, self.spec.timeout_s)
        self._video, self._mode = item.video, item.mode
        if isinstance(self._info, VideoError):
            raise self._info
        return self._info

    def _faithfulness(self, item: Item, info: VideoInfo, trace: Trace) -> dict[str, Any]:
        """Look closely at the predicted spans, and at a random span as long; empty where one of them cannot be."""
        looked_at = widen(trace.spans, self.spec.settings.widen_s, 0.0, info.duration_s)
        elsewhere = random_span(looked_at, info.duration_s, item.question.id)
        if elsewhere is None or not item.question.options:
            return {}
        session = QuestionSession(
            self.policy,
            self.spec.settings,
            info,
            item.question.question,
            item.question.options,
            cache=self._cache,
            timeout_s=self.spec.timeout_s,
        )
        looks = [self._close_look(session, "faithful", looked_at), self._close_look(session, "random", (elsewhere,))]
        told = [look.trace for look in looks if look is not None]
        if len(told) < len(looks):
            return {"notes": session.missed}
        at_spans, at_random = told
        return {
            "gap": right_minus_right(at_spans.option, at_random.option, item.question.right),
            "looks": [plain_pass(one) for one in told],
            "costs": rounded(total_costs(told)),
        }

    @staticmethod
    def _close_look(session: QuestionSession, name: str, spans: Sequence[Span]) -> PassResult | None:
        return session.attempt(name, lambda: scoring.zoom(session, name, spans))


def _probe(video: str, timeout_s: float) -> VideoInfo | VideoError:
    try:
        return probe(video, timeout_s=timeout_s)
    except VideoError as error:
        return error


# --- rows -----------------------------------------------------------------------------------------------


def answered_row(item: Item, trace: Trace, evidence: dict[str, Any]) -> dict[str, Any]:
    """Return an answer's row.

    `answer` is the option's label (of a question answered in words, the words), None when none was named; `said` is
    its text.
    """
    return {
        "id": item.question.id,
        "mode": item.mode,
        "answer": trace.answer if item.question.in_words else trace.option,
        "said": trace.answer,
        "spans": [list(span) for span in trace.spans],
        "confidence": trace.confidence,
        "failed": None,
        "video": item.video,
        "duration_s": trace.duration_s,
        "costs": rounded(trace.costs),
        "reason": trace.reason,
        "notes": list(trace.notes),
        "passes": [plain_pass(one) for one in trace.passes],
        "evidence": evidence,
    }


def failed_row(item: Item, reason: str, seconds: float = 0.0) -> dict[str, Any]:
    """Return the row of a question that got no answer: it counts, as wrong."""
    return {
        "id": item.question.id,
        "mode": item.mode,
        "answer": None,
        "said": None,
        "spans": [],
        "confidence": 0.0,
        "failed": reason,
        "video": item.video,
        "duration_s": None,
        "costs": {},
        "reason": "",
        "notes": [],
        "passes": [],
        "evidence": {"hit": None, "gap": None},
        "seconds": round(seconds, 4),
    }


def plain_pass(one: PassTrace) -> dict[str, Any]:
    """Return a pass as JSON values, with the number of its frames (`frames`) instead of their times."""
    values = asdict(one)
    values["frames"] = len(values.pop("times_s"))
    return rounded({name: value for name, value in values.items() if name not in ("spans", "found")}) | {
        "spans": [list(span) for span in one.spans],
        "found": [list(span) for span in one.found],
    }


def describe(error: BaseException) -> str:
    """Return an error as one line: a typed one in its own words, any other with its kind and where it happened."""
    text = " ".join(str(error).split())
    if isinstance(error, ZoomZeroError):
        return text
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory ({text[:200]}); lower --budget"
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text[:300]}{where}"


def free_memory() -> None:
    """Give back what a failed question held on a GPU."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
