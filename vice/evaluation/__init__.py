"""Protocols, probes, scores with and without labels, and their comparison."""
