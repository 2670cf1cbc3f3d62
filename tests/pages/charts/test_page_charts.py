"""The charts as they are drawn: nothing over an edge, regular ticks, whole bars, and only the page's colours."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from zoomzero.pages.charts.bars import Pile, count_chart, share_chart
from zoomzero.pages.charts.cost import ModePoint, cost_chart, cost_figure, short
from zoomzero.pages.charts.lines import SMALL, bar_width, line_chart, plane, stacked_chart, tick_label
from zoomzero.pages.charts.svg import COLOURS, drawing, to_svg

EVIL = "</svg><script>alert(1)</script>$\\frac$\x00\ud800"


def texts(svg: str) -> list[str]:
    return [one.text or "" for one in ET.fromstring(svg).iter("text")]


def labels_of(figure):
    """Every visible text with its box in SVG units."""
    from matplotlib.text import Text

    figure.draw_without_rendering()
    renderer = figure._get_renderer()
    found = [one for one in figure.findobj(Text) if one.get_visible() and one.get_text()]
    return [(one.get_text(), one.get_window_extent(renderer)) for one in found]


# --- accuracy against cost ---


def test_near_costs_give_an_axis_from_zero() -> None:
    points = [ModePoint("coarse", 0.5, 1000, 24), ModePoint("zoom", 0.75, 2000, 24)]
    with drawing():
        figure, _ = cost_figure(points, "tokens", 0.25)
        (axes,) = figure.axes
        assert axes.get_xscale() == "linear"
        assert axes.get_xlim()[0] == 0
        assert axes.get_ylim() == (0, 1)
        marks = [line.get_xydata()[0].tolist() for line in axes.lines if str(line.get_gid()).startswith("mark")]
        assert marks == [[1000, 0.5], [2000, 0.75]]
    shown = texts(cost_chart(points, "tokens", "Accuracy", 0.25))
    shares = ["0 %", "25 %", "50 %", "75 %", "100 %"]
    assert [one for one in shown if one[:1].isdigit()] == ["0", "500", "1k", "1.5k", "2k", *shares]
    assert {"tokens", "guessing", "coarse", "zoom"} <= set(shown)


def test_far_costs_give_a_logarithmic_axis() -> None:
    points = [ModePoint("coarse", 0.5, 1000, 24), ModePoint("divide", 0.75, 20000, 2)]
    shown = texts(cost_chart(points, "tokens", "Accuracy"))
    assert [one for one in shown if one.endswith("k")] == ["1k", "2k", "5k", "10k", "20k"]
    assert "tokens, logarithmic" in shown
    assert "guessing" not in shown


@pytest.mark.parametrize("costs", [(0, 0, 0, 0), (1, 1, 1, 1), (5, 1e6, 2e6, 2.1e6), (1, 2, 3, 4)])
@pytest.mark.parametrize("accuracies", [(0, 0, 0, 0), (1, 1, 1, 1), (0.5, 0.52, 0.5, 0.51)])
def test_names_stay_inside_and_off_each_other(costs, accuracies) -> None:
    names = ("direct", "coarse", "zoom", "a-long-run: candidate")
    points = [ModePoint(name, a, c, 10) for name, a, c in zip(names, accuracies, costs, strict=True)]
    with drawing():
        figure, _ = cost_figure(points, "tokens", 0.25)
        drawn = texts(to_svg(figure, "x"))  # ticks outside the axes are not
        found = [(label, box) for label, box in labels_of(figure) if label in drawn]
        width, height = figure.get_size_inches() * 72
        for label, box in found:
            assert box.x0 >= -0.5, label
            assert box.x1 <= width + 0.5, label
            assert box.y0 >= -0.5, label
            assert box.y1 <= height + 0.5, label
        boxes = [box for label, box in found if label in names]
        if costs == (1, 2, 3, 4):
            assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[i + 1 :])


@pytest.mark.parametrize("chance", [0.02, 0.25, 0.97])
def test_what_the_line_of_guessing_is_called_covers_no_whisker_and_no_name(chance: float) -> None:
    points = [
        ModePoint("coarse", 0.125, 40, 8, (0.0, 1.0)),
        ModePoint("search", 0.25, 462, 8, (0.0, 1.0)),
        ModePoint("divide", 0.5, 1018, 8, (0.0, 1.0)),
    ]
    with drawing():
        figure, _ = cost_figure(points, "tokens", chance)
        (axes,) = figure.axes
        boxes = dict(labels_of(figure))
        said = boxes.pop("guessing")
        assert [name for name, box in boxes.items() if said.overlaps(box)] == []
        across = axes.transData.transform([(point.cost, chance) for point in points])[:, 0]
        assert [x for x in across if said.x0 <= x <= said.x1] == []
        inside = axes.get_window_extent()
        assert inside.y0 - 8 <= said.y0 < said.y1 <= inside.y1 + 11


def test_a_mark_tells_its_numbers_and_a_ring_is_a_ring() -> None:
    points = [ModePoint("coarse", 0.5, 1500, 2), ModePoint("zoom", 0.5, 20, 2, title="told", hollow=True)]
    svg = cost_chart(points, "tokens", "Accuracy")
    marks = [one for one in ET.fromstring(svg).iter("g") if one.get("class", "").startswith("mark")]
    assert [one.get("class") for one in marks] == ["mark k-coarse", "mark k-zoom hollow"]
    assert [one[0].text for one in marks] == [
        "coarse: 50.0% of 2 right, 1,500 visual tokens; 95 % interval 9% to 91%",
        "told",
    ]


def test_no_modes_no_chart() -> None:
    assert cost_chart([], "tokens", "Accuracy") is None


def test_short_numbers() -> None:
    assert [short(one) for one in (0, 0.5, 500, 1500, 2e6)] == ["0", "0.5", "500", "1.5k", "2M"]


# --- the SVG itself ---


def test_names_are_text_and_never_anything_else() -> None:
    svg = cost_chart([ModePoint(EVIL, 0.5, 10, 4, title=EVIL)], EVIL.replace("\x00", "").replace("\ud800", ""), EVIL)
    root = ET.fromstring(svg)
    assert {one.tag for one in root.iter()} <= {"svg", "g", "path", "defs", "use", "text", "title", "clipPath", "rect"}
    assert root.get("aria-label", "").startswith("</svg><script>alert(1)</script>$\\frac$\ufffd\ufffd")
    assert "</svg><script>alert(1)</script>$\\frac$\ufffd\ufffd" in texts(svg)


def test_a_drawing_has_only_the_pages_colours_and_no_ids_of_others() -> None:
    piles = [Pile(((1.0, "final", 1.0), (0.5, "soft", 0.4)), "told", "3")]
    svgs = [
        cost_chart([ModePoint("zoom", 0.5, 10, 4)], "tokens", "Accuracy", 0.25),
        count_chart(piles, ["a"], "axis"),
        share_chart(piles, [(0.0, "0")], 1.0, "IoU"),
        line_chart([((0.0, 0.1), (1.0, 0.2)), ((0.0, 0.3),)], (0.0, 1.0), "loss"),
        stacked_chart([((0.0, 0.1), (1.0, 0.2))], (-0.5, 1.5), "seconds"),
    ]
    ids = []
    for svg in svgs:
        assert not re.search(r"#fd17[0-9a-f]{2}", svg)
        used = set(re.findall(r"var\(--(\w+)\)", svg))
        assert used <= set(COLOURS)
        assert used
        assert "<style" not in svg
        assert "font-family" not in svg
        ids += re.findall(r' id="(\w+)"', svg)
        assert {one or other for one, other in re.findall(r'href="#(\w+)"|url\(#(\w+)\)', svg)} <= set(ids)
    assert len(ids) == len(set(ids))


def test_the_colours_are_the_style_sheets() -> None:
    from importlib import resources

    folder = resources.files("zoomzero.pages").joinpath("templates")
    css = "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in ("style.css", "training/rollouts.css"))
    for name, (light, dark) in COLOURS.items():
        found = re.findall(rf"--{name}: (#[0-9a-f]{{6}})", css)
        assert found[0] == light, name
        assert found[-1] == dark, name


def test_a_file_of_its_own_brings_both_sets_of_colours() -> None:
    from zoomzero.pages.charts.svg import colour, new_axes, new_figure

    with drawing():
        figure = new_figure(100, 50)
        new_axes(figure, 10, 10, 10, 10).plot([0, 1], [0, 1], color=colour("zoom"))
        svg = to_svg(figure, "a line", alone=True)
        again = to_svg(figure, "a line", alone=True)
    assert svg == again
    assert svg.startswith("<svg ")
    assert 'xmlns="http://www.w3.org/2000/svg"' in svg
    assert "prefers-color-scheme:dark" in svg
    assert "#cf5a22" in svg
    assert "#f0854f" in svg
    ET.fromstring(svg)


# --- bars and lines ---


def whole_bars(axes) -> bool:
    from matplotlib.patches import Rectangle

    low, high = axes.get_xlim()
    bars = [one for one in axes.patches if isinstance(one, Rectangle) and one.get_facecolor()[3] > 0]
    return all(low - 1e-9 <= one.get_x() and one.get_x() + one.get_width() <= high + 1e-9 for one in bars)


def test_every_bar_is_whole_and_the_highest_fills_the_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    monkeypatch.setattr("zoomzero.pages.charts.bars.to_svg", lambda figure, label, told: kept.append((figure, label)))
    piles = [Pile(((2.0, "final", 1.0), (1.0, "soft", 0.4)), "a: 3"), Pile(((0.0, "final", 1.0),), "b: 0")]
    count_chart(piles, ["a", "b"], "axis")
    share_chart([Pile(((0.5, "zoom", 1.0),), "a"), Pile(((0.25, "zoom", 1.0),), "b")], [(0, "0")], 0.5, "IoU")
    (counts, label), (shares, _) = kept
    assert label == "axis: a: 3; b: 0"
    assert counts.axes[0].get_ylim() == (0, 3)
    assert shares.axes[0].get_ylim() == (0, 0.5)
    assert all(whole_bars(one.axes[0]) for one in (counts, shares))
    heights = [one.get_height() for one in counts.axes[0].patches if one.get_facecolor()[3] > 0]
    assert heights == [2, 1, 0]


def test_stacked_bars_are_whole_and_stand_on_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    monkeypatch.setattr("zoomzero.pages.charts.lines.to_svg", lambda figure, label: kept.append(figure))
    stacked_chart([((0.0, 1.0), (1.0, 2.0)), ((0.0, 3.0), (1.0, 0.5))], (-0.5, 1.5), "seconds")
    (axes,) = kept[0].axes
    assert whole_bars(axes)
    assert [(one.get_y(), one.get_height()) for one in axes.patches] == [(0, 1), (0, 2), (1, 3), (2, 0.5)]


def test_bars_are_never_wider_than_their_step() -> None:
    assert bar_width([0, 1, 2], (-0.5, 2.5)) == pytest.approx(0.84 * 3 / 8)
    assert bar_width([0, 1, 2, 3, 4, 5, 6, 7, 8], (-0.5, 8.5)) == pytest.approx(0.84)
    assert bar_width([5], (4.5, 5.5)) == pytest.approx(0.105)


def test_ticks_are_regular_and_a_gap_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    monkeypatch.setattr("zoomzero.pages.charts.lines.to_svg", lambda figure, label: kept.append(figure))
    line_chart([((0.0, 90.0), (10.0, math.nan), (20.0, 100.0), (57.0, math.inf))], (-1.0, 58.0), "loss")
    (axes,) = kept[0].axes
    for ticks in (axes.get_xticks(), axes.get_yticks()):
        gaps = {round(after - before, 9) for before, after in pairwise(ticks)}
        assert len(gaps) == 1
    assert axes.get_ylim() == (90, 100)  # away from 0, the axis is too
    line, dots = axes.lines
    assert [math.isnan(value) for value in line.get_ydata()] == [False, True, False, True]
    assert dots.get_ydata().tolist() == [90, 100]  # alone on both sides
    line_chart([((0.0, 5.0), (1.0, 5.0))], (0.0, 1.0), "flat")
    assert kept[1].axes[0].get_ylim()[0] == 0
    line_chart([((0.0, math.nan),)], (0.0, 1.0), "no number")
    assert kept[2].axes[0].get_ylim() == (0, 1)


def test_tick_labels() -> None:
    assert [tick_label(value, 0.2) for value in (2.2, 2.0, -0.4)] == ["2.2", "2.0", "\N{MINUS SIGN}0.4"]
    assert [tick_label(value, 2.5) for value in (2.5, 5.0)] == ["2.5", "5.0"]
    assert [tick_label(value, 20) for value in (0, 120)] == ["0", "120"]
    assert [tick_label(value, 1000) for value in (0, 1000, 2500)] == ["0", "1k", "2.5k"]
    assert [tick_label(value, 2e-6) for value in (0, 4e-6)] == ["0", "4e-06"]


def test_what_is_read_off_lies_over_the_axes() -> None:
    found = plane(SMALL)
    assert (found.left, found.bottom) == (round(38 / 270 * 100, 3), round(20 / 110 * 100, 3))
