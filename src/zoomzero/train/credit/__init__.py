"""Credit: rewards, advantages and the loss."""
