"""A training run: its directory, log, monitor and progress."""
