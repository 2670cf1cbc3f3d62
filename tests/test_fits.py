"""What a checkpoint needs in memory: sizes worked by hand from real configurations."""

import json

import pytest

from zoomzero.config import ModelSettings, PassSettings
from zoomzero.errors import ModelError
from zoomzero.fits import GIB, LAPTOP, Need, Sizes, change, fit, needs, seconds_on, sizes_of, smallest_card, table
from zoomzero.policy.local.memory import SPENT, TokenBytes


@pytest.fixture(scope="module")
def real(shared):
    if not (shared / "checkpoints").is_dir():
        pytest.skip("needs ../shared/checkpoints (metadata of real checkpoints)")
    return shared / "checkpoints"


@pytest.fixture(scope="module")
def eight(real):
    return sizes_of("x", real / "Qwen3-VL-8B-Instruct")


def made(weights_gb, **changes):
    """Round sizes: 100 kB a token, 1 MB of work a token."""
    values = {"weights": weights_gb * 1e9, "tokens": TokenBytes(1e5, 0.0, 1e5, 1e5), "active": 1e9, "tower": 1e8}
    return Sizes(**{**values, "patches": 4, "bits": 16.0, "quantisable": True, **changes})


def test_sizes_of_qwen3_vl_8b(real, eight):
    assert eight.weights / 2e9 == pytest.approx(8.77, abs=0.01)  # billions of parameters
    assert eight.tokens.kept == 36 * 2 * 8 * 128 * 2  # layers, keys and values, heads, width, bytes
    assert eight.tokens.state == 0
    # all but the embedding and the tower: 8.77 - 151936 * 4096 - 0.58
    assert eight.active == pytest.approx(8.77e9 - 151936 * 4096 - eight.tower, rel=2e-3)
    quarter = sizes_of("x", real / "Qwen3-VL-8B-Instruct", quantize="4bit")
    assert 0.3 < quarter.weights / eight.weights < 0.5  # the head, the embedding and the tower stay as they are
    assert not quarter.quantisable


def test_recurrent_states_do_not_grow_with_the_prompt(real):
    sizes = sizes_of("x", real / "Qwen3.5-4B")
    assert sizes.tokens.kept == 8 * 2 * 4 * 256 * 2  # one layer of four keeps keys and values
    memory, inputs = 32 * 128 * 128 * 4, (2 * 16 * 128 + 32 * 128) * 3 * 2
    assert sizes.tokens.state == 24 * (memory + inputs)


def test_experts_are_not_rounded(real, tmp_path):
    config = json.loads((real / "Qwen3-VL-30B-A3B-Instruct" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    sizes = sizes_of("x", tmp_path)
    assert not sizes.quantisable
    assert 3.0e9 < sizes.active < 3.5e9  # 8 of 128 experts answer
    with pytest.raises(ModelError, match="has experts, which --quantize cannot round"):
        sizes_of("x", tmp_path, quantize="4bit")
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "fp8"}}))
    assert 0.45 < sizes_of("x", tmp_path).weights / sizes.weights < 0.55  # but checkpoints with rounded ones are


def test_modes(eight):
    found = {need.mode: need for need in needs(eight, ModelSettings())}
    chat = 4096 + 700 + 512
    assert found["coarse"].context == found["coarse"].least == chat * eight.tokens.kept
    assert found["divide"].least == chat * eight.tokens.kept
    assert found["divide"].context == 8 * chat * eight.tokens.kept
    assert found["zoom"].context == (chat + 2048 + 700) * eight.tokens.kept
    assert found["search"].context == (4096 + 2048 + 2 * 700 + 4 * 512) * eight.tokens.kept
    small = ModelSettings(window=PassSettings(max_tokens=1024))
    assert {n.mode: n for n in needs(eight, small)}["divide"].least == (1024 + 700 + 512) * eight.tokens.kept


def test_what_a_card_takes():
    """92 % of it: the weights, the work, and the context; several windows at once may spend what rows may, 60 %."""
    sizes, need = made(10.0), Need("divide", 8e9, 1e9, 0.5e9)
    assert fit(sizes, need, 12) == "no"  # 11.04 < 10 + 1 + 0.5
    assert fit(sizes, need, 16) == "slower"  # 4.72 GB are left
    assert SPENT * (0.92 * 25 - 10) < 8 < SPENT * (0.92 * 26 - 10)
    assert (fit(sizes, need, 25), fit(sizes, need, 26)) == ("slower", "yes")
    assert smallest_card(sizes, need) == 16
    assert smallest_card(made(100.0), need) is None


def test_the_setting_for_a_smaller_card():
    settings = ModelSettings()
    # 10.2 GB and 0.531 (5308 tokens) and 0.48 (4796 tokens): 11.21 where 11.04 are usable; half the tokens save 0.41
    assert change(made(10.2), "coarse", settings) == "12 GB: --set coarse.max_tokens=2048"
    assert change(made(10.2), "divide", settings) == "12 GB: --set window.max_tokens=2048"
    assert change(made(12.0), "coarse", settings) == "12 GB: --quantize 4bit or 8bit"
    assert change(made(60.0, quantisable=False), "coarse", settings) == "48 GB: several of them with --device auto"
    assert change(made(5.0), "coarse", settings) == ""


def test_a_question_on_a_laptop():
    # 6144 visual tokens and 1400 of text through 1e9 weights, 4 patches a token through 1e8: 2 * (7.544 + 2.4576) e12
    # products; half of 512 tokens read 2 GB each
    found = seconds_on(made(2.0), ModelSettings(), 100.0, 10.0)
    assert found == pytest.approx((2 * (7544e9 + 2457.6e9)) / 1e11 + 256 * 2e9 / 1e10)


def test_the_table(eight):
    lines = table("x", eight, ModelSettings()).splitlines()
    assert len(lines) == 2 + 6 + 2
    (divide,) = [line for line in lines if line.startswith("divide")]
    assert divide.split()[9:14] == ["no", "no", "slower", "yes", "yes"]
    assert divide.endswith("16 GB: --quantize 4bit or 8bit")
    needed = next(need for need in needs(eight, ModelSettings()) if need.mode == "zoom")
    assert f"{(eight.weights + needed.work + needed.context) / GIB:.1f} GiB" in lines[4]
    assert lines[-1].endswith(f"minutes a question in zoom at {LAPTOP[0]:.0f} GFLOP/s and {LAPTOP[1]:.0f} GB/s")
