"""Drawing continuations: rows that step together, recorded steps, next tokens from logits."""
