"""What a worker knows of video files: opening them, their clocks, the order and the orientation of their frames."""
