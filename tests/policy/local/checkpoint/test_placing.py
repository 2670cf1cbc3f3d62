"""Where weights go: layers spread over GPUs by sizes worked by hand, refused without room; a spread model gives
what a whole one gives.
"""

import pytest
import torch
from policy_models import FAMILIES, make_clip, make_config, small_tokenizer, token_ids
from safetensors.torch import save_file

from zoomzero.errors import ModelError
from zoomzero.policy.base import Sampling, Turn
from zoomzero.policy.local.attention import packed, shared_attention
from zoomzero.policy.local.attention.decoding import DecodePass
from zoomzero.policy.local.attention.group_attention import CachedPass, Group, PackedRow
from zoomzero.policy.local.attention.shared_attention import Ragged
from zoomzero.policy.local.checkpoint import network, placing
from zoomzero.policy.local.families import family_class
from zoomzero.policy.local.load import load_policy, prepare
from zoomzero.policy.local.memory import OutOfMemory


def test_layers_fill_an_even_share_of_every_gpu():
    # 4 + 8 * 2 = 20 GB on two GPUs of 24: 10 each, the rest and 3 layers, then 5 layers
    assert placing.spread_layers(4.0, [2.0] * 8, [24.0, 24.0]) == [0, 0, 0, 1, 1, 1, 1, 1]
    # 36 GB need all that may be filled, 20.4 GB each: 4 + 4 * 4 on the first
    assert placing.spread_layers(4.0, [4.0] * 8, [24.0, 24.0]) == [0, 0, 0, 0, 1, 1, 1, 1]
    # the second has little: 85 % of 8 takes one layer
    assert placing.spread_layers(4.0, [4.0] * 3, [16.0, 8.0]) == [0, 0, 1]
    assert placing.spread_layers(4.0, [4.0] * 8, [24.0, 8.0]) is None
    assert placing.spread_layers(40.0, [4.0], [24.0, 80.0]) is None  # the embedding and the tower stay on the first


def test_bytes_of_weights_by_hand(tmp_path):
    """In the number type they get, or rounded; the heads that predict several tokens are no layers of the model."""
    half = torch.bfloat16
    weights = {
        "model.language_model.layers.0.mlp.up_proj.weight": torch.zeros(8, 4, dtype=half),
        "model.layers.1.input_layernorm.weight": torch.zeros(4, dtype=half),
        "mtp.layers.0.mlp.up_proj.weight": torch.zeros(2, 2, dtype=half),
        "lm_head.weight": torch.zeros(5, 4, dtype=half),
    }
    save_file(weights, tmp_path / "model.safetensors")
    assert placing.weight_bytes(tmp_path, torch.bfloat16) == ((4 + 20) * 2, [64, 8])
    assert placing.weight_bytes(tmp_path, torch.float32) == ((4 + 20) * 4, [128, 16])
    assert placing.weight_bytes(tmp_path, torch.bfloat16, "4bit") == ((4 + 20) * 2, [32 * 4.5 / 8, 8])


def test_bytes_of_what_is_unpacked_by_hand(tmp_path):
    """A byte is one number and 32 bits are eight, once they are unpacked; else they stay as they are stored."""
    name = "model.layers.0.mlp.{}_proj.weight".format
    weights = {
        name("up"): torch.zeros(8, 4, dtype=torch.float8_e4m3fn),
        name("down") + "_packed": torch.zeros(8, 2, dtype=torch.int32),
        name("down") + "_shape": torch.tensor([8, 16]),
        name("down") + "_scale": torch.zeros(8, 1),
    }
    save_file(weights, tmp_path / "model.safetensors")
    assert placing.weight_bytes(tmp_path, torch.bfloat16) == (0.0, [32 + 16 * 4 + 2 * 8 + 8 * 2])
    assert placing.weight_bytes(tmp_path, torch.bfloat16, unpacked=True) == (0.0, [32 * 2 + 128 * 2 + 2 * 8 + 8 * 2])


def test_auto_spreads_what_one_gpu_does_not_take(checkpoints, monkeypatch):
    where, family = checkpoints["qwen3_vl"], family_class("qwen3_vl")
    rest, layers = placing.weight_bytes(where, torch.float32)
    first, target = rest + 1.5 * layers[0], torch.device("cuda", 0)
    sizes = {"cuda:0": first / placing.ROOM, "cuda:1": 10 * layers[0]}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda, "mem_get_info", lambda d: (sizes[str(d) if isinstance(d, torch.device) else f"cuda:{d}"], 0)
    )
    placed = placing.place(where, family, target, torch.float32, None, spread=True)["device_map"]
    assert {name: placed[name] for name in family.parts} == dict.fromkeys(family.parts, 0)
    cards_of = [placed[f"model.language_model.layers.{i}"] for i in range(len(layers))]
    assert cards_of == sorted(cards_of)
    assert set(cards_of) == {0, 1} or cards_of == [1] * len(layers)
    assert placing.place(where, family, target, torch.float32, None, spread=False) == {"device_map": {"": target}}
    with pytest.raises(OutOfMemory, match=r"its weights take .* GiB in float32, and .* GiB are free on cuda:0; use "):
        placing.check_room("x", where, target, torch.float32, None, {"device_map": {"": target}})
    placing.check_room("x", where, target, torch.float32, None, {"device_map": placed})


def test_too_little_memory_is_said_before_loading(checkpoints, tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    100 kB\nSwapFree:  20 kB\n")
    monkeypatch.setattr(placing, "MEMINFO", tmp_path / "meminfo")
    message = r"GiB in float32, and 0.0 GiB are free on cpu; use --quantize 4bit, --dtype bfloat16, or a smaller model"
    with pytest.raises(OutOfMemory, match=message) as caught:
        load_policy(checkpoints["qwen3_vl"], device="cpu")
    assert caught.value.exit_code == 4


def test_memory_that_ends_while_loading_is_no_damaged_checkpoint(checkpoints, monkeypatch):
    class Full:
        @staticmethod
        def from_pretrained(*_, **__):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    family = family_class("qwen3_vl")
    monkeypatch.setattr(family, "network_class", classmethod(lambda cls: Full))
    with pytest.raises(OutOfMemory, match="out of memory while its weights are loaded; use --quantize 4bit") as caught:
        network.load_network("x", checkpoints["qwen3_vl"], family, torch.float32, torch.device("cpu"))
    assert isinstance(caught.value, ModelError)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_spread_model_gives_what_a_whole_one_gives(checkpoints, policies, family, tmp_path):
    """The hooks of accelerate move layers in and out, as they do between GPUs; here from the disk to the CPU."""
    from accelerate import dispatch_model

    spread = load_policy(checkpoints[family], device="cpu")
    places = placing.device_map(family_class(family), ["cpu", "disk", "cpu"])
    dispatch_model(spread.model, places, main_device="cpu", offload_dir=str(tmp_path))
    turns, texts = [Turn("user", (make_clip(family), "which symbol is on the red circle"))], ["B", "the red circle"]
    found = []
    for policy in (policies[family], spread):
        context = policy.read(turns)
        rows = policy.generate(context, 3, Sampling(temperature=1.0, max_tokens=6, seed=4))
        found.append((policy.score(context, texts), [row.token_ids for row in rows]))
    assert found[1][0] == pytest.approx(found[0][0], abs=1e-4)
    assert found[1][1] == found[0][1]


def test_two_gpus_that_are_not_there(monkeypatch):
    """Every operation of a model on two (fake) GPUs finds its tensors on one of them: fake tensors refuse mixtures."""
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module
    from torch._subclasses.fake_tensor import FakeTensorMode

    tokenizer = small_tokenizer()
    config = make_config("qwen3_vl", 400, token_ids(tokenizer))
    first, second = torch.device("lazy", 0), torch.device("lazy", 1)  # a kind of device that every build of torch knows
    monkeypatch.setattr(shared_attention, "_float_product", torch.matmul)  # which has no autocast
    ragged = Ragged([3, 2], torch.device("cpu"))  # real indices, as the host makes them
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        with first:
            model = prepare(family_class("qwen3_vl").network_class()(config))
        text = model.model.language_model
        for layer in text.layers[1:]:
            for module in layer.modules():
                for name, held in module._parameters.items():
                    if held is not None:
                        module._parameters[name] = torch.nn.Parameter(torch.empty(held.shape, device=second))
            add_hook_to_module(layer, AlignDevicesHook(second))
        add_hook_to_module(text.norm, AlignDevicesHook(first))

        def run(length, attention):
            ids = torch.zeros(length, dtype=torch.int64, device=first)
            positions = torch.zeros(3, length, dtype=torch.int64, device=first)
            where = torch.empty(0, dtype=torch.int64, device=first)
            return packed.text_forward(model, ids, positions, where, None, attention)

        row = PackedRow([Group(7)], first, keep=True)
        assert run(7, row).device == first
        assert [k.device for k, _ in row.kept] == [first, second, second]
        scored = CachedPass((tuple(row.kept),), [3, 3], first, keep=False)
        scored.ragged = ragged
        assert run(5, scored).device == first
        writing = DecodePass([(tuple(row.kept),), (tuple(row.kept),)], [2, 2], 8)
        for layer, device in ((0, first), (1, second)):
            q, k = (torch.empty(4, heads, 1, 16, device=device) for heads in (6, 2))
            assert writing.attend(layer, q, k, k, 1.0).device == device
        writing.advance()
        writing.keep_rows(torch.arange(2, device=first), [2, 0])
        assert writing.caches[1][0].device == second
