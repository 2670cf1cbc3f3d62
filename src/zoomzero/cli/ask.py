"""The command `zoomzero ask`. Imports nothing heavy until it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoomzero.answer.names import MODES
from zoomzero.cli.common import load_model, page_place, print_text
from zoomzero.errors import ConfigError

if TYPE_CHECKING:
    from zoomzero.answer.trace import Trace
    from zoomzero.evidence.write import Places
    from zoomzero.inputs.fetch import FetchLimits
    from zoomzero.video.types import VideoInfo

MAX_MB = 4096.0
MODES_HELP = f"{' | '.join(MODES)} (docs/method.md)"


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(short_help="Answer a question, or many, about a video.")(ask)


def ask(
    video: Annotated[
        str | None, typer.Argument(help="Video file, http(s) address, or a directory of images (with --fps).")
    ] = None,
    question: Annotated[str | None, typer.Argument(help="The question, in quotes.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="An answer to choose from; give it two or more times, or never.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A checkpoint directory, a hub id such as Qwen/Qwen3-VL-2B-Instruct, a server "
            "(http://HOST:PORT/v1#NAME, docs/servers.md), or `tiny`: the embedded model, which knows only the videos "
            "of `zoomzero world` and is taken for those alone when nothing is said."
        ),
    ] = None,
    mode: Annotated[str, typer.Option(help=MODES_HELP, autocompletion=complete_mode)] = "zoom",
    subtitles: Annotated[str | None, typer.Option(help="SRT or VTT file with what is said.")] = None,
    transcribe: Annotated[
        str | None,
        typer.Option(help="Write down what is said first, with this faster-whisper model (small, large-v3)."),
    ] = None,
    max_mb: Annotated[float, typer.Option(help="Largest file an address may give, in megabytes.")] = MAX_MB,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="The only hosts an address may name, subdomains included; by default any.")
    ] = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Let addresses lead to this machine and local networks.")
    ] = False,
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
        typer.Option("--set", help="Change a model setting, for example coarse.fps=2 (docs/reference/formats.md)."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto | cpu | cuda | cuda:1 ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto | float32 | bfloat16 | float16")] = "auto",
    adapter: Annotated[
        str | None, typer.Option(help="LoRA adapter to add to the model; a LoRA directory may be --model itself too.")
    ] = None,
    quantize: Annotated[
        str | None, typer.Option(help="4bit | 8bit: round a plain checkpoint's matrices (needs bitsandbytes).")
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds one decoding job may take before the video is given up.")
    ] = 120.0,
    replies: Annotated[bool, typer.Option("--replies", help="Print what the model wrote in every pass, too.")] = False,
    questions: Annotated[
        str | None, typer.Option(help="Ask many: a file with id, video, question, maybe options (.jsonl, .csv, ...).")
    ] = None,
    videos: Annotated[
        str | None, typer.Option(help="Folder of the videos of --questions; alone: ask QUESTION about each of them.")
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="With many questions: the run's folder; one that is there goes on.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="With many questions: processes with a model each.")] = None,
    ray: Annotated[str | None, typer.Option(help="With many questions: a Ray cluster's address, or `local`.")] = None,
    keep_tokens: Annotated[
        int | None,
        typer.Option(
            help="With many questions: prompt tokens kept in memory, from which a video's further questions begin "
            "(16384; 0 keeps none)."
        ),
    ] = None,
) -> None:
    """Answer a question about a video and show when the evidence is on screen.

    Examples:

      zoomzero ask walk.mp4 "Who enters first?" --model Qwen/Qwen3-VL-2B-Instruct

      zoomzero ask walk.mp4 "What does he pick up?" --option "a cap" --option "a bag" --model DIR --html page.html

      zoomzero ask lecture.mp4 "When is the proof finished?" --mode divide --subtitles lecture.srt --model DIR --json

      zoomzero ask --questions questions.csv --videos videos --out outputs/answers --model DIR

      zoomzero ask "Is somebody on a ladder?" --videos videos --out outputs/ladders --model DIR --workers 2
    """
    from zoomzero.answer.ask import check_question
    from zoomzero.progress import status
    from zoomzero.video.decode import warm_up
    from zoomzero.video.probe import probe
    from zoomzero.video.subtitles import read_subtitles

    options = tuple(option or ())
    if questions is not None or videos is not None or out is not None:
        _ask_many(
            [text for text in (video, question) if text is not None],
            {"questions": questions, "videos": videos, "out": out},
            {
                "--json": json_,
                "--html": html,
                "--subtitles": subtitles,
                "--transcribe": transcribe,
                "--fps": fps,
                "--replies": replies,
                "--clip": clip,
                "--srt": srt,
                "--edl": edl,
            },
            options,
            {
                "model": model,
                "adapter": adapter,
                "quantize": quantize,
                "modes": (mode,),
                "overrides": tuple(set_ or ()),
                "budget": budget,
                "device": device,
                "dtype": dtype,
                "timeout_s": timeout,
                "workers": workers,
                "ray": ray,
                "limits": fetch_limits(max_mb, allow_host or (), allow_private),
            }
            | ({} if keep_tokens is None else {"keep_tokens": keep_tokens}),
        )
        return
    for name, value in {"--workers": workers, "--ray": ray, "--keep-tokens": keep_tokens}.items():
        if value is not None:
            raise ConfigError(name, "is for many questions", "add --questions FILE --out RUN, or leave it out")
    if video is None or question is None:
        missing = "VIDEO" if video is None else "QUESTION"
        raise ConfigError(missing, "is not given", "give a video and a question, or --questions FILE --out RUN")
    check_question(question, options, mode)
    page = page_place(html)
    places = _evidence_places(clip, srt, edl)
    _check_positive("--budget", budget)
    _check_positive("--timeout", timeout)
    if subtitles is not None and transcribe is not None:
        raise ConfigError("--transcribe", "what is said is given by --subtitles already", "leave one of them out")
    if subtitles is not None:
        read_subtitles(subtitles)  # what is wrong with them is said before anything is fetched or loaded
    warm_up()
    file = local_file(video, max_mb, allow_host or (), allow_private)
    info = probe(file, fps=fps, timeout_s=timeout)
    model = model_for(model, info)
    if transcribe is not None:
        subtitles = str(_transcript(info.path, transcribe))
    said = ""
    if subtitles is not None:
        cues = len(read_subtitles(subtitles))
        said = f"what is said was read from {subtitles} ({cues} cue{'s' if cues != 1 else ''})"
    with status() as say:
        say("loading the model")
        policy, settings = load_model(model, device, dtype, set_ or (), adapter=adapter, quantize=quantize)
        from zoomzero.answer.ask import answer

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
    if said:
        trace = replace(trace, notes=(*trace.notes, said))
    heard = {"subtitles": subtitles, "transcribed_by": transcribe, "source": video if file != video else None}
    _print_answer(trace, heard, json_=json_, replies=replies)
    if page is not None:  # after the answer, which is not lost if the disk is full
        from zoomzero.demo import close_looks
        from zoomzero.pages.page import write_evidence_page

        write_evidence_page(page, trace, video=Path(info.path), frames=close_looks(looks))
        if not json_:
            print_text(f"Page      {page}")
    if places.any:
        from zoomzero.evidence.write import NOTHING, write_evidence

        for line in write_evidence(places, trace, info, timeout):
            if not json_:
                print_text(line)
            elif not trace.spans:
                typer.echo(f"zoomzero: note: {NOTHING}", err=True)


def _print_answer(trace: Trace, heard: dict[str, str | None], *, json_: bool, replies: bool) -> None:
    if json_:
        import json

        print_text(json.dumps(trace.to_dict() | heard, allow_nan=False))
        return
    from zoomzero.pages.text import trace_text

    print_text(trace_text(trace))
    if replies:
        print_text(replies_text(trace))


def fetch_limits(max_mb: float, hosts: Sequence[str], private: bool) -> FetchLimits:
    """Return within which limits addresses are fetched."""
    from zoomzero.inputs.fetch import FetchLimits

    _check_positive("--max-mb", max_mb)
    return FetchLimits(most_bytes=round(max_mb * 1e6), hosts=tuple(hosts), private=private)


def local_file(video: str, max_mb: float, hosts: Sequence[str], private: bool) -> str:
    """Return a video's path; what an address names is fetched first, once."""
    from zoomzero.inputs.fetch import fetch, is_address

    if not is_address(video):
        if "://" in video:
            scheme = video.partition("://")[0]
            raise ConfigError("VIDEO", f"{scheme}:// is not fetched", "give an http(s) address, or fetch it yourself")
        return video
    from zoomzero.progress import bar

    limits = fetch_limits(max_mb, hosts, private)
    with bar("fetching", "bytes") as step:
        return str(fetch(video, limits, progress=step))


def _transcript(video: str, recogniser: str) -> Path:
    from zoomzero.inputs.transcribe import transcribe
    from zoomzero.progress import bar

    with bar("listening", "s of sound") as step:
        return transcribe(video, recogniser, step)


def _ask_many(
    words: list[str], files: dict[str, str | None], not_here: dict[str, Any], options: tuple[str, ...], given: Any
) -> None:
    """Ask a file of questions, or one question about every video of a folder."""
    from zoomzero.answer.ask import check_question
    from zoomzero.benchmarks.runner.many import ask_many, one_question_each

    out, videos, questions = files["out"], files["videos"], files["questions"]
    if out is None:
        raise ConfigError("--out", "many answers need a folder", "add --out RUN; the same command goes on with it")
    if wrong := [name for name, value in not_here.items() if value]:
        raise ConfigError(wrong[0], "is for one question", "leave it out; the answers are written to --out")
    if given["model"] is None:
        raise ConfigError("--model", "no model is named", "name one, or say --model tiny for videos of zoomzero world")
    if questions is None:
        if videos is None or len(words) != 1:
            reason = "many questions come from --questions FILE, or are one QUESTION about every video of --videos DIR"
            raise ConfigError("QUESTION", reason, "give one of the two")
        check_question(words[0], options, given["modes"][0])
        questions = str(one_question_each(videos, words[0], options, out))
    elif words or options:
        raise ConfigError("--questions", "the file says what is asked", "leave VIDEO, QUESTION and --option out")
    done = ask_many(questions, videos, out, lambda text: typer.echo(f"zoomzero: note: {text}", err=True), **given)
    asking = done.summary.get("asking")
    took = f" in {asking['seconds']:.1f} s" if asking else ""
    print_text(f"{done.path}: {done.rows} answers{took}, {done.failed} failed")


def model_for(model: str | None, info: VideoInfo) -> str:
    """Return the model to ask: the one named, or the embedded one for a video of its world.

    Raises:
        ConfigError: none is named, and the video is not of the embedded model's world.
    """
    from zoomzero.models import EMBEDDED
    from zoomzero.world.render import ITS_WORLD, of_the_world

    if model is None and not of_the_world(info):
        reason = "no model is named, and the embedded one knows only the videos of `zoomzero world`"
        fix = "name one such as Qwen/Qwen3-VL-2B-Instruct, or say --model tiny to try the command out"
        raise ConfigError("--model", reason, fix)
    if model in EMBEDDED and not of_the_world(info):
        typer.echo(f"zoomzero: note: {ITS_WORLD}", err=True)
    return model or "tiny"


def replies_text(trace: Trace) -> str:
    """Return what the model wrote in every pass that wrote anything."""
    written = [one for one in trace.passes if one.text]
    return "\n".join(f"\n{one.name} wrote:\n{printable(one.text)}" for one in written)


def printable(text: str) -> str:
    """Return text that a terminal shows and does not obey: line ends stay, other control characters go."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def complete_mode(incomplete: str) -> list[str]:
    """Return the modes that begin like this, for the shell."""
    return [mode for mode in MODES if mode.startswith(incomplete)]


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
