"""What comes in beside a video file: videos behind addresses, what is said in a video."""
