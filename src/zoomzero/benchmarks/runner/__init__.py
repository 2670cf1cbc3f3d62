"""Asking a model every question of a benchmark, resumably."""
