"""Videos behind addresses: a real server on this machine, and every limit."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from zoomzero.errors import VideoError
from zoomzero.inputs import fetch as fetching
from zoomzero.inputs.fetch import FetchLimits, fetch, is_address, is_public, public_addresses, shown

CONTENT = bytes(range(256)) * 400
LOCAL = FetchLimits(private=True, most_s=20, silent_s=5)


class Handler(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        name = self.path.partition("?")[0]
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        if name.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        if name == "/missing.mp4":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if name == "/page" else "video/mp4")
        if name != "/unsaid.mp4":
            self.send_header("Content-Length", str(len(CONTENT) * (2 if name == "/cut.mp4" else 1)))
        self.end_headers()
        if name == "/slow.mp4":
            for start in range(0, len(CONTENT), 20_000):
                self.wfile.write(CONTENT[start : start + 20_000])
                self.wfile.flush()
                time.sleep(0.3)
            return
        if name != "/empty.mp4":
            self.wfile.write(CONTENT)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    one = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    one.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=one.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield one
    one.shutdown()
    one.server_close()


def at(server: ThreadingHTTPServer, path: str, host: str = "127.0.0.1") -> str:
    return f"http://{host}:{server.server_address[1]}{path}"


def test_a_file_is_fetched_once_and_kept(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = fetch(at(server, "/v.webm?key=1"), LOCAL, tmp_path, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert path.suffix == ".webm"
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert fetch(at(server, "/v.webm?key=1"), LOCAL, tmp_path) == path
    assert server.asked == ["/v.webm?key=1"]  # type: ignore[attr-defined]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_redirects_are_followed_and_counted(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    assert fetch(at(server, "/to//to//v.mp4"), LOCAL, tmp_path).read_bytes() == CONTENT
    many = "/to/" * 7 + "/v.mp4"
    with pytest.raises(VideoError, match="more than 5 redirects"):
        fetch(at(server, many), LOCAL, tmp_path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/missing.mp4", "the server says 404"),
        ("/page", "is a web page, not a video file"),
        ("/cut.mp4", "the connection broke"),
        ("/empty.mp4", "the connection broke after 0|is empty"),
        ("/to/ftp://example.org/v.mp4", "is no http.s. address"),
    ],
)
def test_what_is_no_video_leaves_nothing_behind(
    server: ThreadingHTTPServer, path: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(VideoError, match=message):
        fetch(at(server, path), LOCAL, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_size_is_limited_whether_it_is_said_or_not(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    small = FetchLimits(private=True, most_bytes=1000)
    for path in ("/v.mp4", "/unsaid.mp4"):
        with pytest.raises(VideoError, match=r"more than the 0\.001 MB allowed; raise --max-mb"):
            fetch(at(server, path), small, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_time_is_limited_though_bytes_keep_coming(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"took longer than 0\.5 s"):
        fetch(at(server, "/slow.mp4"), FetchLimits(private=True, most_s=0.5, silent_s=5), tmp_path)


def test_this_machine_is_private(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    for host in ("127.0.0.1", "localhost", "0x7f000001", "2130706433"):
        with pytest.raises(VideoError, match=r"not a public address|there is no host"):
            fetch(at(server, "/v.mp4", host), FetchLimits(), tmp_path)
    assert server.asked == []  # type: ignore[attr-defined]


def test_a_redirect_into_a_private_network_is_refused(
    server: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """127.0.0.1 stands for a public server; it points at another address of this machine, and at a metadata service."""
    monkeypatch.setattr(fetching, "is_public", lambda address: address == "127.0.0.1")
    for inside in (at(server, "/v.mp4", "127.0.0.2"), "http://169.254.169.254/latest"):
        with pytest.raises(VideoError, match="is not a public address"):
            fetch(at(server, f"/to/{inside}"), FetchLimits(), tmp_path)
    assert all(path.startswith("/to/") for path in server.asked)  # type: ignore[attr-defined]


def test_a_host_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(2, 1, 6, "", ("93.184.216.34", 80)), (2, 1, 6, "", ("10.0.0.5", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    with pytest.raises(VideoError, match=r"10\.0\.0\.5, which is not a public address"):
        public_addresses("http://two.example/v", "two.example", 80, private=False)
    assert public_addresses("http://two.example/v", "two.example", 80, private=True)[0] == "93.184.216.34"


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "::1", "fe80::1%eth0", "fc00::1", "::ffff:10.0.0.1", "2002:0a00:0001::1", "ff02::1", "64:ff9b::7f00:1",
     "64:ff9b::a00:1"],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_public_addresses() -> None:
    assert is_public("93.184.216.34")
    assert is_public("64:ff9b::5db8:d822")
    assert is_public("2606:2800:220:1:248:1893:25c8:1946")


def test_hosts_may_be_listed(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    listed = FetchLimits(private=True, hosts=("example.org",))
    with pytest.raises(VideoError, match=r"127\.0\.0\.1 is not among the allowed hosts; allowed are example\.org"):
        fetch(at(server, "/v.mp4"), listed, tmp_path)
    assert fetching._check_url("https://cdn.example.org/v", listed).hostname == "cdn.example.org"
    with pytest.raises(VideoError, match="not among"):
        fetching._check_url("https://badexample.org/v", listed)


def test_secrets_are_not_repeated(tmp_path: Path) -> None:
    assert shown("https://u:p@host.example:8443/a/b.mp4?token=s#f") == "https://host.example:8443/a/b.mp4"
    with pytest.raises(VideoError, match="holds a name or password") as caught:
        fetch("https://user:secret@host.example/v.mp4?token=abc", folder=tmp_path)
    assert "secret" not in str(caught.value)
    assert "abc" not in str(caught.value)


def test_what_is_an_address() -> None:
    assert is_address("HTTPS://x/v.mp4")
    assert not is_address("http.mp4")
