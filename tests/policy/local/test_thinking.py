"""Chat templates that begin the assistant's reply with a think block, with the templates of real checkpoints."""

import math

import pytest
import torch
from policy_models import make_clip, save_checkpoint, small_tokenizer

from zoomzero.config import ModelSettings
from zoomzero.policy.base import Sampling, Turn
from zoomzero.policy.local.attention import packed
from zoomzero.policy.local.load import load_policy
from zoomzero.policy.local.text import ChatTemplate

OPENS = {"qwen3-vl": "Qwen3-VL-Thinking/chat_template.jinja", "qwen3.5": "templates-trl/qwen3_5_think.jinja"}
CLOSES = "templates-trl/qwen3_5_nothink.jinja"
PLAIN = "templates-trl/qwen3_vl.jinja"
SAID = "<think>\nthe circle is red\n</think>\n\n<answer>B</answer>"


@pytest.fixture(scope="module")
def thinking(shared, tmp_path_factory):
    """Return a policy with a real template, thinking or not."""
    where = shared / "checkpoints"
    if not where.is_dir():
        pytest.skip("needs ../shared/checkpoints (chat templates of real checkpoints)")
    checkpoint = save_checkpoint(tmp_path_factory.mktemp("thinking"), "qwen3_vl", small_tokenizer())

    def make(template, think=True):
        (checkpoint / "chat_template.jinja").write_text((where / template).read_text())
        return load_policy(checkpoint, settings=ModelSettings(think=think))

    return make


def question(text="which symbol"):
    return [Turn("user", (make_clip("qwen3_vl"), text))]


def said(policy, prompt):
    return policy.builder.codec.tokenizer.decode(prompt.ids.tolist(), skip_special_tokens=False)


@pytest.mark.parametrize("template", OPENS.values(), ids=OPENS)
def test_the_open_block_belongs_to_the_reply(thinking, template):
    policy = thinking(template)
    assert policy.builder.opening == "<think>\n"
    context = policy.read(question())
    assert said(policy, context.state.prompt).endswith("assistant\n<think>\n")
    (reply,) = policy.generate(context, 1, Sampling(max_tokens=140))
    written, offsets = policy.builder.codec.decode(reply.token_ids)
    assert reply.text == "<think>\n" + written
    assert reply.offsets == tuple((a + 8, b + 8) for a, b in offsets)
    # given back as a continuation it is what was written
    assert policy.tokens(reply.text).tolist() == policy.builder.codec.encode(written)
    ids = torch.tensor(reply.token_ids)
    with torch.inference_mode():
        row = packed.packed_states(policy.model, [policy.prompt(question())], [[ids]])
        forced = packed.suffix_logprobs(policy.model, row)
    assert reply.logprobs == pytest.approx(forced.tolist(), abs=2e-5)


@pytest.mark.parametrize("template", OPENS.values(), ids=OPENS)
def test_answers_are_scored_behind_the_closed_block(thinking, template):
    policy = thinking(template)
    context = policy.read(question())
    closed = policy.builder.layout(policy.builder.messages(question()), closed=True)
    assert said(policy, closed).endswith("<think>\n\n</think>\n\n")
    with torch.inference_mode():
        row = packed.packed_states(
            policy.model, [closed], [[policy.tokens(x) for x in "ABCD"]], policy.encode([make_clip("qwen3_vl")])
        )
        expected = packed.suffix_logprobs(policy.model, row).tolist()
    assert policy.score(context, list("ABCD")) == pytest.approx(expected, abs=2e-5)
    assert policy.score_many([question()] * 2, [list("ABCD")] * 2)[1] == pytest.approx(expected, abs=2e-5)
    # whole replies go on from the open block
    (whole,) = policy.score_tokens(context, [SAID])
    assert len(whole) == len(policy.builder.codec.encode(SAID.removeprefix("<think>\n")))
    assert all(map(math.isfinite, whole))


@pytest.mark.parametrize("template", OPENS.values(), ids=OPENS)
def test_short_replies_have_no_room_for_thinking(thinking, template):
    policy = thinking(template)
    (reply,) = policy.generate(policy.read(question()), 1, Sampling(max_tokens=6))
    assert not reply.text.startswith("<think>")
    assert reply.text == policy.builder.codec.decode(reply.token_ids)[0]


def test_think_reaches_templates_that_can_be_told(thinking):
    for template in (OPENS["qwen3.5"], CLOSES):
        on, off = thinking(template, True), thinking(template, False)
        assert (on.builder.opening, off.builder.opening) == ("<think>\n", "")
        closed = on.builder.layout(on.builder.messages(question()), closed=True)
        assert torch.equal(off.prompt(question()).ids, closed.ids)
    assert thinking(PLAIN).builder.opening == ""


def test_left_alone_qwen3_5_thinks_from_4b_on(thinking, shared):
    templates = [(shared / "checkpoints" / name).read_text() for name in (OPENS["qwen3.5"], CLOSES)]
    assert [ChatTemplate(template).opening for template in templates] == ["<think>\n", ""]


@pytest.mark.parametrize("template", [*OPENS.values(), PLAIN])
def test_old_thinking_leaves_the_history_as_the_template_says(thinking, template):
    policy = thinking(template)
    more = [Turn("assistant", (SAID,)), Turn("user", ("sure?",))]
    context = policy.read(question())
    extended, whole = policy.extend(context, more), policy.read(question() + more)
    torch.testing.assert_close(extended.state.last_hidden, whole.state.last_hidden, atol=2e-5, rtol=1e-5)
    text = said(policy, whole.state.prompt)
    assert ("the circle is red" in text) == (template == PLAIN)  # a template that knows no thinking keeps all
    assert "<answer>B</answer>" in text
    assert extended.visual_tokens == 0


def test_templates_trim_what_they_trim(thinking):
    """Whitespace around a text is the template's to keep or cut; special names in it stay text."""
    kept, cut = (said(thinking(t), thinking(t).prompt(question("  x\n "))) for t in (PLAIN, OPENS["qwen3.5"]))
    assert "  x\n <|im_end|>" in kept
    assert "x<|im_end|>" in cut
