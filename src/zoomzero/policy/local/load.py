"""Find, check and load a checkpoint: `load_policy("tiny" | directory | hub id)`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from tokenizers import Tokenizer

from zoomzero.errors import ModelError
from zoomzero.policy.local import vision
from zoomzero.policy.local.attention import group_attention
from zoomzero.policy.local.attention.packed import core
from zoomzero.policy.local.families.base import Family, Qwen3VL, Qwen25VL
from zoomzero.policy.local.prompt import PromptBuilder
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.policy.local.text import ChatTemplate, TextCodec
from zoomzero.video.types import Geometry

FAMILIES: dict[str, type[Family]] = {"qwen3_vl": Qwen3VL, "qwen2_5_vl": Qwen25VL}
DEFAULT_MEAN_STD = {
    "qwen3_vl": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "qwen2_5_vl": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
SMALL_MODEL_PARAMETERS = 100_000_000
DOWNLOADED = ["*.json", "*.safetensors", "*.jinja"]


def load_policy(
    model: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    text_after_time: bool = False,
) -> QwenPolicy:
    """Load a Qwen2.5-VL or Qwen3-VL checkpoint.

    Args:
        model: `tiny` (shipped with the package), a local directory, or a hub id such as
            `Qwen/Qwen3-VL-2B-Instruct`. device: `auto` (a GPU when there is one), `cpu`, `cuda`, `cuda:1`,
            ... dtype: `auto` (bfloat16 on a GPU, float32 on a CPU), `float32`, `bfloat16` or `float16`.
            revision: branch, tag or commit on the hub.
        text_after_time: Qwen2.5-VL only: place text after a video as the released checkpoints were trained
            (and transformers did up to 5.2) instead of as the installed `get_rope_index` does.

    Raises:
        ModelError: it cannot be found, is not whole, or is of a family that is not supported.
    """
    name = str(model)
    where = find(name, revision)
    config = read_json(name, where / "config.json")
    kind = check_family(name, config)
    codec = load_codec(name, where)
    target = pick_device(name, device)
    network = load_network(name, where, kind, pick_dtype(name, dtype, target), target)
    network.eval().requires_grad_(False)
    prepare(network)
    check_special_tokens(name, network.config, codec)
    family = make_family(name, where, kind, network.config, text_after_time)
    builder = PromptBuilder(family, codec, load_template(name, where, family), network.config.video_token_id)
    return QwenPolicy(name, network, builder, stop_tokens(name, where, network, codec))


def settle_threads(policy: QwenPolicy, processes: int = 1) -> None:
    """Choose torch's threads for a model on the CPU: one for a small model, else a fair share of the cores.

    A small model loses more to waiting threads than it gains (docs/policy.md).

    Args:
        policy: the model.
        processes: models that run side by side on this machine.
    """
    if policy.device.type != "cpu":
        return
    if sum(p.numel() for p in policy.model.parameters()) < SMALL_MODEL_PARAMETERS:
        torch.set_num_threads(1)
    elif processes > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))


def prepare(model: Any) -> Any:
    """Give a transformers Qwen-VL model the project's attention (text and vision) and return it.

    The model keeps working through its own `forward` and `generate`.
    """
    group_attention.install(core(model).language_model)
    vision.install(core(model).visual)
    return model


def find(model: str, revision: str | None = None) -> Path:
    """Return the directory that holds a model's files, downloading from the hub when it is an id.

    Raises:
        ModelError: there is no such directory, or the hub cannot be reached and nothing is cached.
    """
    if model == "tiny":
        where = Path(str(resources.files("zoomzero") / "models" / "tiny"))
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
    return _download(model, revision)


def _download(model: str, revision: str | None) -> Path:
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
        return Path(snapshot_download(model, revision=revision, allow_patterns=DOWNLOADED))
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


def read_json(model: str, path: Path) -> dict[str, Any]:
    """Return a JSON file's object.

    Raises:
        ModelError: it is missing or damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(model, f"has no {path.name}", "give the directory of a whole checkpoint") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(model, f"{path.name} is damaged", "download the checkpoint again") from error
    if not isinstance(value, dict):
        raise ModelError(model, f"{path.name} is damaged", "download the checkpoint again")
    return value


def check_family(model: str, config: dict[str, Any]) -> str:
    """Return the checkpoint's `model_type` when it is supported.

    Raises:
        ModelError: another architecture.
    """
    kind = str(config.get("model_type"))
    if kind not in FAMILIES:
        raise ModelError(
            model, f"model type {kind} is not supported", "use a Qwen2.5-VL or a dense Qwen3-VL checkpoint"
        )
    return kind


def pick_device(model: str, device: str) -> torch.device:
    """Return the device a setting names."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise ModelError(model, f"unknown device {device}", "use auto, cpu, cuda or cuda:N") from error
    if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
        raise ModelError(model, f"there is no {device} here", "use --device cpu or install a CUDA build of torch")
    return target


def pick_dtype(model: str, dtype: str, device: torch.device) -> torch.dtype:
    """Return the number type a setting names: half precision only where it is fast."""
    named = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in named:
        raise ModelError(model, f"unknown dtype {dtype}", f"use auto, {', '.join(named)}")
    return named[dtype]


def load_network(model: str, where: Path, kind: str, dtype: torch.dtype, device: torch.device) -> Any:
    """Load the weights onto the device, safetensors only and no code from the checkpoint.

    Raises:
        ModelError: weights are missing, damaged or of other shapes than the config says.
    """
    if not any(where.glob("*.safetensors")):
        raise ModelError(
            model, "has no .safetensors weights", "convert it with save_pretrained(safe_serialization=True)"
        )
    network_class = _network_class(kind)
    again = "download the checkpoint again, or fix config.json"
    placed = {} if device.type == "cpu" else {"device_map": {"": device}}  # straight to the GPU, not by way of RAM
    with quiet():
        try:
            network, info = network_class.from_pretrained(
                where,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                **placed,
            )
        except SafetensorError as error:
            raise ModelError(model, f"weights are damaged ({_one_line(error)})", "download them again") from error
        except (OSError, RuntimeError, ValueError, LookupError, TypeError, StrictDataclassError) as error:
            raise ModelError(model, f"cannot be loaded ({_one_line(error)})", again) from error
    if "sliding_attention" in getattr(network.config.text_config, "layer_types", ()):
        raise ModelError(model, "sliding-window attention is not supported", "set use_sliding_window to false")
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(model, f"{len(missing)} weights are missing, first {missing[0]}", again)
    return network


def _network_class(kind: str) -> Any:
    with quiet():  # the import itself warns about what is not installed
        if kind == "qwen3_vl":
            from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLForConditionalGeneration

            return Qwen3VLForConditionalGeneration
        from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLForConditionalGeneration

        return Qwen2_5_VLForConditionalGeneration


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' log messages and progress bars from the user's screen, and restore them after."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def load_codec(model: str, where: Path) -> TextCodec:
    """Load tokenizer.json.

    Raises:
        ModelError: it is missing or damaged.
    """
    path = where / "tokenizer.json"
    if not path.is_file():
        raise ModelError(
            model,
            "has no tokenizer.json",
            "save one with AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
        )
    try:
        text = path.read_text(encoding="utf-8")
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the tokenizers library raises nothing more precise
        raise ModelError(model, "tokenizer.json is damaged", "download the checkpoint again") from error
    return TextCodec(tokenizer)


def check_special_tokens(model: str, config: Any, codec: TextCodec) -> None:
    """Check that the vision tokens of the config are special tokens of the tokenizer.

    Raises:
        ModelError: they are not, so text could not be told from video.
    """
    for name in ("video_token_id", "image_token_id", "vision_start_token_id", "vision_end_token_id"):
        index = getattr(config, name, None)
        if index not in codec.special_ids:
            raise ModelError(
                model,
                f"{name} {index} of config.json is not a special token of tokenizer.json",
                "use the tokenizer the checkpoint was trained with, its vision tokens marked special",
            )
    rows = config.text_config.vocab_size
    if codec.size > rows:
        raise ModelError(
            model,
            f"the tokenizer has {codec.size} tokens, the model {rows}",
            "use the checkpoint's own tokenizer",
        )


def make_family(model: str, where: Path, kind: str, config: Any, text_after_time: bool = False) -> Family:
    """Return the family with the checkpoint's patch sizes and normalisation."""
    seen = config.vision_config
    mean, std = DEFAULT_MEAN_STD[kind]
    for name in ("video_preprocessor_config.json", "preprocessor_config.json"):
        if not (where / name).is_file():
            continue
        settings = read_json(model, where / name)
        sizes = {"patch_size": seen.patch_size, "merge_size": seen.spatial_merge_size}
        sizes["temporal_patch_size"] = seen.temporal_patch_size
        for key, value in sizes.items():
            if settings.get(key, value) != value:
                raise ModelError(model, f"{name} says {key} {settings[key]}, config.json {value}", "make them agree")
        mean, std = tuple(settings.get("image_mean", mean)), tuple(settings.get("image_std", std))
        break
    free_times = kind == "qwen3_vl"
    geometry = Geometry(seen.patch_size, seen.spatial_merge_size, seen.temporal_patch_size, free_times)
    ids = (config.vision_start_token_id, config.vision_end_token_id)
    if kind == "qwen3_vl":
        return Qwen3VL(geometry, mean, std, *ids)
    return Qwen25VL(geometry, mean, std, *ids, text_after_time, float(seen.tokens_per_second))


def load_template(model: str, where: Path, family: Family) -> ChatTemplate:
    """Load the checkpoint's chat template, or the standard ChatML form when it has none."""
    from jinja2 import TemplateError

    source = ""
    for name in ("chat_template.jinja", "chat_template.json", "tokenizer_config.json"):
        path = where / name
        if not source and path.is_file():
            if path.suffix == ".jinja":
                source = path.read_text(encoding="utf-8")
            else:
                source = read_json(model, path).get("chat_template") or ""
    try:
        template = ChatTemplate(source, family.system)
        template.render(["user"], [2])
    except (TemplateError, ValueError, TypeError) as error:
        raise ModelError(
            model,
            f"its chat template does not take video and text ({_one_line(error)})",
            "remove or fix the template",
        ) from error
    return template


def stop_tokens(model: str, where: Path, network: Any, codec: TextCodec) -> list[int]:
    """Return the ids that end an answer: from the generation config, the text config and the tokenizer."""
    found: set[int] = set()
    text_eos = getattr(network.config.text_config, "eos_token_id", None)
    for value in (network.generation_config.eos_token_id, text_eos):
        found |= {value} if isinstance(value, int) else set(value or ())
    path = where / "tokenizer_config.json"
    eos = read_json(model, path).get("eos_token") if path.is_file() else None
    eos = eos.get("content") if isinstance(eos, dict) else eos
    found |= {codec.special[token] for token in (eos, "<|im_end|>") if token in codec.special}
    found = {index for index in found if 0 <= index < codec.size}
    if not found:
        raise ModelError(model, "names no end-of-turn token", "set eos_token_id in generation_config.json")
    return sorted(found)


def _one_line(error: BaseException) -> str:
    """Return the first line of an error, shortened."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:160]
