"""The page of evaluation runs."""
