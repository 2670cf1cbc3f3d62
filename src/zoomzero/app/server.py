"""Putting the app together and running it: `serve` until it is told to end, `running` for tests and notebooks."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from zoomzero.app.asking import Desk
from zoomzero.app.guard import API, Guard
from zoomzero.app.library import Library, check_folder, write_examples
from zoomzero.app.place import Place
from zoomzero.app.settings import AppSettings
from zoomzero.app.store import Store
from zoomzero.config import ModelSettings
from zoomzero.errors import ConfigError
from zoomzero.models import EMBEDDED
from zoomzero.policy.base import Policy

EXPIRE_EVERY_S = 30.0
ANY = ("0.0.0.0", "::", "")
OLDEST = (6, 31)  # the version whose queue, API and MCP server this was tested with
NEEDED = "install it: pip install 'gradio[mcp]>=6.31'"  # the extra [app] of this project


def check_place(settings: AppSettings) -> None:
    """Refuse what cannot be served, before a model is loaded.

    Raises:
        ConfigError: there is no such folder of videos, the port is taken, or gradio is not installed or too old.
    """
    check_folder(settings.videos)
    _bind(settings).close()
    check_installed()


def check_installed() -> None:
    """Refuse to start without gradio.

    Raises:
        ConfigError: it is not installed, or too old.
    """
    try:
        import gradio
        import mcp  # noqa: F401
    except ImportError as error:
        raise ConfigError("app", f"the web app needs the package gradio ({error})", NEEDED) from error
    if tuple(map(int, gradio.__version__.split(".")[:2])) < OLDEST:
        raise ConfigError("app", f"gradio {gradio.__version__} is too old", NEEDED)


def make_place(
    settings: AppSettings, policy: Policy, model_settings: ModelSettings, say: Callable[[str], None] = lambda text: None
) -> Place:
    """Return an app's parts; with the embedded model, examples of its world are written first.

    Raises:
        ConfigError: the store or the folder of videos cannot be used.
    """
    store = Store(settings.store, settings.limits)
    try:
        examples = []
        if policy.name in EMBEDDED:
            say("writing example videos")
            examples = write_examples(store.root / "examples")
        library = Library(settings.videos, examples, settings.limits.decode_s)
    except BaseException:
        store.close()
        raise
    return Place(settings, store, library, Desk(policy, model_settings, settings.limits, store))


def make_app(place: Place) -> Any:
    """Return the app as ASGI: our routes, gradio below `/api`, the guard before both."""
    from zoomzero.app.endpoints import make_blocks, private_gradio

    private_gradio(place.store.root)
    import gradio as gr
    from fastapi import FastAPI

    from zoomzero.app.routes import make_routes

    fast = FastAPI(title="zoomzero", docs_url=None, redoc_url=None, openapi_url=None)
    fast.include_router(make_routes(place))
    gr.mount_gradio_app(
        fast, make_blocks(place), path=API, mcp_server=True, show_error=False, run_history=False, ssr_mode=False,
        footer_links=[], max_file_size="1kb", pwa=False, enable_monitoring=False,
    )  # fmt: skip
    settings = place.settings
    return Guard(fast, (*settings.hosts, settings.host))


def serve(place: Place, say: Callable[[str], None]) -> None:
    """Run the app until Ctrl-C or a signal to end, and remove its files then.

    Args:
        place: from `make_place`.
        say: is told the address.

    Raises:
        ConfigError: the port is taken.
    """
    ended = threading.Event()
    with _until_told(ended), running(place) as (address, server):
        say(f"{address}   (Ctrl-C ends it and removes all uploads)")
        while not ended.wait(0.2) and not server.should_exit:
            pass


@contextlib.contextmanager
def _until_told(ended: threading.Event) -> Iterator[None]:
    """Set the event when the process is told to end; a second signal ends it at once."""
    before = {}

    def told(number: int, _: Any) -> None:
        ended.set()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        before[number] = signal.signal(number, told)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def running(place: Place) -> Iterator[tuple[str, Any]]:
    """Run the app in a thread and yield its address and its server; its files are gone afterwards."""
    import uvicorn

    listener = _bind(place.settings)
    config = uvicorn.Config(
        make_app(place),
        log_level="error",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=3,
        ws="none",
        lifespan="on",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), name="web", daemon=True)
    stopped = threading.Event()
    sweeper = threading.Thread(target=_expire, args=(place.store, stopped), name="expire", daemon=True)
    try:
        thread.start()
        sweeper.start()
        while not server.started and thread.is_alive():
            time.sleep(0.02)
        host, port = listener.getsockname()[:2]
        shown = "127.0.0.1" if host in ANY else f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{port}", server
    finally:
        stopped.set()
        server.should_exit = True
        thread.join(10)
        listener.close()
        place.store.close()


def _bind(settings: AppSettings) -> socket.socket:
    """Return a socket bound to the app's address."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = f"{settings.host}:{settings.port} cannot be used ({getattr(error, 'strerror', None) or error})"
        raise ConfigError("--port", reason, "give another port, or --port 0 for any that is free") from error
    return listener


def _expire(store: Store, stopped: threading.Event) -> None:
    while not stopped.wait(EXPIRE_EVERY_S):
        store.expire()
