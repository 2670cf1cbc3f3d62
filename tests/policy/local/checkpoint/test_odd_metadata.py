"""What says what a checkpoint is may hold anything: one line. What a full disk does to weights: the system's error."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from cli_runner import EMBEDDED
from zoomzero.errors import ModelError
from zoomzero.policy.local.load import load_policy
from zoomzero.policy.local.save import system_errors, write_weights


def copy_of(source: Path, folder: Path) -> Path:
    """A checkpoint of its own, with the weights of another."""
    folder.mkdir()
    for file in source.iterdir():
        if file.suffix == ".safetensors":
            (folder / file.name).symlink_to(file)
        elif file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.mark.skipif(not (EMBEDDED / "model.safetensors").is_file(), reason="needs the embedded model")
@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("generation_config.json", "eos_token_id", "9" * 5000),
        ("generation_config.json", "eos_token_id", 3.5),
        ("generation_config.json", "eos_token_id", [{}]),
        ("config.json", "quantization_config", 3.5),
        ("config.json", "quantization_config", "x"),
        ("config.json", "dtype", "auto"),
        ("config.json", "text_config", [1] * 30),
        ("config.json", "vision_config", "x"),
    ],
)
def test_odd_values_are_one_line(tmp_path: Path, file: str, key: str, value: Any) -> None:
    where = copy_of(EMBEDDED, tmp_path / "odd")
    path = where / file
    held = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(held | {key: value}), encoding="utf-8")
    with pytest.raises(ModelError) as found:
        load_policy(str(where), device="cpu")
    assert len(str(found.value).splitlines()) == 1
    assert len(str(found.value)) < 500


def test_weights_on_a_disk_without_room(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the same error by another number."""
    before, heard = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        with pytest.raises(OSError) as found:  # noqa: PT011 - its number is looked at
            write_weights(tmp_path, [("a", torch.zeros(10_000))], torch.float32)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heard)
    assert found.value.errno == errno.EFBIG
    assert str(tmp_path) in str(found.value.filename)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), errno.ENOSPC),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"), errno.EIO),
    ],
)
def test_failed_writes_of_libraries(tmp_path: Path, error: Exception, number: int) -> None:
    with pytest.raises(OSError) as found, system_errors(tmp_path / "file"):  # noqa: PT011
        raise error
    assert (found.value.errno, found.value.strerror) == (number, os.strerror(number))


def test_other_errors_of_torch_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes"), system_errors(tmp_path / "file"):
        raise RuntimeError("shapes cannot be multiplied")
