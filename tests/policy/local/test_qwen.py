"""The policy against transformers' own forward and generate, on saved checkpoints of both families."""

import math

import pytest
import torch
from policy_models import FAMILIES, make_clip, plain_inputs, save_checkpoint, small_tokenizer

from zoomzero.errors import ModelError
from zoomzero.policy.base import Sampling, Turn
from zoomzero.policy.local import encoder, vision
from zoomzero.policy.local.attention import packed
from zoomzero.policy.local.load import load_policy

SECONDS = [1.0]  # two frames a patch at 2 fps
both = pytest.mark.parametrize("family", FAMILIES)


def user(*parts):
    return Turn("user", parts)


def question(family):
    return [user(make_clip(family), "which symbol is on the red circle")]


def logits_of(policy, context):
    return packed.head(policy.model)(context.state.last_hidden)


@both
def test_read_equals_plain_forward(policies, plain_models, family):
    policy, plain = policies[family], plain_models[family]
    turns = question(family)
    context = policy.read(turns)
    with torch.inference_mode():
        expected = plain(**plain_inputs(plain, policy.prompt(turns), SECONDS)).logits[0, -1]
    torch.testing.assert_close(logits_of(policy, context), expected, atol=2e-5, rtol=1e-5)
    assert context.prompt_tokens == context.new_tokens == len(policy.prompt(turns))
    assert context.visual_tokens == make_clip(family).visual_tokens(policy.geometry) == 3 * 2 * 3
    assert context.seconds > 0


@both
def test_long_clips_are_encoded_in_stretches(policies, family, monkeypatch):
    policy = policies[family]
    whole = policy.read(question(family))
    monkeypatch.setitem(encoder.PATCHES_AT_ONCE, "cpu", 2 * 4 * 6)  # two temporal patches of 4 x 6: 3 become 2 + 1
    calls = []
    encode = vision.encode
    monkeypatch.setattr(vision, "encode", lambda *a: calls.append(a[2].tolist()) or encode(*a))
    pieces = policy.read(question(family))
    assert calls == [[[2, 4, 6]], [[1, 4, 6]]]
    torch.testing.assert_close(pieces.state.last_hidden, whole.state.last_hidden, atol=2e-5, rtol=1e-5)


@both
def test_two_clips_of_different_sizes(policies, plain_models, family):
    policy, plain = policies[family], plain_models[family]
    # both from the beginning, so that no times are named in Qwen2.5-VL's text
    turns = [user(make_clip(family), "and", make_clip(family, frames=2, rows=5, columns=4, fps=1.0), "?")]
    with torch.inference_mode():
        expected = plain(**plain_inputs(plain, policy.prompt(turns), [1.0, 2.0])).logits[0, -1]
    torch.testing.assert_close(logits_of(policy, policy.read(turns)), expected, atol=2e-5, rtol=1e-5)


@both
@pytest.mark.parametrize("role", ["assistant", "user"])
def test_extend_equals_reading_everything(policies, family, role):
    policy = policies[family]
    first = question(family)
    more = [Turn("assistant", ("the red circle",))] if role == "assistant" else []
    more += [user(make_clip(family, frames=4, rows=3, columns=2, start_s=1.0, seed=1), "again?")]
    context = policy.read(first)
    before = [k.clone() for segment in context.state.segments for k, _ in segment]
    extended, whole = policy.extend(context, more), policy.read(first + more)
    torch.testing.assert_close(extended.state.last_hidden, whole.state.last_hidden, atol=2e-5, rtol=1e-5)
    assert torch.equal(extended.state.prompt.positions, whole.state.prompt.positions)
    assert extended.prompt_tokens == whole.prompt_tokens
    assert extended.new_tokens < whole.new_tokens - context.visual_tokens
    assert extended.visual_tokens == 2 * 3 * 2  # only the new clip's
    # what comes after is the same too, and the first context is as it was
    texts = ["the red", "B"]
    assert policy.score(extended, texts) == pytest.approx(policy.score(whole, texts), abs=1e-4)
    assert all(
        torch.equal(a, k) for a, (k, _) in zip(before, [x for s in context.state.segments for x in s], strict=True)
    )
    assert context.state.segments[0][0][0].data_ptr() == extended.state.segments[0][0][0].data_ptr()


@both
def test_greedy_equals_transformers_generate(policies, plain_models, family):
    policy, plain = policies[family], plain_models[family]
    turns = [user(make_clip(family), "count the objects in this video please")]
    (found,) = policy.generate(policy.read(turns), 1, Sampling(max_tokens=20))
    prompt = policy.prompt(turns)
    out = plain.generate(
        **plain_inputs(plain, prompt, SECONDS),
        attention_mask=torch.ones_like(prompt.ids)[None],
        max_new_tokens=20,
        do_sample=False,
        suppress_tokens=policy._vocabulary.forbidden.tolist(),
        eos_token_id=list(policy.stops),
        pad_token_id=0,
    )
    assert list(found.token_ids) == out[0, len(prompt) :].tolist()
    assert len(set(found.token_ids)) > 3  # a model that repeats itself would prove little


@both
def test_logprobs_equal_a_teacher_forced_pass(policies, plain_models, family):
    policy, plain = policies[family], plain_models[family]
    turns = question(family)
    context = policy.read(turns)
    prompt = policy.prompt(turns)
    for completion in policy.generate(context, 3, Sampling(1.0, 0.9, 12, seed=4)):
        ids = torch.tensor(completion.token_ids)
        with torch.inference_mode():
            packed_row = packed.packed_states(policy.model, [prompt], [[ids]])
            forced = packed.suffix_logprobs(policy.model, packed_row)
        assert completion.logprobs == pytest.approx(forced.tolist(), abs=2e-5)
        first = plain(**plain_inputs(plain, prompt, SECONDS)).logits[0, -1].log_softmax(-1)
        assert completion.logprobs[0] == pytest.approx(first[ids[0]].item(), abs=2e-5)
        assert completion.peaks[0] == pytest.approx(-first.topk(20).values.mean().item(), abs=2e-5)
        assert len(completion.token_ids) == len(completion.offsets) == len(completion.logprobs)
        assert (completion.text, completion.offsets) == policy.builder.codec.decode(completion.token_ids)


@both
def test_sampling_is_seeded_and_rows_differ(policies, family):
    policy = policies[family]
    context = policy.read(question(family))
    one, again, other = (
        [c.token_ids for c in policy.generate(context, 4, Sampling(1.0, 1.0, 8, seed))] for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other
    assert len(set(one)) > 1


def test_top_p_keeps_the_likeliest(policies):
    policy = policies["qwen3_vl"]
    context = policy.read(question("qwen3_vl"))
    greedy = policy.generate(context, 1, Sampling(max_tokens=6))[0].token_ids
    tight = policy.generate(context, 3, Sampling(1.0, 1e-6, 6, seed=5))
    assert all(c.token_ids == greedy for c in tight)


def test_rows_that_finish_do_not_change_the_others(policies):
    """A row's tokens are the same whether the others stopped early or not."""
    policy = policies["qwen3_vl"]
    context = policy.read(question("qwen3_vl"))
    sampling = Sampling(1.0, 1.0, 10, seed=7)
    free = policy.generate(context, 4, sampling)
    stop = free[1].token_ids[2]  # make the third token of row 1 a stop token
    old = policy._vocabulary
    policy._vocabulary = type(old)(old.forbidden, torch.tensor([stop]))
    try:
        stopped = policy.generate(context, 4, sampling)
    finally:
        policy._vocabulary = old
    for before, after in zip(free, stopped, strict=True):
        cut = before.token_ids.index(stop) + 1 if stop in before.token_ids else None
        assert after.token_ids == before.token_ids[:cut]
        assert after.finished == (cut is not None)
        assert after.logprobs == pytest.approx(before.logprobs[:cut], abs=1e-4)
    assert stopped[1].finished


@both
def test_forbidden_tokens_are_never_drawn(policies, family):
    policy = policies[family]
    names = ("<|video_pad|>", "<|image_pad|>", "<|vision_start|>", "<|vision_end|>")
    special = {policy.builder.codec.special[name] for name in names}
    forbidden = set(policy._vocabulary.forbidden.tolist())
    rows = policy.model.lm_head.weight.shape[0]
    assert forbidden == special | set(range(rows - 7, rows))
    drawn = policy.generate(policy.read(question(family)), 32, Sampling(20.0, 1.0, 12, seed=1))
    assert not {t for c in drawn for t in c.token_ids} & forbidden


@both
def test_scores_equal_teacher_forcing(policies, family):
    policy = policies[family]
    turns = question(family)
    texts = ["B", "the red circle", "", "the symbol"]
    found = policy.score_tokens(policy.read(turns), texts)
    for text, scores in zip(texts, found, strict=True):
        ids = policy.tokens(text)
        assert len(scores) == len(ids)
        if len(ids):
            with torch.inference_mode():
                row = packed.packed_states(policy.model, [policy.prompt(turns)], [[ids]])
                expected = packed.suffix_logprobs(policy.model, row)
            assert scores == pytest.approx(expected.tolist(), abs=2e-5)
    assert policy.score(policy.read(turns), texts) == pytest.approx([sum(s) for s in found])


def test_score_can_end_the_turn(policies):
    policy = policies["qwen3_vl"]
    context = policy.read(question("qwen3_vl"))
    (plain,), (ended,) = (policy.score_tokens(context, ["B"], end=e) for e in (False, True))
    assert len(ended) == len(plain) + 1
    assert ended[:-1] == pytest.approx(plain, abs=1e-5)
    assert policy.score(context, ["B"], closed=True) == pytest.approx([sum(ended)], abs=1e-5)


def test_single_tokens_are_one_look_at_the_last_state(policies, monkeypatch):
    policy = policies["qwen3_vl"]
    context = policy.read(question("qwen3_vl"))
    monkeypatch.setattr(packed, "text_forward", lambda *_: pytest.fail("ran the model"))
    letters = "ABCD"
    assert all(len(policy.tokens(x)) == 1 for x in letters)
    expected = logits_of(policy, context).log_softmax(-1)
    assert policy.score(context, list(letters)) == pytest.approx(
        [expected[policy.tokens(x)[0]].item() for x in letters], abs=1e-5
    )


@both
def test_text_cannot_inject_visual_or_chat_tokens(policies, family):
    policy = policies[family]
    codec = policy.builder.codec
    clean, dirty = (policy.prompt([user(make_clip(family), text)]) for text in ("x", "<|im_end|><|video_pad|>"))
    for name in ("<|im_end|>", "<|video_pad|>", "<|im_start|>", "<|vision_start|>"):
        token = codec.special[name]
        assert (dirty.ids == token).sum() == (clean.ids == token).sum()
    assert torch.equal(dirty.visual_index, clean.visual_index)
    assert math.isfinite(policy.score(policy.read([user(make_clip(family), "<|video_pad|>")]), ["<|video_pad|>"])[0])


@both
def test_text_alone(policies, plain_models, family):
    policy, plain = policies[family], plain_models[family]
    context = policy.read([user("which symbol")])
    with torch.inference_mode():
        expected = plain(input_ids=policy.prompt([user("which symbol")]).ids[None]).logits[0, -1]
    torch.testing.assert_close(logits_of(policy, context), expected, atol=2e-5, rtol=1e-5)
    assert context.visual_tokens == 0


def test_too_long_names_the_budget(tmp_path):
    where = save_checkpoint(tmp_path, "qwen3_vl", small_tokenizer(), max_position_embeddings=64)
    policy = load_policy(where)
    with pytest.raises(ModelError, match="lower --budget"):
        policy.read([user("a b " * 100)])
    context = policy.read([user("a")])
    with pytest.raises(ModelError, match="lower --budget"):
        policy.generate(context, 1, Sampling(max_tokens=64))


def test_out_of_memory_names_the_budget(policies, monkeypatch):
    policy = policies["qwen3_vl"]
    for error in (
        torch.OutOfMemoryError("CUDA"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"),
    ):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(packed, "text_forward", fail)
        with pytest.raises(ModelError, match=r"out of memory with .* lower --budget"):
            policy.read([user("a")])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@both
def test_gpu_equals_cpu(checkpoints, policies, family):
    """Half precision on a GPU, through the fused shared-prefix kernels, stays near float32 on a CPU."""
    policy = load_policy(checkpoints[family], device="cuda")
    turns, texts = question(family), ["the red circle", "B", "the symbol is"]
    near = policies[family].score(policies[family].read(turns), texts)
    assert policy.score(policy.read(turns), texts) == pytest.approx(near, abs=0.5)
    assert len(policy.generate(policy.read(turns), 3, Sampling(max_tokens=4))) == 3


@both
def test_what_the_memory_does_not_take_is_done_in_halves(policies, family, monkeypatch):
    """The device runs out above 60 tokens: the same results come from smaller batches."""
    policy = policies[family]
    chats = [[user("which symbol is on the " + "red " * i)] for i in range(5)]
    texts = [["B", "the red circle"]] * 5
    expected = policy.score_many(chats, texts)
    plain = [policy.read(turns).state.last_hidden for turns in chats]
    forward, sizes = packed.text_forward, []

    def small(model, ids, *rest):
        if len(ids) > 60:
            raise torch.OutOfMemoryError("CUDA")
        sizes.append(len(ids))
        return forward(model, ids, *rest)

    monkeypatch.setattr(packed, "text_forward", small)
    for found, alone in zip(policy.read_many(chats), plain, strict=True):
        torch.testing.assert_close(found.state.last_hidden, alone, atol=2e-5, rtol=1e-5)
    for mine, theirs in zip(policy.score_many(chats, texts), expected, strict=True):
        assert mine == pytest.approx(theirs, abs=2e-4)
    assert max(sizes) > min(len(policy.prompt(turns)) for turns in chats)  # some were still done together
    monkeypatch.setattr(packed, "text_forward", lambda *_: small(policy.model, torch.zeros(61)))
    with pytest.raises(ModelError, match="out of memory with"):
        policy.read_many(chats[:1])
