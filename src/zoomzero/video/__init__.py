"""Video in: what a file is (probe), which frames to take (plan), the frames themselves (decode), and subtitles."""
