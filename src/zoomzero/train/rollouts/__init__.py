"""Rollouts: completions of a prompt drawn, looked at closely and recorded."""
