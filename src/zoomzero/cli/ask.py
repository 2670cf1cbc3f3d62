"""The commands `zoomzero ask`, `world`, `demo` and `doctor`. Imports nothing heavy until one runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoomzero.cli.common import load_model, page_place, print_text
from zoomzero.errors import ConfigError

if TYPE_CHECKING:
    from zoomzero.evidence.write import Places

MODES_HELP = "direct | coarse | zoom | context | divide | search (docs/method.md)"


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(ask)
    app.command()(world)
    app.command()(demo)
    app.command()(doctor)


def ask(
    video: Annotated[str, typer.Argument(help="Video file, or a directory of images (with --fps).")],
    question: Annotated[str, typer.Argument(help="The question, in quotes.")],
    option: Annotated[
        list[str] | None, typer.Option(help="An answer to choose from; give it two or more times, or never.")
    ] = None,
    model: Annotated[
        str,
        typer.Option(help="`tiny` (embedded), a checkpoint directory, or a hub id such as Qwen/Qwen3-VL-2B-Instruct."),
    ] = "tiny",
    mode: Annotated[str, typer.Option(help=MODES_HELP)] = "zoom",
    subtitles: Annotated[str | None, typer.Option(help="SRT or VTT file with what is said.")] = None,
    budget: Annotated[int | None, typer.Option(help="Visual tokens each pass may spend.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frame rate of a directory of images.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
    html: Annotated[str | None, typer.Option(help="Write the evidence page to this file.")] = None,
    clip: Annotated[
        str | None, typer.Option(help="Write the found moments: FILE.mp4, FILE.gif, or a folder for one file each.")
    ] = None,
    srt: Annotated[str | None, typer.Option(help="Write the found moments as subtitles (SRT).")] = None,
    edl: Annotated[str | None, typer.Option(help="Write the found moments as an edit list (CMX 3600).")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a model setting, for example coarse.fps=2 (docs/formats.md)."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto | cpu | cuda | cuda:1 ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto | float32 | bfloat16 | float16")] = "auto",
    timeout: Annotated[
        float, typer.Option(help="Seconds one decoding job may take before the video is given up.")
    ] = 120.0,
) -> None:
    """Answer a question about a video and show when the evidence is on screen.

    Examples:

      zoomzero ask walk.mp4 "What does the man pick up?" --option "a cap" --option "a bottle" --option "a phone"

      zoomzero ask lecture.mp4 "When is the proof finished?" --mode divide --subtitles lecture.srt --html evidence.html

      zoomzero ask walk.mp4 "Who enters first?" --model Qwen/Qwen3-VL-2B-Instruct --json
    """
    from zoomzero.answer.modes import check_question
    from zoomzero.progress import status
    from zoomzero.video.decode import warm_up
    from zoomzero.video.probe import probe
    from zoomzero.video.subtitles import read_subtitles

    options = tuple(option or ())
    check_question(question, options, mode)
    page = page_place(html)
    places = _evidence_places(clip, srt, edl)
    _check_positive("--budget", budget)
    _check_positive("--timeout", timeout)
    if subtitles is not None:
        read_subtitles(subtitles)  # what is wrong with them is said before the model is loaded
    warm_up()
    info = probe(video, fps=fps, timeout_s=timeout)
    with status() as say:
        say("loading the model")
        policy, settings = load_model(model, device, dtype, set_ or ())
        from zoomzero.answer.modes import answer

        trace, looks = answer(
            policy,
            settings,
            info,
            question,
            options,
            mode=mode,  # type: ignore[arg-type]
            subtitles=subtitles,
            budget_tokens=budget,
            timeout_s=timeout,
            progress=say,
        )
    if json_:
        import json

        print_text(json.dumps(trace.to_dict(), allow_nan=False))
    else:
        from zoomzero.pages.text import trace_text

        print_text(trace_text(trace))
    if page is not None:  # after the answer, which is not lost if the disk is full
        from zoomzero.demo import close_looks
        from zoomzero.pages.page import write_evidence_page

        write_evidence_page(page, trace, video=Path(info.path), frames=close_looks(looks))
        if not json_:
            print_text(f"Page      {page}")
    if places.any:
        from zoomzero.evidence.write import write_evidence

        for line in write_evidence(places, trace, info, timeout):
            if not json_:
                print_text(line)


def world(
    out: Annotated[str, typer.Option(help="Directory for videos/ and examples.jsonl (with --as: annotation/).")],
    count: Annotated[int, typer.Option(help="Number of videos; one question each, with --as several.")] = 24,
    seed: Annotated[int, typer.Option(help="The same seed gives the same videos.")] = 0,
    kind: Annotated[str, typer.Option(help="short (48-80 s) or long (20 minutes).")] = "short",
    workers: Annotated[int, typer.Option(help="Processes that draw and encode.")] = 2,
    as_: Annotated[
        str | None, typer.Option("--as", help="Write a miniature of a benchmark, in its official format.")
    ] = None,
) -> None:
    """Write procedural videos with questions, answers and evidence: real mp4 files for tests and training.

    Examples:

      zoomzero world --out outputs/world --count 64 --seed 7 --kind short

      zoomzero world --as nextgqa --out outputs/nextgqa --count 8
    """
    from zoomzero.progress import bar
    from zoomzero.world.write import write_world

    started = time.perf_counter()
    if as_ is not None:
        from zoomzero.world.miniature import write_miniature

        with bar("writing", "s of video") as step:
            made = write_miniature(as_, out, count, seed, kind, workers=workers, progress=step)  # type: ignore[arg-type]
        took = f"{made.films} videos, {made.seconds:.0f} s in all, {made.entries} entries of {as_} {made.split}"
        print_text(f"{took} in {time.perf_counter() - started:.1f} s: --data {made.annotation} --videos {made.videos}")
        return
    with bar("writing", "s of video") as step:
        examples = write_world(out, count, seed, kind, workers=workers, progress=step)  # type: ignore[arg-type]
    seconds, shown_s = time.perf_counter() - started, sum(example.duration_s for example in examples)
    print_text(f"{len(examples)} videos, {shown_s:.0f} s in all, and {Path(out) / 'examples.jsonl'} in {seconds:.1f} s")


def demo(
    out: Annotated[str, typer.Option(help="Directory for videos, summary.json and report.html.")] = "outputs/demo",
    model: Annotated[str, typer.Option(help="Checkpoint to show; the embedded one by default.")] = "tiny",
) -> None:
    """Write 24 short and 2 long videos, ask about each in every mode, and show what zooming brings.

    Example: zoomzero demo --out outputs/demo
    """
    from zoomzero.demo import run_demo

    policy, settings = load_model(model, "auto", "auto", ())
    table = run_demo(policy, settings, Path(out))
    print_text(table)


def doctor() -> None:
    """Say what is installed, what it runs on, and what will be slow."""
    from zoomzero.doctor import report

    text, healthy = report()
    print_text(text)
    if not healthy:
        raise typer.Exit(4)


def _evidence_places(clip: str | None, srt: str | None, edl: str | None) -> Places:
    """Return where evidence goes; that nothing can be written there is said before the work is done.

    Raises:
        ConfigError: such a place cannot be written, or names no kind of clip.
    """
    from zoomzero.evidence.clips import target_kind
    from zoomzero.evidence.write import Places

    folder = clip is not None and target_kind(Path(clip).expanduser(), "--clip") == "folder"
    place = Path(clip).expanduser() if clip is not None and folder else page_place(clip, "--clip")
    return Places(place, page_place(srt, "--srt"), page_place(edl, "--edl"))


def _check_positive(setting: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise ConfigError(setting, f"{value:g} is too little", "give a number above 0")
