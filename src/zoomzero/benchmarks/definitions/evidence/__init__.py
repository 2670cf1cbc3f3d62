"""Benchmarks that want the answer and the moments that show it."""
