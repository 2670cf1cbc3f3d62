"""What a checkpoint directory holds: finding it, its network, its tokenizer and templates."""
