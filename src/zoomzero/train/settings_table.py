"""Every setting of a training run as Markdown tables, from the settings models themselves.

    python -m zoomzero.train.settings_table docs/reference/training.md  # puts the tables between the page's marks anew

Light: loads neither torch nor transformers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from zoomzero.train.settings import GrpoSettings, SftSettings

KINDS: dict[str, type[BaseModel]] = {"train": GrpoSettings, "sft": SftSettings}
BEGIN, END = "<!-- settings of zoomzero {} -->\n", "<!-- end -->\n"


def settings_rows(
    kind: type[BaseModel], prefix: str = "", defaults: BaseModel | None = None
) -> Iterator[tuple[str, str, str]]:
    """Yield (dotted name, default as TOML, sentence) of every setting, tables after the settings of their level.

    Args:
        kind: the settings model.
        prefix: what names begin with.
        defaults: an instance that holds this table's defaults where the table it lies in says other ones.
    """
    tables: list[tuple[str, type[BaseModel], BaseModel | None]] = []
    for name, field in kind.model_fields.items():
        value = getattr(defaults, name) if defaults is not None else field.default
        inner = _table_in(field.annotation)
        if inner is None:
            yield prefix + name, _shown(value, field.is_required() and defaults is None), field.description or ""
        else:
            optional = value is None
            yield f"{prefix}{name}.", "none" if optional else "", field.description or ""
            tables.append((f"{prefix}{name}.", inner, value if isinstance(value, BaseModel) else None))
    for path, inner, value in tables:
        yield from settings_rows(inner, path, value)


def settings_table(kind: type[BaseModel]) -> str:
    """Return the settings as one Markdown table."""
    lines = ["| setting | default | |", "|---|---|---|"]
    lines += [f"| `{name}` | {default} | {text} |" for name, default, text in settings_rows(kind)]
    return "\n".join(lines) + "\n"


def with_tables(page: str) -> str:
    """Return a page with what stands between its marks replaced by the tables as they are now.

    Raises:
        ValueError: the page has no marks for a table.
    """
    for command, kind in KINDS.items():
        begin = BEGIN.format(command)
        before, mark, rest = page.partition(begin)
        _, end, after = rest.partition(END)
        if not (mark and end):
            raise ValueError(f"the page has no place for the table of `zoomzero {command}`: {begin.strip()}")
        page = before + begin + settings_table(kind) + END + after
    return page


def _table_in(annotation: Any) -> type[BaseModel] | None:
    """Return the settings model that a field holds, optional or not."""
    kinds = [one for one in (annotation, *get_args(annotation)) if isinstance(one, type) and issubclass(one, BaseModel)]
    return kinds[0] if kinds else None


def _shown(value: Any, required: bool) -> str:
    if required:
        return "required"
    if value is None:
        return "none"
    if isinstance(value, dict):
        return "`{}`"
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value)}`"


def main() -> None:
    """Write the tables into the page that is named."""
    path = Path(sys.argv[1])
    path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
