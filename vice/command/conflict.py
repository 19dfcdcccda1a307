"""Another package of the index has the import name ``vice`` as well; the two cannot be together."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

#: The other one: an integrator for models of galactic chemical evolution.
OTHER = "vice"


def other_package() -> str:
    """What to say where the other package is installed in this environment; empty if it is not."""
    try:
        found = version(OTHER)
    except PackageNotFoundError:
        return ""
    return (
        f"the package {OTHER} {found} (galactic chemical evolution) is installed here, and its "
        f"files lie among those of vice-embeddings: use an environment of its own for each, or run "
        f"pip uninstall {OTHER} vice-embeddings and install vice-embeddings again"
    )
