"""M-RoPE positions: worked by hand, and equal to the models' own `get_rope_index`."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoomzero.policy.local.positions import VisionBlocks, continue_positions, mrope_positions, visual_index

PAD = 9


def blocks_of(starts, grids, steps):
    return VisionBlocks(
        torch.tensor(starts, dtype=torch.int64),
        torch.tensor(grids, dtype=torch.int64).view(-1, 3),
        torch.tensor(steps, dtype=torch.float32),
    )


def test_positions_by_hand():
    # two texts, a block of 2 times x 1 row x 2 columns whose time moves by 3, one text
    blocks = blocks_of([2], [[2, 1, 2]], [3.0])
    expected = [[0, 1, 2, 2, 5, 5, 4], [0, 1, 2, 2, 2, 2, 4], [0, 1, 2, 3, 2, 3, 4]]
    assert mrope_positions(7, blocks).tolist() == expected
    assert visual_index(blocks).tolist() == [2, 3, 4, 5]


def test_text_after_time_goes_on_behind_the_last_time():
    blocks = blocks_of([2], [[2, 1, 2]], [3.0])
    assert mrope_positions(7, blocks, text_after_time=True)[:, -1].tolist() == [6, 6, 6]  # start 2 + last time 3 + 1


def test_five_minutes_at_one_frame_a_second():
    """The question stands behind the video as trained, inside it as transformers places it since 5.3."""
    # 32 tokens of text, 150 patches of 2 s at two positions a second (2 rows, 3 columns), 22 tokens of question
    blocks, length = blocks_of([32], [[150, 2, 3]], [4.0]), 32 + 150 * 6 + 22
    trained = mrope_positions(length, blocks, text_after_time=True)
    assert trained[0, 32:932].unique().tolist() == list(range(32, 629, 4))
    assert trained[:, 932:].tolist() == [list(range(629, 651))] * 3
    assert mrope_positions(length, blocks)[0, 932:].tolist() == list(range(35, 57))


def test_text_only():
    blocks = blocks_of([], [], [])
    assert mrope_positions(3, blocks).tolist() == [[0, 1, 2]] * 3
    assert visual_index(blocks).tolist() == []


def test_continue_positions():
    assert continue_positions(5, 2).tolist() == [[5, 6]] * 3


def own_rope_index(family, ids, kinds, video_grids, seconds):
    """Call the model's get_rope_index without building a model."""
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel
    from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5Model
    from transformers.models.qwen3_5_moe.modeling_qwen3_5_moe import Qwen3_5MoeModel
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel
    from transformers.models.qwen3_vl_moe.modeling_qwen3_vl_moe import Qwen3VLMoeModel

    model = {
        "qwen3_vl": Qwen3VLModel,
        "qwen2_5_vl": Qwen2_5_VLModel,
        "qwen3_vl_moe": Qwen3VLMoeModel,
        "qwen3_5": Qwen3_5Model,
        "qwen3_5_moe": Qwen3_5MoeModel,
    }[family]
    vision = SimpleNamespace(spatial_merge_size=2, tokens_per_second=2)
    bare = SimpleNamespace(config=SimpleNamespace(vision_config=vision))
    bare.get_vision_position_ids = lambda *args, **kw: model.get_vision_position_ids(bare, *args, **kw)
    more = {"second_per_grid_ts": torch.tensor(seconds)} if family == "qwen2_5_vl" else {}
    return model.get_rope_index(bare, ids[None], kinds[None], video_grid_thw=video_grids, **more)[0][:, 0]


clip_shapes = st.lists(
    st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl"])
@settings(max_examples=40, deadline=None)
@given(shapes=clip_shapes, tail=st.integers(1, 5), seconds=st.sampled_from([1.0, 2.0, 3.0]))
def test_equal_to_get_rope_index(family, shapes, tail, seconds):
    ids, starts, grids = [], [], []
    for times, rows, columns, text in shapes:
        for _ in range(times if family == "qwen3_vl" else 1):
            ids += [1] * text
            starts.append(len(ids))
            grids.append([1 if family == "qwen3_vl" else times, rows, columns])
            ids += [PAD] * (grids[-1][0] * rows * columns)
    ids = torch.tensor(ids + [1] * tail)
    video_grids = torch.tensor([[t, 2 * r, 2 * c] for t, r, c, _ in shapes])
    expected = own_rope_index(family, ids, (ids == PAD).int() * 2, video_grids, [seconds] * len(shapes))
    blocks = blocks_of(starts, grids, [2 * seconds] * len(starts))
    assert torch.equal(mrope_positions(len(ids), blocks), expected)


def test_fractional_steps_are_cut_after_multiplying():
    # 0.75 position units a patch: times 0, 0.75, 1.5, 2.25 -> 0, 0, 1, 2
    assert mrope_positions(4, blocks_of([0], [[4, 1, 1]], [0.75]))[0].tolist() == [0, 0, 1, 2]
