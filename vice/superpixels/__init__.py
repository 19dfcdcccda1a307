"""From an image to its map of regions: the methods, their cache, and maps from files."""

from vice.superpixels.external import RegionFiles
from vice.superpixels.foreground import Foregrounds
from vice.superpixels.region_ids import relabel
from vice.superpixels.scikit_image import felzenszwalb, watershed
from vice.superpixels.slic_opencv import backend, grid, slic
from vice.superpixels.source import METHODS, Method, Superpixels

__all__ = [
    "METHODS",
    "Foregrounds",
    "Method",
    "RegionFiles",
    "Superpixels",
    "backend",
    "felzenszwalb",
    "grid",
    "relabel",
    "slic",
    "watershed",
]
