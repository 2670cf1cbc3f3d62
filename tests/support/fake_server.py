"""A server of the OpenAI protocol in this process, as vLLM documents it; a policy answers, faults can be ordered.

It is no mock of our client: requests come over a socket, frames are decoded from what was sent, and times are those the
request told, or one second apart where it told none, as real servers do.
"""

from __future__ import annotations

import base64
import io
import json
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from itertools import takewhile
from typing import Any

import numpy as np
from PIL import Image

from fake_replies import ReplyHandler
from fake_weights import WEIGHT_PATHS, take_weights
from zoomzero.policy.base import Completion, Sampling, Turn
from zoomzero.policy.remote.probe import PROBE_TIMES_S
from zoomzero.spans import Span
from zoomzero.video.types import Clip

TRUST = (
    "media_io_kwargs and mm_processor_kwargs are not accepted per request. Start the server with "
    "--trust-request-mm-kwargs only when clients are trusted."
)
LABEL = re.compile(r"<(\d+(?:\.\d+)?) seconds>$")


@dataclass
class Abilities:
    """What the server can do; the defaults are vLLM's with every flag set."""

    version: str | None = "0.32.0"
    key: str | None = None
    video: bool = True
    trust: bool = True  # takes frame times
    times: str = "exact"  # or "invented": it takes them and forgets them
    images: bool = True
    most_images: int = 999
    most_frames: int = 999  # of a video; the rest is dropped without a word
    ids: bool = True  # prompt and option token ids
    top: int = 20  # most top_logprobs; 0: ignores logprobs
    restricts: bool = False  # answers to `response_format`
    many: bool = True
    cached: bool = True  # tells how much of a prompt it had read before
    cache: bool = False  # and keeps the last prompt
    context: int = 100_000
    streams: bool = True
    outer_pair: bool = False  # what transformers 5.x leaves around a video
    new_weights: bool = True  # takes them, and adapters
    listed: tuple[str, ...] | None = ("fake",)  # what its list of models says; None: it has none


@dataclass
class Seen:
    """What one chat request held."""

    turns: list[Turn]
    body: dict[str, Any]
    headers: dict[str, str]


@dataclass
class FakeServer:
    """Serves `brain`, a policy, under the name `fake` until it is closed.

    `faults` are taken one by one by chat requests (after the probe, when a test says so).
    """

    brain: Any
    can: Abilities = field(default_factory=Abilities)
    faults: list[str] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    read: list[int] = field(default_factory=list)  # the last prompt's tokens
    running: int = 0
    most_running: int = 0
    slow_s: float = 0.0
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  # requests about weights
    adapters: set[str] = field(default_factory=set)
    lock: Any = field(default_factory=threading.Lock)

    def __enter__(self) -> FakeServer:
        handler = type("Handler", (_Handler,), {"fake": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def model(self) -> str:
        return f"{self.url}#fake"

    # --- tokens: the brain's own, or one a character ---

    def encode(self, text: str) -> list[int]:
        return self.brain.tokens(text).tolist() if hasattr(self.brain, "tokens") else [ord(c) for c in text]

    def decode(self, ids: Sequence[int]) -> str:
        if not hasattr(self.brain, "builder"):
            return "".join(map(chr, ids))
        return str(self.brain.builder.codec.tokenizer.decode(list(ids), skip_special_tokens=False))

    def video_text(self, clip: Clip) -> str:
        text = "".join(f"{label}##" for label in pair_labels(clip))
        return f"<|vision_start|>{text}<|vision_end|>" if self.can.outer_pair else text

    def prompt_ids(self, turns: list[Turn]) -> list[int]:
        if hasattr(self.brain, "builder"):
            ids = self.brain.prompt(turns).ids.tolist()
            return [ids[0], self.brain.model.config.vision_start_token_id, *ids[1:]] if self.can.outer_pair else ids
        text = ""
        for turn in turns:
            for part in turn.parts:
                text += part if isinstance(part, str) else self.video_text(part)
        return [ord(c) for c in text]


def pair_labels(clip: Clip) -> list[str]:
    """Return what Qwen3-VL's processor writes before each pair of frames."""
    times = clip.times_s
    return [f"<{(times[i] + times[i + 1]) / 2:.1f} seconds>" for i in range(0, len(times) - 1, 2)]


class Refuse(Exception):
    """A status and what is said."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class _Handler(ReplyHandler):
    fake: FakeServer

    def do_GET(self) -> None:
        can = self.fake.can
        try:
            self._check_key()
            if self.path == "/v1/models":
                if can.listed is None:
                    raise Refuse(500, "Internal Server Error")
                return self.json({"data": [{"id": one, "max_model_len": can.context} for one in can.listed]})
            if self.path == "/version" and can.version:
                return self.json({"version": can.version})
            raise Refuse(404, "Not Found")
        except Refuse as no:
            self.json({"error": {"message": no.message}}, no.status)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        fake = self.fake
        with fake.lock:
            fake.running += 1
            fake.most_running = max(fake.most_running, fake.running)
        try:
            self._check_key()
            if self.path == "/tokenize" and fake.can.ids:
                return self.json({"tokens": fake.encode(body["prompt"])})
            if self.path == "/detokenize" and fake.can.ids:
                return self.json({"prompt": fake.decode(body["tokens"])})
            if self.path in WEIGHT_PATHS and fake.can.new_weights:
                with fake.lock:
                    fake.told.append((self.path, body))
                    take_weights(fake, self.path, body)
                return self.raw(200, b"Success", kind="text/plain")
            if self.path != "/v1/chat/completions":
                raise Refuse(404, "Not Found")
            if body["model"] not in {"fake", *fake.adapters}:
                raise Refuse(404, f"The model `{body['model']}` does not exist.")
            turns = self._turns(body)
            with fake.lock:
                fake.seen.append(Seen(turns, body, dict(self.headers)))
                fault = fake.faults.pop(0) if fake.faults else ""
            if fault:
                return self.fail(fault)
            time.sleep(fake.slow_s)
            reply = self._answer(turns, body)
            if body.get("stream"):
                if not fake.can.streams:
                    raise Refuse(400, "stream is not supported")
                return self.stream(reply)
            self.json(reply)
        except Refuse as no:
            self.json({"error": {"message": no.message, "code": no.status}}, no.status)
        finally:
            with fake.lock:
                fake.running -= 1

    def _check_key(self) -> None:
        if self.fake.can.key and self.headers.get("authorization") != f"Bearer {self.fake.can.key}":
            raise Refuse(401, f"Incorrect API key provided: {self.headers.get('authorization')}.")

    # --- what was sent ---

    def _turns(self, body: dict[str, Any]) -> list[Turn]:
        can, kwargs = self.fake.can, body.get("media_io_kwargs")
        if kwargs and not can.trust:
            raise Refuse(400, TRUST)
        turns = []
        for message in body["messages"]:
            content = message["content"]
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            turns.append(Turn(message["role"], tuple(self._parts(parts, kwargs))))
        return turns

    def _parts(self, parts: list[dict[str, Any]], kwargs: dict[str, Any] | None) -> list[Clip | str]:
        """Return texts and clips; a run of (time, image) pairs is a clip again."""
        out: list[Clip | str] = []
        run: list[tuple[float, np.ndarray]] = []

        def end_run() -> None:
            if run:
                out.append(make_clip([image for _, image in run], [at for at, _ in run]))
                run.clear()

        for part in parts:
            if part["type"] == "video_url":
                if not self.fake.can.video:
                    raise Refuse(400, "video_url is not supported by this model")
                end_run()
                out.append(self._video(part["video_url"]["url"], (kwargs or {}).get("video", {})))
            elif part["type"] == "image_url":
                if not self.fake.can.images:
                    raise Refuse(500, "image input is not supported")
                if len(run) == self.fake.can.most_images:
                    raise Refuse(400, f"At most {len(run)} image(s) may be provided in one prompt.")
                label = out.pop()
                assert isinstance(label, str)
                m = LABEL.fullmatch(label)
                assert m, f"no time before an image, but {label!r}"
                run.append((float(m[1]), decode(part["image_url"]["url"].partition("base64,")[2])))
            else:
                if not LABEL.fullmatch(part["text"]):
                    end_run()
                out.append(part["text"])
        end_run()
        return out

    def _video(self, url: str, kwargs: dict[str, Any]) -> Clip:
        head, _, data = url.partition("base64,")
        assert head == "data:video/jpeg;"
        frames = [decode(one) for one in data.split(",")]
        at = kwargs.get("frames_indices") if self.fake.can.times == "exact" else None
        most = self.fake.can.most_frames
        if at is not None and len(at) != len(frames):
            raise Refuse(400, f"frames_indices length ({len(at)}) must match number of frames sent ({len(frames)})")
        times = list(range(len(frames))) if at is None else [i / kwargs["fps"] for i in at]
        return make_clip(frames[:most], times[:most])

    # --- what is answered ---

    def _answer(self, turns: list[Turn], body: dict[str, Any]) -> dict[str, Any]:
        fake, can = self.fake, self.fake.can
        ids = fake.prompt_ids(turns)
        if len(ids) > can.context:
            raise Refuse(400, f"This model's maximum context length is {can.context} tokens, you asked for {len(ids)}.")
        if body.get("logprobs") and can.top and body.get("top_logprobs", 0) > can.top:
            raise Refuse(400, f"top_logprobs must be at most {can.top}")
        told = body.get("logprobs") and can.top
        wanted = body.get("logprob_token_ids") if can.ids else None
        if body.get("response_format") and can.restricts:
            wanted = body["response_format"]["json_schema"]["schema"]["properties"]["answer"]["enum"]
            scores = fake.brain.choose(turns, wanted).logprobs if len(turns[0].parts) > 1 else (0.0,)
            best = wanted[max(range(len(scores)), key=scores.__getitem__)]
            choices = [{"message": {"content": json.dumps({"answer": best})}, "finish_reason": "stop"}]
        elif body["max_tokens"] == 1:
            choices = [self._one_token(turns, body, wanted, bool(told))]
            choices = choices * (body.get("n", 1) if can.many else 1)
        else:
            sampling = Sampling(body["temperature"], body.get("top_p", 1.0), body["max_tokens"], body.get("seed", 0))
            with fake.lock:
                written = fake.brain.write(turns, body.get("n", 1) if can.many else 1, sampling)
            choices = [self._choice(one, body, bool(told)) for one in written.completions]
        usage: dict[str, Any] = {"prompt_tokens": len(ids), "completion_tokens": 7}
        if can.cached:
            same = takewhile(lambda pair: pair[0] == pair[1], zip(ids, fake.read, strict=False))
            usage["prompt_tokens_details"] = {"cached_tokens": len(list(same)) // 16 * 16 if can.cache else 0}
            fake.read = ids
        reply = {"choices": [{"index": i, **one} for i, one in enumerate(choices)], "usage": usage}
        if body.get("return_token_ids") and can.ids:
            reply["prompt_token_ids"] = ids
        return reply

    def _one_token(self, turns: list[Turn], body: dict[str, Any], wanted: Any, told: bool) -> dict[str, Any]:
        """Answer with one token: the likeliest of the letters that are asked about, with their log-probabilities."""
        fake = self.fake
        clips = [part for turn in turns for part in turn.parts if isinstance(part, Clip)]
        letters = [fake.decode([i]) for i in wanted] if wanted else ["A", "B", "C"]
        if clips and clips[0].times_s[:2] != PROBE_TIMES_S[:2] and hasattr(fake.brain, "choose"):
            with fake.lock:
                scores = list(fake.brain.choose(turns, letters).logprobs)
        else:
            scores = [-1.0 - i for i in range(len(letters))]  # the probe
        pairs = sorted(zip(scores, letters, strict=True), reverse=True)
        names = {
            one: f"token_id:{fake.encode(one)[0]}" if body.get("return_tokens_as_token_ids") else one for one in letters
        }
        top = [{"token": names[one], "logprob": score, "bytes": list(one.encode())} for score, one in pairs]
        top += [
            {"token": f"x{i}", "logprob": -30.0 - i, "bytes": [120]}
            for i in range(body.get("top_logprobs", 0) - len(top))
        ]
        first = {
            "token": names[pairs[0][1]],
            "logprob": pairs[0][0],
            "bytes": list(pairs[0][1].encode()),
            "top_logprobs": top,
        }
        choice: dict[str, Any] = {"message": {"role": "assistant", "content": pairs[0][1]}, "finish_reason": "length"}
        return choice | ({"logprobs": {"content": [first]}} if told else {})

    def _choice(self, one: Completion, body: dict[str, Any], told: bool) -> dict[str, Any]:
        reason = "stop" if one.finished else "length"
        choice: dict[str, Any] = {"message": {"role": "assistant", "content": one.text}, "finish_reason": reason}
        if body.get("return_token_ids") and self.fake.can.ids:
            choice["token_ids"] = list(one.token_ids or ())
        if not told:
            return choice
        assert one.offsets is not None
        assert one.logprobs is not None
        assert one.peaks is not None
        content = []
        for (start, end), logprob, peak in zip(one.offsets, one.logprobs, one.peaks, strict=True):
            piece = one.text[start:end] or "<|im_end|>"
            top = [{"token": f"t{i}", "logprob": -peak} for i in range(body["top_logprobs"])]
            content.append({"token": piece, "bytes": list(piece.encode()), "logprob": logprob, "top_logprobs": top})
        return choice | {"logprobs": {"content": content}}


def decode(data: str) -> np.ndarray:
    """Return an image, (H, W, 3) uint8."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def make_clip(frames: list[np.ndarray], times_s: Sequence[float]) -> Clip:
    """Return frames as a clip with these times."""
    return Clip(np.stack(frames), tuple(float(t) for t in times_s), 1.0, (Span(0.0, times_s[-1] + 1.0),), len(frames))
