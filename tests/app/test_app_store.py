"""The private folder: users apart, limits of size, age and number, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zoomzero.app.settings import MEGABYTE, Limits
from zoomzero.app.store import PREFIX, Store, Video, _size_of, new_token, sweep
from zoomzero.errors import ConfigError
from zoomzero.video.types import VideoInfo

INFO = VideoInfo("x.mp4", "file", 1.0, 8, 8, 8.0, 8, 0, 0.0, 0, "h264")


def add(store: Store, user, name: str, size: int) -> Video:
    video = Video(name, name, user.folder / name, INFO, None)
    video.path.write_bytes(b"\1" * size)
    user.videos[name] = video
    return video


def test_room_is_measured_while_another_user_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that goes while all are counted counts nothing, and ends nobody's answer."""
    store = Store(tmp_path, Limits(all_mb=1.0))
    users = [store.user(new_token(), make=True) for _ in range(3)]
    for user in users:
        add(store, user, "a", MEGABYTE // 8)
    real, seen = os.lstat, []

    def leaving(path: str, **more: int) -> os.stat_result:
        found = real(path, **more)
        if not seen:  # the first file is counted, and the other users go
            seen.append(Path(path).parent)
            for user in users:
                if user.folder != seen[0]:
                    shutil.rmtree(user.folder)
        return found

    monkeypatch.setattr("zoomzero.app.store.os.lstat", leaving)
    kept = _size_of(store.root)
    monkeypatch.undo()
    assert kept < 2 * MEGABYTE // 8
    assert seen
    store.close()


def test_users_are_apart(tmp_path: Path) -> None:
    store = Store(tmp_path, Limits())
    one, other = (store.user(new_token(), make=True) for _ in range(2))
    assert one is not None
    assert other is not None
    add(store, one, "a", 10)
    assert list(one.videos) == ["a"]
    assert not other.videos
    assert one.folder != other.folder
    assert stat.S_IMODE(store.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(one.folder.stat().st_mode) == 0o700
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_a_user_is_known_by_a_long_secret_alone(tmp_path: Path) -> None:
    store, token = Store(tmp_path, Limits()), new_token()
    made = store.user(token, make=True)
    assert store.user(token) is made
    for wrong in (None, "", "short", token[:-1], token + "x", "\ud800" * 40):
        assert store.user(wrong) is None
    assert store.user("short", make=True) is None
    assert token not in str(made.folder)  # a listing of the folder does not tell it
    store.close()


def test_limits_of_room(tmp_path: Path) -> None:
    store = Store(tmp_path, Limits(user_mb=1.0, all_mb=1.5))
    one, other = (store.user(new_token(), make=True) for _ in range(2))
    assert store.room_mb(one) == 1.0
    add(store, one, "a", int(0.75 * MEGABYTE))
    assert store.room_mb(one) == pytest.approx(0.25)
    assert store.room_mb(other) == pytest.approx(0.75)  # what is left for all
    one.answers["b"] = "a"
    one.answer_file("b").write_bytes(b"x")
    store.forget_video(one, "a")
    assert store.room_mb(one) == 1.0
    assert list(one.folder.iterdir()) == []
    assert one.answers == {}
    store.close()


def test_idle_users_are_removed(tmp_path: Path) -> None:
    store, tokens = Store(tmp_path, Limits(age_s=100)), [new_token() for _ in range(3)]
    idle, busy, fresh = (store.user(token, make=True) for token in tokens)
    idle.seen_s = busy.seen_s = time.monotonic() - 101
    busy.busy = 1
    assert store.expire() == 1
    assert not idle.folder.exists()
    assert busy.folder.exists()
    assert fresh.folder.exists()
    assert store.user(tokens[0]) is None
    store.close()


def test_no_more_users_than_allowed(tmp_path: Path) -> None:
    store = Store(tmp_path, Limits(users=2))
    for _ in range(2):
        store.user(new_token(), make=True)
    with pytest.raises(ConfigError, match="too many people"):
        store.user(new_token(), make=True)
    store.close()


def test_what_a_killed_app_left_is_swept(tmp_path: Path) -> None:
    """A process that was killed leaves its folder; the next app removes it, and not that of one that runs."""
    code = (
        "import os, signal; from pathlib import Path; from zoomzero.app.store import Store; "
        "from zoomzero.app.settings import Limits;"
        f"store = Store(Path({str(tmp_path)!r}), Limits()); (store.root / 'film').write_text('x');"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False, env=os.environ, timeout=120)
    (left,) = tmp_path.glob(f"{PREFIX}*")
    assert (left / "film").is_file()
    running = Store(tmp_path, Limits())
    assert not left.exists()
    assert sweep(tmp_path) == 0
    assert running.root.is_dir()
    (tmp_path / "not-ours").mkdir()
    running.close()
    assert [one.name for one in tmp_path.iterdir()] == ["not-ours"]


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--store"):
        Store(tmp_path / "missing", Limits())
