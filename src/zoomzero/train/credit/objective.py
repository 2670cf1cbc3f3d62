"""Settings of what reinforcement learning optimises: rewards, credit, loss.

The defaults are ours, `PAPER_OBJECTIVE` is what the paper's code does; docs/training-credit.md has the equations.
Light: loads neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from zoomzero.config import Settings


class RewardWeights(Settings):
    """How much each reward counts, relative to the others; 0 leaves it out as if it had not been given."""

    format: float = Field(1.0, ge=0, allow_inf_nan=False, description="Weight of the format reward.")
    iou: float = Field(1.0, ge=0, allow_inf_nan=False, description="Weight of the evidence's overlap.")
    answer: float = Field(1.0, ge=0, allow_inf_nan=False, description="Weight of the coarse answer.")
    zoom: float = Field(1.0, ge=0, allow_inf_nan=False, description="Weight of the zoom pass's answer.")
    wasserstein: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Weight of the evidence's closeness, also where nothing overlaps."
    )
    precision_iou: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Weight of the overlap times the share of found time that is true."
    )

    @model_validator(mode="after")
    def _something_counts(self) -> RewardWeights:
        if not any(self.model_dump().values()):
            raise ValueError("all reward weights are 0, so nothing would be learned")
        return self


class RewardSettings(Settings):
    """How responses are rewarded."""

    weights: RewardWeights = Field(RewardWeights(), description="How much each reward counts.")
    unread_glue: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Format reward when only the span list breaks the grammar; 0.5 in one of the paper's variants.",
    )
    letters: Literal["question", "a_to_f"] = Field(
        "question", description="Labels the format reward accepts: the question's own, or A-F whatever it has (paper)."
    )
    zoom: Literal["hard", "soft", "substring"] = Field(
        "hard",
        description="Zoom reward: 1 if the right option wins, its probability, or the paper's substring match of text.",
    )
    zoom_without_span: bool = Field(
        False, description="Let a response without a usable span earn the zoom reward on the whole video (paper)."
    )
    consensus: bool = Field(
        False,
        description="Examples without spans: take what most of a group's verified responses agree on for the truth.",
    )


class CreditSettings(Settings):
    """How rewards become advantages of tokens."""

    RENAMED: ClassVar[Mapping[str, str]] = {
        "normalize_std": "scale_rewards",
        "mask_truncated": "mask_truncated_completions",
    }

    estimator: str = Field(
        "select", description="Registered estimator: select, separate, grpo, gdpo, gdpo_select, select_paper."
    )
    scale_rewards: Literal["group", "none"] = Field(
        "group", description="Divide by the group's standard deviation, or do not (Dr. GRPO)."
    )
    mask_truncated_completions: bool = Field(
        False, description="Leave tokens of completions that were cut off at the token limit out of the loss."
    )


class LossSettings(Settings):
    """The clipped surrogate and its KL term."""

    RENAMED: ClassVar[Mapping[str, str]] = {
        "clip_low": "epsilon",
        "clip_high": "epsilon_high",
        "kl_coef": "beta",
        "aggregation": "loss_type (token: dapo, sequence: grpo, constant: dr_grpo)",
        "constant_length": "completion_length",
        "ratio": "importance_sampling_level",
    }

    epsilon: float = Field(0.2, gt=0, lt=1, description="Ratios below 1 - epsilon earn no more; about 3e-4 for GSPO.")
    epsilon_high: float = Field(
        0.28, gt=0, description="Ratios above 1 + epsilon_high earn no more; about 4e-4 for GSPO."
    )
    beta: float = Field(1e-2, ge=0, description="Weight of the KL estimate to the reference model; 0 needs none.")
    loss_type: Literal["dapo", "grpo", "dr_grpo", "cispo", "sapo"] = Field(
        "dapo",
        description="Clipped surrogate as a mean over all tokens (dapo), over completions of their means (grpo), or as "
        "a sum over completions x a constant (dr_grpo); clipped weights (cispo); a soft gate instead of a clip (sapo).",
    )
    completion_length: int = Field(512, ge=1, description="Tokens a completion counts as under dr_grpo.")
    sapo_temperature_pos: float = Field(1.0, gt=0, description="How fast SAPO's gate closes, advantages above 0.")
    sapo_temperature_neg: float = Field(1.05, gt=0, description="How fast SAPO's gate closes, advantages below 0.")
    importance_sampling_level: Literal["token", "sequence"] = Field(
        "token", description="Importance ratio of each token, or of its whole completion (GSPO)."
    )


class ObjectiveSettings(Settings):
    """Everything between a group of completions and a number to minimise."""

    reward: RewardSettings = Field(RewardSettings(), description="How responses are rewarded.")
    credit: CreditSettings = Field(CreditSettings(), description="How rewards become advantages.")
    loss: LossSettings = Field(LossSettings(), description="How advantages become a loss.")


PAPER_OBJECTIVE = ObjectiveSettings(
    reward=RewardSettings(letters="a_to_f", zoom="substring", zoom_without_span=True),
    credit=CreditSettings(estimator="select_paper"),
)
