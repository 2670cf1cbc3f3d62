"""Settings: files, overrides, hashes, and one line for everything that is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoomzero.config import (
    ModelSettings,
    PassSettings,
    flatten,
    load_model_settings,
    load_settings,
    parse_settings,
    settings_hash,
)
from zoomzero.errors import ConfigError
from zoomzero.train.settings import SftSettings
from zoomzero.video.types import FrameBudget

RUN = ["model=tiny", "out=outputs/x", "steps=10", "examples=e.jsonl"]


def error_of(kind: Any, path: Path | None = None, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(kind, path, overrides)
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.exit_code == 2
    return text


def test_defaults_are_the_methods_numbers() -> None:
    settings = load_settings(ModelSettings)
    assert settings == ModelSettings()
    assert (settings.coarse.fps, settings.coarse.max_tokens) == (1.0, 8192 // 2)
    assert (settings.zoom.fps, settings.zoom.max_tokens, settings.zoom.max_frames) == (2.0, 4096 // 2, 256)
    assert (settings.window.fps, settings.window.max_frames) == (2.0, 256)
    assert (settings.widen_s, settings.long_after_s, settings.divide_top) == (10.0, 600.0, 5)


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('style = "brief"\nwiden_s = 2\n[zoom]\nfps = 4\n')
    (tmp_path / "a.json").write_text(json.dumps({"style": "brief", "widen_s": 2, "zoom": {"fps": 4}}))
    from_toml = load_settings(ModelSettings, tmp_path / "a.toml")
    assert from_toml == load_settings(ModelSettings, str(tmp_path / "a.json"))
    assert (from_toml.style, from_toml.widen_s, from_toml.zoom.fps) == ("brief", 2.0, 4.0)


def test_naming_one_key_of_a_table_leaves_its_siblings(tmp_path: Path) -> None:
    """`zoom` has defaults of its own; they must not become those of a pass in general."""
    settings = load_settings(ModelSettings, None, ["zoom.max_tokens=100", "window.fps=1"])
    assert settings.zoom == PassSettings(fps=2.0, max_tokens=100, max_frames=256)
    assert settings.window == PassSettings(fps=1.0, max_tokens=4096, max_frames=256)
    assert settings.coarse == ModelSettings().coarse
    (tmp_path / "a.toml").write_text("[zoom]\nmin_frame_tokens = 4\n")
    again = load_settings(ModelSettings, tmp_path / "a.toml", ["zoom.max_tokens=100"])
    assert again.zoom == PassSettings(fps=2.0, max_tokens=100, max_frames=256, min_frame_tokens=4)


def test_overrides_win_over_the_file_and_the_last_wins(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("widen_s = 2\n[coarse]\nfps = 3\nmax_tokens = 50\n")
    settings = load_settings(ModelSettings, tmp_path / "a.toml", ["coarse.fps=0.5", "widen_s=4", "widen_s = 5"])
    assert (settings.coarse.fps, settings.coarse.max_tokens, settings.widen_s) == (0.5, 50, 5.0)


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("model=tiny", "tiny"),
        ('model="tiny"', "tiny"),
        ("model=Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-2B-Instruct"),
        ("model=out=puts", "out=puts"),
        ("model=a b", "a b"),
    ],
)
def test_bare_words_are_strings(assignment: str, value: str) -> None:
    assert load_settings(SftSettings, None, [*RUN, assignment]).model == value


def test_values_are_toml() -> None:
    settings = load_settings(SftSettings, None, [*RUN, "bf16=false", "learning_rate=1e-5", "validation.every=7"])
    assert (settings.bf16, settings.learning_rate, settings.validation.every) == (False, 1e-5, 7)
    stages = load_settings(SftSettings, None, [*RUN[:2], "stages=[{steps=2, clips=1}, {steps=3, zooms=2}]"]).stages
    assert [(stage.steps, stage.clips, stage.zooms) for stage in stages] == [(2, 1, 0), (3, 0, 2)]


@pytest.mark.parametrize(
    ("kind", "overrides", "says"),
    [
        (ModelSettings, ["spam=1"], "--set spam=1: there is no such setting; known here are candidates, "),
        (ModelSettings, ["coarse.fp=2"], "--set coarse.fp=2: there is no such setting; did you mean coarse.fps? Known"),
        (ModelSettings, ["max_frame=2"], "--set max_frame=2: there is no such setting; did you mean coarse.max_frames"),
        (ModelSettings, ["colours=2"], "--set colours=2: there is no such setting; known here are "),
        (ModelSettings, ["candidate=2"], "--set candidate=2: there is no such setting; did you mean candidates? "),
        (ModelSettings, ["zoom.fps=0"], "--set zoom.fps=0: must be greater than 0; set it to a valid value (Frames"),
        (ModelSettings, ["zoom.fps=nan"], "--set zoom.fps=nan: "),
        (ModelSettings, ["widen_s=nan"], "--set widen_s=nan: "),
        (ModelSettings, ["zoom=3"], "--set zoom=3: "),
        (ModelSettings, ["style=long"], "--set style=long: must be 'full' or 'brief'"),
        (ModelSettings, ["certain=1.5"], "--set certain=1.5: must be less than or equal to 1"),
        (ModelSettings, ["max_new_tokens=many"], "--set max_new_tokens=many: must be a valid integer; set it"),
        (ModelSettings, ["widen_s"], "--set widen_s: is not an assignment; write key=value"),
        (ModelSettings, ["=3"], "--set =3: is not an assignment"),
        (ModelSettings, ["widen_s=1", "widen_s.x=3"], "--set widen_s.x=3: widen_s is a value, not a table"),
        (SftSettings, [], "settings: model: is not set; set it to a valid value (Start: a directory, "),
        (SftSettings, [*RUN, "steps=0"], "--set steps=0: must be greater than or equal to 1"),
        (SftSettings, [*RUN, "vision.steps=0"], "--set vision.steps=0: must be greater than or equal to 1"),
        (SftSettings, [*RUN[:2], "steps=1"], "settings: nothing to learn from: set examples, or stages"),
        (SftSettings, [*RUN, "schedule=cosinus"], "--set schedule=cosinus: must be 'constant', "),
    ],
)
def test_wrong_setting_is_named_with_the_fix(kind: Any, overrides: list[str], says: str) -> None:
    assert error_of(kind, None, *overrides).startswith(says)


def test_hint_of_a_wrong_value_is_the_settings_description() -> None:
    text = error_of(ModelSettings, None, "coarse.max_tokens=0")
    assert text.endswith("set it to a valid value (Visual tokens over all frames of the pass.)")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.toml", b"widen_s = \n", "not valid toml ("),
        ("a.toml", b"widen_s = 1\nwiden_s = 2\n", "not valid toml ("),
        ("a.json", b"{widen_s: 1}", "not valid json ("),
        ("a.json", b"[1]", "holds no table of settings; write `key = value` lines"),
        ("a.toml", b"style = '\xff'", "not valid toml ("),
        ("a", b"widen_s = \n", "not valid TOML ("),
        ("a.toml", b"widen_s = -1\n", "widen_s: must be greater than or equal to 0, not -1; set it to"),
    ],
)
def test_wrong_file_is_named(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert error_of(ModelSettings, tmp_path / name).startswith(f"{tmp_path / name}: {says}")


def test_missing_file_and_directory_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        assert error_of(ModelSettings, path) == (
            f"{path}: no such settings file; give a .toml or .json file that exists"
        )


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        ModelSettings().widen_s = 3.0  # type: ignore[misc]


def test_checkpoint_settings_are_read_and_missing_ones_are_the_defaults(tmp_path: Path) -> None:
    assert load_model_settings(tmp_path) == ModelSettings()
    (tmp_path / "zoomzero.json").write_text(ModelSettings(style="brief", think=False).model_dump_json())
    assert load_model_settings(tmp_path) == ModelSettings(style="brief", think=False)
    (tmp_path / "zoomzero.json").write_text('{"stile": "brief"}')
    with pytest.raises(ConfigError, match=r"zoomzero\.json: stile: there is no such setting; did you mean style"):
        load_model_settings(tmp_path)


def test_pass_becomes_a_budget() -> None:
    settings = PassSettings(fps=3, max_tokens=10, max_frames=8, min_frame_tokens=2, max_frame_tokens=5)
    assert settings.budget() == FrameBudget(3.0, 10, 8, 2, 5)
    assert settings.budget(7) == FrameBudget(3.0, 7, 8, 2, 5)


# one other value for every setting; a new setting without a line here fails the test below
CHANGED: dict[str, Any] = {
    "style": "brief",
    "window_clock": "window",
    "widen_s": 9.0,
    "long_after_s": 601.0,
    "score_options_as": "text",
    "think": False,
    "text_after_time": False,
    "max_new_tokens": 511,
    "divide_top": 4,
    "certain": 0.94,
    "candidates": 5,
    "enough": 0.9,
    "weak": 0.4,
    "outside_looks": 3,
}


@pytest.mark.parametrize("name", sorted(ModelSettings.model_fields))
def test_hash_changes_with_every_setting(name: str) -> None:
    if name in ("coarse", "zoom", "window"):
        now = getattr(ModelSettings(), name)
        changed = [now.model_copy(update={key: getattr(now, key) + 1}) for key in PassSettings.model_fields]
    else:
        changed = [CHANGED[name]]
    hashes = {settings_hash(ModelSettings().model_copy(update={name: value})) for value in changed}
    assert len(hashes | {settings_hash(ModelSettings())}) == len(changed) + 1


def test_flat_settings() -> None:
    assert flatten({"a": 1, "b": {"c": 2, "d": {"e": None}}}) == {"a": 1, "b.c": 2, "b.d.e": None}


def test_hash_is_of_the_values_alone() -> None:
    assert settings_hash(ModelSettings()) == settings_hash(ModelSettings().model_dump(mode="json"))
    assert settings_hash({"a": 1, "b": 2}) == settings_hash({"b": 2, "a": 1})
    assert settings_hash({"a": 1}) == "f9d86028c6e0"  # the first digits of: printf '{"a": 1}' | sha256sum
    assert settings_hash({"a": 1}) != settings_hash({"a": "1"})


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=4))
def test_any_unknown_key_is_refused_in_one_typed_error(values: dict[str, Any]) -> None:
    unknown = {f"x{key}": value for key, value in values.items()}
    if not unknown:
        assert parse_settings(ModelSettings, unknown, "here") == ModelSettings()
        return
    with pytest.raises(ConfigError, match="there is no such setting"):
        parse_settings(ModelSettings, unknown, "here")


def test_settings_load_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, zoomzero.config, zoomzero.train.settings, zoomzero.data.example, zoomzero.errors\n"
        "print([m for m in ('torch', 'transformers', 'av') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"


def test_an_old_name_says_what_it_is_called_now() -> None:
    from zoomzero.train.settings import SftSettings

    with pytest.raises(ConfigError) as caught:
        parse_settings(SftSettings, {"model": "tiny", "out": "x", "steps": 1, "lessons_per_row": 2}, "run.toml")
    assert str(caught.value) == "run.toml: lessons_per_row: renamed to samples_per_row; write the new name"
