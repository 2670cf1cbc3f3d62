"""The house stays as the README's map draws it: small rooms, short files, arrows that run down, names with an end."""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "zoomzero"
MOST_FILES, MOST_LINES = 14, 400
ROOMS = ("src", "tests", "bench", "docs")
# folders of tests that mirror no room: what several rooms use, texts word for word, a real server, the scripts
NO_MIRROR = {"support", "golden", "policy/server", "bench"}
TEXTS = {".py", ".md", ".toml", ".yaml", ".yml", ".html", ".js", ".css", ".sh", ".ipynb"}


def files(*folders: str) -> Iterator[Path]:
    """Every file of the project under the folders, without what Python and tools leave behind."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            left = any(part.startswith((".", "__pycache__")) or part.endswith(".egg-info") for part in path.parts)
            if path.is_file() and not left:
                yield path


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_no_folder_holds_more_files_than_are_read_at_a_glance() -> None:
    counts = Counter(shown(path.parent) for path in files(*ROOMS))
    assert {folder: count for folder, count in counts.items() if count > MOST_FILES} == {}


def test_no_file_is_longer_than_is_read_at_once() -> None:
    lengths = {
        shown(path): path.read_text(encoding="utf-8").count("\n")
        for path in files(*ROOMS, "examples")
        if path.suffix == ".py"
    }
    assert lengths, "nothing was read"
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_two_test_files_share_a_name() -> None:
    names = Counter(path.name for path in files("tests") if path.suffix == ".py" and path.name != "conftest.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_tests_mirror_the_rooms() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in files("tests") if path.name.startswith("test_")}
    lost = [one.as_posix() for one in folders if one.as_posix() not in NO_MIRROR and not (PACKAGE / one).is_dir()]
    assert lost == []


# --- imports --------------------------------------------------------------------------------------------


def read_imports() -> dict[str, set[str]]:
    """Module -> modules of the package it imports, in functions too; not what only type checkers read."""
    paths = {name_of(path): path for path in files("src") if path.suffix == ".py"}
    return {name: {found for found in imported(path, paths) if found in paths} - {name} for name, path in paths.items()}


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unread = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for line in node.body
        for inner in ast.walk(line)
    }
    for node in ast.walk(tree):
        if id(node) in unread:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{shown(path)}: line {node.lineno}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in known else node.module


def circle(arrows: Mapping[str, set[str]]) -> list[str]:
    """A way from somewhere back to where it began, or nothing."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def arrows_between_rooms(imports: Mapping[str, set[str]]) -> dict[str, dict[str, set[str]]]:
    """For every room, the arrows between what lies in it directly: its files and its sub-rooms."""
    rooms: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name, targets in imports.items():
        for target in targets:
            here, there = name.split("."), target.split(".")
            common = next((i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b), None)
            if common is not None:  # else one is the door of the other's room
                rooms[".".join(here[:common])][here[common]].add(there[common])
    return rooms


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    return read_imports()


def test_imports_are_read(imports: dict[str, set[str]]) -> None:
    assert "zoomzero.spans" in imports["zoomzero.answer.trace"]
    assert "zoomzero.model" in imports["zoomzero"], "imports inside functions count"
    assert "zoomzero.policy.local.families.base" not in imports["zoomzero.policy.local.vision"], "names of types do not"
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    rooms = arrows_between_rooms({"p.a.x": {"p.b.y"}, "p.b.y": {"p.a.z"}, "p.a.z": set()})
    assert circle(rooms["p"]), "two rooms may import each other through different files: a circle all the same"


def test_no_circle_among_imports(imports: dict[str, set[str]]) -> None:
    assert circle(imports) == []


def test_no_circle_among_rooms(imports: dict[str, set[str]]) -> None:
    found = {room: way for room, arrows in arrows_between_rooms(imports).items() if (way := circle(arrows))}
    assert found == {}


def map_of_rooms() -> list[str]:
    """The rooms and files of the README's map from top to bottom, as dotted names: `train`, `train.engine`, ..."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Map\n")[2]
    lines = text.partition("    src/zoomzero/")[2].partition("\n    tests/")[0].splitlines()[1:]
    order: list[str] = []
    above: list[str] = []
    for line in lines:
        found = re.match(r"( {6,})(\S+(?: \S+\.py)*)", line)
        assert found, f"README, map: {line}"
        names = [name.partition("/")[0].removesuffix(".py") for name in found[2].split()]
        above = [*above[: (len(found[1]) - 6) // 2], names[-1]]
        order += [".".join([*above[:-1], name]) for name in names]
    return order


def test_the_map_names_every_room_once() -> None:
    order = map_of_rooms()
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert sorted(name for name in order if "." not in name) == sorted(x for x in there if not x.startswith(("_", ".")))
    assert [name for name in order if "." in name and not (PACKAGE / name.replace(".", "/")).is_dir()] == []


def test_every_arrow_runs_down_the_map(imports: dict[str, set[str]]) -> None:
    place = {f"zoomzero.{name}": i for i, name in enumerate(map_of_rooms())}
    upwards = [
        f"{room}: {here} imports {there}"
        for room, arrows in arrows_between_rooms(imports).items()
        for here, targets in arrows.items()
        for there in targets
        if (a := place.get(f"{room}.{here}")) is not None and (b := place.get(f"{room}.{there}")) is not None and a > b
    ]
    assert upwards == []


# --- names of files in texts ----------------------------------------------------------------------------

MADE_UP = {"examples/a.toml"}  # in a test
MENTION = re.compile(
    r"(?<![\w/.-])((?:docs|bench|configs|examples|tests)/[\w./-]*?\.(?:md|py|toml|sh|ipynb|yaml|json))\b"
)


@pytest.mark.parametrize(
    "folder", ["src", "tests", "bench", "docs", "configs", "examples", "README.md", "CONTRIBUTING.md", "Makefile"]
)
def test_files_that_texts_name_are_there(folder: str) -> None:
    paths = files(folder) if (ROOT / folder).is_dir() else [ROOT / folder]
    lost = {
        f"{shown(path)}: {name}"
        for path in paths
        if path.suffix in TEXTS or path.name == "Makefile"
        for name in MENTION.findall(path.read_text(encoding="utf-8"))
        if not (ROOT / name).exists() and name not in MADE_UP
    }
    assert lost == set()


def test_tests_that_pages_name_are_there() -> None:
    there = {path.name for path in files("tests")}
    lost = {
        f"{shown(path)}: {name}"
        for path in [*files("docs"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
        if path.suffix == ".md"
        for name in re.findall(r"\b(test_\w+\.py)\b", path.read_text(encoding="utf-8"))
        if name not in there
    }
    assert lost == set()
