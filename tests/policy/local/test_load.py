"""Loading checkpoints: what is found, and one clear error for everything that can be wrong."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

from zoomzero.config import ModelSettings
from zoomzero.errors import ModelError
from zoomzero.policy.base import Turn
from zoomzero.policy.local.checkpoint import find
from zoomzero.policy.local.families.qwen2_5_vl import Qwen25VL
from zoomzero.policy.local.families.qwen3_vl import Qwen3VL
from zoomzero.policy.local.load import load_policy


@pytest.fixture
def copy_of(checkpoints, tmp_path):
    """Make a copy of a checkpoint that a test may damage."""

    def make(family="qwen3_vl"):
        return shutil.copytree(checkpoints[family], tmp_path / family)

    return make


def edit_json(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_families_load(policies):
    assert isinstance(policies["qwen3_vl"].family, Qwen3VL)
    assert isinstance(policies["qwen2_5_vl"].family, Qwen25VL)
    assert (policies["qwen3_vl"].geometry.factor, policies["qwen2_5_vl"].geometry.factor) == (32, 28)
    assert policies["qwen3_vl"].geometry.free_times
    assert not policies["qwen2_5_vl"].geometry.free_times
    for policy in policies.values():
        assert policy.stops == (policy.builder.codec.special["<|im_end|>"],)
        assert policy.model.dtype == torch.float32
        assert not any(p.requires_grad for p in policy.model.parameters())


def test_preprocessor_config_is_honoured(copy_of):
    where = copy_of()
    settings = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1], "patch_size": 16, "merge_size": 2}
    (where / "preprocessor_config.json").write_text(json.dumps(settings))
    assert load_policy(where).family.mean == (0.1, 0.2, 0.3)
    (where / "preprocessor_config.json").write_text(json.dumps(settings | {"patch_size": 14}))
    with pytest.raises(ModelError, match=r"patch_size 14, config.json 16; make them agree"):
        load_policy(where)


def test_chat_template_of_the_checkpoint_is_used(copy_of):
    where = copy_of()
    (where / "chat_template.jinja").write_text(
        "{% for m in messages %}USER:{% for p in m['content'] %}{{ p['text'] }}{% endfor %}{{ '\\n' }}{% endfor %}BOT:"
    )
    policy = load_policy(where)
    text, _ = policy.builder.codec.decode(policy.prompt([Turn("user", ("hi",))]).ids.tolist())
    assert text == "USER:hi\nBOT:"
    (where / "chat_template.jinja").write_text("{{ raise_exception('no text') }}")
    with pytest.raises(ModelError, match="chat template does not take video and text"):
        load_policy(where)


def test_the_default_of_several_templates_is_used(copy_of):
    """Older checkpoints list templates by name."""
    where = copy_of()
    text = "{% for p in messages[0].content %}{{ p.text }}{% endfor %}Z"
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": text}]
    (where / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    policy = load_policy(where)
    text, _ = policy.builder.codec.decode(policy.prompt([Turn("user", ("hi",))]).ids.tolist())
    assert text == "hiZ"
    (where / "tokenizer_config.json").write_text(json.dumps({"chat_template": named[:1]}))
    with pytest.raises(ModelError, match="none of them called default"):
        load_policy(where)


def test_experts_are_saved_as_released(policies, tmp_path):
    """(expert, in, out) on disk, which servers expect; what is loaded again is what was saved."""
    from safetensors.torch import load_file

    from zoomzero.policy.local.save import save_checkpoint

    policy = policies["qwen3_vl_moe"]
    where = tmp_path / "saved"
    save_checkpoint(policy.model, tmp_path, where, settings=ModelSettings())
    name = "model.language_model.layers.1.mlp.experts.gate_up_proj"
    (held,) = [value for key, value in load_file(where / "model.safetensors").items() if key == name]
    assert held.shape == (4, 96, 64)  # experts, width, twice the inner width
    again = type(policy.model).from_pretrained(where)
    for key, value in policy.model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_text_after_time_reaches_the_positions(copy_of):
    """As trained by default, as transformers does where the checkpoint's or the caller's settings say so."""
    from policy_models import make_clip

    turns = [Turn("user", (make_clip("qwen2_5_vl", frames=20), "x"))]
    where = copy_of("qwen2_5_vl")
    beside = load_policy(where).prompt(turns)  # its zoomzero.json says false
    behind = load_policy(where, settings=ModelSettings()).prompt(turns)
    (where / "zoomzero.json").unlink()
    assert torch.equal(load_policy(where).prompt(turns).positions, behind.positions)
    assert torch.equal(behind.ids, beside.ids)
    # 10 patches, a second each, two positions a second: 18 is the last time; rows and columns end at 3
    assert (behind.positions[:, -1] - beside.positions[:, -1]).tolist() == [19 - 3] * 3


WRONG_NAMES = {
    "/no/such/dir": "no such directory; give `tiny`",
    "./here": "no such directory",
    "what": "no such directory",
}


@pytest.mark.parametrize("name", WRONG_NAMES)
def test_names_that_are_nothing(name):
    with pytest.raises(ModelError, match=WRONG_NAMES[name]):
        load_policy(name)


def test_a_file_is_not_a_model(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(ModelError, match=r"is a file; give the directory"):
        load_policy(tmp_path / "x")


def test_hub_id_without_network(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="hub cannot be reached; connect to the network, or download"):
        load_policy("Qwen/Qwen3-VL-2B-Instruct")


def test_missing_tiny_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(find.resources, "files", lambda _: tmp_path)
    with pytest.raises(ModelError, match="the shipped model is missing"):
        find.find("tiny")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "config.json").unlink(), "has no config.json"),
        (lambda d: (d / "config.json").write_text("{"), "config.json is damaged"),
        (lambda d: (d / "config.json").write_text("[]"), "config.json is damaged"),
        (lambda d: (d / "config.json").write_bytes(b"\xff\xfe"), "config.json is damaged"),
        (
            lambda d: edit_json(d / "config.json", lambda c: c.update(model_type="llama")),
            "model type llama is not",
        ),
        (
            lambda d: edit_json(d / "config.json", lambda c: c.update(model_type="qwen2_vl")),
            "use a checkpoint of Qwen2.5-VL, Qwen3.5, Qwen3.5-MoE, Qwen3-VL, Qwen3-VL-MoE",
        ),
        (lambda d: (d / "model.safetensors").unlink(), "has no .safetensors weights"),
        (lambda d: (d / "model.safetensors").write_bytes(b"12345678nonsense"), "weights are damaged"),
        (
            lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:-4000]),
            "weights are damaged",
        ),
        (
            lambda d: edit_json(d / "config.json", lambda c: c["text_config"].update(num_hidden_layers=5)),
            "missing",
        ),
        (
            lambda d: edit_json(d / "config.json", lambda c: c["text_config"].update(num_hidden_layers=2)),
            "weights have no place in config.json's network, first model.language_model.layers.2",
        ),
        (
            lambda d: edit_json(d / "config.json", lambda c: c["text_config"].update(hidden_size=64)),
            "cannot be loaded",
        ),
        (
            lambda d: edit_json(d / "config.json", lambda c: c["text_config"].update(hidden_size="x")),
            "cannot be loaded",
        ),
        (
            lambda d: edit_json(d / "config.json", lambda c: c.update(video_token_id=5)),
            "video_token_id 5 .* special",
        ),
        (lambda d: (d / "tokenizer.json").unlink(), "has no tokenizer.json"),
        (lambda d: (d / "tokenizer.json").write_text("{"), "tokenizer.json is damaged"),
        (lambda d: (d / "tokenizer.json").write_text("{}"), "tokenizer.json is damaged"),
    ],
)
def test_damaged_checkpoints(copy_of, damage, message):
    where = copy_of()
    damage(where)
    with pytest.raises(ModelError, match=message) as caught:
        load_policy(where)
    assert "\n" not in str(caught.value)
    assert str(where) in str(caught.value)


def test_tokenizer_without_vision_tokens(copy_of):
    where = copy_of()

    def drop(value):
        value["added_tokens"] = [t for t in value["added_tokens"] if "video" not in t["content"]]

    edit_json(where / "tokenizer.json", drop)
    with pytest.raises(ModelError, match=r"is not a special token of tokenizer.json"):
        load_policy(where)


def test_wrong_device_and_dtype(checkpoints):
    with pytest.raises(ModelError, match="unknown device abc"):
        load_policy(checkpoints["qwen3_vl"], device="abc")
    with pytest.raises(ModelError, match="there is no cuda:99 here"):
        load_policy(checkpoints["qwen3_vl"], device="cuda:99")
    with pytest.raises(ModelError, match="unknown dtype int4"):
        load_policy(checkpoints["qwen3_vl"], dtype="int4")


def test_nothing_is_printed_and_logging_is_restored(checkpoints):
    code = (
        "import sys, transformers; from transformers.utils import logging; before = logging.get_verbosity()\n"
        "from zoomzero.policy.local.load import load_policy\n"
        "load_policy(sys.argv[1]); assert logging.get_verbosity() == before\n"
        "assert logging.is_progress_bar_enabled()"
    )
    command = [sys.executable, "-c", code, str(checkpoints["qwen2_5_vl"])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_importing_the_room_loads_no_torch():
    code = "import sys, zoomzero.policy; assert not {'torch', 'transformers'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
