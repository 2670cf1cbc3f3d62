"""Benchmarks that ask a question with options; where the evidence lies is not scored."""
