"""Running a model over a benchmark: check first, ask everything, nothing twice, and account for all of it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from zoomzero.benchmarks.runner.asking import Batch, ModelSpec, load_asker, make_batches
from zoomzero.benchmarks.runner.executors import Alone, Executor, Load
from zoomzero.benchmarks.runner.identity import code_identity, files_hash, machine, model_files, versions
from zoomzero.benchmarks.runner.live import Live, ModeTally, Tally, live
from zoomzero.benchmarks.runner.planning import EvalSettings, Plan, Say, check_choices, make_plan, prepare_data
from zoomzero.benchmarks.runner.run import RUN_FILE, Row, RunFolder, make_folder, open_run, read_run
from zoomzero.benchmarks.scoring.score import BootstrapSettings
from zoomzero.benchmarks.scoring.summary import summarise
from zoomzero.config import settings_hash
from zoomzero.data.annotation import sha256
from zoomzero.errors import ConfigError, EvaluationError
from zoomzero.progress import bar, status

__all__ = ["EvalSettings", "evaluate"]

LEAST_BEFORE_STOP = 20  # rows before a share of failures means something


def evaluate(settings: EvalSettings, note: Say = lambda text: None, load: Load = load_asker) -> dict[str, Any]:
    """Run a benchmark, or go on with a run, and return its summary.

    Args:
        settings: what, with which model, where to.
        note: called with what the user should know.
        load: makes the model, where one in this process is asked.

    Returns:
        What `summary.json` holds.

    Raises:
        ConfigError, DataError, VideoError, ModelError: what is checked before anything is asked.
        EvaluationError: too many failures, or a full disk; the run can be gone on from.
    """
    check_choices(settings)
    folder = make_folder(settings.out)
    data = prepare_data(settings)
    with status() as say:
        plan = make_plan(settings, data, say)
    for text in plan.notes:
        note(text)
    identity = make_identity(settings, plan, folder)
    with open_run(folder, identity, retry_failed=settings.retry_failed) as run:
        ask_rest(run, settings, plan, load)
        with status() as say:
            say("scoring")
            summary = make_summary(run, plan, settings)
        run.write_summary(summary)
        run.write_record()
    return summary


def make_identity(settings: EvalSettings, plan: Plan, folder: Path) -> dict[str, Any]:
    """Return `run.json` as this run would write it."""
    known = read_run(folder).get("model_files", {}) if (folder / RUN_FILE).is_file() else {}
    files = {}
    if plan.found is not None:
        with bar("hashing the model", "bytes") as step:
            files = model_files(plan.found.where, known, step)
            if plan.found.adapter is not None:
                files |= model_files(plan.found.adapter, known, step, prefix="adapter/")
    code = code_identity()
    sources = {str(path): sha256(path) for path in plan.dataset.files}
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    here, libraries = machine(), versions()
    hashes = "".join(f"{Path(path).name} {value}\n" for path, value in sorted(sources.items()))
    return {
        "benchmark": plan.bench.name,
        "split": plan.dataset.split,
        "data": str(plan.dataset.files[0].parent.absolute()),
        "videos": str(plan.videos.absolute()),
        "model": settings.model,
        "adapter": settings.adapter,
        "quantize": settings.quantize,
        "modes": list(settings.modes),
        "settings": plan.model_settings.model_dump(mode="json"),
        "settings_hash": settings_hash(plan.model_settings),
        "model_hash": files_hash(files) if plan.found is not None else settings_hash({"server": settings.model}),
        "model_files": files,
        "dtype": None if settings.dtype == "auto" else settings.dtype,
        "device": None,
        "code": code,
        "source_hash": code["source_hash"],
        "dataset": {"files": sources, "n": len(plan.dataset.questions)},
        "data_hash": hashlib.sha256(hashes.encode()).hexdigest()[:16],
        "seed": settings.seed,
        "fps": settings.fps,
        "faithfulness": settings.faithfulness,
        "missing_videos": list(plan.missing_videos),
        "created": now,
        "versions": libraries,
        "machine": here,
        "sessions": [
            {"started": now, "versions": libraries, "machine": here, "asked": settings.model_dump(mode="json")}
        ],
    }


# --- asking ---------------------------------------------------------------------------------------------


def ask_rest(run: RunFolder, settings: EvalSettings, plan: Plan, load: Load = load_asker) -> None:
    """Ask what the run has no row for yet.

    Raises:
        EvaluationError: more than the allowed share failed.
    """
    items = [item for item in plan.items(settings.modes) if item.question.id not in run.rows[item.mode]]
    tally = make_tally(run, settings, plan)
    stop_if_failing(tally, settings.max_failed, run.folder)
    if not items:
        return
    batches = make_batches(items)
    executor = make_executor(settings, plan, run.folder, len(batches), load)
    try:
        with status() as say:
            say("loading the model")
            take_facts(run, executor.start())
        with live("asking") as shown:
            _ask(run, executor, batches, tally, shown, settings)
    finally:
        executor.close()


def _ask(
    run: RunFolder, executor: Executor, batches: Sequence[Batch], tally: Tally, shown: Live, settings: EvalSettings
) -> None:
    """Ask, write, count; the session's record says how much of the time the answers took."""
    session = run.record["sessions"][-1] | {
        "models": executor.models,
        "rows": 0,
        "seconds": 0.0,
        "answering_seconds": 0.0,
    }
    tally.models = executor.models
    run.record["sessions"][-1] = session
    started = time.perf_counter()
    shown.show(tally)
    try:
        for item, line in executor.rows(batches):
            row = run.append(item.mode, line)
            tally.add(item.mode, item.question, row)
            session["rows"] += 1
            session["answering_seconds"] += answering_s(row)
            shown.show(tally)
            stop_if_failing(tally, settings.max_failed, run.folder)
    finally:
        session["seconds"] = time.perf_counter() - started


def answering_s(row: Row) -> float:
    """Return the seconds a row's answer took, the extra looks behind its faithfulness included."""
    looks = row["evidence"].get("looks", ())
    return float(row["costs"].get("seconds", 0.0)) + sum(float(look["seconds"]) for look in looks)


def make_executor(settings: EvalSettings, plan: Plan, folder: Path, batches: int, load: Load = load_asker) -> Executor:
    """Return who asks: one model here, several processes, or actors of a cluster; never more than there are batches."""
    spec = ModelSpec(
        settings.model,
        plan.model_settings,
        device=settings.device,
        dtype=settings.dtype,
        timeout_s=settings.timeout_s,
        faithfulness=settings.faithfulness,
        server=plan.server,
        adapter=settings.adapter,
        quantize=settings.quantize,
        keep_tokens=settings.keep_tokens,
    )
    count = _models(settings, batches)
    if settings.ray is not None:
        from zoomzero.benchmarks.runner.ray_workers import RayActors

        return RayActors(spec, settings.ray, None if settings.workers is None else count)
    if plan.server is not None:
        from zoomzero.benchmarks.runner.threads import SideBySide

        return SideBySide(spec, max(1, min(plan.server.concurrency, batches)))
    if settings.workers is None:
        return Alone(spec, load)
    from zoomzero.benchmarks.runner.workers import Processes

    return Processes(spec, count, folder)


def _models(settings: EvalSettings, batches: int) -> int:
    return max(1, min(settings.workers or 1, batches))


def take_facts(run: RunFolder, facts: dict[str, Any]) -> None:
    """Write what the loaded model is into the run; another number type than before is another run."""
    before = run.record.get("dtype")
    if before is not None and before != facts["dtype"]:
        reason = f"{run.folder} holds another run: the number type was {before}, now {facts['dtype']}"
        raise ConfigError("--out", reason, f"give --dtype {before}, or another --out")
    run.record["dtype"], run.record["device"] = facts["dtype"], facts["device"]
    if "server" in facts:
        run.record["server"] = facts["server"]
    run.record["sessions"][-1]["device"] = facts["device"]
    run.write_record()


def make_tally(run: RunFolder, settings: EvalSettings, plan: Plan) -> Tally:
    """Count the rows that are there already."""
    chosen = {question.id: question for question in plan.dataset.questions if question.video in plan.files}
    tally = Tally({mode: ModeTally(len(chosen), mode != "direct") for mode in settings.modes})
    for mode in settings.modes:
        for id_, row in run.rows[mode].items():
            if id_ in chosen:
                tally.add(mode, chosen[id_], row, now=False)
    return tally


def stop_if_failing(tally: Tally, most: float, folder: Path) -> None:
    """Stop a run that mostly fails.

    Raises:
        EvaluationError: at least 20 rows are there, and more than the allowed share of them failed.
    """
    if tally.done >= LEAST_BEFORE_STOP and tally.failed > most * tally.done:
        reason = f"{tally.failed} of {tally.done} questions failed, more than --max-failed {most:g} allows"
        fix = f"see `failed` in {folder}/predictions.*.jsonl, mend it, and give --retry-failed"
        raise EvaluationError(folder, reason, fix)


# --- after ----------------------------------------------------------------------------------------------


def make_summary(run: RunFolder, plan: Plan, settings: EvalSettings) -> dict[str, Any]:
    """Score every mode of the run on the questions chosen now."""
    started = time.perf_counter()
    found = summarise(
        plan.bench,
        plan.dataset,
        {mode: run.rows[mode] for mode in run.record["modes"]},
        plan.options,
        BootstrapSettings(resamples=settings.resamples),
    )
    gone = set(plan.missing_videos)
    record = run.record
    return {
        "benchmark": plan.bench.name,
        "split": plan.dataset.split,
        "model": settings.model,
        "adapter": settings.adapter,
        **{key: record[key] for key in ("settings_hash", "model_hash", "code", "dtype", "device", "created")},
        "skipped_missing_videos": {
            "videos": len(gone),
            "questions": sum(question.video in gone for question in plan.dataset.questions),
        },
        **found,
        "asking": asking_time(record["sessions"], served=plan.server is not None),
        "scoring_seconds": round(time.perf_counter() - started, 2),
    }


def asking_time(sessions: Sequence[dict[str, Any]], *, served: bool = False) -> dict[str, Any] | None:
    """Return how long the last session that asked anything took, and the share of it its models were busy answering.

    Args:
        sessions: of the run's record.
        served: the model is behind a server; `models` are then the videos it was asked about at once.
    """
    for session in reversed(sessions):
        if session.get("rows"):
            told = {name: session[name] for name in ("rows", "models", "seconds", "answering_seconds")}
            busy = session["answering_seconds"] / (session["seconds"] * session["models"])
            return {name: round(value, 3) for name, value in told.items()} | {"busy": round(busy, 4), "served": served}
    return None
