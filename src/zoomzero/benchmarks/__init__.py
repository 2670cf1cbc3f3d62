"""Benchmarks: their annotation, their official measures, and the scoring of any predictions file."""
