"""What the doctor says of a healthy machine, and of ones that lack something."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from zoomzero import doctor
from zoomzero.models import EMBEDDED


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package directory with (made-up) weights of the embedded models; the path of the finished one's."""
    paths = [tmp_path / "models" / name / "model.safetensors" for name in EMBEDDED]
    for weights in paths:
        weights.parent.mkdir(parents=True)
        weights.write_bytes(bytes(1_500_000))
    monkeypatch.setattr(doctor.resources, "files", lambda package: tmp_path)
    return paths[EMBEDDED.index("tiny")]


def lines() -> tuple[dict[str, tuple[str, str]], bool]:
    """Return (name -> (mark, text), whether all is well)."""
    text, healthy = doctor.report()
    rows = [(line[:5].strip(), line[6:22].strip(), line[23:]) for line in text.splitlines()]
    return {name: (mark, said) for mark, name, said in rows}, healthy


def test_a_healthy_machine(embedded: Path) -> None:
    found, healthy = lines()
    assert healthy
    assert {mark for mark, _ in found.values()} <= {"ok", "slow", "--"}
    assert found["torch"] == ("ok", importlib.metadata.version("torch"))
    assert [found[f"{name} model"] for name in EMBEDDED] == [("ok", "1.5 MB, embedded")] * len(EMBEDDED)
    assert found["encoder"] == ("ok", "libx264")
    assert "h264" in found["decoders"][1]
    assert found["disk"][1].endswith("GiB free here")


def test_without_the_embedded_model(embedded: Path) -> None:
    embedded.unlink()
    found, healthy = lines()
    assert not healthy
    assert found["tiny model"] == ("FAIL", "missing; reinstall zoomzero")


def test_a_missing_package_is_named_with_the_fix(embedded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("pysubs2", "pyarrow"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found, healthy = lines()
    assert not healthy
    assert found["pysubs2"] == ("FAIL", "not installed; run `pip install pysubs2`, or install zoomzero again")
    assert found["pyarrow"][0] == "--"
    assert "pip install pyarrow" in found["pyarrow"][1]


@pytest.mark.parametrize(("module", "line"), [("torch", "device"), ("av", "decoders")])
def test_a_package_that_does_not_import_is_no_crash(
    embedded: Path, monkeypatch: pytest.MonkeyPatch, module: str, line: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    found, healthy = lines()
    assert not healthy
    assert found[line][0] == "FAIL"
    assert found[line][1].startswith(f"{module} does not import")


def test_no_encoder_and_missing_decoders(embedded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    monkeypatch.setattr(av, "codecs_available", {"h264", "vp9"})
    found, healthy = lines()
    assert not healthy
    assert found["decoders"] == ("slow", "h264, vp9; missing hevc, vp8, av1")
    assert found["encoder"][0] == "FAIL"


@pytest.mark.parametrize(("gib", "fits"), [(15, "2B-4B fit"), (24, "8B fits"), (80, "72B needs several")])
def test_a_gpu_is_measured(embedded: Path, monkeypatch: pytest.MonkeyPatch, gib: int, fits: str) -> None:
    import torch

    card = SimpleNamespace(name="Some GPU", total_memory=gib * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    assert lines()[0]["cuda:0"] == ("ok", f"Some GPU, {gib} GiB ({fits})")


def test_without_a_gpu_it_says_what_will_be_slow(embedded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    mark, said = lines()[0]["device"]
    assert mark == "slow"
    assert "2B-8B take minutes" in said
