"""The names of weights in real checkpoints: every one finds its place in the built model, and no place stays empty.

Every checkpoint whose metadata is at hand is built at its real size, without memory for weights, or is refused.
Some are loaded too: with few and narrow layers, from files that carry the names of the real index, old ones included.
"""

import gzip
import json
import re
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from zoomzero.errors import ModelError
from zoomzero.policy.local.checkpoint.find import check_family, check_head
from zoomzero.policy.local.checkpoint.network import load_network
from zoomzero.policy.local.checkpoint.quantised import check_quantised, quant_method
from zoomzero.policy.local.families import family_class

LAYERS = 4
REAL = (
    *("Qwen2.5-VL-7B-Instruct", "Qwen2.5-VL-7B-lexiq", "olmOCR-2-7B-1025", "Cosmos-Reason2-8B"),
    *("Qwen3-VL-4B-Instruct", "Qwen3-VL-8B-Instruct", "Qwen3-VL-30B-A3B-Instruct", "Qwen3.5-4B"),
)
SHARED = Path(__file__).resolve().parents[5] / "shared" / "checkpoints"
EVERY = sorted(path.parent.name for path in SHARED.glob("*/config.json"))
REFUSED = {  # why
    "CogReasoner-VideoLLaMA3": "model type videollama3_qwen2 is not supported",
    "GLM-4.5V": "model type glm4v_moe is not supported",
    "Jev-Style-2B-Decision-v3": "model type qwen3_5_text is not supported",
    "Jev-Style-Qwen3.5-2B-MLX-bf16": "sees nothing: its config.json has no vision_config",
    "Logics-Thinking": "model type logics is not supported",
    "Qwen3-VL-Embedding-8B": "writes nothing: it has no lm_head (it embeds)",
    "Qwen3.5-18B-REAP-A3B": "model type qwen3_5_moe_text is not supported",
    "Qwen3.5-9B-MLX-8bit": "is quantised for Apple's MLX",
    "mimo_kor": "model type mimo is not supported",
    "olmOCR-7B-Qwen2-VL": "model type qwen2_vl is not supported",
}
SCALES = re.compile(r"_(scale|zero_point|shape|scale_inv)$")  # beside a quantised weight


@pytest.fixture(params=REAL)
def real(request, shared):
    where = shared / "checkpoints" / request.param
    if not where.is_dir():
        pytest.skip("needs ../shared/checkpoints (metadata of real checkpoints)")
    return where


def narrow(config):
    """The same structure with few and narrow layers."""
    text, seen = config.get("text_config", config), config["vision_config"]
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
    text |= sizes | {"num_hidden_layers": LAYERS, "vocab_size": 512, "bos_token_id": None, "eos_token_id": None}
    text |= {"pad_token_id": None}
    if "layer_types" in text:
        text["layer_types"] = text["layer_types"][:LAYERS]
    if "num_experts" in text:
        text |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    if "linear_num_key_heads" in text:
        text |= {"linear_num_key_heads": 1, "linear_num_value_heads": 2}
    seen |= {"depth": LAYERS, "hidden_size": 64, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64}
    if seen.get("deepstack_visual_indexes"):
        seen["deepstack_visual_indexes"] = [0, 1, 2]
    config.pop("quantization_config", None)
    return config


def names_of(where, config, layers=LAYERS):
    """The names of the real index, those of layers that are built; none where no index is at hand."""
    if (where / "weights.json").is_file():
        kinds = config["text_config"].get("layer_types", [])
        names = json.loads((where / "weights.json").read_text())["weights"]
        return [n for n, _ in names for n in spread(n, kinds, layers)]
    index = where / "model.safetensors.index.json.gz"
    names = json.loads(gzip.decompress(index.read_bytes()))["weight_map"] if index.is_file() else []
    return [name for name in names if all(int(i) < layers for i in re.findall(r"\.(?:layers|blocks)\.(\d+)\.", name))]


def spread(name, kinds, layers):
    """`{linear}`, `{full}` and `{0..47}` stand for several layers."""
    found = re.search(r"\{(.*?)\}", name)
    if not found:
        return [name]
    last = found[1].rpartition("..")[2]
    numbers = range(min(layers, int(last) + 1) if last.isdigit() else layers)
    if found[1] in ("linear", "full"):
        numbers = [i for i, kind in enumerate(kinds) if kind.startswith(found[1])]
    return [name.replace(found[0], str(i)) for i in numbers]


def place_of(name, wanted):
    """Where a released name belongs: older ones lack the name of the part."""
    for old, new in product(("", "model.", "visual."), ("", "model.language_model.", "model.visual.", "model.")):
        candidate = new + name.removeprefix(old)
        if name.startswith(old) and candidate in wanted:
            return candidate
    return None


def test_names_find_their_places(real, tmp_path):
    config = narrow(json.loads((real / "config.json").read_text()))
    (tmp_path / "config.json").write_text(json.dumps(config))
    from transformers import AutoConfig

    family = family_class(config["model_type"])
    built = family.network_class()(AutoConfig.from_pretrained(tmp_path))
    wanted, names = built.state_dict(), names_of(real, config)
    generator, stored = torch.Generator().manual_seed(0), {}
    for name in names:
        place = place_of(name, wanted)
        if place is None:
            assert name.startswith("mtp."), f"{name} has no place"  # heads that predict several tokens are not used
            continue
        value = torch.randn(wanted[place].shape, generator=generator)
        stored[name] = family.stored(place, value).contiguous(), place, value
    tied = set(built.all_tied_weights_keys)
    assert {place for _, place, _ in stored.values()} | tied >= set(wanted)
    save_file({name: value for name, (value, _, _) in stored.items()}, tmp_path / "model.safetensors")
    network = load_network("x", tmp_path, family, torch.float32, torch.device("cpu"))
    for _, place, value in stored.values():
        assert torch.equal(network.state_dict()[place], value), place


def check(name, config):
    """What is looked at before weights are fetched."""
    check_quantised(name, config)
    check_family(name, config)
    if names := names_of(SHARED / name, config, layers=1000):
        check_head(name, config, names)


@pytest.mark.parametrize("name", EVERY)
def test_every_checkpoint_at_its_real_size(name, tmp_path, monkeypatch):
    """Nothing missing, nothing left over, no place filled twice; or refused before its weights are fetched."""
    monkeypatch.setattr("zoomzero.policy.local.checkpoint.quantised.find_spec", lambda package: True)
    config = json.loads((SHARED / name / "config.json").read_text())
    if name in REFUSED:
        with pytest.raises(ModelError, match=re.escape(REFUSED[name])) as caught:
            check(name, config)
        assert "\n" not in str(caught.value)
        return
    check(name, config)
    family, method = family_class(config["model_type"]), quant_method(config)
    config.pop("quantization_config", None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    from transformers import AutoConfig

    with torch.device("meta"):
        built = family.network_class()(AutoConfig.from_pretrained(tmp_path))
    wanted, places = built.state_dict(), []
    scaled = bool(method)
    for one in sorted(names_of(SHARED / name, config, layers=1000), key=lambda n: scaled and bool(SCALES.search(n))):
        if scaled and SCALES.search(one):
            one = SCALES.sub("", one)  # its weight has its place, and so has it
            assert place_of(one, wanted) in places, one
            continue
        place = place_of(one, wanted)
        assert place or one.startswith("mtp."), f"{one} has no place"  # heads that predict several tokens are not used
        places += [place] if place else []
    assert len(set(places)) == len(places)
    assert not places or set(places) | set(built.all_tied_weights_keys) >= set(wanted)
