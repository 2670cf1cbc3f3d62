"""An app with the embedded model and real files: its parts, and where gradio is installed, a running server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from app_questions import OPTIONS, QUESTION

from small_videos import write_small
from zoomzero.app.asking import Desk
from zoomzero.app.library import Library
from zoomzero.app.place import Place
from zoomzero.app.settings import AppSettings, Limits
from zoomzero.app.store import Store, new_token
from zoomzero.config import ModelSettings, load_settings
from zoomzero.data.example import Example
from zoomzero.spans import Span


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of the world, 48 s."""
    return write_small(tmp_path_factory.mktemp("film") / "film.mp4")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ModelSettings]:
    """The embedded model and how it is asked."""
    import torch

    from cli_runner import find_checkpoint, load_once

    torch.set_num_threads(1)
    where = find_checkpoint(tmp_path_factory.mktemp("model"))
    return load_once(str(where)), load_settings(ModelSettings, where / "zoomzero.json")


@pytest.fixture(scope="session")
def shelf(film: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder an operator allowed: a video, one in a sub-folder, what is no video, and links that lead out of it."""
    folder = tmp_path_factory.mktemp("shelf")
    (folder / "deeper").mkdir()
    for name in ("film.mp4", "deeper/second.mp4"):
        (folder / name).write_bytes(film.read_bytes())
    (folder / "notes.txt").write_text("no video")
    (folder / ".hidden.mp4").write_bytes(film.read_bytes())
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.mp4").write_bytes(film.read_bytes())
    (folder / "link.mp4").symlink_to(outside / "secret.mp4")
    (folder / "linked").symlink_to(outside)
    return folder


@pytest.fixture
def make_place(tmp_path: Path, model: Any, shelf: Path) -> Iterator[Any]:
    """Put an app together with these limits; everything is removed afterwards."""
    made: list[Place] = []

    def make(**limits: Any) -> Place:
        settings = AppSettings(port=0, videos=shelf, store=tmp_path, limits=Limits(**limits))
        store = Store(tmp_path, settings.limits)
        desk = Desk(*model, settings.limits, store)
        made.append(Place(settings, store, Library(shelf, (), 60.0), desk))
        return made[-1]

    yield make
    for place in made:
        place.store.close()


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, model: Any, shelf: Path, film: Path) -> Iterator[tuple[str, Place]]:
    """A running app: its address and its parts."""
    pytest.importorskip("gradio", reason="needs gradio: pip install 'gradio[mcp]>=6.31'")
    pytest.importorskip("mcp", reason="needs gradio's extra mcp: pip install 'gradio[mcp]>=6.31'")
    from zoomzero.app.server import running

    parent = tmp_path_factory.mktemp("web")
    settings = AppSettings(port=0, videos=shelf, store=parent, limits=Limits(upload_mb=5.0, queue=2))
    store = Store(parent, settings.limits)
    truth = Example("film", str(film), QUESTION, tuple(OPTIONS), "A", (Span(18.0, 25.0),), 48.0, "test", "test")
    place = Place(settings, store, Library(shelf, (truth,), 60.0), Desk(*model, settings.limits, store))
    with running(place) as (address, _):
        yield address, place
    assert list(parent.iterdir()) == []  # nothing is left behind


@pytest.fixture
def user(make_place: Any) -> tuple[Place, Any, str]:
    """An app, one of its users, and the user's secret."""
    place, token = make_place(), new_token()
    return place, place.store.user(token, make=True), token
