"""The types of what a run's folder holds, checked when it is read: its files may have been damaged since."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from zoomzero.benchmarks.scoring.costs import COST_NAMES

Finite = Annotated[float, Field(allow_inf_nan=False, ge=-1e300, le=1e300)]
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]  # a name of a file among others
Span = Annotated[list[Finite], Field(min_length=2, max_length=2)]
Count = Annotated[int, Field(ge=0, le=10**15)]


class _Shape(BaseModel):
    """What must hold of a JSON object; other keys may be there."""

    model_config = ConfigDict(strict=True, extra="ignore")


class _Pass(_Shape):
    name: str
    spans: list[Span]
    found: list[Span]
    text: str | None = None
    answer: str | None = None
    option: str | None = None
    confidence: Finite | None = None
    seconds: Finite | None = None
    visual_tokens: Count | None = None
    frames: Count | None = None
    problems: list[str] | None = None


class _Evidence(_Shape):
    hit: Finite | None = None
    gap: Finite | None = None


class Begun(_Shape):
    """A row of `predictions.MODE.jsonl` as far as going on with a run needs it."""

    id: str
    answer: str | None = None
    failed: str | None = None
    spans: list[Span] = []
    duration_s: Finite | None = None
    costs: dict[str, Finite] = {}
    passes: list[_Pass] = []
    evidence: _Evidence = _Evidence()
    video: Text | None = None
    said: str | None = None
    confidence: Finite | None = None
    reason: str | None = None
    notes: list[str] | None = None


class Answered(Begun):
    """A row with all that a report shows."""

    answer: str | None
    failed: str | None
    spans: list[Span]
    duration_s: Finite | None
    costs: dict[str, Finite]
    passes: list[_Pass]
    evidence: _Evidence

    @model_validator(mode="after")
    def _costs_are_whole(self) -> Answered:
        if self.failed is None and (missing := [name for name in COST_NAMES if name not in self.costs]):
            raise ValueError(f"costs lacks {', '.join(missing)}")
        return self


class _Dataset(_Shape):
    files: dict[Text, str] = {}
    n: Count | None = None


class _Asked(_Shape):
    limit: Count | None = None
    only: Text | None = None


class _Session(_Shape):
    asked: _Asked = _Asked()


class Record(_Shape):
    """`run.json`."""

    benchmark: str = ""
    split: str = ""
    data: Text = ""
    modes: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,60}$")]] = []
    dataset: _Dataset = _Dataset()
    sessions: list[_Session] | None = None
    settings: dict[str, Any] = {}
    code: dict[str, str | None] | None = None
    versions: dict[str, Any] | None = None
    seed: int | None = None
    fps: Finite | None = None
    missing_videos: list[str] | None = None


def fault(shape: type[BaseModel], value: Any) -> str | None:
    """Return what is wrong with a value as one line, None when it has the shape."""
    try:
        shape.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part)[:40] for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ").replace("Input should", "must")
        return f"{where} {message}".strip().splitlines()[0]
    return None
