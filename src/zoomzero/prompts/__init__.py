"""What the model is asked and how its words are read: templates, grammar, reader, token roles."""

from __future__ import annotations

from zoomzero.prompts.grammar import (
    Mode,
    format_response,
    format_score,
    format_spans,
    format_time,
    is_well_formed,
    option_labels,
)
from zoomzero.prompts.reading import PROBLEMS, Reading, read_response
from zoomzero.prompts.roles import answer_token_mask, glue_token_mask, letter_token_index, token_mask
from zoomzero.prompts.templates import LONG_VIDEO_S, Style, coarse_text, video_header, zoom_text

__all__ = [
    "LONG_VIDEO_S",
    "PROBLEMS",
    "Mode",
    "Reading",
    "Style",
    "answer_token_mask",
    "coarse_text",
    "format_response",
    "format_score",
    "format_spans",
    "format_time",
    "glue_token_mask",
    "is_well_formed",
    "letter_token_index",
    "option_labels",
    "read_response",
    "token_mask",
    "video_header",
    "zoom_text",
]
