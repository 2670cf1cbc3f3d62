"""Pictures of the pages for the README, taken in headless Chromium: light and dark, each below 300 kB.

    zoomzero demo --out outputs/demo
    python bench/figures/pictures.py --demo outputs/demo --example 8
    zoomzero app &
    python bench/figures/pictures.py --app http://127.0.0.1:7860

It asks one question of the demo again for the evidence page (`--example`), and takes the report as it is. With
`--app` it asks the first example of a running web app, and takes its picture alone.
Needs Playwright and Chromium (CHROMIUM=/path where it is not on the PATH).
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from zoomzero.data.example import Example, read_examples

SIZE = {"evidence": (1280, 1240), "report": (1280, 1000), "app": (1280, 1180)}
MOST_BYTES = 300_000


def main() -> None:
    """Make the pages and take their pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("outputs/demo"), help="what `zoomzero demo --out` wrote")
    parser.add_argument("--example", type=int, default=0, help="which of its short questions the evidence page answers")
    parser.add_argument("--mode", default="zoom")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--evidence", type=Path, help="an evidence page that is there already")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--app", help="address of a running `zoomzero app` with the embedded model")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.app is not None:
        take_app(given.app, given.out)
        return
    with tempfile.TemporaryDirectory() as folder:
        page = given.evidence or Path(folder) / "evidence.html"
        if given.evidence is None:
            example = read_examples(given.demo / "short" / "examples.jsonl")[given.example]
            ask(example, page, given.mode, given.model)
        take({"evidence": page, "report": given.demo / "report.html"}, given.out)


def ask(example: Example, page: Path, mode: str, model: str) -> None:
    """Write the evidence page of one question."""
    options = [part for option in example.options for part in ("--option", option)]
    command = [sys.executable, "-m", "zoomzero", "ask", example.video, example.question, *options]
    subprocess.run([*command, "--mode", mode, "--model", model, "--html", str(page)], check=True)


def take_app(address: str, out: Path) -> None:
    """Ask a running app about its first example and take its picture in light and dark."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    width, height = SIZE["app"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        view.set_default_timeout(900_000)
        view.goto(address)
        view.locator(".card-video").first.click()
        view.wait_for_selector("#offers li")
        view.click("#go")
        view.wait_for_selector("#sheets .thumb")
        view.wait_for_timeout(2000)  # the player moves to the evidence
        for scheme in ("light", "dark"):
            view.emulate_media(color_scheme=scheme)
            view.wait_for_timeout(300)
            keep(view.screenshot(), out / f"app-{scheme}.png")
        browser.close()


def keep(picture: bytes, target: Path) -> None:
    """Write a picture, small, and say so."""
    small = small_png(picture)
    target.write_bytes(small)
    print(f"{target}  {len(small) / 1000:.0f} kB")


def take(pages: dict[str, Path], out: Path) -> None:
    """Take each page's picture in light and dark."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, page in pages.items():
            width, height = SIZE[name]
            for scheme in ("light", "dark"):
                view = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                view.goto(page.resolve().as_uri())
                view.wait_for_timeout(800)  # the video's first picture
                keep(view.screenshot(), out / f"{name}-{scheme}.png")
                view.close()
        browser.close()


def small_png(picture: bytes) -> bytes:
    """Return a picture with all its colours, or as many as fit into the limit.

    Raises:
        SystemExit: not even few colours do.
    """
    whole = Image.open(io.BytesIO(picture)).convert("RGB")
    fewer = (whole.quantize(n, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE) for n in (256, 128, 64))
    for image in (whole, *fewer):
        buffer = io.BytesIO()
        image.save(buffer, "PNG", optimize=True)
        if buffer.tell() < MOST_BYTES:
            return buffer.getvalue()
    raise SystemExit(f"the picture takes {buffer.tell():,} bytes, and {MOST_BYTES:,} are allowed; make SIZE smaller")


if __name__ == "__main__":
    main()
