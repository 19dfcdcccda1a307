"""The version; a module of its own, since all rooms may import it."""

__version__ = "0.2.0"
