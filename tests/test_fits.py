"""What a checkpoint needs in memory: sizes worked by hand from real configurations."""

import pytest

from zoomzero.config import ModelSettings, PassSettings
from zoomzero.fits import GIB, needs, sizes_of, table


@pytest.fixture
def real(shared):
    if not (shared / "checkpoints").is_dir():
        pytest.skip("needs ../shared/checkpoints (metadata of real checkpoints)")
    return shared / "checkpoints"


def test_sizes_of_qwen3_vl_8b(real):
    sizes = sizes_of("x", real / "Qwen3-VL-8B-Instruct")
    assert sizes.weights / 2e9 == pytest.approx(8.77, abs=0.01)  # billions of parameters
    assert sizes.token == 36 * 2 * 8 * 128 * 2  # layers, keys and values, heads, width, bytes
    assert sizes.state == 0
    quarter = sizes_of("x", real / "Qwen3-VL-8B-Instruct", quantize="4bit")
    assert 0.3 < quarter.weights / sizes.weights < 0.5  # the head, the embedding and the tower stay as they are


def test_recurrent_states_do_not_grow_with_the_prompt(real):
    sizes = sizes_of("x", real / "Qwen3.5-4B")
    assert sizes.token == 8 * 2 * 4 * 256 * 2  # one layer of four keeps keys and values
    memory, inputs = 32 * 128 * 128 * 4, (2 * 16 * 128 + 32 * 128) * 3 * 2
    assert sizes.state == 24 * (memory + inputs)


def test_modes_and_their_settings(real):
    sizes = sizes_of("x", real / "Qwen3-VL-8B-Instruct")
    found = {need.mode: need for need in needs(sizes, ModelSettings())}
    assert found["coarse"].context == (4096 + 700 + 512) * sizes.token
    assert found["divide"].context == 8 * (4096 + 700 + 512) * sizes.token
    small = ModelSettings(window=PassSettings(max_tokens=1024))
    assert {n.mode: n for n in needs(sizes, small)}["divide"].context == 8 * (1024 + 700 + 512) * sizes.token
    lines = table("x", sizes, ModelSettings()).splitlines()
    assert len(lines) == 2 + 6
    (divide,) = [line for line in lines if line.startswith("divide")]
    total = found["divide"].total(sizes)
    assert 20 * GIB < total < 0.92 * 48e9
    assert divide.split()[7:12] == ["no", "no", "no", "fits", "fits"]
    assert divide.endswith("lower window.max_tokens, or --quantize")
