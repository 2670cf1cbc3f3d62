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
from zoomzero.data.sft_sample import Exchange, SFTItem, SFTSample
from zoomzero.errors import ConfigError, VideoError
from zoomzero.policy.base import Turn
from zoomzero.policy.prefix import Prefix
from zoomzero.prompts import coarse_text, is_well_formed, read_response, video_header, zoom_text
from zoomzero.spans import Span
from zoomzero.train.engine.sft import SFTLoss
from zoomzero.train.engine.sft_samples import ExampleSFTSamples, PackedSFTSamples, pack_sft_samples
from zoomzero.video.decode import decode
from zoomzero.video.plan import plan_regular, plan_spans
from zoomzero.video.probe import probe
from zoomzero.video.types import Geometry
from zoomzero.world.curriculum import Stage, step_samples

GEOMETRY = Geometry(patch=16)


def chat_of(sample: SFTSample, item: SFTItem) -> list[Turn]:
    """What inference reads before it answers this item: earlier exchanges, then the clip and the question."""
    before = [(Turn("user", (e.clip, e.text)), Turn("assistant", (e.reply,))) for e in sample.history]
    return [*(turn for pair in before for turn in pair), Turn("user", (sample.clip, sample.header + item.text))]


def whole_prompt(policy: Any, sample: SFTSample, item: SFTItem) -> Any:
    """The prompt of that chat."""
    return policy.builder.build(chat_of(sample, item))


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
            if not item.untrained and not item.decisive:
                assert (weight[question:] == item.weight).all()
    rows = sum(len(p) for p in packed.prompts) + sum(len(s) for group in packed.suffixes for s in group)
    assert packed.tokens == rows


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_tokens_are_those_of_inference(family_policies: dict[str, Any], family: str) -> None:
    policy, samples = family_policies[family], make_samples(family)
    packed = pack_sft_samples(samples, policy.builder, policy.end_of_turn)
    assert [len(p) for p in packed.prompts] == sorted(len(p) for p in packed.prompts)
    check_packed(policy, samples[::-1], packed)  # the single item about fewer frames is the shorter prompt


EVERYTHING = Stage(
    1,
    pictures=1,
    closeups=1,
    clips=1,
    windows=1,
    sparse=1,
    zooms=1,
    contexts=1,
    shortest_s=6,
    longest_s=20,
    questions=3,
)


def test_packed_samples_of_the_world_are_those_of_inference(family_policies: dict[str, Any]) -> None:
    """Of every kind, the empty listing of a pair that shows nothing among them."""
    policy = family_policies["qwen3_vl"]
    assert policy.geometry == GEOMETRY
    for step in range(3):
        samples = step_samples(3, step, [EVERYTHING], SETTINGS, GEOMETRY)
        assert len(samples[-1].history) == 1
        packed = pack_sft_samples(samples, policy.builder, policy.end_of_turn)
        check_packed(policy, sorted(samples, key=lambda s: shared_length(policy, s)), packed)
    blank = SFTSample(make_clip("qwen3_vl"), "", (SFTItem("List what you see.", ""),))
    packed = pack_sft_samples([blank], policy.builder, policy.end_of_turn)
    check_packed(policy, [blank], packed)
    assert packed.weights[0][0].tolist()[-1] == 1.0, "the end is learned even where there is nothing to say"


def shared_length(policy: Any, sample: SFTSample) -> int:
    """Length of the prompt the items of a sample share, by a plain comparison."""
    rows = [whole_prompt(policy, sample, item).ids.tolist() for item in sample.items]
    shortest = min(len(row) for row in rows) - 1
    return next((i for i in range(shortest) if len({row[i] for row in rows}) > 1), shortest)


def test_history_is_read_and_not_learned(family_policies: dict[str, Any]) -> None:
    """The earlier frames, question and reply are the beginning of the shared prompt; weights are the answer's alone."""
    for family in FAMILIES:
        policy = family_policies[family]
        before = Exchange(
            make_clip(family, 6, seed=2), "Which symbol?", "<answer>B</answer>\n<glue>[(1.0, 2.0)]</glue>"
        )
        items = (SFTItem("And now?", "E"), SFTItem("And then?", "H"))
        sample = SFTSample(make_clip(family, 4, seed=3), "", items, (before,))
        packed = pack_sft_samples([sample], policy.builder, policy.end_of_turn)
        check_packed(policy, [sample], packed)
        (prompt,), ((first, second),) = packed.prompts, packed.weights
        assert len(prompt.grids) == 2, "both clips"
        assert prompt.patches.shape[0] == int(prompt.grids.prod(1).sum())
        assert len(prompt.visual_index) == 2 * (6 + 4) // 2
        assert (float(first.sum()), float(second.sum())) == (2.0, 2.0), "a letter and the end of the turn"
        reply = policy.builder.codec.encode(before.reply)
        ids = prompt.ids.tolist()
        assert any(ids[i : i + len(reply)] == reply for i in range(len(ids))), "the reply is in the prompt"


def test_history_reads_what_going_on_in_a_chat_reads(family_policies: dict[str, Any]) -> None:
    """As the zoom pass in context does: the first chat is read, its reply and the close look are read after it."""
    policy = family_policies["qwen3_vl"]
    before = Exchange(make_clip("qwen3_vl", 6, seed=2), "Which?", "<answer>B</answer>\n<glue>[]</glue>")
    sample = SFTSample(make_clip("qwen3_vl", 4, seed=3), "", (SFTItem("And now?", "E"),), (before,))
    first = Prefix.read(policy, [Turn("user", (before.clip, before.text))])
    on = first.extend([Turn("assistant", (before.reply,)), Turn("user", (sample.clip, sample.items[0].text))])
    assert on.context is not None
    packed = pack_sft_samples([sample], policy.builder, policy.end_of_turn)
    target = [*policy.builder.codec.encode("E"), policy.end_of_turn]
    whole = torch.cat([packed.prompts[0].ids, packed.suffixes[0][0]]).tolist()
    assert whole == on.context.state.prompt.ids.tolist() + target
    with torch.no_grad():
        loss = float(SFTLoss(policy.model)(packed)["loss"])
    (scores,) = policy.score_tokens(on.context, ["E"], end=True)
    assert loss == pytest.approx(-sum(scores) / len(scores), rel=1e-4)


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


def test_decisive_tokens_count_four_times(family_policies: dict[str, Any]) -> None:
    """Where the span begins, and the letter; what nobody can know counts nothing all the same."""
    policy = family_policies["qwen3_vl"]
    target = "the red ring visible<time>(12.0, 14.0)</time>\n<answer>B</answer>"
    places = tuple((target.index(piece), target.index(piece) + len(piece)) for piece in ("12", "B"))
    items = (SFTItem("a", target, decisive=places), SFTItem("b", target, decisive=places, weight=0.5))
    packed = pack_sft_samples([SFTSample(make_clip("qwen3_vl"), "", items)], policy.builder, policy.end_of_turn)
    ids = [*policy.builder.codec.encode(target), policy.end_of_turn]
    number, letter = (policy.builder.codec.encode(piece) for piece in ("12", "B"))
    expected = [4.0 if [token] in (number, letter) else 1.0 for token in ids]
    assert expected.count(4.0) == 2
    assert [w[-len(ids) :].tolist() for w in packed.weights[0]] == [expected, [0.5 * w for w in expected]]
    both = SFTItem("a", target, untrained=places[1:], decisive=places)
    packed = pack_sft_samples([SFTSample(make_clip("qwen3_vl"), "", (both,))], policy.builder, policy.end_of_turn)
    (found,) = packed.weights[0]
    wanted = [0.0 if [token] == letter else w for token, w in zip(ids, expected, strict=True)]
    assert found[-len(ids) :].tolist() == wanted


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
