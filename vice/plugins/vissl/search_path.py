"""Lets Hydra find ViCE's configs from any working directory."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from vice.paths import config_root


class ViceSearchPath(SearchPathPlugin):
    """Adds the folder that holds ``config/vice/*.yaml`` behind VISSL's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra for each composition."""
        search_path.append(provider="vice", path=config_root().as_uri())


Plugins.instance().register(ViceSearchPath)
