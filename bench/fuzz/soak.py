"""Hours of the web app: several users upload, ask, stop, download and leave; memory must stay flat and no file behind.

    python bench/fuzz/soak.py --minutes 120 --users 8 --out outputs/soak

The app runs as a process of its own, as people start it, with the embedded model. Every user is a thread with a secret
of its own that draws what to do next: upload a video, ask in some mode, stop a question under way, send what is no
video, fetch page, JSON, clip and the video itself, forget an upload, or go away and come back as somebody else.
Printed, and written to OUT/soak.json: what was done how often, what was refused, replies that broke a promise (another
user's file, a path or an error of the server), memory over time, and files left after the end.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from zoomzero.app.store import new_token
from zoomzero.data.example import Example, read_examples
from zoomzero.files import write_whole
from zoomzero.world.write import write_world

MODES = ("direct", "coarse", "zoom", "context", "search")
JUNK = (
    b"",
    b"<script>alert(1)</script>",
    b"#EXTM3U\nfile:///etc/passwd\n",
    b"\0" * 4096,
    b"\0\0\0\x18ftypmp42" + b"\7" * 9000,
)
GROWTH = 0.15  # memory may grow by this share between the second and the last quarter
SLACK_MB = 40.0
HEADER = "x-zoomzero-user"


@dataclass
class Log:
    """What all users did, counted, and every promise that was broken."""

    done: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)

    def count(self, what: str) -> None:
        with self.lock:
            self.done[what] += 1

    def breaks(self, what: str) -> None:
        with self.lock:
            self.broken.append(what)


class Visitor:
    """One person: a secret, uploads, answers."""

    def __init__(self, address: str, films: list[Example], seed: int, log: Log, secret_paths: list[str]) -> None:
        self.address, self.films, self.log, self.secret_paths = address, films, log, secret_paths
        self.random = random.Random(seed)
        self.come()

    def come(self) -> None:
        """Become somebody new."""
        self.token, self.videos, self.answers = new_token(), {}, []
        self.log.count("users")

    def act(self) -> None:
        """Do one thing."""
        kinds = ["ask"] * 5 + ["upload", "fetch", "fetch", "junk", "stop", "foreign", "forget", "listed"]
        kind = self.random.choice(kinds) if self.videos else "upload"
        if self.random.random() < 0.02:
            return self.come()
        getattr(self, kind)()
        return None

    def send(self, path: str, body: bytes | None = None, method: str | None = None) -> tuple[int, bytes]:
        made = Request(f"{self.address}/{path}", data=body, method=method or ("POST" if body is not None else "GET"))
        made.add_header(HEADER, self.token)
        if body is not None and not path.startswith("upload"):
            made.add_header("content-type", "application/json")
        try:
            with urlopen(made, timeout=600) as reply:
                status, content = reply.status, reply.read()
        except HTTPError as error:
            status, content = error.code, error.read()
        if status >= 500 and status != 503:
            self.log.breaks(f"{path[:60]}: status {status}")
        shown = content[:200_000].decode("utf-8", "replace") if not path.endswith((".mp4", "/file")) else ""
        for secret in self.secret_paths:
            if secret in shown:
                self.log.breaks(f"{path[:60]}: holds {secret}")
        return status, content

    def upload(self) -> None:
        if len(self.videos) >= 3:
            return
        film = self.random.choice(self.films)
        status, content = self.send("upload?name=film.mp4", Path(film.video).read_bytes())
        self.log.count(f"upload {status}")
        if status == 200:
            self.videos[json.loads(content)["id"]] = film

    def junk(self) -> None:
        status, _ = self.send("upload?name=..%2Ffilm.mp4", self.random.choice(JUNK))
        self.log.count(f"junk {status}")
        if status not in (413, 422, 429):
            self.log.breaks(f"junk was taken: {status}")

    def ask(self, stop_after: float | None = None, video: str | None = None) -> None:
        video = video or self.random.choice(list(self.videos))
        film = self.videos.get(video, self.films[0])
        modes = self.random.sample(MODES, self.random.choice((1, 1, 1, 2)))
        body = json.dumps({"data": [video, film.question, list(film.options), modes], "session_hash": new_token()[:32]})
        status, content = self.send("api/gradio_api/call/watch", body.encode())
        self.log.count(f"ask {status}")
        if status != 200:
            return
        session = json.loads(body)["session_hash"]
        if stop_after is not None:
            threading.Timer(stop_after, lambda: self.send(f"stop/{session}", b"")).start()
        _, stream = self.send(f"api/gradio_api/call/watch/{json.loads(content)['event_id']}")
        told = [
            event for some in re.findall(rb"event: generating\ndata: (.*)", stream) for event in json.loads(some)[0]
        ]
        for event in told:
            if event["event"] in ("answer", "stopped", "error"):
                self.log.count(event["event"])
            if event["event"] == "answer" and event["kept"]:
                self.answers.append((event["id"], bool(event["spans"])))
        if not told or told[-1]["event"] != "end":
            self.log.breaks("a question without an end")

    def stop(self) -> None:
        self.ask(stop_after=self.random.random() * 2)

    def listed(self) -> None:
        _, content = self.send("state")
        self.ask(video=self.random.choice(json.loads(content)["listed"])["id"])

    def fetch(self) -> None:
        video = self.random.choice(list(self.videos))
        names = [f"videos/{video}", f"videos/{video}/file", f"videos/{video}/answers"]
        if self.answers:
            answer, has_spans = self.random.choice(self.answers)
            names += [f"answers/{answer}/answer.json", f"answers/{answer}/answer.html"]
            names += [f"answers/{answer}/clip.mp4"] if has_spans else []
        name = self.random.choice(names)
        status, _ = self.send(name)
        self.log.count(f"fetch {name.rpartition('/')[2] if 'answers/' in name else 'video'} {status}")
        if status not in (200, 404):
            self.log.breaks(f"{name}: status {status}")

    def foreign(self) -> None:
        """Ask for one's own things as somebody else."""
        mine, self.token = self.token, new_token()
        status, _ = self.send(f"videos/{self.random.choice(list(self.videos))}/file")
        self.token = mine
        self.log.count(f"foreign {status}")
        if status != 404:
            self.log.breaks(f"somebody else's video: status {status}")

    def forget(self) -> None:
        video = self.random.choice(list(self.videos))
        status, _ = self.send(f"videos/{video}", method="DELETE")
        self.log.count(f"forget {status}")
        self.videos.pop(video)


def memory_mb(process: int) -> float:
    """Return the resident memory of a process and its children."""
    total, todo = 0.0, [process]
    while todo:
        one = todo.pop()
        try:
            status = Path(f"/proc/{one}/status").read_text()
            todo += [int(child) for child in Path(f"/proc/{one}/task/{one}/children").read_text().split()]
        except OSError:  # it has just ended
            continue
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        total += int(found[1]) / 1024 if found else 0.0
    return total


def begin(store: Path, age_minutes: float) -> tuple[subprocess.Popen[str], str]:
    """Start the app and return it with its address."""
    command = [
        sys.executable, "-m", "zoomzero", "app", "--port", "0", "--store", str(store),
        "--age-minutes", str(age_minutes), "--upload-mb", "20", "--user-mb", "60", "--queue", "12",
    ]  # fmt: skip
    app = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert app.stdout is not None
    for line in app.stdout:
        if found := re.match(r"(http://\S+)", line):
            return app, found[1]
    raise SystemExit("the app did not start")


def live(visitor: Visitor, until: float) -> None:
    """Act until the time is over."""
    while time.monotonic() < until:
        try:
            visitor.act()
        except (URLError, OSError) as error:
            visitor.log.breaks(f"the connection broke: {error}")
            time.sleep(1)


def verdict(series: list[tuple[float, float]]) -> tuple[dict[str, float], bool]:
    """Return memory by quarters, and whether it stayed flat after the first."""
    quarter = max(1, len(series) // 4)
    parts = [[mb for _, mb in series[i * quarter : (i + 1) * quarter]] for i in range(4)]
    medians = [round(statistics.median(part), 1) if part else 0.0 for part in parts]
    flat = medians[3] <= medians[1] * (1 + GROWTH) + SLACK_MB
    return {f"quarter {i}": mb for i, mb in enumerate(medians, 1)}, flat


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--age-minutes", type=float, default=2.0, help="idle time after which the app forgets a user")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("outputs/soak"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    write_world(given.out / "world", 3, 11, "short")
    films, log, series = read_examples(given.out / "world" / "examples.jsonl"), Log(), []
    with tempfile.TemporaryDirectory(prefix="soak-") as place:
        app, address = begin(Path(place), given.age_minutes)
        secret_paths = [place, str(Path(__file__).resolve().parents[2])]
        began = time.monotonic()
        until = began + given.minutes * 60
        visitors = [Visitor(address, films, given.seed * 100 + i, log, secret_paths) for i in range(given.users)]
        threads = [threading.Thread(target=live, args=(one, until)) for one in visitors]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            series.append((round(time.monotonic() - began, 1), round(memory_mb(app.pid), 1)))
            time.sleep(min(5.0, given.minutes))
        files = sum(len(names) for _, _, names in os.walk(place))
        app.send_signal(signal.SIGTERM)
        code = app.wait(60)
        left = [str(path.relative_to(place)) for path in Path(place).rglob("*")]
    memory, flat = verdict(series)
    report = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": platform.processor() or platform.machine(), "cpus": os.cpu_count(), "minutes": given.minutes,
        "users_at_once": given.users, "seed": given.seed,
        "done": dict(sorted(log.done.items())), "broken": log.broken, "memory_mb": memory, "memory_flat": flat,
        "most_mb": max(mb for _, mb in series), "files_before_the_end": files, "left_behind": left, "exit_code": code,
        "series": series,
    }  # fmt: skip
    write_whole(given.out / "soak.json", json.dumps(report, indent=1) + "\n")
    print(json.dumps({name: value for name, value in report.items() if name != "series"}, indent=1))
    if log.broken or left or not flat or code:
        raise SystemExit(f"{len(log.broken)} promises broken, {len(left)} files left, memory flat: {flat}, code {code}")


if __name__ == "__main__":
    main()
