"""Training: supervised fine-tuning on lessons (one clip, many questions)."""
