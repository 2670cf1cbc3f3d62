"""The web app: drop a video, ask, watch the passes as they happen (`zoomzero app`)."""
