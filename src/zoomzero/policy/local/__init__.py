"""Checkpoints that run in this process."""
