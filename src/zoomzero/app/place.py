"""One running app: its store, library and model, and what users are told of them."""

from __future__ import annotations

import threading
from typing import Any

from zoomzero.answer.names import MODES
from zoomzero.app.asking import Asked, Desk
from zoomzero.app.library import Library
from zoomzero.app.public import public_text
from zoomzero.app.settings import AppSettings
from zoomzero.app.store import Store, User, Video
from zoomzero.errors import ConfigError, ZoomZeroError


class Place:
    """What the routes and the endpoints share.

    Args:
        settings: the operator's.
        store: users and their files.
        library: what everybody may ask about.
        desk: the model.
    """

    def __init__(self, settings: AppSettings, store: Store, library: Library, desk: Desk) -> None:
        self.settings, self.store, self.library, self.desk = settings, store, library, desk
        self._stops: dict[str, threading.Event] = {}

    def find(self, user: User | None, wanted: str) -> Video:
        """Return a video by its id: the user's own, or a listed one (those by name too).

        Raises:
            ConfigError: there is none, or it is somebody else's.
            VideoError: it cannot be opened.
        """
        if user is not None and wanted in user.videos:
            return user.videos[wanted]
        listed = self.library.find(wanted)
        if listed is None:
            raise ConfigError("VIDEO", "there is no such video", "upload it, or choose one that is listed")
        return self.library.open(listed)

    def check(self, user: User | None, video: object, question: object, options: object, modes: object) -> Asked:
        """Return a question that can be asked.

        Raises:
            ConfigError, VideoError: it cannot, in one line.
        """
        if not isinstance(video, str):
            raise ConfigError("VIDEO", "is no name of a video", "give the id that uploading returned, or a listed name")
        found = self.find(user, video)
        listed = self.library.find(found.id)
        return self.desk.check(found, question, options, modes, listed.example if listed else None)

    def public_error(self, error: ZoomZeroError, video: Video | None = None) -> str:
        """Return an error's line without paths of the server."""
        names = self.desk.names(video)
        if self.library.folder is not None:
            names |= {f"{self.library.folder}/": "", str(self.library.folder): "the folder of videos"}
        names |= {str(one.path): one.name for one in self.library.shelf()}
        names |= {str(one): "the video" for one in self.store.root.rglob("*") if str(one) in str(error)}
        return public_text(str(error), names)

    def state(self, user: User | None) -> dict[str, Any]:
        """Return what a page shows when it opens."""
        limits = self.settings.limits
        return {
            "model": self.desk.name,
            "modes": list(MODES),
            "limits": {"upload_mb": limits.upload_mb, "age_s": limits.age_s},
            "listed": [
                {
                    "id": one.id,
                    "name": one.name,
                    "example": None
                    if one.example is None
                    else {"question": one.example.question, "options": list(one.example.options)},
                }
                for one in self.library.shelf()
            ],
            "mine": [] if user is None else [self.video(one, mine=True) for one in user.videos.values()],
        }

    def video(self, video: Video, *, mine: bool) -> dict[str, Any]:
        """Return what a page is told of a video."""
        info = video.info
        return {
            "id": video.id,
            "name": video.name,
            "mine": mine,
            "duration_s": info.duration_s,
            "width": info.width,
            "height": info.height,
            "fps": info.fps,
            "plays": video.mime is not None,
            "notes": [public_text(note, self.desk.names(video)) for note in video.notes],
        }

    def begin(self, session: str | None) -> threading.Event:
        """Return what stops the question of a session."""
        stop = threading.Event()
        if session:
            self._stops[session] = stop
        return stop

    def end(self, session: str | None, stop: threading.Event) -> None:
        """A session's question has ended."""
        if session and self._stops.get(session) is stop:
            del self._stops[session]

    def stop(self, session: str) -> bool:
        """Stop the question of a session, whose name only its page knows; return whether there was one."""
        stop = self._stops.get(session)
        if stop is not None:
            stop.set()
        return stop is not None
