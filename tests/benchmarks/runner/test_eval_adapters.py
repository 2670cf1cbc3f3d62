"""`zoomzero eval` with adapters: a run for each, the base read once, every row as the adapter alone would give it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from eval_rows import timeless

from cli_runner import Run
from zoomzero.benchmarks.runner.run import read_rows, read_run
from zoomzero.cli.eval import run_names
from zoomzero.errors import ConfigError
from zoomzero.policy.local import load

FEW = ("--mode", "coarse", "--device", "cpu", "--set", "max_new_tokens=24", "--resamples", 50, "--limit", 2)


@pytest.fixture(scope="module")
def adapters(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two adapters of the embedded model with random weights."""
    import torch
    from peft import LoraConfig, get_peft_model

    from zoomzero.policy.local.families import family_of

    folder = tmp_path_factory.mktemp("adapters")
    for name, seed in (("a", 1), ("b", 2)):
        policy = load.load_policy(checkpoint, device="cpu")
        config = LoraConfig(r=2, target_modules=family_of(policy.model).lora_targets)
        model = get_peft_model(policy.model, config).eval()
        generator = torch.Generator().manual_seed(seed)
        for weight_name, weight in model.named_parameters():
            if "lora_B" in weight_name:
                weight.data = 0.3 * torch.randn(weight.shape, generator=generator)
        model.save_pretrained(folder / name)
        config_file = folder / name / "adapter_config.json"
        values = json.loads(config_file.read_text()) | {"base_model_name_or_path": str(checkpoint)}
        config_file.write_text(json.dumps(values))
    return folder / "a", folder / "b"


def rows_of(run: Path) -> dict[str, object]:
    return {row["id"]: timeless(row) for row in read_rows(run, "coarse")}


def test_several_adapters_on_one_base(
    zoom: Run,
    checkpoint: Path,
    adapters: tuple[Path, Path],
    small_world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = adapters
    usual = ("eval", "world-short", "--data", small_world, *FEW)
    read, times = load.load_network, []
    monkeypatch.setattr(load, "load_network", lambda *a, **k: times.append(1) or read(*a, **k))
    given = [word for one in ("none", first, second) for word in ("--adapter", one)]
    ran = zoom(*usual, "--model", checkpoint, *given, "--out", tmp_path / "all")
    assert (ran.code, ran.err) == (0, "")
    assert len(times) == 1, "the base is read once"
    assert [line for line in ran.out.splitlines() if line in ("none", "a", "b")] == ["none", "a", "b"]
    found = {name: rows_of(tmp_path / "all" / name) for name in ("none", "a", "b")}
    assert found["none"] != found["a"] != found["b"]
    records = {name: read_run(tmp_path / "all" / name) for name in found}
    assert len({record["model_hash"] for record in records.values()}) == 3
    assert [records[name]["adapter"] for name in found] == [None, str(first), str(second)]
    alone = zoom(*usual, "--model", checkpoint, "--adapter", second, "--out", tmp_path / "alone")
    as_model = zoom(*usual, "--model", second, "--out", tmp_path / "as-model")
    assert (alone.code, as_model.code) == (0, 0)
    assert rows_of(tmp_path / "alone") == rows_of(tmp_path / "as-model") == found["b"]
    other = zoom(*usual, "--model", checkpoint, "--adapter", first, "--out", tmp_path / "alone")
    assert (other.code, "the model's files" in other.complaint) == (2, True)


def test_adapters_are_for_weights_in_this_process(zoom: Run, small_world: Path, tmp_path: Path) -> None:
    usual = ("eval", "world-short", "--data", small_world, "--model", "http://localhost:1/v1#x", "--out", tmp_path)
    for name, value in (("--adapter", "DIR"), ("--quantize", "4bit")):
        refused = zoom(*usual, name, value)
        assert refused.code == 2
        assert refused.complaint == f"{name}: {value} is for weights in this process; start the server with it"


def test_names_of_runs() -> None:
    assert run_names(["none", "runs/x/checkpoint-100", "hub/lora"]) == ["none", "checkpoint-100", "lora"]
    assert run_names(["a/checkpoint-1", "b/checkpoint-1"]) == ["a-checkpoint-1", "b-checkpoint-1"]
    with pytest.raises(ConfigError, match="--adapter: x is given twice"):
        run_names(["x", "none", "x"])
