"""The tutorial on training with one's own videos: the page is what its script runs, and the script runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "examples" / "tutorial" / "run.py"


@pytest.fixture
def tutorial(monkeypatch: pytest.MonkeyPatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.delitem(sys.modules, "run", raising=False)
    import run

    return run


TEXT = """<!-- not run yet -->
Wait.
<!-- end -->

Some words.

```console
$ zoomzero a \\
    --b 1
old 12.5 words
# 3 s, code 1
```

```toml
# run.toml
steps = 1
```

    $ not a block
"""


def test_a_page_is_read_block_by_block(tutorial) -> None:
    command, file = tutorial.read_page(TEXT)
    assert (command.command, command.code, command.shown) == ("zoomzero a \\\n    --b 1", 1, ("old 12.5 words",))
    assert (file.name, file.text) == ("run.toml", "# run.toml\nsteps = 1\n")
    with pytest.raises(ValueError, match="must begin with the name of its file"):
        tutorial.read_page("```toml\nsteps = 1\n```\n")
    with pytest.raises(ValueError, match=r"must begin with `\$ `"):
        tutorial.read_page("```console\nzoomzero a\n```\n")


def test_new_output_takes_the_old_ones_place(tutorial) -> None:
    new = tutorial.rewritten(TEXT, [(["new 7 words"], 0, 61.2)])
    assert "$ zoomzero a \\\n    --b 1\nnew 7 words\n# 61 s, code 0\n```" in new
    assert "old" not in new
    assert new.startswith("Some words."), "the note that it was not run is gone"
    assert new.partition("```toml")[2] == TEXT.partition("```toml")[2]


def test_only_numbers_may_differ(tutorial) -> None:
    assert tutorial.form(["loss 0.25   rate 1.0e-05 "]) == tutorial.form(["loss 11.5 rate 3"]) == ["loss N rate N"]
    assert tutorial.form(["loss 0.25"]) != tutorial.form(["lost 0.25"])
    assert tutorial.form(["step 4  loss 0.1  | s: decode 0.1  zoom 2.0"]) == ["step N loss N"]
    assert tutorial.PROGRESS.match("asking: 21/32, 0 failed, 6 min left")
    lines = [str(n) for n in range(40)]
    assert len(tutorial.short(lines)) == tutorial.FIRST + tutorial.LAST + 1
    assert tutorial.short(["x" * 500])[0] == "x" * (tutorial.WIDEST - 3) + "..."


def test_the_page_names_options_and_settings_that_exist(tutorial) -> None:
    """Without running anything: commands, options, the settings files, and what the small run makes smaller."""
    from zoomzero.cli import app

    known = typer.main.get_command(app)
    text = tutorial.PAGE.read_text(encoding="utf-8")
    steps = tutorial.read_page(text)
    tutorial.smaller(text)
    names = []
    for step in steps:
        words = shlex.split(step.command)
        if words[:1] != ["zoomzero"]:
            continue
        names.append(words[1])
        found = known.commands[words[1]]  # type: ignore[attr-defined]
        found = found.commands[words[2]] if hasattr(found, "commands") else found
        options = {option for one in found.params for option in one.opts}
        for option in (word for word in words if word.startswith("--")):
            assert option in options, f"{step.command}: {option}"
    way = ("convert", "data", "eval", "sft", "filter", "train", "merge", "eval")
    places = [names.index(way[0])]
    for name in way[1:]:
        places.append(names.index(name, places[-1]))
    files = [step.name for step in steps if step.name]
    assert files == ["sft.toml", "grpo.toml"]


def test_the_settings_files_of_the_page_hold(tutorial, tmp_path: Path) -> None:
    from zoomzero.config import load_settings
    from zoomzero.train.settings import SftSettings, load_grpo_settings

    for step in tutorial.read_page(tutorial.PAGE.read_text(encoding="utf-8")):
        if step.name:
            (tmp_path / step.name).write_text(step.text)
    supervised = load_settings(SftSettings, tmp_path / "sft.toml")
    reinforced = load_grpo_settings(str(tmp_path / "grpo.toml"))
    assert reinforced.model == supervised.out
    assert reinforced.lora is not None


def test_every_command_shows_what_it_printed_or_the_page_says_that_none_was_run(tutorial) -> None:
    text = tutorial.PAGE.read_text(encoding="utf-8")
    run = [bool(tutorial.CODE.search(body)) for kind, body in tutorial.BLOCK.findall(text) if kind == "console"]
    assert len(run) > 10
    assert not any(run) if tutorial.NOT_YET.search(text) else all(run), "run: make tutorial-page"


@pytest.mark.slow
def test_the_tutorial_runs_in_small(tmp_path: Path) -> None:
    """From the films to the answer of the trained model, a few of everything."""
    folder = tmp_path / "tutorial"
    command = [sys.executable, str(SCRIPT), "--small", "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r"^\d+\.\d minutes$", done.stdout, re.MULTILINE)
    for name in ("sound.jsonl", "hard.jsonl.filter.json", "grpo/log.jsonl", "night-model/model.safetensors"):
        assert (folder / name).is_file(), name
    for name in ("before", "after"):
        assert (folder / name / "summary.json").is_file(), name
