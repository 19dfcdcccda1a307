"""Ranks, files, the run folder, random states, progress and logs."""
