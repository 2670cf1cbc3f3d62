"""Print the oldest version of every dependency that a pyproject.toml allows, as pip's requirements."""

from __future__ import annotations

import re
import sys
from pathlib import Path

REQUIREMENT = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?P<extra>\[[^]]*\])?>=(?P<floor>[0-9.]+)(?P<rest>.*)$")


def floors(requirements: list[str]) -> list[str]:
    """Return `name==floor` for each requirement, its marker kept.

    Raises:
        ValueError: a requirement states no floor.
    """
    found = []
    for text in requirements:
        match = REQUIREMENT.match(text.replace(" ", ""))
        if match is None:
            raise ValueError(f"{text!r} states no oldest version: write name>=version")
        marker = text.partition(";")[2].strip()
        found.append(f"{match['name']}{match['extra'] or ''}=={match['floor']}" + (f"; {marker}" if marker else ""))
    return found


if __name__ == "__main__":
    import tomllib

    project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
    print("\n".join(floors(project["dependencies"])))
