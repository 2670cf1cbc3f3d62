"""What a checkpoint says about text: tokenizer, chat template, special tokens, processor settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from zoomzero.errors import ModelError
from zoomzero.policy.local.checkpoint.find import one_line, read_json
from zoomzero.policy.local.families import Family
from zoomzero.policy.local.text import ChatTemplate, TextCodec


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


def check_special_tokens(model: str, family: type[Family], config: Any, codec: TextCodec) -> None:
    """Check that the vision tokens of the config are special tokens of the tokenizer.

    Raises:
        ModelError: they are not, so text could not be told from video.
    """
    for name in family.special:
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


def make_family(
    model: str, where: Path, family: type[Family], config: Any, options: Mapping[str, Any] | None = None
) -> Family:
    """Return the family with the checkpoint's patch sizes and normalisation.

    Args:
        model: what the user called it.
        where: its directory.
        family: its class.
        config: the network's configuration.
        options: see `Family.from_checkpoint`.
    """
    seen = config.vision_config
    mean, std = family.default_mean, family.default_std
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
    return family.from_checkpoint(config, mean, std, options or {})


def load_template(model: str, where: Path, family: Family, think: bool | None = None) -> ChatTemplate:
    """Load the checkpoint's chat template, or the standard ChatML form when it has none.

    Args:
        model: what the user called it.
        where: its directory.
        family: gives the standard form's system message.
        think: whether it is to think before it answers, for templates that can be told; None: as they like.

    Raises:
        ModelError: it cannot be read, or does not take video and text.
    """
    from jinja2 import TemplateError

    try:
        template = ChatTemplate(_template_source(model, where), family.system, think)
        template.render(["user"], [2])
    except (TemplateError, ValueError, TypeError) as error:
        reason = f"its chat template does not take video and text ({one_line(error)})"
        raise ModelError(model, reason, "remove or fix the template") from error
    return template


def _template_source(model: str, where: Path) -> str:
    """Return the jinja text of a checkpoint's template, "" when it has none."""
    for name in ("chat_template.jinja", "chat_template.json", "tokenizer_config.json"):
        path = where / name
        if not path.is_file():
            continue
        held = path.read_text(encoding="utf-8") if path.suffix == ".jinja" else read_json(model, path)
        found = held.get("chat_template") if isinstance(held, dict) else held
        if isinstance(found, list):  # several with names; the one for chats is called default
            named = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
            if "default" not in named:
                raise ValueError("it lists templates, none of them called default")
            found = named["default"]
        if isinstance(found, dict):
            raise ValueError("it is a table, not a text")
        if found:
            return str(found)
    return ""


def stop_tokens(model: str, where: Path, network: Any, codec: TextCodec) -> list[int]:
    """Return the ids that end an answer: from the generation config, the text config and the tokenizer."""
    found: set[int] = set()
    text_eos = getattr(network.config.text_config, "eos_token_id", None)
    for value in (network.generation_config.eos_token_id, text_eos):
        given = value if isinstance(value, list | tuple) else [] if value is None else [value]
        if not all(isinstance(one, int) for one in given):
            reason = f"eos_token_id is {str(value)[:80]}, not the number of a token"
            raise ModelError(model, reason, "correct generation_config.json and config.json")
        found |= set(given)
    path = where / "tokenizer_config.json"
    eos = read_json(model, path).get("eos_token") if path.is_file() else None
    eos = eos.get("content") if isinstance(eos, dict) else eos
    found |= {codec.special[token] for token in (eos, "<|im_end|>") if token in codec.special}
    found = {index for index in found if 0 <= index < codec.size}
    if not found:
        raise ModelError(model, "names no end-of-turn token", "set eos_token_id in generation_config.json")
    return sorted(found)
