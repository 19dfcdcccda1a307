"""What files of videos are called, and the folder of their frames."""

from __future__ import annotations

SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
FRAMES = "frames"
