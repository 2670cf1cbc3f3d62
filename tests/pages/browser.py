"""A headless Chromium that notes everything a page tries: requests, dialogs, refused policies, errors."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

LOCAL = ("file:", "data:", "blob:", "about:")


@dataclass(slots=True)
class Seen:
    """What a page did: `asked` are addresses outside it, `said` its console's lines, `dialogs` what it asked a user."""

    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    @property
    def harm(self) -> list[str]:
        """Everything a page of ours never does."""
        return [*self.asked, *self.said, *self.dialogs]


def find_chromium() -> str:
    """Return the browser's path; without one (or without Playwright) the test is skipped."""
    pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("needs Chromium: apt-get install chromium, or CHROMIUM=/path/to/it")
    return found


@contextmanager
def chromium() -> Iterator[Any]:
    """Start the browser."""
    path = find_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def watch(page: Any, local: tuple[str, ...] = LOCAL) -> Seen:
    """Note what a page does from now on; requests to elsewhere are refused."""
    seen = Seen()

    def decide(route: Any) -> None:
        if route.request.url.startswith(local):
            route.continue_()
        else:
            seen.asked.append(route.request.url)
            route.abort()

    def dismiss(dialog: Any) -> None:
        seen.dialogs.append(dialog.message)
        dialog.dismiss()

    page.route("**/*", decide)
    page.on("request", lambda one: None if one.url.startswith(local) else seen.asked.append(one.url))
    page.on("dialog", dismiss)
    page.on("console", lambda line: seen.said.append(line.text))
    page.on("pageerror", lambda error: seen.said.append(str(error)))
    page.on("popup", lambda one: seen.asked.append(f"a window: {one.url}"))
    return seen
