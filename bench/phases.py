"""The phases of a training step, each run our way and the usual way: what `step.py` times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from random_models import Usual, attention_layers, make_policy, random_clip
from zoomzero.policy.base import Sampling, Turn
from zoomzero.policy.local.attention import packed
from zoomzero.policy.local.features import FeatureCache
from zoomzero.policy.local.positions import continue_positions
from zoomzero.video.types import Clip

LETTERS = ("A", "B", "C", "D")
OURS, USUAL, TOWER = "ours", "usual", "usual + tower"
OURS_A_ROUND = 3  # short runs of a GPU are repeated within a round


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured.

    Args:
        family, size: of the model.
        prefix: visual tokens of the prompt.
        zoom: visual tokens of each close look.
        rows: completions of the prompt, G.
        length: tokens of each.
        checkpointing: recompute activations in the backward pass, in every way.
    """

    family: str
    size: str
    prefix: int
    zoom: int
    rows: int
    length: int
    checkpointing: bool


def chat(clip: Clip) -> list[Turn]:
    """Return a question about a clip."""
    return [Turn("user", (clip, "Which symbol is on the red circle? Answer with the letter.\nA\nB\nC\nD"))]


class Bench:
    """One case: a model, a prompt with completions, close looks, and the phases in every way."""

    def __init__(self, case: Case, device: torch.device) -> None:
        self.case, self.device = case, device
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.policy = make_policy(case.family, case.size, device, dtype)
        self.model, self.usual = self.policy.model, Usual(self.policy)
        self.dtype = dtype
        self.set_prompt(case.prefix, case.zoom, case.length)

    def set_prompt(self, prefix: int, zoom: int, length: int) -> None:
        """Make the prompt, its completions and the close looks."""
        case, policy, self.length = self.case, self.policy, length
        self.clip = random_clip(policy, prefix, 0)
        self.chat = [Turn("user", (self.clip, "Which symbol is on the red circle, and when?"))]
        self.zooms = [
            [Turn("user", (random_clip(policy, zoom, 1 + i), "Answer.\nA\nB\nC\nD"))] for i in range(case.rows)
        ]
        generator = torch.Generator().manual_seed(1)
        vocabulary = self.model.config.text_config.vocab_size
        self.completions = [torch.randint(500, vocabulary, (length,), generator=generator) for _ in range(case.rows)]
        self.prompt = policy.builder.layout(policy.builder.messages(self.chat))
        self.sampling = Sampling(1.0, 1.0, length, 0)
        # the usual way gets its pixels for nothing: they are patches on the device before the clock starts
        self.usual_prompt = self._usual_inputs(self.chat)
        self.usual_zooms = [self._usual_inputs(turns) for turns in self.zooms]
        self.kept = FeatureCache(1 << 34)
        with self.features_kept():
            self.context = policy.read(self.chat)

    def _usual_inputs(self, turns: Sequence[Turn]) -> dict[str, Tensor]:
        prompt = self.policy.prompt(turns)
        kinds = torch.zeros_like(prompt.ids)
        kinds[prompt.visual_index] = 2
        assert prompt.patches is not None
        inputs = {
            "input_ids": prompt.ids[None],
            "attention_mask": torch.ones_like(prompt.ids)[None],
            "mm_token_type_ids": kinds[None],
            "pixel_values_videos": prompt.patches.to(self.dtype),
            "video_grid_thw": prompt.grids,
        }
        if self.case.family == "qwen2_5_vl":
            inputs["second_per_grid_ts"] = torch.ones(1)
        return {name: value.to(self.device) for name, value in inputs.items()}

    # --- our way ---

    def our_vision(self) -> None:
        """Encode the prompt's frames."""
        self.policy.encode([self.clip])

    def our_prefill(self) -> None:
        """Read the prompt, its features kept from before."""
        with self.features_kept():
            self.context = self.policy.read(self.chat)

    def our_decode(self) -> None:
        """Write all completions after the prompt."""
        self.policy.generate(self.context, self.case.rows, self.sampling)

    def our_rollout(self) -> None:
        """Encode, read and write."""
        self.policy.generate(self.policy.read(self.chat), self.case.rows, self.sampling)

    def our_zoom(self) -> None:
        """Score the letters after every close look."""
        self.policy.score_many(self.zooms, [LETTERS] * self.case.rows)

    def our_logprobs(self) -> Tensor:
        """Log-probabilities of all completions, (G * C,)."""
        features = self.policy.encode([self.clip])
        states = packed.packed_states(self.model, [self.prompt], [self.completions], features)
        return packed.suffix_logprobs(self.model, states)

    def our_logprobs_kept(self) -> Tensor:
        """The same with features kept from the rollouts."""
        with self.features_kept():
            return self.our_logprobs()

    def our_training(self) -> None:
        """Log-probabilities and their gradients."""
        self.our_logprobs().mean().backward()

    def our_training_kept(self) -> None:
        """The same with features kept from the rollouts."""
        with self.features_kept():
            self.our_training()

    @contextmanager
    def features_kept(self) -> Iterator[None]:
        """Use the feature cache."""
        self.policy.features = self.kept
        try:
            yield
        finally:
            self.policy.features = None

    # --- the usual way ---

    def usual_vision(self) -> None:
        """Encode the prompt's frames through transformers' own call."""
        inputs = self.usual_prompt
        self.model.model.get_video_features(inputs["pixel_values_videos"], inputs["video_grid_thw"])

    def usual_rollout(self) -> None:
        """`generate` with G returned sequences."""
        self._usual_generate(self.usual_prompt, self.case.rows, self.length, do_sample=True)

    def usual_zoom(self) -> None:
        """A generated answer, a letter and the end, for each close look."""
        for inputs in self.usual_zooms:
            self._usual_generate(inputs, 1, 2, do_sample=False)

    def _usual_generate(self, inputs: dict[str, Tensor], rows: int, length: int, *, do_sample: bool) -> None:
        self.model.model.rope_deltas = None
        sampled = {"num_return_sequences": rows, "top_k": 0} if do_sample else {}
        self.model.generate(**inputs, max_new_tokens=length, min_new_tokens=length, do_sample=do_sample, **sampled)

    def usual_one(self, completion: Tensor) -> Tensor:
        """Log-probabilities of one completion as a full sequence, (C,)."""
        inputs, count = dict(self.usual_prompt), len(completion)
        suffix = completion.to(self.device)[None]
        inputs["input_ids"] = torch.cat([inputs["input_ids"], suffix], 1)
        inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(suffix)], 1)
        del inputs["attention_mask"]  # nothing is padded; without it attention may use its fastest kernel
        tail = continue_positions(self.prompt.next_position, count)
        positions = torch.cat([self.prompt.positions, tail], 1)[:, None].to(self.device)
        output = self.model(**inputs, position_ids=positions, use_cache=False, logits_to_keep=count + 1)
        logits = output.logits[0, :-1].float()
        return logits.gather(1, suffix[0][:, None])[:, 0] - logits.logsumexp(1)

    def usual_logprobs(self) -> Tensor:
        """Log-probabilities of all completions, (G * C,)."""
        return torch.cat([self.usual_one(completion) for completion in self.completions])

    def usual_training(self) -> None:
        """Log-probabilities and their gradients, one completion after the other."""
        for completion in self.completions:
            (self.usual_one(completion).sum() / (self.case.rows * self.length)).backward()

    # --- running ---

    @contextmanager
    def way(self, name: str, training: bool) -> Iterator[None]:
        """Set the model up for a way; the vision tower stays frozen, as in the method."""
        self.usual.use(text=name == OURS, tower=name != USUAL)
        model, text = self.model, self.model.model.language_model
        if training:
            text.requires_grad_(True)
            model.lm_head.requires_grad_(True)
            text.train()
            if self.case.checkpointing:  # the method got another name after transformers 5.17
                enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
                enable({"use_reentrant": False})
        try:
            with torch.enable_grad() if training else torch.no_grad():
                yield
        finally:
            if training:
                if self.case.checkpointing:
                    (getattr(model, "activation_checkpointing_disable", None) or model.gradient_checkpointing_disable)()
                model.zero_grad()
                model.requires_grad_(False).eval()
            self.usual.use(text=True, tower=True)

    def check(self) -> dict[str, float]:
        """Compare the two ways: largest difference of log-probabilities, relative one of a gradient."""
        grads, values = [], []
        weight = attention_layers(self.model)[0].self_attn.k_proj.weight
        for name, logprobs, train in (
            (OURS, self.our_logprobs, self.our_training),
            (USUAL, self.usual_logprobs, self.usual_training),
        ):
            with self.way(name, training=False):
                values.append(logprobs())
            with self.way(name, training=True):
                train()
                grads.append(weight.grad.float().clone())
        return {
            "logprobs": float((values[0] - values[1]).abs().max()),
            "gradient": float((grads[0] - grads[1]).norm() / grads[1].norm()),
        }


Phase = tuple[str, dict[str, Callable[[Bench], Any]], bool]
PHASES: tuple[Phase, ...] = (
    ("vision tower", {OURS: Bench.our_vision, USUAL: Bench.usual_vision}, False),
    ("prefill", {OURS: Bench.our_prefill}, False),
    ("decode", {OURS: Bench.our_decode}, False),
    ("rollout", {OURS: Bench.our_rollout, USUAL: Bench.usual_rollout, TOWER: Bench.usual_rollout}, False),
    ("zoom scoring", {OURS: Bench.our_zoom, USUAL: Bench.usual_zoom, TOWER: Bench.usual_zoom}, False),
    ("log-probs", {OURS: Bench.our_logprobs, USUAL: Bench.usual_logprobs, TOWER: Bench.usual_logprobs}, False),
    ("log-probs, features kept", {OURS: Bench.our_logprobs_kept}, False),
    ("forward+backward", {OURS: Bench.our_training, USUAL: Bench.usual_training, TOWER: Bench.usual_training}, True),
    ("forward+backward, features kept", {OURS: Bench.our_training_kept}, True),
)
