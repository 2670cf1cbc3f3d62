"""The frame cache: bounded, least recently used, and safe to share."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from zoomzero.video.cache import FrameCache


def frame(value: int, side: int = 10) -> np.ndarray:
    return np.full((side, side, 3), value, np.uint8)  # 300 bytes at 10 x 10


def test_what_was_put_comes_back() -> None:
    cache = FrameCache(1000)
    cache.put("a", frame(7), 1.5)
    found = cache.get("a")
    assert found is not None
    assert np.array_equal(found[0], frame(7))
    assert found[1] == 1.5
    assert cache.get("b") is None
    assert (cache.hits, cache.misses, cache.bytes, len(cache)) == (1, 1, 300, 1)


def test_the_least_recently_used_goes_first() -> None:
    cache = FrameCache(900)
    for key in "abc":
        cache.put(key, frame(1), 0.0)
    cache.get("a")
    cache.put("d", frame(1), 0.0)
    assert [cache.get(key) is not None for key in "abcd"] == [True, False, True, True]
    assert (cache.evictions, cache.bytes) == (1, 900)


def test_a_large_frame_makes_as_much_room_as_it_needs() -> None:
    cache = FrameCache(1300)
    for key in "abcd":
        cache.put(key, frame(1), 0.0)
    cache.put("big", frame(1, 16), 0.0)  # 768 bytes: three of 300 have to go
    assert (len(cache), cache.bytes) == (2, 1068)
    assert cache.get("d") is not None


def test_a_frame_larger_than_the_cache_is_not_kept() -> None:
    cache = FrameCache(299)
    cache.put("a", frame(1), 0.0)
    assert (len(cache), cache.bytes) == (0, 0)


def test_putting_again_replaces() -> None:
    cache = FrameCache(1000)
    cache.put("a", frame(1), 0.0)
    cache.put("a", frame(2), 3.0)
    found = cache.get("a")
    assert found is not None
    assert (found[0][0, 0, 0], found[1], cache.bytes) == (2, 3.0, 300)


def test_kept_frames_are_copies_that_cannot_be_written() -> None:
    cache, mine = FrameCache(1000), frame(1)
    cache.put("a", mine, 0.0)
    mine[:] = 9
    found = cache.get("a")
    assert found is not None
    assert found[0].max() == 1
    with pytest.raises(ValueError, match="read-only"):
        found[0][0] = 5


def test_clear_and_refusal() -> None:
    cache = FrameCache(1000)
    cache.put("a", frame(1), 0.0)
    cache.clear()
    assert (len(cache), cache.bytes) == (0, 0)
    with pytest.raises(ValueError, match="-1"):
        FrameCache(-1)


def test_threads_keep_the_books_straight() -> None:
    cache = FrameCache(3000)

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for key in rng.integers(0, 30, 400):
            if cache.get(int(key)) is None:
                cache.put(int(key), frame(int(key)), float(key))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.hits + cache.misses == 1600
    assert cache.bytes == 300 * len(cache) <= 3000
    assert all(found[0][0, 0, 0] == found[1] for found in map(cache.get, range(30)) if found is not None)
