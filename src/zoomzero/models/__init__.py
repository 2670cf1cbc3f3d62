"""The models that come with the project: `tiny`, an early checkpoint of its training, and one taught late times."""

EMBEDDED = ("tiny", "tiny-early", "tiny-late")
