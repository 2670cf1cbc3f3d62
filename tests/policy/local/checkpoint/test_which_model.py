"""The tables of docs/models.md: every row names its tests; its numbers are what `zoomzero doctor --model` prints."""

import re
from pathlib import Path

import pytest

from zoomzero.config import ModelSettings
from zoomzero.fits import CARDS_GB, sizes_of, table
from zoomzero.policy.local.families import FAMILIES

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
MODES = ("direct", "coarse", "zoom", "context", "divide", "search")


def rows_under(heading):
    """The rows of the first table under a heading, cells stripped."""
    lines = PAGE.partition(f"{heading}\n")[2].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows[0], rows[2:]


TESTED = rows_under("# Which model, what hardware")
MEMORY = rows_under("## What fits which card")


@pytest.mark.parametrize("row", TESTED[1], ids=lambda row: row[0][:24])
def test_a_row_names_tests_that_are_there(row):
    """And a model type that the registry knows, or an error that says otherwise."""
    cells = dict(zip(TESTED[0], row, strict=True))
    files = re.findall(r"`(test_[\w.]+\.py)`", cells["tests"])
    assert files, row
    for name in files:
        assert list((ROOT / "tests").rglob(name)), f"{name} is no test"
    kinds = re.findall(r"`([\w]+)`", cells["model type"])
    assert all(kind in FAMILIES for kind in kinds), kinds


def test_every_family_has_a_row():
    place = TESTED[0].index("model type")
    assert {kind for row in TESTED[1] for kind in re.findall(r"`([\w]+)`", row[place])} == set(FAMILIES)


def as_doctor_says(name, quantize, where):
    """The cells of a row, taken from what `zoomzero doctor --model` prints."""
    lines = table(name, sizes_of(name, where, quantize=quantize), ModelSettings()).splitlines()
    weights = re.search(r"weights ([\d.]+) GiB", lines[0])[1]
    modes = {line.split()[0]: line for line in lines[2:8]}
    whole, least, cards = {}, {}, {}
    for mode in MODES:
        _, _, whole[mode], least[mode] = re.findall(r"([\d.]+) GiB", modes[mode])[:4]
        marks = re.findall(r"\b(yes|slower|no)\b", modes[mode])[: len(CARDS_GB)]
        cards[mode] = next((f"{card} GB" for card, mark in zip(CARDS_GB, marks, strict=True) if mark != "no"), "none")
    ram, minutes = re.search(r"laptop: ([\d.]+) GiB of memory(?:, about (\d+) minutes|; rounded)", lines[-1]).groups()
    divide = least["divide"] if least["divide"] == whole["divide"] else f"{least['divide']} to {whole['divide']}"
    amounts = [whole["coarse"], whole["zoom"], whole["context"], divide, whole["search"]]
    assert float(whole["direct"]) <= float(whole["coarse"])
    return [weights, *amounts, cards["zoom"], cards["divide"], f"{ram} GiB, {minutes} min" if minutes else f"{ram} GiB"]


@pytest.mark.parametrize("row", MEMORY[1], ids=lambda row: row[0])
def test_memory_and_laptop_are_what_doctor_prints(row, shared):
    name, _, quantize = row[0].partition(", `--quantize ")
    where = shared / "checkpoints" / name
    if not where.is_dir():
        pytest.skip("needs ../shared/checkpoints (metadata of real checkpoints)")
    assert row[1:] == as_doctor_says(name, quantize.rstrip("`") or None, where)
