"""The command ``vice``: a word for each thing that people do, over the same code as ``tools/``."""
