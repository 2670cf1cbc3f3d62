"""Training: supervised fine-tuning (one clip, many questions), reinforcement learning, filtering and merging."""
