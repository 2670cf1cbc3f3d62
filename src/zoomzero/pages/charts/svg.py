"""From a matplotlib figure to SVG that takes its colours from the page: one drawing for light and dark."""

from __future__ import annotations

import logging
import re
import warnings
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The colours of templates/style.css by name, light and dark. Drawn inside a page they are the page's own variables.
COLOURS = {
    "paper": ("#fcfbf9", "#161513"),
    "ink": ("#1d1c1a", "#edeae4"),
    "soft": ("#66625b", "#a29c92"),
    "line": ("#e3dfd7", "#36332e"),
    "final": ("#14804f", "#4cc38a"),
    "true": ("#1d1c1a", "#edeae4"),
    "direct": ("#7a7671", "#a19c94"),
    "coarse": ("#3d78b4", "#74abe0"),
    "window": ("#7d64ae", "#ae97dc"),
    "candidate": ("#a87a0c", "#d9ae4a"),
    "zoom": ("#cf5a22", "#f0854f"),
    "context": ("#1f8793", "#5bbdc9"),
    "outside": ("#b24a7c", "#e08ab2"),
    "other": ("#7a7671", "#a19c94"),
    **{
        f"p{i}": (one, one)
        for i, one in enumerate(
            ("#3d78b4", "#7fb3d9", "#1f8793", "#cf5a22", "#e0aa3e", "#7d64ae", "#b24a7c", "#8a857c")
        )
    },
}
# What stands for each colour until the drawing is done: no colour that anything else draws with.
_STANDS_FOR = {name: f"#fd17{i:02x}" for i, name in enumerate(COLOURS)}
_NAME_OF = {stand_in: name for name, stand_in in _STANDS_FOR.items()}
_RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "zoomzero",  # equal drawings are equal files
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.parse_math": False,  # a name with $ in it is a name
    "path.simplify": True,
    "axes.unicode_minus": True,
}
_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NUMBER = re.compile(r"-?\d+\.\d{3,}")


@dataclass(frozen=True, slots=True)
class Told:
    """What an artist with a gid becomes in the SVG: its classes, and the text it shows when pointed at."""

    classes: str
    title: str = ""


def colour(name: str) -> str:
    """Return what to draw with so that the SVG has the page's colour of that name."""
    return _STANDS_FOR[name]


def text(value: str) -> str:
    """Return a text without the characters XML cannot hold."""
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", value)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in SVG units; draw on it inside `drawing()`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / 72, height / 72), dpi=72, facecolor="none")


def new_axes(figure: Figure, left: float, right: float, top: float, bottom: float) -> Axes:
    """Return axes with these margins in SVG units: a line below, pale lines for values, no frame."""
    width, height = figure.get_size_inches() * 72
    axes = figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height),
        facecolor="none",
    )
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(colour("soft"))
    axes.grid(axis="y", color=colour("line"), linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", color=colour("soft"), labelcolor=colour("soft"), length=3, pad=3)
    axes.tick_params(axis="y", color=colour("soft"), labelcolor=colour("soft"), length=0, pad=5)
    return axes


@contextmanager
def drawing() -> Iterator[None]:
    """Draw inside this: our settings instead of the user's, and no warnings about letters a font lacks."""
    import matplotlib

    quiet = logging.getLogger("matplotlib.font_manager")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_RC}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            yield
    finally:
        quiet.setLevel(level)


def to_svg(figure: Figure, label: str, told: Mapping[str, Told] | None = None, *, alone: bool = False) -> Any:
    """Return a figure as one SVG element that scales to the width it is given.

    Args:
        figure: drawn with `colour(...)` alone.
        label: what a screen reader says.
        told: classes and titles of artists, by gid.
        alone: a file of its own, which brings both sets of colours along; else the page's style sheet has them.
    """
    from markupsafe import Markup

    file = StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ET.fromstring(file.getvalue())
    for parent in root.iter():
        for child in [c for c in parent if c.tag.endswith("}metadata") or c.tag.endswith("}style")]:
            parent.remove(child)
    _tell(root, told or {})
    _strip(root, f"c{zlib.crc32((label + file.getvalue()).encode('utf-8', 'replace')):08x}")
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": text(label), "class": "drawn"}
    if alone:
        root.attrib["xmlns"] = _SVG
        root.insert(0, _style())
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    written = ET.tostring(root, encoding="unicode", short_empty_elements=False)
    return Markup(re.sub(r">\s+<", "><", written).strip())


def _tell(root: ET.Element, told: Mapping[str, Told]) -> None:
    for element in root.iter():
        one = told.get(element.get("id") or "")
        if one is None:
            continue
        element.set("class", one.classes)
        if one.title:
            title = ET.Element(f"{{{_SVG}}}title")
            title.text = text(one.title)
            element.insert(0, title)


def _strip(root: ET.Element, prefix: str) -> None:
    """Take out what the page needs not, and put its colours in; several drawings stand in one document."""
    references = {
        (element, name): found[1]
        for element in root.iter()
        for name, value in element.attrib.items()
        if (found := re.fullmatch(r"(?:url\()?#(\w+)\)?", value))
    }
    wanted = set(references.values())
    for (element, name), target in references.items():
        element.set(name, element.attrib[name].replace(f"#{target}", f"#{prefix}{target}"))
    for element in root.iter():
        found_id = element.attrib.pop("id", None)
        if found_id in wanted:
            element.set("id", f"{prefix}{found_id}")
        if _LINK in element.attrib:
            element.set("href", element.attrib.pop(_LINK))
        for name in ("style", "fill", "stroke"):
            if name in element.attrib:
                element.set(name, _styled(element.attrib[name]))
        for name in ("d", "x", "y", "transform"):
            if name in element.attrib:
                element.set(name, _NUMBER.sub(lambda n: f"{float(n[0]):.2f}", element.attrib[name]))


def _styled(style: str) -> str:
    """Return a style with the page's colours and font."""
    style = re.sub(r"font-family:[^;]*;?", "", style)
    style = re.sub(
        r"font: (?:(\d+) )?([\d.]+px) [^;]*", lambda f: f"font-size: {f[2]}; font-weight: {f[1] or 400}", style
    )
    return re.sub(
        r"#[0-9a-f]{6}", lambda found: f"var(--{_NAME_OF[found[0]]})" if found[0] in _NAME_OF else found[0], style
    )


def _style() -> ET.Element:
    light, dark = (";".join(f"--{name}:{pair[i]}" for name, pair in COLOURS.items()) for i in (0, 1))
    style = ET.Element(f"{{{_SVG}}}style")
    style.text = (
        f"svg{{{light};font-family:system-ui,sans-serif;background:var(--paper)}}"
        f"@media(prefers-color-scheme:dark){{svg{{{dark}}}}}"
    )
    return style
