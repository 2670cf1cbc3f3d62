"""Rollouts to show: real ones, drawn, read, verified, rewarded and credited as in training, and small made-up ones."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from zoomzero.answer.ask import answer
from zoomzero.config import load_model_settings
from zoomzero.data.example import Example
from zoomzero.policy.base import Completion, Sampling, Turn
from zoomzero.prompts import answer_token_mask, coarse_text, option_labels, read_response, video_header, zoom_text
from zoomzero.spans import Span, clip
from zoomzero.train.credit.advantages import estimate
from zoomzero.train.credit.answers import ZoomResult
from zoomzero.train.credit.objective import RewardSettings
from zoomzero.train.credit.rewards import RewardValues, as_columns, reward_values
from zoomzero.train.rollouts.record import Rollout, RolloutGroup
from zoomzero.video.decode import decode
from zoomzero.video.plan import plan_spans
from zoomzero.video.probe import probe

EXAMPLE = Example(
    id="one",
    video="videos/one.mp4",
    question="Which symbol is on the red circle?",
    options=("E", "H"),
    answer="B",
    spans=(Span(10.0, 20.0),),
    duration_s=100.0,
    source="test",
    split="train",
)


def draw_group(policy: Any, checkpoint: Path, example: Example, n: int, *, index: int, step: int) -> RolloutGroup:
    """Return a group as the trainer makes it: n completions of one prompt, with verifier, rewards and advantages."""
    settings = load_model_settings(checkpoint)
    _, looks = answer(policy, settings, example.video, example.question, example.options, mode="coarse")
    drawn = looks[0].prefix.write(n, Sampling(temperature=1.0, max_tokens=120, seed=index)).completions
    rollouts = [_judged(policy, settings, example, completion) for completion in drawn]
    prompt = video_header(example.duration_s) + coarse_text(
        example.question, example.options, "think", settings.style, long=False, subtitles=""
    )
    return credited(RolloutGroup(index, step, example, prompt, tuple(rollouts)))


def credited(group: RolloutGroup, estimator: str = "select") -> RolloutGroup:
    """Return the group with the advantages that its rewards give."""
    longest = max(len(one.token_ids) for one in group.rollouts)
    counted = torch.tensor([[t < len(one.token_ids) for t in range(longest)] for one in group.rollouts])
    answers = torch.tensor([(*r.answer_mask, *[False] * (longest - len(r.answer_mask))) for r in group.rollouts])
    columns = {name: torch.tensor(values) for name, values in as_columns([r.rewards for r in group.rollouts]).items()}
    advantages = estimate(estimator, columns, counted, answers).tolist()
    rows = zip(group.rollouts, advantages, strict=True)
    rollouts = tuple(replace(one, advantages=tuple(row[: len(one.token_ids)])) for one, row in rows)
    return replace(group, rollouts=rollouts)


def _judged(policy: Any, settings: Any, example: Example, completion: Completion) -> Rollout:
    reading = read_response(completion.text, len(example.options), "think", options=example.options)
    look = _verified(policy, settings, example, reading.spans)
    return Rollout(
        text=completion.text,
        token_ids=completion.token_ids,
        offsets=completion.offsets,
        finished=completion.finished,
        option=None if reading.option is None else option_labels(len(example.options))[reading.option],
        spans=reading.spans,
        problems=reading.problems,
        answer_mask=answer_token_mask(reading, completion.offsets),
        rewards=reward_values(completion.text, reading, example, RewardSettings(), zoom=look),
        zoom=look,
        old_log_probs=completion.logprobs,
    )


def _verified(policy: Any, settings: Any, example: Example, spans: tuple[Span, ...]) -> ZoomResult:
    usable = clip(spans, 0.0, example.duration_s)
    if not usable:
        return ZoomResult(on_span=False)
    info = probe(example.video)
    frames = decode(info, plan_spans(info, usable, settings.zoom.budget(), policy.geometry))
    words = zoom_text(example.question, example.options, settings.style, settings.score_options_as)
    scores = policy.score(policy.read([Turn("user", (frames, words))]), example.options, closed=True)
    assert all(map(math.isfinite, scores))
    return ZoomResult(on_span=True, option_log_probs=tuple(scores))


def rollout(text: str = "<answer>B</answer>", **values: Any) -> Rollout:
    """A rollout of one token a character, the letter being the answer; keyword arguments replace its values."""
    at = text.find(">") + 1
    one = Rollout(
        text=text,
        token_ids=tuple(range(len(text))),
        offsets=tuple((i, i + 1) for i in range(len(text))),
        finished=True,
        option="B",
        spans=(Span(10.0, 30.0),),
        problems=(),
        answer_mask=tuple(i == at for i in range(len(text))),
        rewards=RewardValues(1.0, 0.5, 1.0, 1.0),
        zoom=ZoomResult(True, (math.log(0.25), math.log(0.75))),
    )
    return replace(one, **values)


def group(index: int = 0, step: int = 0, **values: Any) -> RolloutGroup:
    """A group of that rollout and of one cut off before it said anything."""
    other = rollout(
        "nothing", finished=False, option=None, spans=(), problems=("no_answer",), answer_mask=(False,) * 7,
        rewards=RewardValues(0.0, 0.0, 0.0, 0.0), zoom=ZoomResult(False),
    )  # fmt: skip
    return replace(credited(RolloutGroup(index, step, EXAMPLE, "Watch.", (rollout(), other))), **values)


def write_run(folder: Path, *groups: RolloutGroup, name: str = "rollouts.jsonl", tail: str = "") -> Path:
    """Write groups, and whatever `tail` is, as a file of a run."""
    folder.mkdir(exist_ok=True)
    lines = "".join(one.to_json() + "\n" for one in groups) + tail
    (folder / name).write_bytes(lines.encode("utf-8", "surrogatepass"))
    return folder
