"""Grounded video question answering, coarse to fine (Zoom-Zero, arXiv 2512.14273)."""

__version__ = "0.1.0"
