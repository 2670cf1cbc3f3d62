"""Models behind a server that speaks the OpenAI protocol: what it can do is probed, frames travel with their times."""
