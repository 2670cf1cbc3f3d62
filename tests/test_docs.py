"""The documentation leads somewhere: every page is in the site, every link has an end, every command is there."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)
NOTEBOOK = ROOT / "examples" / "first-answers.ipynb"


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as the site makes them."""
    heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[`*]|\[|\]\([^)]*\)", "", head) for head in heads)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", head).strip().lower()) for head in plain}


def test_every_page_is_in_the_site() -> None:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    listed = re.findall(r"([\w/-]+\.md)", nav)
    assert sorted(listed) == [page.relative_to(DOCS).as_posix() for page in PAGES]


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_links_have_an_end(page: Path) -> None:
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name}: {target} leads nowhere"
        if anchor:
            assert anchor in anchors(path), f"{page.name}: {target}: {path.name} has no such heading"


def test_pages_name_commands_that_exist() -> None:
    import typer

    from zoomzero.cli import app

    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    for page in (ROOT / "README.md", *PAGES):
        for name in re.findall(
            r"^ {4}(?:\.venv/bin/)?zoomzero ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE
        ):
            assert name in known, f"{page.name}: zoomzero {name}"


def test_the_reference_of_the_commands_holds_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "site"))
    monkeypatch.delitem(sys.modules, "hooks", raising=False)
    import hooks

    text = hooks.commands()
    assert "## zoomzero ask" in text
    assert "| `--budget` | Visual tokens each pass may spend. |" in text
    assert "    zoomzero eval world-short --count 64" in text
    assert "{" not in text.split("## zoomzero train")[0], "nothing unformatted"


def test_a_file_that_is_no_page_is_named_in_the_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "site"))
    import hooks

    shown = hooks.without_links_out("see [it](../../examples/a.toml), [b](../data.md), [c](data.md#x)", "guides/a.md")
    assert shown == "see `examples/a.toml`, [b](../data.md), [c](data.md#x)"
    assert hooks.without_links_out("[how](../CONTRIBUTING.md)", "models.md") == "`CONTRIBUTING.md`"
    for page in PAGES:
        name = page.relative_to(DOCS).as_posix()
        for target in LINK.findall(CODE.sub("", hooks.without_links_out(page.read_text(encoding="utf-8"), name))):
            inside = target.startswith(("http://", "https://", "mailto:", "#"))
            assert inside or (page.parent / target).resolve().is_relative_to(DOCS), f"{name}: {target} leaves the site"


def test_oldest_versions_are_read_from_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / ".ci"))
    from floors import floors

    assert floors(["a>=1.2", "b[x]>=3", 'tomli>=2.0; python_version < "3.11"']) == [
        "a==1.2",
        "b[x]==3",
        'tomli==2.0; python_version < "3.11"',
    ]
    with pytest.raises(ValueError, match="states no oldest version"):
        floors(["torch"])


def code_cells() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_is_python() -> None:
    for number, code in enumerate(code_cells()):
        compile(code, f"cell {number}", "exec")


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: None) -> None:
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}
    for number, code in enumerate(code_cells()):
        exec(compile(code, f"cell {number}", "exec"), space)
    assert (tmp_path / "outputs" / "notebook" / "evidence.html").is_file()
