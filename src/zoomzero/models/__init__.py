"""The models that come with the project: `tiny`, and an early checkpoint of its training with much left to learn."""

EMBEDDED = ("tiny", "tiny-early")
