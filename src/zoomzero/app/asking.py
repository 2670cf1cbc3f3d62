"""Asking the app's one model: a question in one mode or several, its events as they happen, its answers stored."""

from __future__ import annotations

import asyncio
import contextlib
import io
import pickle
import secrets
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zoomzero.answer.ask import answer, check_question
from zoomzero.answer.names import MODES, AskMode
from zoomzero.answer.trace import Trace
from zoomzero.app.public import frame_groups, jpeg, public_model, public_text, public_trace, view
from zoomzero.app.settings import MEGABYTE, Limits
from zoomzero.app.store import Store, User, Video
from zoomzero.app.watch import Event, Stopped, TooLong, Watcher, watched
from zoomzero.config import ModelSettings
from zoomzero.data.example import Example
from zoomzero.demo import close_looks
from zoomzero.errors import ConfigError, ZoomZeroError
from zoomzero.files import write_whole
from zoomzero.models import EMBEDDED
from zoomzero.pages.page import PassFrames
from zoomzero.policy.base import Policy
from zoomzero.policy.kept import KeptPrefixes, keeping
from zoomzero.video.cache import FrameCache
from zoomzero.world.render import ITS_WORLD, of_the_world

LONGEST_QUESTION, LONGEST_OPTION, MOST_OPTIONS = 4000, 1000, 26  # characters, characters, options
STORED_SIDE, STORED_QUALITY = 640, 90  # of the frames that downloads show


@dataclass(frozen=True, slots=True)
class Asked:
    """A checked question: about which video, in which modes; `known` is the truth where a listed example is asked."""

    video: Video
    question: str
    options: tuple[str, ...]
    modes: tuple[AskMode, ...]
    known: Example | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer in a user's folder: what the page draws, and what downloads are made of."""

    view: dict[str, Any]
    trace: Trace
    looks: tuple[tuple[str, tuple[float, ...], tuple[bytes, ...]], ...]  # pass, times in seconds, JPEGs

    def frames(self) -> list[PassFrames]:
        """Return the stored pictures as frames."""
        from PIL import Image

        return [
            PassFrames(
                name, times_s, np.stack([np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in many])
            )
            for name, times_s, many in self.looks
        ]


class Desk:
    """The model, and what it keeps between questions.

    Args:
        policy: the model.
        settings: how it is asked.
        limits: how long and how many.
        store: where answers are kept.
    """

    def __init__(self, policy: Policy, settings: ModelSettings, limits: Limits, store: Store) -> None:
        self.policy, self.settings, self.limits, self.store = policy, settings, limits, store
        self.name = public_model(policy.name)
        self.kept = KeptPrefixes(limits.keep_tokens if limits.at_once == 1 else 0)
        self.cache = FrameCache(int(limits.cache_mb * 2**20))
        self._turn = threading.BoundedSemaphore(limits.at_once)

    def check(self, video: Video, question: object, options: object, modes: object, known: Example | None) -> Asked:
        """Return a question that can be asked.

        Raises:
            ConfigError: it cannot, in one line.
        """
        if not isinstance(question, str) or len(question) > LONGEST_QUESTION:
            raise ConfigError("QUESTION", f"is no text of at most {LONGEST_QUESTION} characters", "shorten it")
        texts = [] if options is None else options
        if not isinstance(texts, list) or not all(isinstance(one, str) and len(one) <= LONGEST_OPTION for one in texts):
            raise ConfigError("options", f"are no list of texts of at most {LONGEST_OPTION} characters", "shorten them")
        if len(texts) > MOST_OPTIONS:
            raise ConfigError("options", f"{len(texts)} are too many", f"give at most {MOST_OPTIONS}")
        wanted = [modes] if isinstance(modes, str) else modes
        if not isinstance(wanted, list) or not wanted or not all(isinstance(one, str) for one in wanted):
            raise ConfigError("modes", "name no way of looking", f"use one or more of {', '.join(MODES)}")
        for mode in wanted:
            check_question(question, texts, mode)
        same = known if known and (question, tuple(texts)) == (known.question, known.options) else None
        return Asked(video, question, tuple(texts), tuple(dict.fromkeys(wanted)), same)

    def work(self, asked: Asked, user: User | None, watcher: Watcher, tell: Any, stop: threading.Event) -> None:
        """Ask in every mode, one after the other, and tell everything that happens; the last event is `end`."""
        try:
            while not self._turn.acquire(timeout=0.1):
                if stop.is_set():
                    raise Stopped
            try:
                for mode in asked.modes:
                    tell({"event": "mode", "mode": mode})
                    tell({"event": "answer", **self._answer(asked, mode, user, watcher)})
            finally:
                self._turn.release()
        except Stopped:
            tell({"event": "stopped"})
        except TooLong:
            line = f"no answer within {self.limits.answer_s:g} s; ask about a shorter video or in another mode"
            tell({"event": "error", "message": line})
        except ZoomZeroError as error:
            tell({"event": "error", "message": self.public_error(error, asked.video)})
        finally:
            tell({"event": "end"})

    def public_error(self, error: ZoomZeroError, video: Video | None = None) -> str:
        """Return an error's line without paths of the server."""
        return public_text(str(error), self.names(video))

    def names(self, video: Video | None) -> dict[str, str]:
        """Return what users call the paths that errors and notes may name."""
        names = {str(self.store.root): "the app's folder", self.policy.name: self.name}
        if video is not None:
            names |= {str(video.path): video.name, video.info.path: video.name}
        return names

    def _answer(self, asked: Asked, mode: AskMode, user: User | None, watcher: Watcher) -> dict[str, Any]:
        watcher.check()
        trace, results = answer(
            watched(keeping(self.policy, self.kept), watcher),
            self.settings,
            asked.video.info,
            asked.question,
            asked.options,
            mode=mode,
            timeout_s=self.limits.decode_s,
            progress=watcher.began,
            finished=watcher.ended,
            decoding=watcher.decoding,
            cache=self.cache,
        )
        shown = public_trace(trace, asked.video.name, self.names(asked.video))
        if self.policy.name in EMBEDDED and not of_the_world(asked.video.info):
            shown = replace(shown, notes=(*shown.notes, ITS_WORLD))
        known = asked.known
        looks = close_looks(results)
        made = view(shown, known.spans if known else (), known.answer if known else None, self.policy.geometry)
        made |= {
            "id": "a" + secrets.token_urlsafe(18),
            "video": asked.video.id,
            "video_name": asked.video.name,
            "frames": frame_groups(looks),
            "asked_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "kept": user is not None,
        }
        if user is not None:
            made["kept"] = self._keep(user, asked.video, made, shown, looks)
        return without_frames(made) if made["kept"] else made

    def _keep(self, user: User, video: Video, made: dict[str, Any], trace: Trace, looks: Sequence[PassFrames]) -> bool:
        """Store an answer in its user's folder; return False where there is no room left."""
        pictures = tuple(
            (one.name, tuple(one.times_s), tuple(jpeg(frame, STORED_SIDE, STORED_QUALITY) for frame in one.frames))
            for one in looks
        )
        content = pickle.dumps(Stored(made, trace, pictures))
        if len(content) > self.store.room_mb(user) * MEGABYTE:
            return False
        with self.store.lock:
            if not user.folder.is_dir():  # its time was over
                return False
            write_whole(user.answer_file(made["id"]), content)
            user.answers[made["id"]] = video.id
        return True


def without_frames(made: dict[str, Any]) -> dict[str, Any]:
    """Return a stored answer without its pictures: whoever shows it fetches them."""
    return {name: value for name, value in made.items() if name != "frames"}


def stored(user: User, answer_id: str) -> Stored | None:
    """Return one of a user's answers, None when it has no such answer."""
    if answer_id not in user.answers:
        return None
    try:
        found: Stored = pickle.loads(user.answer_file(answer_id).read_bytes())  # from our own private folder
    except FileNotFoundError:
        return None
    return found


async def events(desk: Desk, asked: Asked, user: User | None, stop: threading.Event) -> AsyncIterator[list[Event]]:
    """Ask in a thread and yield what happens, some events at a time; leaving the loop stops the question."""
    loop = asyncio.get_running_loop()
    coming: asyncio.Queue[Event] = asyncio.Queue()

    def tell(event: Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the app ends
            loop.call_soon_threadsafe(coming.put_nowait, event)

    watcher = Watcher(tell, stop, desk.limits.answer_s * len(asked.modes))
    worker = threading.Thread(target=desk.work, args=(asked, user, watcher, tell, stop), name="ask", daemon=True)
    if user is not None:
        user.busy += 1
    worker.start()
    try:
        while True:
            some = [await coming.get()]
            while not coming.empty():
                some.append(coming.get_nowait())
            yield some
            if some[-1]["event"] == "end":
                return
    finally:
        stop.set()
        if user is not None:
            user.busy -= 1
