"""Uploads: their names, their limits, and what never reaches a decoder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from zoomzero.app.intake import TooLarge, shown_name, take_upload
from zoomzero.errors import ConfigError, VideoError


async def chunks(content: bytes, size: int = 65536) -> AsyncIterator[bytes]:
    for i in range(0, len(content), size):
        yield content[i : i + size]


def upload(place, user, content: bytes, name: str = "film.mp4", declared: int | None = None):
    return asyncio.run(take_upload(place.store, user, name, declared, chunks(content)))


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("film.mp4", "film.mp4"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\film.mp4", "film.mp4"),
        ("a\x00b\nc.mp4", "a b c.mp4"),
        ("", "video"),
        ("///", "video"),
        ("x" * 300 + ".mp4", "x" * 92 + "….mp4"),
    ],
)
def test_shown_names(given: str, shown: str) -> None:
    assert shown_name(given) == shown


def test_an_upload_becomes_the_users_video(user, film: Path) -> None:
    place, me, _ = user
    video = upload(place, me, film.read_bytes(), "../holiday.mp4")
    assert me.videos == {video.id: video}
    assert video.name == "holiday.mp4"
    assert video.path.parent == me.folder
    assert "holiday" not in video.path.name
    assert video.info.duration_s == pytest.approx(48.0)
    assert len(video.id) > 20
    assert (me.busy, me.uploading) == (0, 0)


@pytest.mark.parametrize("declared", [True, False])
def test_too_large_leaves_nothing(make_place, film: Path, declared: bool) -> None:
    place = make_place(upload_mb=0.001)
    me = place.store.user("x" * 40, make=True)
    content = film.read_bytes()
    with pytest.raises(TooLarge, match="larger than"):
        upload(place, me, content, declared=len(content) if declared else None)
    assert list(me.folder.iterdir()) == []
    assert me.videos == {}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"<html><script>alert(1)</script></html>", "text"),
        (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", "text"),
        (b"ffconcat version 1.0\nfile film.mp4\n", "text"),
        (b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"/>', "text"),
        (b"\0" * 5000, "not a video|no video|cannot"),
        (b"\0\0\0\x18ftypmp42" + b"\1" * 4000, "moov|cannot"),
    ],
)
def test_what_is_no_video_is_refused(user, content: bytes, reason: str) -> None:
    place, me, _ = user
    with pytest.raises(VideoError, match=reason) as refused:
        upload(place, me, content)
    assert list(me.folder.iterdir()) == []
    shown = place.public_error(refused.value)
    assert shown.startswith("film.mp4: cannot ")
    assert str(place.store.root) not in shown
    assert str(me.folder) not in shown


def test_a_playlist_opens_no_other_file(user, film: Path) -> None:
    """Even behind bytes that are no text, a playlist does not lead to a file of the server."""
    place, me, _ = user
    for start in (b"#EXTM3U\n", b"ffconcat version 1.0\n"):
        content = start + b"\1\2\3\n" + f"file '{film}'\n{film}\n".encode()
        with pytest.raises(VideoError):
            upload(place, me, content, "list.mkv")
    assert me.videos == {}


def test_broken_off(user, film: Path) -> None:
    place, me, _ = user
    with pytest.raises(ConfigError, match="broke off"):
        upload(place, me, film.read_bytes()[:100], declared=1000)
    assert list(me.folder.iterdir()) == []


def test_two_uploads_at_once(user) -> None:
    place, me, _ = user
    me.uploading = 2
    with pytest.raises(ConfigError, match="under way"):
        upload(place, me, b"x")


def test_a_slow_upload_is_ended(make_place) -> None:
    place = make_place(upload_s=0.05)
    me = place.store.user("x" * 40, make=True)

    async def slow() -> AsyncIterator[bytes]:
        yield b"\0"
        await asyncio.sleep(30)

    with pytest.raises(ConfigError, match="too long"):
        asyncio.run(take_upload(place.store, me, "a.mp4", None, slow()))
    assert list(me.folder.iterdir()) == []


def test_listed_videos_lie_in_the_folder(make_place) -> None:
    place = make_place()
    assert [one.name for one in place.library.shelf()] == ["film.mp4", "deeper/second.mp4"]
    assert place.find(None, "film.mp4").info.duration_s == pytest.approx(48.0)
    assert place.find(None, "film.mp4") is place.find(None, place.library.find("film.mp4").id)
    for wrong in ("link.mp4", "linked/secret.mp4", "../film.mp4", "/etc/passwd", "notes.txt", ".hidden.mp4", ""):
        with pytest.raises(ConfigError, match="no such video"):
            place.find(None, wrong)


def test_a_changed_file_is_opened_again(make_place, shelf: Path, film: Path) -> None:
    place, changing = make_place(), shelf / "changing.mp4"
    changing.write_bytes(film.read_bytes())
    try:
        before = place.find(None, "changing.mp4")
        assert place.find(None, "changing.mp4") is before
        changing.write_bytes(film.read_bytes() + b"\0\0\0\x08free")
        assert place.find(None, "changing.mp4") is not before
    finally:
        changing.unlink()
