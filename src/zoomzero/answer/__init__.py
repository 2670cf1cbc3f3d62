"""Answers: the modes, the passes they are made of, and the trace they leave."""
