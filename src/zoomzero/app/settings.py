"""What the app's operator decides: limits of uploads, users, questions and the queue."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one app takes, in all and of one user.

    Args:
        upload_mb: largest uploaded file.
        user_mb: files of one user, uploads and answers.
        all_mb: files of all users.
        age_s: seconds after which an idle user's files are removed.
        users: users whose files are kept at once.
        upload_s: seconds one upload may take.
        queue: questions that may wait.
        at_once: questions asked of the model side by side.
        decode_s: seconds a decoding job may be silent, and opening a video may take.
        answer_s: seconds one question may take in one mode.
        keep_tokens: prompt tokens whose prefill is kept for further questions.
        cache_mb: decoded frames that are kept.
    """

    upload_mb: float = 512.0
    user_mb: float = 1024.0
    all_mb: float = 8192.0
    age_s: float = 7200.0
    users: int = 256
    upload_s: float = 900.0
    queue: int = 16
    at_once: int = 1
    decode_s: float = 60.0
    answer_s: float = 600.0
    keep_tokens: int = 16384
    cache_mb: float = 256.0


@dataclass(frozen=True, slots=True)
class AppSettings:
    """Where the app listens, what it shows, and its limits.

    Args:
        host: the address to bind; this machine alone unless told otherwise.
        port: the port, 0 for any that is free.
        hosts: further host names by which browsers reach the app (behind a proxy).
        videos: a folder whose videos everybody may ask about, None for none.
        store: where users' files are kept while the app runs; None for the system's temporary folder.
        limits: how much the app takes.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    hosts: tuple[str, ...] = ()
    videos: Path | None = None
    store: Path | None = None
    limits: Limits = field(default_factory=Limits)
