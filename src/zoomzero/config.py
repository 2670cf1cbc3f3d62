"""Settings: one tree of pydantic models, read from TOML or JSON, unknown keys rejected, hashed into every output.

A checkpoint may carry `zoomzero.json` (a `ModelSettings`): the prompts, frame rates and budgets it was trained with,
so that nobody has to guess them. Without that file the defaults below, the method's published numbers, hold.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zoomzero.errors import ConfigError
from zoomzero.files import parse_json
from zoomzero.video.types import FrameBudget

MODEL_SETTINGS_FILE = "zoomzero.json"
SettingsT = TypeVar("SettingsT", bound="Settings")


class Settings(BaseModel):
    """Base of every settings model: immutable, unknown keys are errors, and old names name their successor."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    RENAMED: ClassVar[Mapping[str, str]] = {}  # old key of this table -> what to write instead


class PassSettings(Settings):
    """What one pass over frames may spend."""

    fps: float = Field(1.0, gt=0, le=60, description="Frames a second while the budget allows.")
    max_tokens: int = Field(4096, ge=1, description="Visual tokens over all frames of the pass.")
    max_frames: int = Field(768, ge=2, description="Frames over all spans of the pass.")
    min_frame_tokens: int = Field(16, ge=1, description="Smallest frame, in visual-token squares.")
    max_frame_tokens: int = Field(768, ge=1, description="Largest frame, in visual-token squares.")

    def budget(self, max_tokens: int | None = None) -> FrameBudget:
        """Return the planner's budget, optionally with another token limit."""
        values = self.model_dump()
        if max_tokens is not None:
            values["max_tokens"] = max_tokens
        return FrameBudget(**values)


class ModelSettings(Settings):
    """How a checkpoint wants to be asked. The defaults are the method's (docs/method.md)."""

    style: Literal["full", "brief"] = Field(
        "full",
        description="Prompt templates: full for instruction-tuned models, brief for models trained on them.",
    )
    coarse: PassSettings = Field(
        PassSettings(fps=1.0, max_tokens=4096),
        description="The pass over the whole video: 8192*28*28 pixels in all.",
    )
    zoom: PassSettings = Field(
        PassSettings(fps=2.0, max_tokens=2048, max_frames=256),
        description="The pass over the found spans: few frames, many pixels each.",
    )
    window: PassSettings = Field(
        PassSettings(fps=2.0, max_tokens=4096, max_frames=256),
        description="One window of divide-and-conquer; max_frames / fps is its length in seconds.",
    )
    window_clock: Literal["video", "window"] = Field(
        "video", description="Tell a window its true times, or let it be a video of its own that begins at 0."
    )
    widen_s: float = Field(10.0, ge=0, description="Seconds added at both ends of found spans before zooming.")
    long_after_s: float = Field(600.0, gt=0, description="Videos longer than this get the long-video template.")
    score_options_as: Literal["letter", "text"] = Field(
        "letter", description="Score options in the zoom pass by their letter or by their text."
    )
    think: bool = Field(True, description="Let the coarse pass think before it answers.")
    text_after_time: bool = Field(
        True,
        description="Qwen2.5-VL: put text behind a video's last time position, as its checkpoints were trained; "
        "false as transformers does since 5.3.",
    )
    max_new_tokens: int = Field(512, ge=1, description="Tokens a pass may write.")
    divide_top: int = Field(5, ge=1, description="Windows that divide-and-conquer verifies.")
    certain: float = Field(0.95, ge=0, le=1, description="Confidence at which a lone window needs no close look.")
    candidates: int = Field(4, ge=1, description="Span candidates the search mode draws from one prefill.")
    enough: float = Field(
        1.0, ge=0, le=1, description="Coarse confidence at which zoom needs no close look; 1 always takes it."
    )
    weak: float = Field(0.5, ge=0, le=1, description="Verified confidence below which the search looks elsewhere.")
    outside_looks: int = Field(
        4, ge=0, description="Windows outside all candidates the search looks at when all are weak."
    )


def settings_hash(settings: BaseModel | Mapping[str, Any]) -> str:
    """Return 12 hex digits that change when any value changes."""
    values = settings.model_dump(mode="json") if isinstance(settings, BaseModel) else dict(settings)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def load_settings(kind: type[SettingsT], path: str | Path | None = None, overrides: Sequence[str] = ()) -> SettingsT:
    """Read settings from a TOML or JSON file and apply `key.sub=value` overrides.

    Args:
        kind: the settings model.
        path: file to read; None for the defaults.
        overrides: assignments such as `coarse.fps=2` or `model="tiny"`; values are TOML, bare words are strings.

    Raises:
        ConfigError: no such file, not TOML/JSON, an unknown key, or a value out of range.
    """
    return parse_settings(kind, read_settings(path, overrides), str(path or "settings"), overrides)


def read_settings(path: str | Path | None = None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the plain values of a settings file with `key.sub=value` overrides applied, not yet checked.

    Raises:
        ConfigError: no such file, or not TOML/JSON.
    """
    values = _read(Path(path)) if path is not None else {}
    for assignment in overrides:
        _assign(values, assignment)
    return values


def lay_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return two trees of values as one; where both have a value the one above holds."""
    merged = dict(below)
    for name, value in above.items():
        under = merged.get(name)
        merged[name] = lay_over(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return merged


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one table with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def parse_settings(
    kind: type[SettingsT], values: Mapping[str, Any], source: str, overrides: Sequence[str] = ()
) -> SettingsT:
    """Check a plain mapping of settings.

    Args:
        kind: the settings model.
        values: what was read, overrides applied.
        source: where the values are from, for errors.
        overrides: the `key=value` assignments among them: what is wrong with one is said of `--set`, not of the file.

    Raises:
        ConfigError: naming the first wrong key, what is wrong with it, and the fix.
    """
    try:
        return kind.model_validate(_over_defaults(kind, values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        location = first["loc"]
        key = ".".join(str(part) for part in location)
        given = next((one for one in reversed(overrides) if key and _says(one, key)), None)
        where = f"--set {given}" if given else ": ".join(part for part in (source, key) if part)
        if first["type"] == "extra_forbidden":
            raise _unknown_key(kind, location, where) from error
        reason = _reason(first, said_before=given is not None)
        fix = f"set it to a valid value ({_hint(kind, location)})" if key else "correct the settings"
        raise ConfigError(where, reason, fix) from error


def _says(assignment: str, key: str) -> bool:
    """Return whether an assignment sets this key, or a table around or below it."""
    name = assignment.partition("=")[0].strip()
    return name == key or key.startswith(f"{name}.") or name.startswith(f"{key}.")


def _unknown_key(kind: type[Settings], location: Sequence[Any], where: str) -> ConfigError:
    """Return the error of a key nobody knows: its new name, or the one that was meant when it is clear."""
    table = _table(kind, location[:-1])
    if (new := table.RENAMED.get(str(location[-1]))) is not None:
        return ConfigError(where, f"renamed to {new}", "write the new name")
    known, name = sorted(table.model_fields), str(location[-1])
    near = [".".join([*map(str, location[:-1]), one]) for one in get_close_matches(name, known, n=1, cutoff=0.7)]
    if not near:  # the name of another table
        every = {one.rpartition(".")[2]: one for one in reversed(list(_names(kind)))}
        near = [every[one] for one in get_close_matches(name, list(every), n=1, cutoff=0.8)]
    fix = f"did you mean {near[0]}? Known here are {', '.join(known)}" if near else f"known here are {', '.join(known)}"
    return ConfigError(where, "there is no such setting", fix)


def _names(kind: type[Settings], before: str = "") -> Iterator[str]:
    """Yield the whole name of every setting, those of tables below too."""
    for name in kind.model_fields:
        yield f"{before}{name}"
        if (table := _inner(kind, name)) is not None:
            yield from _names(table, f"{before}{name}.")


def _reason(error: Mapping[str, Any], said_before: bool) -> str:
    """Return what is wrong in our words, without those of the library that found it."""
    if error["type"] == "missing":
        return "is not set"
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message.replace("Input should be a valid ", "must be a valid ").replace("Input should be ", "must be ")
    message = message.replace("Input should ", "must ").partition(", unable to parse")[0]
    value = error.get("input")
    shown = f", not {value!r}" if not said_before and isinstance(value, (str, int, float)) and "must" in message else ""
    return message[:1].lower() + message[1:] + shown


def _over_defaults(kind: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Lay values over each table's own defaults: naming one key of `zoom` must not reset the rest to a pass's."""
    filled = dict(values)
    for name, field in kind.model_fields.items():
        given = values.get(name)
        if isinstance(given, Mapping) and isinstance(field.default, BaseModel):
            filled[name] = field.default.model_dump() | _over_defaults(type(field.default), given)
    return filled


def load_model_settings(directory: str | Path) -> ModelSettings:
    """Read `zoomzero.json` of a checkpoint directory; the defaults when it has none.

    Raises:
        ConfigError: there is no such directory (`zoomzero.policy.local.load.find` gives that of a name or hub id).
    """
    if not Path(directory).is_dir():
        raise ConfigError(str(directory), "no such directory", "give that of a checkpoint, as `find(model)` does")
    path = Path(directory) / MODEL_SETTINGS_FILE
    return load_settings(ModelSettings, path) if path.is_file() else ModelSettings()


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(str(path), "no such settings file", "give a .toml or .json file that exists")
    try:
        text = path.read_text(encoding="utf-8")
        values = parse_json(text) if path.suffix == ".json" else _toml(text)
    except (ValueError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"not valid {path.suffix[1:] or 'TOML'} ({error})", "correct the file") from error
    if not isinstance(values, dict):
        raise ConfigError(str(path), "holds no table of settings", "write `key = value` lines")
    return values


def _toml(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("values are nested too deeply") from error


def _assign(values: dict[str, Any], assignment: str) -> None:
    key, equals, raw = assignment.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {assignment}", "is not an assignment", "write key=value, for example coarse.fps=2")
    try:
        value = _toml(f"value = {raw}")["value"]
    except ValueError:
        value = raw
    *tables, last = key.strip().split(".")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {assignment}", f"{table} is a value, not a table", "name an existing setting")
    values[last] = value


def _table(kind: type[SettingsT], location: Sequence[Any]) -> type[Settings]:
    """Return the settings model that a location in another one leads to, as far as it leads."""
    table: type[Settings] = kind
    for part in location:
        found = _inner(table, str(part))
        if found is None:
            break
        table = found
    return table


def _inner(kind: type[Settings], name: str) -> type[Settings] | None:
    """Return the settings model of one key's value, also where the key may be None."""
    field = kind.model_fields.get(name)
    choices = (field.annotation, *get_args(field.annotation)) if field is not None else ()
    return next((one for one in choices if isinstance(one, type) and issubclass(one, Settings)), None)


def _hint(kind: type[Settings], location: Sequence[Any]) -> str:
    field = _table(kind, location[:-1]).model_fields.get(str(location[-1])) if location else None
    return (field.description or "see docs/reference/formats.md") if field else "see docs/reference/formats.md"
