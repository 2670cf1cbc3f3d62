"""Steps that are kept by shape: writing with them again is writing anew, and nothing that was read is touched."""

import pytest
import torch
from policy_models import FAMILIES, make_clip

from zoomzero.policy.base import Sampling, Turn
from zoomzero.policy.local.attention import packed
from zoomzero.policy.local.drawing import generate
from zoomzero.policy.local.drawing.recorded import Recorder
from zoomzero.policy.local.memory import OutOfMemory, in_halves


def starts_of(policy, family, seed, words="which symbol is it", **how):
    """Two prompts; other clips and other random numbers for every seed, the same shape."""
    frames = ((4, words), (6, "count"))
    chats = [[Turn("user", (make_clip(family, frames=n, seed=seed), text))] for n, text in frames]
    contexts = policy.read_many(chats)
    how = {"temperature": 1.0, "max_tokens": 9} | how
    return [
        generate.Start(c.state.segments, c.state.last_hidden, c.state.prompt.next_position, Sampling(seed=seed, **how))
        for c in contexts
    ]


def ids_of(rows):
    return [row.token_ids for group in rows for row in group]


@pytest.fixture
def made(monkeypatch):
    """For every writing that is set up, whether it reads from memory of its own."""
    found = []
    init = generate.Writing.__init__

    def noted(self, *args, fixed=False, own=False):
        found.append(own)
        init(self, *args, fixed=fixed, own=own)

    monkeypatch.setattr(generate.Writing, "__init__", noted)
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("how", [{}, {"temperature": 0.0}, {"top_p": 0.8}])
def test_writing_again_is_writing_anew(policies, family, how, made):
    policy, recorder = policies[family], Recorder()
    several = [starts_of(policy, family, seed, **how) for seed in range(4)]
    before = [[x.clone() for s in one for segment in s.segments for kv in segment for x in kv] for one in several]
    expected = [generate.decode(policy.model, one, 3, policy._vocabulary, fixed=False) for one in several]
    made.clear()
    with torch.inference_mode():
        found = [generate.decode(policy.model, one, 3, policy._vocabulary, recorder, fixed=True) for one in several]
    assert made == [False, True], "the third and the fourth use what the second has left"
    assert len({tuple(ids_of(rows)) for rows in found}) == 4
    for mine, theirs, starts, read in zip(found, expected, several, before, strict=True):
        assert ids_of(mine) == ids_of(theirs)
        for a, b in zip((r for g in mine for r in g), (r for g in theirs for r in g), strict=True):
            assert a.finished == b.finished
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-5)
        now = [x for s in starts for segment in s.segments for kv in segment for x in kv]
        assert all(map(torch.equal, now, read)), "contexts stay as they were read"


def test_a_recordings_memory_stays_in_its_place(policies):
    """What a recorded step reads and writes, by address."""
    policy, recorder = policies["qwen3_vl"], Recorder()
    places = []
    with torch.inference_mode():
        for seed in range(4):
            starts = starts_of(policy, "qwen3_vl", seed)
            generate.decode(policy.model, starts, 3, policy._vocabulary, recorder, fixed=True)
            if recorder._kept is not None:
                writing = recorder._kept.writing
                held = [value for value in vars(writing).values() if isinstance(value, torch.Tensor)]
                held += [writing.sampler.uniform, writing.attention.now, writing.attention.mask]
                held += [x for pair in writing.attention.caches.values() for x in pair]
                held += [x for b in writing.attention.blocks for stretch in b.stretches for kv in stretch for x in kv]
                places.append([x.data_ptr() for x in held])
    assert len(places) == 3
    assert places[0] == places[1] == places[2]
    own = {s.data_ptr() for start in starts for segment in start.segments for kv in segment for s in kv}
    assert not own & set(places[0])


def test_another_shape_is_recorded_anew(policies, made):
    policy, recorder = policies["qwen3_vl"], Recorder()
    shapes = [({}, 3), ({}, 3), ({}, 4), ({}, 3), ({"words": "which"}, 3), ({"top_p": 0.5}, 3), ({"max_tokens": 8}, 3)]
    with torch.inference_mode():
        for how, n in shapes:
            starts = starts_of(policy, "qwen3_vl", 0, **how)
            found = generate.decode(policy.model, starts, n, policy._vocabulary, recorder, fixed=True)
            plain = generate.decode(policy.model, starts, n, policy._vocabulary, fixed=True)
            assert ids_of(found) == ids_of(plain)
    # every second writing is the plain one's; the second shape is kept, and the fourth is written with it
    assert made == [False, False, True, False, False, False, False, False, False, False, False, False, False]


def test_what_a_recording_depends_on(policies):
    policy, recorder = policies["qwen3_vl"], Recorder()
    text, head = packed.core(policy.model).language_model, packed.head(policy.model)
    starts = starts_of(policy, "qwen3_vl", 0)

    def shape(n=3, vocabulary=policy._vocabulary):
        return recorder.shape_of(text, head, starts, n, vocabulary)

    assert shape() == shape() != shape(4)
    assert shape() != shape(vocabulary=generate.Vocabulary(torch.tensor([1]), torch.tensor([2])))
    with torch.autocast("cpu", torch.bfloat16):
        assert shape() is None, "copies of weights end with it"
    weight = text.layers[0].mlp.up_proj.weight
    first, kept = shape(), weight.data
    weight.data = kept.clone()
    try:
        assert shape() != first, "weights that moved"
    finally:
        weight.data = kept
    text.layers[0].disable_adapters = False
    try:
        assert shape() is None, "adapters are switched without a weight that moves"
    finally:
        del text.layers[0].disable_adapters


def test_memory_that_is_kept_for_speed_goes_first():
    done, kept = [], [True]

    def run(batch):
        if kept[0]:
            raise OutOfMemory("m", "out of memory", "use less")
        done.append(list(batch))

    def spare():
        had, kept[0] = kept[0], False
        return had

    in_halves([0, 1, 2], run, spare)
    assert done == [[0, 1, 2]], "all at once, now that there is room"

    def never(batch):
        raise OutOfMemory("m", "out of memory", "use less")

    kept[0] = True
    with pytest.raises(OutOfMemory):
        in_halves([0, 1], never, spare)
    assert not kept[0]
