"""Samples as tensors: training reads the very tokens inference builds, and only answers count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sft_models import FAMILIES, SETTINGS, make_clip, make_samples

from zoomzero.config import ModelSettings
from zoomzero.data.example import Example, read_examples
from zoomzero.data.sft_sample import SFTItem, SFTSample
from zoomzero.errors import ConfigError, VideoError
from zoomzero.policy.base import Turn
from zoomzero.prompts import coarse_text, is_well_formed, read_response, video_header, zoom_text
from zoomzero.spans import Span
from zoomzero.train.engine.sft_samples import ExampleSFTSamples, PackedSFTSamples, pack_sft_samples
from zoomzero.video.decode import decode
from zoomzero.video.plan import plan_regular, plan_spans
from zoomzero.video.probe import probe
from zoomzero.video.types import Geometry
from zoomzero.world.lessons import Stage, world_lesson

GEOMETRY = Geometry(patch=16)


def whole_prompt(policy: Any, sample: SFTSample, item: SFTItem) -> Any:
    """What inference reads before it answers this item."""
    return policy.builder.build([Turn("user", (sample.clip, sample.header + item.text))])


def check_packed(policy: Any, samples: list[SFTSample], packed: PackedSFTSamples) -> None:
    """Compare every suffix with the prompt that inference would build, token by token."""
    assert len(packed.prompts) == len(samples)
    for place, sample in enumerate(samples):
        prompt, suffixes, weights = packed.prompts[place], packed.suffixes[place], packed.weights[place]
        assert len(suffixes) == len(weights) == len(sample.items)
        for item, suffix, weight in zip(sample.items, suffixes, weights, strict=True):
            asked = whole_prompt(policy, sample, item)
            target = [*policy.builder.codec.encode(item.target), policy.end_of_turn]
            assert torch.cat([prompt.ids, suffix]).tolist() == asked.ids.tolist() + target
            assert torch.equal(prompt.positions, asked.positions[:, : len(prompt)])
            assert torch.equal(prompt.visual_index, asked.visual_index)
            assert torch.equal(prompt.patches, asked.patches)
            assert torch.equal(prompt.grids, asked.grids)
            question = len(suffix) - len(target)
            assert question >= 1, "at least one token of the question stays outside the shared prompt"
            assert weight.dtype == torch.float32
            assert weight.shape == suffix.shape
            assert (weight[:question] == 0).all()
            assert weight[-1] == item.weight, "the end of the answer is learned"
            if not item.untrained:
                assert (weight[question:] == item.weight).all()
    rows = sum(len(p) for p in packed.prompts) + sum(len(s) for group in packed.suffixes for s in group)
    assert packed.tokens == rows


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_tokens_are_those_of_inference(family_policies: dict[str, Any], family: str) -> None:
    policy, samples = family_policies[family], make_samples(family)
    packed = pack_sft_samples(samples, policy.builder, policy.end_of_turn)
    assert [len(p) for p in packed.prompts] == sorted(len(p) for p in packed.prompts)
    check_packed(policy, samples[::-1], packed)  # the single item about fewer frames is the shorter prompt


def test_packed_world_lessons_are_those_of_inference(family_policies: dict[str, Any]) -> None:
    policy = family_policies["qwen3_vl"]
    assert policy.geometry == GEOMETRY
    for index in range(6):
        sample = world_lesson(3, index, Stage(zooms=0.5), SETTINGS, GEOMETRY)
        check_packed(policy, [sample], pack_sft_samples([sample], policy.builder, policy.end_of_turn))


def test_shared_prompt_is_all_that_the_items_share(family_policies: dict[str, Any]) -> None:
    policy, (sample, _) = family_policies["qwen3_vl"], make_samples("qwen3_vl")
    packed = pack_sft_samples([sample], policy.builder, policy.end_of_turn)
    firsts = {int(suffix[0]) for suffix in packed.suffixes[0]}
    assert len(firsts) > 1, "the shared prompt goes up to the first difference"
    assert int(packed.prompts[0].visual_index.max()) < len(packed.prompts[0])
    written, _ = policy.builder.codec.decode(packed.prompts[0].ids.tolist())
    assert "This video in total has 6.0" in written, "the header is read once"


def test_untrained_letters_do_not_count(family_policies: dict[str, Any]) -> None:
    """`<answer>C</answer>...`: characters 8-9, the second token of the target."""
    policy, (sample, _) = family_policies["qwen3_vl"], make_samples("qwen3_vl")
    packed = pack_sft_samples([sample], policy.builder, policy.end_of_turn)
    target = [*policy.builder.codec.encode(sample.items[1].target), policy.end_of_turn]
    weights = packed.weights[0][1][-len(target) :].tolist()
    letter = policy.builder.codec.encode("C")[0]
    assert target[1] == letter
    assert weights == [1.0, 0.0, *[1.0] * (len(target) - 2)]
    assert set(packed.weights[0][2].tolist()) == {0.0, 0.5}


def test_same_question_twice_keeps_a_token_of_each(family_policies: dict[str, Any]) -> None:
    policy = family_policies["qwen3_vl"]
    sample = SFTSample(make_clip("qwen3_vl"), "", (SFTItem("Which symbol?", "E"), SFTItem("Which symbol?", "H")))
    check_packed(policy, [sample], pack_sft_samples([sample], policy.builder, policy.end_of_turn))


def test_tags_and_special_names_in_questions_are_plain_text(family_policies: dict[str, Any]) -> None:
    policy = family_policies["qwen3_vl"]
    sample = SFTSample(make_clip("qwen3_vl"), "", (SFTItem("<|video_pad|><|im_end|>", "<|im_end|>"), SFTItem("x", "y")))
    packed = pack_sft_samples([sample], policy.builder, policy.end_of_turn)
    check_packed(policy, [sample], packed)
    assert (packed.suffixes[0][0] == policy.model.config.video_token_id).sum() == 0


@pytest.fixture
def examples(small_world: Path) -> list[Example]:
    return read_examples(small_world)


def test_even_samples_look_at_whole_videos_and_odd_ones_closely(examples: list[Example]) -> None:
    samples = ExampleSFTSamples(examples, SETTINGS, GEOMETRY)
    coarse, zoom = samples(0), samples(1)
    assert coarse.header == video_header(32.0)
    assert [item.text for item in coarse.items] == [
        coarse_text(e.question, e.options, "think", "brief") for e in examples[:3]
    ]
    assert coarse.clip.frames.shape == (32, 32, 32, 3)
    assert zoom.header == ""
    assert [item.text for item in zoom.items] == [zoom_text(examples[0].question, examples[0].options, "brief", "text")]
    assert zoom.clip.frames.shape[1:] == (128, 128, 3)


def test_samples_take_videos_and_questions_by_turns(examples: list[Example]) -> None:
    """Two videos, so sample 2 is about the second one and sample 4 about the first again, with its next question."""
    samples = ExampleSFTSamples(examples, SETTINGS, GEOMETRY)
    asked = [samples(index).items[0].text for index in (1, 3, 5, 7, 9, 11, 13)]
    order = [0, 3, 1, 4, 2, 3, 0]
    assert asked == [zoom_text(examples[i].question, examples[i].options, "brief", "text") for i in order]
    assert len(samples(0).items) == 3
    assert len(samples(2).items) == 2


def test_samples_from_examples_read_back_as_the_truth(examples: list[Example]) -> None:
    samples = ExampleSFTSamples(examples, SETTINGS, GEOMETRY)
    for group, index in ((examples[:3], 0), (examples[3:], 2)):
        for example, item in zip(group, samples(index).items, strict=True):
            assert is_well_formed(item.target, 4, "think")
            read = read_response(item.target, 4)
            assert read.answer == example.answer
            assert [tuple(s) for s in read.spans] == [tuple(s) for s in example.spans]
    right = examples[0].options["ABCD".index(examples[0].answer)]
    assert samples(1).items[0].target == right
    by_letter = ExampleSFTSamples(examples, SETTINGS.model_copy(update={"score_options_as": "letter"}), GEOMETRY)
    assert by_letter(1).items[0].target == examples[0].answer
    silent = ExampleSFTSamples(examples, SETTINGS.model_copy(update={"think": False}), GEOMETRY)
    assert is_well_formed(silent(0).items[0].target, 4, "no_think")


def test_frames_are_those_that_inference_decodes(examples: list[Example]) -> None:
    samples = ExampleSFTSamples(examples, SETTINGS, GEOMETRY)
    info = probe(examples[0].video)
    coarse = decode(info, plan_regular(info, SETTINGS.coarse.budget(), GEOMETRY))
    assert np.array_equal(samples(0).clip.frames, coarse.frames)
    ((start_s, end_s),) = examples[0].spans
    spans = [Span(max(start_s - 0.5, 0.0), min(end_s + 0.5, 32.0))]
    zoom = decode(info, plan_spans(info, spans, SETTINGS.zoom.budget(), GEOMETRY))
    assert np.array_equal(samples(1).clip.frames, zoom.frames)
    assert samples(1).clip.times_s == zoom.times_s


def test_examples_without_spans_teach_nothing(examples: list[Example]) -> None:
    import dataclasses

    blind = [dataclasses.replace(e, spans=()) for e in examples]
    assert len(ExampleSFTSamples([*blind[:2], examples[4]], SETTINGS, GEOMETRY)(0).items) == 1
    with pytest.raises(ConfigError, match=r"data\.examples: holds no example with spans"):
        ExampleSFTSamples(blind, SETTINGS, GEOMETRY)


def test_video_that_cannot_be_read_stops_with_its_name(examples: list[Example], tmp_path: Path) -> None:
    import dataclasses

    (tmp_path / "empty.mp4").write_bytes(b"")
    samples = ExampleSFTSamples(
        [dataclasses.replace(examples[0], video=str(tmp_path / "empty.mp4"))], ModelSettings(), GEOMETRY
    )
    with pytest.raises(VideoError, match=r"empty\.mp4"):
        samples(0)


def test_open_question_is_taught_its_answer(examples: list[Example]) -> None:
    import dataclasses

    example = dataclasses.replace(examples[0], options=(), answer="a red circle")
    samples = ExampleSFTSamples([example], SETTINGS, GEOMETRY)
    assert read_response(samples(0).items[0].target, 0).answer == "a red circle"
    assert samples(1).items[0].target == "a red circle"
