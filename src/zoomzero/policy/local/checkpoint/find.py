"""Where a model's files are: the shipped one, a directory, or the hub."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from zoomzero.errors import ModelError
from zoomzero.files import parse_json
from zoomzero.models import EMBEDDED
from zoomzero.policy.local.checkpoint.quantised import check_quantised
from zoomzero.policy.local.families import Family, family_class, supported

WORDS = ["*.json", "*.jinja"]  # read first: they say whether the weights are of any use
BELOW = ["*/*"]  # folders of a repository hold other things: checkpoints of its training, other formats


def find(model: str, revision: str | None = None) -> Path:
    """Return the directory that holds a model's files, downloading from the hub when it is an id.

    Raises:
        ModelError: there is no such directory, or the hub cannot be reached and nothing is cached.
    """
    return _local(model) or _download(model, revision, weights=True)


def find_words(model: str, revision: str | None = None) -> Path:
    """Return a directory that holds all of a model's files but perhaps its weights; see `find`.

    Raises:
        ModelError: there is no such directory, or the hub cannot be reached and nothing is cached.
    """
    return _local(model) or _download(model, revision, weights=False)


def _local(model: str) -> Path | None:
    """Return the directory of a model that is on this machine, None for a hub id."""
    if model in EMBEDDED:
        where = Path(str(resources.files("zoomzero") / "models" / model))
        if not (where / "config.json").is_file():
            raise ModelError(model, f"the shipped model is missing from {where}", "reinstall zoomzero")
        return where
    if model.startswith(("http://", "https://")):
        fix = "give a checkpoint directory or a hub id"
        raise ModelError(model, "is a server, and this needs the weights in its own process", fix)
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ModelError(model, "is a file", "give the directory that holds config.json")
    if model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise ModelError(
            model,
            "no such directory",
            "give `tiny`, a local directory, or a hub id like Qwen/Qwen3-VL-2B-Instruct",
        )
    return None


def _download(model: str, revision: str | None, *, weights: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        where = Path(snapshot_download(model, revision=revision, allow_patterns=WORDS, ignore_patterns=BELOW))
        if not weights:
            return where
        wanted = _weight_files(model, where)
        return Path(
            snapshot_download(model, revision=revision, allow_patterns=[*WORDS, *wanted], ignore_patterns=BELOW)
        )
    except GatedRepoError as error:
        raise ModelError(
            model, "the hub wants you to accept its terms", "accept them on its page and run `hf auth login`"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(model, "neither a local directory nor a model on the hub", "check the spelling") from error
    except RevisionNotFoundError as error:
        raise ModelError(model, f"has no revision {revision}", "give a branch, tag or commit it has") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelError(
            model,
            "no such directory, not in the local cache, and the hub cannot be reached",
            "connect to the network, or download it elsewhere and give the directory",
        ) from error


def _weight_files(model: str, where: Path) -> list[str]:
    """Return which files of a repository hold the weights, once its configuration was found fit for use.

    Raises:
        ModelError: another architecture, no configuration, or no head to write with.
    """
    if (where / "adapter_config.json").is_file():
        return ["adapter_model.safetensors"]
    config = read_json(model, where / "config.json")
    check_family(model, config)
    check_quantised(model, config)
    index = where / "model.safetensors.index.json"
    if not index.is_file():
        return ["model.safetensors"]
    places = read_json(model, index).get("weight_map", {})
    check_head(model, config, places)
    return sorted(set(places.values()))


def check_head(model: str, config: dict[str, Any], names: Iterable[str]) -> None:
    """Check that a checkpoint has something to write with: those that embed have not.

    Args:
        model: what the user called it.
        config: its config.json.
        names: of its weights.

    Raises:
        ModelError: it has no head of its own, and the embedding is none.
    """
    if config.get("tie_word_embeddings") is False and "lm_head.weight" not in names:
        raise ModelError(model, "writes nothing: it has no lm_head (it embeds)", "use a checkpoint that answers")


def read_json(model: str, path: Path) -> dict[str, Any]:
    """Return a JSON file's object.

    Raises:
        ModelError: it is missing or damaged.
    """
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(model, f"has no {path.name}", "give the directory of a whole checkpoint") from error
    except (OSError, ValueError) as error:
        raise ModelError(model, f"{path.name} is damaged", "download the checkpoint again") from error
    if not isinstance(value, dict):
        raise ModelError(model, f"{path.name} is damaged", "download the checkpoint again")
    return value


def check_family(model: str, config: dict[str, Any]) -> type[Family]:
    """Return the family of a checkpoint's configuration.

    Raises:
        ModelError: another architecture, or one without a vision tower.
    """
    kind = str(config.get("model_type"))
    fix = f"use a checkpoint of {supported()}"
    try:
        found = family_class(kind)
    except KeyError as error:
        raise ModelError(model, f"model type {kind} is not supported", fix) from error
    if "vision_config" not in config:
        raise ModelError(model, "sees nothing: its config.json has no vision_config", fix)
    return found


def one_line(error: BaseException) -> str:
    """Return the first line of an error, shortened."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:160]
