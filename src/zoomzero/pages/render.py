"""The one place where templates become text: autoescaping, number formats, inlined style and script."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoomzero.errors import ConfigError
from zoomzero.files import write_whole
from zoomzero.pages import timeline
from zoomzero.spans import Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Environment

DASH = "–"
SPANS_SHOWN = 4


def render(template: str, *, assets: Sequence[str] = (), **values: Any) -> str:
    """Return one self-contained HTML document.

    Everything in `values` is escaped. The page's own script is allowed by its hash and nothing else may run
    or load: even an escaping error could neither execute text from a question nor reach the network.

    Args:
        template: its name.
        assets: style sheets and scripts of this page alone, which go behind the common ones.
        values: what the template shows.
    """
    style, script = (
        _assets([common, *assets], ending) for common, ending in (("style.css", ".css"), ("script.js", ".js"))
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data:; media-src 'self' data: file:; base-uri 'none'; form-action 'none'"
    )
    return _environment().get_template(template).render(style=style, script=script, policy=policy, **values)


def compact_json(value: Any) -> str:
    """Return a value as short JSON.

    Raises:
        TypeError, ValueError: it is no JSON value, or holds a number that is not finite.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def embedded_json(value: Any) -> Any:
    """Return JSON for a page's data block that no text in it can end or break out of."""
    return embedded(compact_json(value))


def embedded(text: str) -> Any:
    """Return JSON text for a page's data block that nothing in it can end or break out of."""
    from markupsafe import Markup

    text = re.sub(r"[<>&\u2028\u2029\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)
    return Markup(text)


def write_page(path: str | Path, html: str, setting: str) -> Path:
    """Write a page, complete or not at all.

    Raises:
        ConfigError: the path cannot be written; the error names `setting`.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, html)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(setting, f"cannot write {path} ({reason})", "give a file in a writable folder") from error
    return path


def number(value: float | None, digits: int = 0) -> str:
    """Return a number with thousands separators and fixed decimals; a dash when there is none."""
    return DASH if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def share(value: float | None, digits: int = 0) -> str:
    """Return a share in [0, 1] as a percentage; a dash when there is none."""
    return DASH if value is None or not math.isfinite(value) else f"{value * 100:.{digits}f} %"


def percent_width(value: float) -> float:
    """Return a share as a bar's length in percent; nothing is drawn for what is no number."""
    return round(min(max(value, 0.0), 1.0) * 100, 1) if math.isfinite(value) else 0.0


def spans_text(spans: Sequence[Span], shown: int = SPANS_SHOWN) -> str:
    """Return spans as text; of many the first `shown` and how many more there are."""
    if not spans:
        return DASH
    labels = [timeline.span_label(span).replace(" ", "\N{NO-BREAK SPACE}") for span in spans[:shown]]
    return ", ".join(labels) + (f" and {len(spans) - shown} more" if len(spans) > shown else "")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("zoomzero.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "clock": timeline.clock,
        "duration": timeline.length_label,
        "kind": timeline.kind_of,
        "number": number,
        "percent_width": percent_width,
        "seek": timeline.seek_s,
        "share": share,
        "span": timeline.span_label,
        "spans": spans_text,
    }
    return environment


def _assets(names: Sequence[str], ending: str) -> Any:
    """Return those of our files that have this ending, one after the other: they go into the page as they are."""
    from markupsafe import Markup

    folder = resources.files("zoomzero.pages").joinpath("templates")
    return Markup("\n".join(folder.joinpath(n).read_text(encoding="utf-8") for n in names if n.endswith(ending)))
