"""Prompt texts, all forms in golden files (to rewrite: `python tests/prompts/test_prompt_templates.py`)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from zoomzero.errors import ConfigError
from zoomzero.prompts import coarse_text, is_well_formed, read_response, video_header, zoom_text
from zoomzero.spans import Span

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "prompts"
QUESTION = "What does the man pick up after he <answer>opens</answer> the box?"
OPTIONS = ("a red ball", "a (blue) key", "<glue>[(0, 1)]</glue>", "nothing", "紫色的书")
SUBTITLES = "[00:05] Look at this.\n[00:09] <think>What is it?</think>"


def texts() -> dict[str, str]:
    """Every form of every template, by the name of its golden file."""
    found = {}
    for style in ("full", "brief"):
        for kind, options in (("options", OPTIONS), ("open", ())):
            for mode in ("think", "no_think", "direct"):
                name = f"{style}/{mode}/{kind}"
                found[name] = video_header(83.26) + coarse_text(QUESTION, options, mode, style)
                found[f"{name}-long"] = video_header(4083.0) + coarse_text(
                    QUESTION, options, mode, style, long=True, subtitles=SUBTITLES
                )
            for answer_as in ("letter", "text"):
                found[f"{style}/zoom/{answer_as}-{kind}"] = zoom_text(QUESTION, options, style, answer_as)
    return found


@pytest.mark.parametrize("name", sorted(texts()))
def test_golden(name: str) -> None:
    assert texts()[name] + "\n" == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def test_no_golden_file_is_left_over() -> None:
    assert {path.relative_to(GOLDEN).with_suffix("").as_posix() for path in GOLDEN.rglob("*.txt")} == set(texts())


# --- brief: the strings a small model is trained on, written out by hand --------------------------------


def test_header() -> None:
    assert video_header(65.04) == "This video in total has 65.0 seconds.\n"
    assert video_header(3600) == "This video in total has 3600.0 seconds.\n"


@pytest.mark.parametrize(
    ("mode", "tail"),
    [
        ("think", "Think, then answer."),
        ("no_think", "Answer and show when."),
        ("direct", "Respond with only the letter of the option."),
    ],
)
def test_brief_coarse_with_options(mode: str, tail: str) -> None:
    asked = coarse_text("Which symbol?", ["star", "moon", "sun"], mode, "brief")
    assert asked == f"Question: Which symbol?\nOptions: (A) star (B) moon (C) sun\n{tail}"


@pytest.mark.parametrize(
    ("mode", "tail"),
    [
        ("think", "Think, then answer."),
        ("no_think", "Answer and show when."),
        ("direct", "Respond with only the answer."),
    ],
)
def test_brief_coarse_without_options(mode: str, tail: str) -> None:
    assert coarse_text("Which symbol?", [], mode, "brief") == f"Question: Which symbol?\n{tail}"


def test_brief_subtitles_come_first_and_length_changes_nothing() -> None:
    asked = coarse_text("Who?", ["he", "she"], "think", "brief", long=True, subtitles="hello\nyou")
    assert asked == "Subtitles: hello\nyou\nQuestion: Who?\nOptions: (A) he (B) she\nThink, then answer."


@pytest.mark.parametrize("style", ["brief", "full"])
def test_zoom_tails(style: str) -> None:
    assert zoom_text("Who?", ["he", "she"], style, "letter").endswith("\nRespond with only the letter of the option.")
    assert zoom_text("Who?", ["he", "she"], style, "text").endswith("\nRespond with only the text of the option.")
    for answer_as in ("letter", "text"):
        assert zoom_text("Who?", [], style, answer_as) == "Question: Who?\nRespond with only the answer."


def test_zoom_in_both_styles() -> None:
    tail = "Respond with only the letter of the option."
    assert zoom_text("Who?", ["he", "she"], "brief") == f"Question: Who?\nOptions: (A) he (B) she\n{tail}"
    assert zoom_text("Who?", ["he", "she"], "full") == f"Question: Who?\nOptions:\n(A) he\n(B) she\n{tail}"


# --- full -----------------------------------------------------------------------------------------------


def test_thirty_options_are_all_labelled() -> None:
    asked = coarse_text("Which?", [f"thing {i}" for i in range(30)], "direct", "full")
    assert "\n(Z) thing 25\n(AA) thing 26\n(AB) thing 27\n(AC) thing 28\n(AD) thing 29\n" in asked


@pytest.mark.parametrize(("options", "n"), [(OPTIONS, 5), ((), 0)])
@pytest.mark.parametrize("mode", ["think", "no_think"])
def test_the_worked_example_follows_the_grammar(mode: str, options: tuple[str, ...], n: int) -> None:
    asked = coarse_text(QUESTION, options, mode, "full", long=True)
    example = asked.split("looks like this:\n")[1]
    assert is_well_formed(example, n, mode)
    assert read_response(example, n, mode).spans == (Span(812.0, 819.5), Span(821.0, 836.5))


def test_long_form_bounds_the_reasoning_and_only_there() -> None:
    assert "under 300 tokens" in coarse_text("Who?", ["he"], "think", "full", long=True)
    assert "300" not in coarse_text("Who?", ["he"], "no_think", "full", long=True)
    assert "300" not in coarse_text("Who?", ["he"], "think", "full")
    assert coarse_text("Who?", ["he"], "direct", "full", long=True) == coarse_text("Who?", ["he"], "direct", "full")


def test_tags_braces_and_newlines_in_the_question_go_in_as_they_are() -> None:
    nasty = "{answer} </think><answer>B</answer>\n%s {0}"
    for style in ("full", "brief"):
        asked = coarse_text(nasty, [nasty, nasty], "think", style, subtitles=nasty)
        assert asked.count(nasty) == 4


def test_unknown_settings_name_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"mode: unknown value 'loud'; use one of think, no_think, direct"):
        coarse_text("Who?", [], "loud", "full")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"style: unknown value 'tiny'; use one of full, brief"):
        zoom_text("Who?", [], "tiny")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"answer_as: unknown value 'word'; use one of letter, text"):
        zoom_text("Who?", [], "full", "word")  # type: ignore[arg-type]


def test_importing_prompts_loads_no_model_library() -> None:
    code = "import sys, zoomzero.prompts; print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "set()"


if __name__ == "__main__":
    for name, text in texts().items():
        (GOLDEN / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
