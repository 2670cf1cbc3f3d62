"""Damaged metadata of checkpoints: a model that loads, or one typed line; no traceback, no endless memory or time.

    python bench/fuzz/fuzz_checkpoints.py [--minutes 3] [--seed 0] [--rounds N]

Every round copies the embedded model (its weights as a hard link), or an adapter to it, and changes one of the files
that say what it is: config.json, tokenizer and processor files, zoomzero.json, adapter_config.json, the header of the
weights. Values are replaced, removed, made huge, negative or another type, or bytes are damaged. It is loaded in a
process of its own that may take 6 GiB and a minute of a
processor. What fails is kept under OUT: `--seed N --rounds 1` makes it again.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from kill_jobs import Materials
from rounds import options, seeds

from zoomzero.config import load_model_settings
from zoomzero.errors import ZoomZeroError
from zoomzero.policy.local.load import find, load_policy

LIMIT_S, CPU_S, MEMORY_BYTES = 600.0, 60, 6 << 30
WEIGHTS = "model.safetensors"
VALUES: tuple[Any, ...] = (
    *(None, True, "", "x", 0, -1, 1, 2, 3.5, 10**6, 10**12, 10**400, [], {}, [None], {"a": {}}, "9" * 5000),
    *("auto", "float16", "../../x", "<|im_end|>", float("nan"), [1] * 3000),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of everything inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, one in inside:
        found += [(*path, key), *places(one, (*path, key))]
    return found


def change(value: Any, dice: random.Random) -> None:
    """Replace or remove something inside a JSON value, or rename its key."""
    path = dice.choice(places(value) or [()])
    if not path:
        return
    for key in path[:-1]:
        value = value[key]
    kind = dice.randrange(5)
    if kind == 0:
        del value[path[-1]]
    elif kind == 1 and isinstance(value, dict):
        value[dice.choice(("x", "model_type", "auto_map", "quantization_config", "dtype"))] = value.pop(path[-1])
    else:
        value[path[-1]] = dice.choice(VALUES)


def hurt(path: Path, dice: random.Random) -> None:
    """Damage a file: the values of a JSON text, or any bytes; of weights their header."""
    data = path.read_bytes()
    path.unlink()  # weights are a link
    if path.suffix == ".safetensors":
        path.write_bytes(hurt_header(data, dice))
        return
    if dice.random() < 0.7:
        value = json.loads(data)
        for _ in range(dice.choice((1, 1, 2, 5))):
            change(value, dice)
        path.write_text(json.dumps(value), encoding="utf-8")
        return
    path.write_bytes(hurt_bytes(data, dice))


def hurt_bytes(data: bytes, dice: random.Random) -> bytes:
    """Cut bytes off, change some, or put some in."""
    place = dice.randrange(len(data))
    more = dice.choice((b"\0", b"\xff\xfe", b"[" * 3000, b"9" * 5000, b'"', b"{}", b"NaN"))
    return dice.choice((data[:place], data[:place] + more + data[place:], data[:place] + more + data[place + 1 :], b""))


def hurt_header(data: bytes, dice: random.Random) -> bytes:
    """Damage the header of a weights file, its length, or the length of the whole."""
    size = int.from_bytes(data[:8], "little")
    header, rest = data[8 : 8 + size], data[8 + size :]
    kind = dice.randrange(4)
    if kind == 0:
        return dice.choice((0, 1, size - 1, size + 8, 2**40, 2**63 - 1)).to_bytes(8, "little") + header + rest
    if kind == 1:
        return data[: dice.randrange(len(data))]
    if kind == 2:
        header = hurt_bytes(header, dice)
    else:
        value = json.loads(header)
        change(value, dice)
        header = json.dumps(value).encode()
    return len(header).to_bytes(8, "little") + header + rest


def make(folder: Path, base: Path, adapter: Path, dice: random.Random) -> tuple[Path, str]:
    """Write a checkpoint of which one file is damaged; return it and the file's name."""
    shutil.rmtree(folder, ignore_errors=True)
    source = adapter if dice.random() < 0.2 else base
    folder.mkdir(parents=True)
    for file in source.iterdir():
        if file.is_file():
            os.link(file, folder / file.name) if file.suffix == ".safetensors" else shutil.copy(file, folder)
    names = sorted(file.name for file in folder.iterdir() if file.suffix in (".json", ".safetensors"))
    name = dice.choice(names)
    hurt(folder / name, dice)
    return folder, name


def load(folder: Path) -> str:
    """Load a checkpoint and its settings; return what was said about it, or nothing."""
    try:
        load_model_settings(find(str(folder)))
        load_policy(str(folder), device="cpu")
    except ZoomZeroError as error:
        return str(error)
    return ""


def judge(folder: Path) -> tuple[str, str]:
    """Load a checkpoint in a process of its own; return `sound`, `typed` or `FAILED`, and what happened."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            said = load(folder)
        except BaseException:  # noqa: BLE001 - whatever comes is what is looked for
            said = f"UNTYPED {traceback.format_exc(limit=-5)}"
        os.write(write, said.encode("utf-8", "replace")[:60_000])
        os._exit(0)
    os.close(write)
    started, code = time.monotonic(), None
    while code is None and time.monotonic() - started < LIMIT_S:
        found, status = os.waitpid(pid, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if found else None
        time.sleep(0.005)
    if code is None:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read().decode("utf-8", "replace")
    if code != 0:
        return "FAILED", f"took more than {LIMIT_S:g} s" if code is None else f"the process ended with {code}"
    if said.startswith("UNTYPED"):
        return "FAILED", said
    if len(said.splitlines()) > 1 or len(said) > 3000:
        return "FAILED", f"not one short line: {said[:300]!r}"
    return ("typed" if said else "sound"), said


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign; return 1 when something failed."""
    args = options(__doc__, "outputs/fuzz-checkpoints").parse_args(argv)
    warnings.simplefilter("ignore")
    base, adapter = find("tiny"), Materials.make(args.out / "materials").folder / "adapter"
    torch.set_num_threads(1)
    counts, seed = Counter[str](), args.seed - 1
    for seed in seeds(args):
        folder, name = make(args.out / "work", base, adapter, random.Random(seed))
        result, happened = judge(folder)
        counts[result] += 1
        if result == "FAILED":
            kept = args.out / "failing" / str(seed)
            kept.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / name, kept)
            (kept / "happened.txt").write_text(happened, encoding="utf-8", errors="replace")
            print(f"seed {seed}, {name}: {(happened.strip().splitlines() or [''])[-1][:200]}", file=sys.stderr)
    print(f"{'sound':>8}{'typed':>8}{'failed':>8}   seeds {args.seed} to {seed}, {time.strftime('%Y-%m-%d')}")
    print("".join(f"{counts[result]:>8}" for result in ("sound", "typed", "FAILED")))
    return int(counts["FAILED"] > 0)


if __name__ == "__main__":
    sys.exit(main())
