"""Subtitle files: cues in seconds, and the cues of a window grouped for a prompt."""

from __future__ import annotations

from zoomzero.video.subtitles.cues import Cue, Subtitles, cues_in, read_subtitles

__all__ = ["Cue", "Subtitles", "cues_in", "read_subtitles"]
