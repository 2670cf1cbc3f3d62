"""Benchmarks that give a sentence and ask when it is true."""
