"""Print the oldest version of every dependency that a pyproject.toml allows, as pip's requirements.

    python .ci/floors.py pyproject.toml [--light]

`--light`: instead, the dependencies that do not come with torch, as they are.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

HEAVY = ("accelerate", "peft", "safetensors", "tensorboard", "tokenizers", "torch", "transformers")
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


def light(requirements: list[str]) -> list[str]:
    """Return the requirements, as they are, that do not come with torch."""
    return [text for text in requirements if re.split(r"[><=;\[ ]", text)[0] not in HEAVY]


if __name__ == "__main__":
    import tomllib

    project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
    print("\n".join((light if "--light" in sys.argv else floors)(project["dependencies"])))
