"""Pictures: embeddings, label maps, regions, training views and training curves."""

from vice.visualize.confusion import plot_confusion
from vice.visualize.curves import plot_curves
from vice.visualize.embedding_figure import draw_embeddings
from vice.visualize.maps import colorize, overlay, palette, pca_rgb, region_boundaries
from vice.visualize.sheets import contact_sheet, legend, save_png
from vice.visualize.view_figure import draw_views

__all__ = [
    "colorize",
    "contact_sheet",
    "draw_embeddings",
    "draw_views",
    "legend",
    "overlay",
    "palette",
    "pca_rgb",
    "plot_confusion",
    "plot_curves",
    "region_boundaries",
    "save_png",
]
