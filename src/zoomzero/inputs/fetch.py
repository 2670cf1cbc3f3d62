"""Fetching a video from an http(s) address, within limits: size, time, hosts, and no way into a private network.

Every hop of a redirect is checked like the first. A name is resolved once, all its addresses are checked, and the
connection goes to a checked address, so that a name cannot change its mind in between.
"""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import os
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from zoomzero.data.fingerprint import VIDEO_SUFFIXES
from zoomzero.errors import VideoError

CHUNK_BYTES = 1 << 18
REDIRECTS = (301, 302, 303, 307, 308)
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # networks without IPv4 reach it so, the last 32 bits are its address
Progress = Callable[[int, int], None]  # (bytes so far, bytes in all or 0)


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What a fetch may do.

    Args:
        most_bytes: largest file.
        most_s: seconds for all of it, redirects included.
        silent_s: seconds the server may say nothing.
        redirects: how many hops.
        hosts: names that may be asked, their subdomains included; empty: any.
        private: whether addresses that are not public (this machine, a local network) may be asked.
    """

    most_bytes: int = 4 << 30
    most_s: float = 900.0
    silent_s: float = 30.0
    redirects: int = 5
    hosts: tuple[str, ...] = ()
    private: bool = False


def is_address(video: str) -> bool:
    """Return whether a video is named by an http(s) address."""
    return video.lower().startswith(("http://", "https://"))


def shown(url: str) -> str:
    """Return an address without what may be secret in it: user, password, query, fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def cache_folder() -> Path:
    """Return where fetched videos are kept: $XDG_CACHE_HOME/zoomzero/videos, by default under ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zoomzero" / "videos"


def kept_file(url: str, folder: Path | None = None) -> Path:
    """Return where the file behind an address is kept once it was fetched."""
    name = hashlib.sha256(url.encode()).hexdigest()[:24]
    suffix = PurePosixPath(urlsplit(url).path).suffix.lower()
    return (folder or cache_folder()) / f"{name}{suffix if suffix in VIDEO_SUFFIXES else '.mp4'}"


def fetch(
    url: str, limits: FetchLimits | None = None, folder: Path | None = None, progress: Progress | None = None
) -> Path:
    """Return the local file of a video behind an address; one that was fetched before is not fetched again.

    Args:
        url: http or https.
        limits: what may be done.
        folder: where files are kept.
        progress: called with (bytes so far, bytes in all; 0 when the server does not say).

    Raises:
        VideoError: stage `fetch`, naming the address without its query: it is not allowed, not there, not a video,
            too large, or too slow.
    """
    limits = limits or FetchLimits()
    path = kept_file(url, folder)
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        _download(url, partial, limits, progress)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _download(url: str, path: Path, limits: FetchLimits, progress: Progress | None) -> None:
    deadline = time.monotonic() + limits.most_s
    here = url
    for _ in range(limits.redirects + 1):
        connection, response = _ask(here, limits, deadline)
        try:
            if response.status in REDIRECTS:
                here = urljoin(here, response.headers.get("Location") or "")
                continue
            _check_reply(here, response, limits)
            _save(here, response, path, limits, deadline, progress)
            return
        except (OSError, http.client.HTTPException) as error:
            raise _error(here, f"the connection broke ({error})", "try again") from error
        finally:
            connection.close()
    raise _error(url, f"more than {limits.redirects} redirects", "give the address of the file itself")


def _ask(url: str, limits: FetchLimits, deadline: float) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """Send the request to a checked address and return the connection and the head of the reply."""
    parts = _check_url(url, limits)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = public_addresses(url, host, port, limits.private)[0]
    seconds = max(0.1, min(limits.silent_s, deadline - time.monotonic()))
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        plain = socket.create_connection((address, port), timeout=seconds)
        secure = ssl.create_default_context() if parts.scheme == "https" else None
        connection.sock = secure.wrap_socket(plain, server_hostname=host) if secure else plain
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        # Identity: compressed bytes would defeat the limit on size.
        headers = {"User-Agent": "zoomzero", "Accept": "video/*, */*;q=0.5", "Accept-Encoding": "identity"}
        connection.request("GET", target, headers=headers)
        return connection, connection.getresponse()
    except (OSError, http.client.HTTPException, ValueError) as error:
        connection.close()
        raise _error(url, f"the server does not answer ({error})", "check the address") from error


def _check_url(url: str, limits: FetchLimits) -> SplitResult:
    try:
        parts = urlsplit(url)
        host, _ = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise _error(url, f"is no address ({error})", "give http:// or https:// and a host") from error
    if parts.scheme not in ("http", "https") or not host:
        raise _error(url, "is no http(s) address", "give http:// or https:// and a host")
    if parts.username or parts.password:
        raise _error(url, "holds a name or password", "fetch the file yourself and give its path")
    if limits.hosts and not any(host == one.lower() or host.endswith(f".{one.lower()}") for one in limits.hosts):
        raise _error(url, f"{host} is not among the allowed hosts", f"allowed are {', '.join(limits.hosts)}")
    return parts


def public_addresses(url: str, host: str, port: int, private: bool) -> Sequence[str]:
    """Return the addresses of a host, all of them checked.

    Raises:
        VideoError: it has none, or one that is not public and private ones are not allowed.
    """
    try:
        found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise _error(url, f"there is no host {host}", "check the address") from error
    if not private and (inside := [one for one in found if not is_public(one)]):
        which = host if host == inside[0] else f"{host} is {inside[0]}, which"
        reason = f"{which} is not a public address"
        raise _error(url, reason, "fetch the file yourself, or allow it (--allow-private)")
    return found


def is_public(address: str) -> bool:
    """Return whether an IP address belongs to the public internet, seen through addresses that wrap another one."""
    one = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(one, ipaddress.IPv6Address):
        inside = ipaddress.IPv4Address(int(one) & 0xFFFFFFFF) if one in NAT64 else None
        wrapped = inside or one.ipv4_mapped or one.sixtofour or (one.teredo[1] if one.teredo else None)
        if wrapped is not None:
            one = wrapped
    return one.is_global and not one.is_multicast


def _check_reply(url: str, response: http.client.HTTPResponse, limits: FetchLimits) -> None:
    if response.status != 200:
        raise _error(url, f"the server says {response.status} {response.reason}", "check the address")
    kind = (response.headers.get_content_type() or "").lower()
    if kind in ("text/html", "application/xhtml+xml"):
        raise _error(url, "is a web page, not a video file", "give the address of the file itself")
    if (size := _size(response)) > limits.most_bytes:
        raise _error(url, f"{_mb(size)} is more than the {_mb(limits.most_bytes)} allowed", RAISE)


RAISE = "raise --max-mb, or fetch the file yourself"


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e7 else f"{size / 1e6:.2g} MB"


def _size(response: Any) -> int:
    written = response.headers.get("Content-Length") or ""
    return int(written) if written.isdecimal() else 0


def _save(url: str, response: Any, path: Path, limits: FetchLimits, deadline: float, progress: Progress | None) -> None:
    total, done = _size(response), 0
    with path.open("wb") as file:
        while block := response.read1(CHUNK_BYTES):
            done += len(block)
            if done > limits.most_bytes:
                raise _error(url, f"is more than the {_mb(limits.most_bytes)} allowed", RAISE)
            if time.monotonic() > deadline:
                reason = f"took longer than {limits.most_s:g} s ({_mb(done)} came)"
                raise _error(url, reason, "fetch the file yourself and give its path")
            file.write(block)
            if progress:
                progress(done, total)
    if total and done < total:
        raise _error(url, f"the connection broke after {done:,} of {total:,} bytes", "try again")
    if not done:
        raise _error(url, "is empty", "check the address")


def _error(url: str, reason: str, fix: str) -> VideoError:
    return VideoError(shown(url) if is_address(url) else url, "fetch", reason, fix)
