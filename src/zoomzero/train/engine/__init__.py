"""Training engines: the trainers and what spreads them over processes."""
