"""A campaign of damaged texts and files through every reader: typed one-line errors or sound values only.

    python bench/fuzz/fuzz_readers.py [--minutes 3] [--seed 0] [--kinds completions,annotation]

Every round has a seed of its own (`--seed` counts up from there). What fails is kept under outputs/fuzz/: the input,
its kind and seed, and what happened; `--seed N --rounds 1` makes it again.
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from rounds import campaign, options

from zoomzero.benchmarks.definitions.base import ReadOptions
from zoomzero.benchmarks.definitions.registry import benchmark
from zoomzero.benchmarks.predictions import read_predictions, read_samples
from zoomzero.config import ModelSettings, load_settings
from zoomzero.data.annotation import Question
from zoomzero.data.convert import to_examples
from zoomzero.errors import ZoomZeroError
from zoomzero.prompts import PROBLEMS, format_score, option_labels, read_response
from zoomzero.spans import Span
from zoomzero.video.subtitles import cues_in, read_subtitles

SLOW_S = 10.0
WHOLE = Path(__file__).with_name("reader_seeds.json")
PIECES = (
    *(
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        ";",
        "-",
        ".",
        '"',
        "\\",
        "<",
        ">",
        "/",
        "|",
        "%",
        "\n",
        "\r",
        "\t",
        "\0",
    ),
    *("-->", "nan", "inf", "1e999", "null", "true", "[]", "{}", "\ufeff", "\u2028", "\ud800", "１２", "−", "é", "你"),
    *(
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "<glue>",
        "</glue>",
        "<time>",
        "A",
        "B",
        "answer is ",
        "\\boxed{",
    ),
    *("9" * 400, "9" * 5000, "[" * 3000, '{"a":' * 3000, "A, " * 500, "(1, " * 500, " " * 2000, "x" * 200_000),
)
Check = Callable[[bytes, Path, random.Random], None]


def damaged(whole: str, rng: random.Random) -> bytes:
    """Return a text with a few things inserted, cut, repeated or replaced, as bytes that may be cut too."""
    text = whole
    for _ in range(rng.choice((1, 1, 2, 4, 9))):
        at, to = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        kind = rng.randrange(6)
        if kind <= 1:
            text = text[:at] + rng.choice(PIECES) + text[at:]
        elif kind == 2:
            text = text[:at] + text[min(to, at + 20) :]
        elif kind == 3:
            text = text[:at] + text[max(0, at - 200) : at] + text[at:]
        elif kind == 4:
            text = text[:at] + chr(rng.choice((rng.randrange(128), rng.randrange(0x110000)))) + text[at + 1 :]
        else:
            text = text[:at] + str(rng.choice((rng.random() * 100, rng.randrange(-5, 10**6), 10 ** rng.randrange(40))))
            text += whole[at:]
    encoding = rng.choice(("utf-8",) * 12 + ("utf-16", "gb18030"))
    data = text.encode(encoding, "surrogatepass" if encoding == "utf-8" and rng.random() < 0.5 else "replace")
    if rng.random() < 0.1 and data:
        place = rng.randrange(len(data))
        data = data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
    return data


def completions(data: bytes, folder: Path, rng: random.Random) -> None:
    """Read a completion; its values must be sound."""
    text = data.decode("utf-8", "replace")
    n = rng.choice((0, 2, 4, 5, 12, 30))
    options = tuple(f"thing {k}" if k else "a blue key" for k in range(n)) if rng.random() < 0.7 else ()
    mode = rng.choice(("think", "no_think", "direct"))
    reading = read_response(text, n, mode, options=options)  # type: ignore[arg-type]
    score = format_score(text, n, mode, options=options)  # type: ignore[arg-type]
    assert all(0 <= s < e < math.inf for s, e in (*reading.spans, *reading.times)), reading.spans
    assert reading.well_formed == (not reading.problems) == (score == 1.0), reading.problems
    assert set(reading.problems) <= set(PROBLEMS)
    assert reading.option is None or reading.answer == option_labels(n)[reading.option]
    assert all(0 <= a <= b <= len(text) for a, b in reading.ranges.values()), reading.ranges


QUESTIONS = [Question(f"q{i}", "v", "?", ("a", "b", "c", "d"), "B", (Span(1, 2),), 30.0) for i in range(3)]
QUESTIONS.append(Question("open", "v", "?", (), "because", (), 30.0))


def predictions(data: bytes, folder: Path, rng: random.Random) -> None:
    """Read a predictions file; its numbers must be finite."""
    path = folder / rng.choice(("rows.jsonl", "rows.json"))
    path.write_bytes(data)
    for read in (read_predictions, read_samples):
        try:
            found = read([path], QUESTIONS)
        except ZoomZeroError as error:
            one_line(error)
            continue
        for value in found.rows.values():
            for row in value if isinstance(value, tuple) else (value,):
                numbers = (*(x for span in row.spans for x in span), *row.scores, *row.saliency)
                assert all(map(math.isfinite, numbers)), row
                json.dumps([row.answer, row.id], ensure_ascii=False).encode()


def annotation(data: bytes, folder: Path, rng: random.Random, names: Sequence[str], name: str) -> None:
    """Read a benchmark of which one file is damaged, and convert it."""
    hurt = rng.choice(names)
    (folder / hurt).write_bytes(data)
    examples, _ = to_examples(benchmark(name).load(folder, None, ReadOptions()))
    for example in examples:
        assert all(0 <= s < e < math.inf for s, e in example.spans), example
        example.to_json().encode()


def subtitles(data: bytes, folder: Path, rng: random.Random) -> None:
    """Read a subtitle file; cues must be finite, in order and not empty."""
    path = folder / "a.srt"
    path.write_bytes(data)
    cues = read_subtitles(path)
    cues_in(cues, Span(0, 10))
    assert all(0 <= c.start_s < c.end_s < math.inf and c.text for c in cues), cues[:3]
    assert [c.start_s for c in cues] == sorted(c.start_s for c in cues)


def settings(data: bytes, folder: Path, rng: random.Random) -> None:
    """Read a settings file."""
    path = folder / ("s.json" if data.lstrip()[:1] in (b"{", b"[") else "s.toml")
    path.write_bytes(data)
    load_settings(ModelSettings, path)


def one_line(error: ZoomZeroError) -> None:
    """Refuse an error of several lines or of endless length."""
    said = str(error)
    assert len(said.splitlines()) == 1, f"several lines: {said[:200]!r}"
    assert len(said) < 3000, f"a line of {len(said)} characters"


CHECKS: dict[str, Check] = {
    "completions": completions,
    "predictions": predictions,
    "subtitles": subtitles,
    "settings": settings,
}


def play(kind: str, seed: int, whole: dict[str, object], folder: Path) -> tuple[bytes, str, str]:
    """Run one round; return its input, `sound`, `typed` or `FAILED`, and what happened."""
    rng = random.Random(f"{kind}:{seed}")
    started = time.process_time()
    result, happened = "sound", ""
    data = b""
    try:
        if kind == "annotation":
            sets: dict[str, dict[str, str]] = whole[kind]  # type: ignore[assignment]
            name = rng.choice(sorted(sets))
            place = folder / name
            place.mkdir(parents=True, exist_ok=True)
            for file, text in sets[name].items():
                (place / file).write_text(text, encoding="utf-8")
            hurt = rng.choice(sorted(sets[name]))
            data = damaged(sets[name][hurt], rng)
            annotation(data, place, rng, [hurt], name)
        else:
            data = damaged(rng.choice(whole[kind]), rng)  # type: ignore[call-overload]
            CHECKS[kind](data, folder, rng)
    except ZoomZeroError as error:
        result = "typed"
        if len(str(error).splitlines()) != 1 or len(str(error)) > 3000:
            result, happened = "FAILED", f"not one short line: {str(error)[:200]!r}"
    except Exception:  # noqa: BLE001  # whatever comes is what is looked for
        result, happened = "FAILED", traceback.format_exc(limit=-4)
    if (seconds := time.process_time() - started) > SLOW_S:
        result, happened = "FAILED", f"took {seconds:.1f} s"
    return data, result, happened


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign; return 1 when something failed."""
    parser = options(__doc__, "outputs/fuzz")
    parser.add_argument("--kinds", default=",".join((*CHECKS, "annotation")))
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    whole = json.loads(WHOLE.read_text(encoding="utf-8"))
    work = args.out / "work"
    work.mkdir(parents=True, exist_ok=True)

    def played(kind: str, seed: int) -> tuple[str, str, Callable[[str], object]]:
        data, result, happened = play(kind, seed, whole, work)
        return result, happened, lambda name: (args.out / f"{name}.input").write_bytes(data)

    return campaign(args, args.kinds.split(","), played, "sound")


if __name__ == "__main__":
    sys.exit(main())
