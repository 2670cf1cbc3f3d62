"""The product beside its peers, in one run on a CPU: TRL, lmms-eval, transformers, torchcodec, decord, qwen-vl-utils.

    python bench/peers.py                          installs the peers into outputs/peers/env first (about 1 GB)
    python bench/peers.py --parts answers --rounds 4 --json out.json
    python bench/peers.py --json outputs/peers.json --page docs/performance.md    what the documentation shows

`update`: one update of GRPO, TRL's GRPOTrainer against ours. `answers`: questions answered a second, lmms-eval's own
Qwen3-VL and the model card's recipe against what `zoomzero eval` runs. `decoding`: frames of a long video against three
decoders. Update and answers use one small random Qwen3-VL, float32, one thread, on videos of the world with one frame a
second, every one of which is read, so that all see the same frames; what must be equal is checked (prompts token for
token, answers). The contenders are processes that take turns; numbers are medians over the turns with the lowest and
the highest, and a ratio is the median of the turns' ratios. CPU seconds count all threads and processes of a contender.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import decode
import zoomzero
from beside.environment import FFMPEG, PEERS, install
from beside.small_model import SIDE, write_model
from beside.turns import Contender
from figures.tables import markdown
from meter import cpu_name
from zoomzero.benchmarks.runner.many import KEPT_TOKENS
from zoomzero.data.example import Example, write_examples
from zoomzero.prompts import coarse_text, video_header
from zoomzero.world.render import render
from zoomzero.world.write import LABELS, WorldItem, world_item

OURS = "zoomzero"
SEED = 4200  # of the questions
PARTS = ("update", "answers", "decoding")
BEGIN, END = "<!-- peers -->", "<!-- end of peers -->"  # marks of a page


@dataclass(frozen=True, slots=True)
class Where:
    """Folders and interpreters of a run."""

    folder: Path
    peers: Path  # the interpreter of the peers

    def contend(self, name: str, script: str, job: dict[str, Any], label: str = "") -> Contender:
        """Start a contender: ours with this interpreter, a peer with theirs."""
        python = Path(sys.executable) if name == OURS else self.peers
        log = self.folder / f"{script.removesuffix('.py')}-{label or name}.log"
        print(f"starting {label or name}", file=sys.stderr, flush=True)
        return Contender(label or name, python, script, {"who": name, **job}, log, self.environment(name))

    def environment(self, name: str) -> dict[str, str]:
        """Return the variables of a contender: a peer sees our reward functions and the FFmpeg that we use."""
        if name == OURS:
            return {}
        source, ffmpeg = Path(zoomzero.__file__).parents[1], self.peers.parents[1] / FFMPEG
        return {"PYTHONPATH": str(source), "LD_LIBRARY_PATH": str(ffmpeg.absolute())}


# --- what is asked --------------------------------------------------------------------------------------


def write_film(path: Path, item: WorldItem) -> None:
    """Write a scene of the world as H.264 with one frame a second; a film that is there is kept."""
    import av

    if path.exists():
        return
    partial = path.with_suffix(".partial.mp4")
    with av.open(str(partial), "w") as container:
        options = {"preset": "veryfast", "crf": "16", "g": "8", "threads": "1"}
        stream: Any = container.add_stream("libx264", rate=1, options=options)
        stream.width = stream.height = SIDE
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, 1)
        times_s = [float(second) for second in range(round(item.scene.duration_s))]
        for number, picture in enumerate(render(item.scene, times_s)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    partial.replace(path)


def questions(folder: Path, count: int, *, words: bool, per_film: int = 1) -> list[dict[str, Any]]:
    """Return questions about films of the world, written first, each with the whole text of its prompt."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(count):
        item = world_item("short", SEED, index // per_film)
        path = folder / f"{index // per_film:03d}.mp4"
        write_film(path, item)
        asked, length_s = item.question, item.scene.duration_s
        if index % per_film:  # the world asks one question of a scene: the others are another scene's
            asked = world_item("short", SEED + 1, index).question
        options = () if words else asked.options
        text = video_header(length_s) + coarse_text(asked.text, options, "no_think" if words else "direct", "brief")
        rows.append(
            {
                "id": f"{item.id}-{index % per_film}",
                "video": str(path.absolute()),
                "question": asked.text,
                "options": list(options),
                "answer": LABELS[asked.answer],
                "spans": [list(span) for span in asked.spans],
                "duration_s": length_s,
                "text": text,
            }
        )
    return rows


# --- one update -----------------------------------------------------------------------------------------


def update(where: Where, args: argparse.Namespace) -> dict[str, Any]:
    """Time updates of TRL, with all frames and with every second one, and of ours."""
    model = write_model(where.folder / "model")
    rows = questions(where.folder / "films", args.rounds + 1, words=False)
    examples = where.folder / "update.jsonl"
    write_examples(examples, [_example(row) for row in rows])
    forbidden = json.loads((model / "generation_config.json").read_text())["suppress_tokens"]
    common = {"model": str(model), "tokens": args.tokens, "examples": str(examples), "forbidden": forbidden}
    coarse = [{**row, "text": _coarse(row), "frames": _pictures(where.folder / "frames", row)} for row in rows]
    half = [{**row, "frames": row["frames"][::2]} for row in coarse]
    contenders = [
        where.contend(OURS, "update.py", {**common, "rows": coarse}),
        where.contend("trl", "update.py", {**common, "rows": coarse}, "trl, all frames"),
        where.contend("trl", "update.py", {**common, "rows": half}, "trl, every second frame"),
    ]
    take_turns(contenders, args.rounds + 1)
    frames = [len(row["frames"]) for row in coarse]
    about = f"G = 8 x {args.tokens} tokens, films of {min(frames)} to {max(frames)} frames of {SIDE} x {SIDE}"
    return {"about": about, "rows": [summary(one, contenders[0], warm_up=1) for one in contenders]}


def _coarse(row: dict[str, Any]) -> str:
    return video_header(row["duration_s"]) + coarse_text(row["question"], row["options"], "no_think", "brief")


def _example(row: dict[str, Any]) -> Example:
    from zoomzero.spans import Span

    kept = {name: row[name] for name in ("id", "video", "question", "answer", "duration_s")}
    spans = tuple(Span(*span) for span in row["spans"])
    return Example(**kept, options=tuple(row["options"]), spans=spans, source="world", split="train")


def _pictures(folder: Path, row: dict[str, Any]) -> list[str]:
    """Return a film's frames as files, written first."""
    import av

    folder.mkdir(exist_ok=True)
    paths = []
    with av.open(row["video"]) as container:
        for number, frame in enumerate(container.decode(video=0)):
            path = folder / f"{Path(row['video']).stem}-{number:03d}.png"
            if not path.exists():
                frame.to_image().save(path)
            paths.append(str(path.absolute()))
    return paths


# --- answers a second -----------------------------------------------------------------------------------


def answers(where: Where, args: argparse.Namespace) -> dict[str, Any]:
    """Time questions with options (a letter), questions answered in words, and several with options about each film."""
    found = {}
    kinds = [("a letter", False, 1, 1), (f"{args.words} tokens", True, args.words, 1)]
    kinds.append((f"a letter, {args.per_film} questions a film", False, 1, args.per_film))
    for kind, words, tokens, per_film in kinds:
        model = write_model(where.folder / ("model" if words else "model-letters"), letters_only=not words)
        rows = questions(where.folder / "films", args.questions, words=words, per_film=per_film)
        size = -(-args.questions // args.rounds)
        keep = KEPT_TOKENS if per_film > 1 else 0
        job = {"model": str(model), "questions": rows, "slice": size, "tokens": tokens, "side": SIDE, "keep": keep}
        names = (OURS, "transformers", "lmms-eval")
        contenders = [where.contend(name, "answers.py", job, f"{name}") for name in names]
        take_turns(contenders, args.rounds)
        summaries = [summary(one, contenders[0], per=size) for one in contenders]
        ours = [(text, prompt) for turn in contenders[0].turns for text, prompt in _pairs(turn)]
        for one, row in zip(contenders, summaries, strict=True):
            theirs = [(text, prompt) for turn in one.turns for text, prompt in _pairs(turn)]
            row["equal_prompts"] = sum(a[1] == b[1] for a, b in zip(ours, theirs, strict=True))
            row["equal_answers"] = sum(a[0] == b[0] for a, b in zip(ours, theirs, strict=True))
            row["questions"] = len(ours)
        found[kind] = summaries
    return {"about": f"{args.questions} questions", "kinds": found}


def _pairs(turn: dict[str, Any]) -> list[tuple[str, str]]:
    """Return each answer with its prompt's hash; a question's first prompt is the one that was answered."""
    step = len(turn["prompts"]) // len(turn["said"])
    return [(text.strip(), prompt) for text, prompt in zip(turn["said"], turn["prompts"][::step], strict=True)]


# --- decoding -------------------------------------------------------------------------------------------


def decoding(where: Where, args: argparse.Namespace) -> dict[str, Any]:
    """Time frames of a 10-minute video, whole and close, as `bench/decode.py` does."""
    tables = []
    for gop, label in ((30, "1 s"), (250, "8.3 s")):
        path = decode.video(where.folder / "films", args.minutes, gop, (1280, 720))
        length_s = decode.length(path)
        cases: list[tuple[str, list[float], tuple[int, int]]] = []
        for count in args.frames:
            times_s = [(i + 0.5) * length_s / count for i in range(count)]
            cases.append((f"groups of {label}, {count} frames at 112x196", times_s, (112, 196)))
        zoom_s = [length_s * 0.4 + i / 4 for i in range(32)]
        cases.append((f"groups of {label}, close look: 32 frames of 8 s at 448x784", zoom_s, (448, 784)))
        for title, times_s, size in cases:
            turns: dict[str, list[dict[str, float]]] = {}
            for done in range(args.rounds):
                for name in (OURS, "torchcodec", "decord", "qwen-vl-utils"):
                    print(f"{title}: round {done + 1}, {name}", file=sys.stderr, flush=True)
                    python = sys.executable if name == OURS else str(where.peers)
                    row = decode.measure(name, path, times_s, size, 1, python, where.environment(name))
                    if "error" in row:
                        raise SystemExit(f"{name}: {row['error']}")
                    turns.setdefault(name, []).append(
                        {"seconds": row["wall_s"], "cpu_s": row["cpu_s"], "over_mb": row["over_mb"], "peak_mb": 0.0}
                    )
            tables.append({"title": title, "rows": [spread(name, turns[name], turns[OURS]) for name in turns]})
    return {"about": f"a video of {args.minutes:g} minutes, 1280 x 720, 30 frames a second", "tables": tables}


# --- turns and tables -----------------------------------------------------------------------------------


def take_turns(contenders: Sequence[Contender], rounds: int) -> None:
    """Let everybody work once a round; who begins moves on by one each round."""
    try:
        for done in range(rounds):
            place = done % len(contenders)
            for one in [*contenders[place:], *contenders[:place]]:
                took = one.go()
                line = f"round {done + 1} of {rounds}, {one.name}: {took['seconds']:.1f} s, CPU {took['cpu_s']:.1f} s"
                print(line, file=sys.stderr, flush=True)
    finally:
        for one in contenders:
            one.end()


def summary(one: Contender, ours: Contender, *, per: int = 1, warm_up: int = 0) -> dict[str, Any]:
    """Return a contender's turns as medians with their range, and its ratios to ours turn by turn."""
    found = spread(one.name, one.turns[warm_up:], ours.turns[warm_up:])
    return found | {"per_second": per / found["cpu_s"][0], "per": per}


def spread(name: str, turns: Sequence[dict[str, Any]], ours: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return [median, lowest, highest] of everything measured, and of the ratios to ours."""

    def three(values: Sequence[float]) -> list[float]:
        return [statistics.median(values), min(values), max(values)]

    found: dict[str, Any] = {"name": name, "turns": len(turns)}
    for key in ("seconds", "cpu_s", "over_mb"):
        found[key] = three([turn[key] for turn in turns])
    for key in ("seconds", "cpu_s"):
        pairs = zip(turns, ours, strict=True)
        found[f"ratio_{key}"] = three([theirs[key] / mine[key] for theirs, mine in pairs])
    return found


def table(rows: Sequence[dict[str, Any]], per: str, extra: Callable[[dict[str, Any]], str] | None = None) -> str:
    """Return summaries as a Markdown table."""
    heads = ["", f"CPU s {per}", f"s {per}", "MB over the start", "CPU, times ours", "seconds, times ours"]
    heads += ["equal prompts, answers"] if extra else []
    lines = []
    for row in rows:
        n = row.get("per", 1)
        cells = [_three(row["cpu_s"], n), _three(row["seconds"], n), f"{row['over_mb'][2]:,.0f}"]
        same = row["name"] == OURS
        cells += ["" if same else _three(row[f"ratio_{key}"], 1) for key in ("cpu_s", "seconds")]
        lines.append([row["name"], *cells, *([extra(row)] if extra else [])])
    return markdown(heads, lines)


def _three(values: Sequence[float], n: int) -> str:
    middle, low, high = (value / n for value in values)
    return f"{middle:.3g} ({low:.3g}-{high:.3g})"


def show(found: dict[str, Any]) -> str:
    """Return everything as Markdown."""
    lines = [f"{found['machine']}; {found['versions']}; {found['date']}"]
    if part := found.get("update"):
        lines += ["", f"One update, {part['about']}:", "", table(part["rows"], "an update")]
    if part := found.get("answers"):
        for kind, rows in part["kinds"].items():
            equal = lambda row: f"{row['equal_prompts']}, {row['equal_answers']} of {row['questions']}"  # noqa: E731
            lines += ["", f"Answers of {kind}, {part['about']}:", "", table(rows, "an answer", equal)]
    if part := found.get("decoding"):
        lines += ["", f"Decoding, {part['about']}:"]
        for one in part["tables"]:
            lines += ["", f"{one['title']}:", "", table(one["rows"], "a look")]
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--env", type=Path, default=Path("outputs/peers/env"), help="the peers' environment")
    parser.add_argument("--folder", type=Path, default=Path("outputs/peers"), help="models, films and logs")
    parser.add_argument("--rounds", type=int, default=4, help="turns of each contender")
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64, help="most tokens of a completion in an update")
    parser.add_argument("--per-film", type=int, default=8, help="questions about one film, where several are asked")
    parser.add_argument("--words", type=int, default=32, help="tokens of an answer in words")
    parser.add_argument("--minutes", type=float, default=10, help="length of the decoded video")
    parser.add_argument("--frames", type=int, nargs="*", default=[128, 512], help="frames of whole videos")
    parser.add_argument("--json", type=Path, help="write the numbers here; parts that are there and not measured stay")
    parser.add_argument("--page", type=Path, help="put the tables between this page's marks (docs/performance.md)")
    return parser.parse_args()


def put(page: Path, text: str) -> None:
    """Replace what stands between the page's marks."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{page}: no place for the tables: it needs {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def main() -> None:
    args = parse()
    torch.set_num_threads(1)
    where = Where(args.folder, install(args.env).absolute())
    args.folder.mkdir(parents=True, exist_ok=True)
    names = [f"{name} {version(name)}" for name in ("torch", "transformers", "av")]
    found: dict[str, Any] = json.loads(args.json.read_text()) if args.json and args.json.is_file() else {}
    found |= {
        "machine": f"{cpu_name()}, one thread each",
        "versions": ", ".join([*names, *(peer.replace("==", " ") for peer in PEERS)]),
        "date": time.strftime("%Y-%m-%d"),
    }
    for part in args.parts:
        found[part] = {"update": update, "answers": answers, "decoding": decoding}[part](where, args)
        if args.json:
            args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(show(found))
    if args.page:
        put(args.page, show(found))


if __name__ == "__main__":
    main()
