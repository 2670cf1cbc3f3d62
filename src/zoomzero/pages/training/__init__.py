"""Pages of training runs: rollouts, curves, difficulty."""
