"""What the documentation site makes of the pages: the commands from their own help, links to code as names."""

from __future__ import annotations

import posixpath
import re
from typing import Any

import typer

CLI_PAGE = "reference/cli.md"
UPWARDS = re.compile(r"\[[^\]]*\]\(((?:\.\./)+[^)\s]*)\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Put the commands where the page asks for them; files of the repository that no page is get their name."""
    markdown = without_links_out(markdown, page.file.src_uri)
    return markdown.replace("<!-- commands -->", commands()) if page.file.src_uri == CLI_PAGE else markdown


def without_links_out(markdown: str, page: str) -> str:
    """Return a page's text with the names of files in place of links to what lies outside `docs/`."""

    def named(link: re.Match[str]) -> str:
        place = posixpath.normpath(posixpath.join(posixpath.dirname(page), link[1]))
        return f"`{place.removeprefix('../')}`" if place.startswith("../") else link[0]

    return UPWARDS.sub(named, markdown)


def commands() -> str:
    """Return every command with its arguments and options, as Markdown."""
    from zoomzero.cli import app

    group: Any = typer.main.get_command(app)
    return "\n\n".join(_command(name, one) for name, one in _flat(group.commands))


def _flat(found: Any, before: str = "") -> list[tuple[str, Any]]:
    """Return commands with their whole names, those of groups (`data check`) among them."""
    flat = []
    for name, one in found.items():
        whole = f"{before}{name}"
        flat += _flat(one.commands, f"{whole} ") if hasattr(one, "commands") else [(whole, one)]
    return flat


def _command(name: str, one: Any) -> str:
    about, _, examples = (one.help or "").partition("Example")
    lines = [f"## zoomzero {name}", "", " ".join(about.split()), ""]
    lines += ["| | | default |", "|---|---|---|"]
    for parameter in one.params:
        if parameter.name == "help":
            continue
        shown = (
            ", ".join(f"`{text}`" for text in parameter.opts)
            if _is_option(parameter)
            else f"`{parameter.name.upper()}`"
        )
        default = "" if parameter.default in (None, False, ()) else f"`{parameter.default}`"
        text = " ".join(str(getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
        lines.append(f"| {shown} | {text} | {'needed' if parameter.required else default} |")
    if shown_lines := [line.strip() for line in examples.partition(":")[2].splitlines() if line.strip()]:
        lines += ["", *(f"    {line}" for line in shown_lines)]
    return "\n".join(lines)


def _is_option(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "option")
