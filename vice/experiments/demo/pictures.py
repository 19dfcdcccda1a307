"""The pictures of the demo's report, from a run folder and a few images."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vice.errors import UserError
from vice.experiments.demo.captions import CAPTIONS, TEXTS
from vice.experiments.demo.page import Picture, Section
from vice.images import ImageError, read_image, resize
from vice.images.picture_formats import open_picture
from vice.models.checkpoint import Checkpoint, load_embedder
from vice.predictor import Predictor, load
from vice.runtime.health_log import read_health
from vice.runtime.progress import progress
from vice.superpixels import Superpixels
from vice.views import NoMutualRegions, ViewSampler
from vice.visualize import (
    colorize,
    contact_sheet,
    draw_views,
    legend,
    palette,
    pca_rgb,
    plot_curves,
    save_png,
)
from vice.visualize.embedding_figure import nearest_concepts

logger = logging.getLogger(__name__)
_MAX_SIDE = 384
_FIT_IMAGES = 40
_FIT_PIXELS = 2000


@dataclass(frozen=True)
class Shown:
    """An image of the report: its name, its uint8 RGB pixels, and its file where it has one."""

    name: str
    pixels: np.ndarray
    path: Path | None = None


def make_pictures(
    run_dir: str | Path,
    out_dir: str | Path,
    images: Sequence[str | Path],
    *,
    labels: str | Path | None = None,
    linear_maps: str | Path | None = None,
    cluster_maps: str | Path | None = None,
    classes: Sequence[str] = (),
    photographs: Mapping[str, np.ndarray] | None = None,
    sampler: ViewSampler | None = None,
    superpixels: Superpixels | None = None,
    cluster_title: str = "clusters",
    clusters: Sequence[int] = (4, 8, 16),
    most: int = 6,
    seed: int = 0,
) -> list[Section]:
    """Draws what a run has seen and learnt into ``OUT_DIR/pictures``.

    Large images are shrunk to 384 pixels first. Unreadable ones are named in the log and left out.

    Args:
        run_dir: The run folder of a training.
        out_dir: The report's folder.
        images: Image files; at most ``most``, evenly spread, are shown.
        labels: Folder with the true class map ``<stem>.png`` of each image.
        linear_maps: Folder with the linear probe's class map ``<stem>.png`` of each image.
        cluster_maps: The same for clusters that were matched to classes.
        classes: Class names, needed for the three folders above.
        photographs: More images by name, uint8 RGB, that have no files and no labels.
        sampler: Draws the views; None takes five of 160 pixels. Give the run's own.
        superpixels: Makes the regions; None means the defaults. Give the run's own.
        cluster_title: Heading of those clusters: how many there are, and how they were matched.
        clusters: Numbers of clusters in the maps of images without labels.
        most: Most images shown of each kind.
        seed: Fixes views and clusters.

    Returns:
        Sections for `vice.experiments.demo.page.write_report`.

    Raises:
        UserError: The run cannot be loaded, or no image can be read.
    """
    folder = Path(out_dir) / "pictures"
    shown = read_shown(images, most)
    extra = [Shown(name, _shrink(pixels)) for name, pixels in (photographs or {}).items()][:most]
    predictor = load(run_dir)
    before = Predictor(Checkpoint(load_embedder(f"random:{run_dir}")), predictor.device)
    for_views = shown[:2] + (extra[:1] or shown[2:3])
    sampler = sampler or ViewSampler(num_views=5, size=160)
    views = draw_view_pictures(for_views, folder, sampler, superpixels, seed)
    sections = [
        Section("Training", TEXTS["curves"], draw_curves(run_dir, folder)),
        Section("Views", TEXTS["views"], views),
    ]
    truth = {"truth": labels, "linear probe": linear_maps, cluster_title: cluster_maps}
    maps = draw_class_maps(shown, folder, {k: v for k, v in truth.items() if v}, classes)
    sections.append(Section("Class maps", TEXTS["classes"], maps))
    trained = list(embed(shown, predictor))
    pca = draw_embeddings(shown, embed(shown, before), trained, folder / "embeddings.png")
    sections.append(Section("Embeddings", TEXTS["pca"], pca))
    if labels is None:
        vectors = sample_vectors(embed(read_shown(images, _FIT_IMAGES), predictor), seed)
        sheets = draw_clusters(shown, trained, vectors, folder / "clusters.png", clusters, seed)
        sections.append(Section("Clusters", TEXTS["clusters"], sheets))
    if extra:
        trained = list(embed(extra, predictor))
        path = folder / "photographs.png"
        pictures = draw_embeddings(extra, embed(extra, before), trained, path)
        path, vectors = folder / "photographs-clusters.png", sample_vectors(trained, seed)
        pictures += draw_clusters(extra, trained, vectors, path, clusters, seed)
        sections.append(Section("Photographs", TEXTS["photographs"], pictures))
    return [section for section in sections if section.pictures]


def read_shown(images: Sequence[str | Path], most: int) -> list[Shown]:
    """Reads at most ``most`` images, evenly spread over the list, and shrinks the large ones.

    Raises:
        UserError: None of them can be read.
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).round().astype(int))
    shown = []
    for path in (Path(images[index]) for index in chosen):
        try:
            shown.append(Shown(path.name, _shrink(read_image(path)), path))
        except ImageError as error:
            logger.warning("left out of the pictures: %s", error)
    if not shown:
        raise UserError(f"none of the {len(images)} images can be read: there is nothing to show")
    return shown


def draw_curves(run_dir: str | Path, folder: Path) -> tuple[Picture, ...]:
    """Draws the training curves of a run; nothing where the run has no health log."""
    records = read_health(run_dir)
    if not records:
        return ()
    wide = plot_curves(records, folder / "curves.png").resolve()
    narrow = plot_curves(records, folder / "curves-narrow.png", columns=1).resolve()
    return (Picture(wide, CAPTIONS["curves"], narrow),)


def draw_view_pictures(
    shown: Sequence[Shown],
    folder: Path,
    sampler: ViewSampler,
    superpixels: Superpixels | None = None,
    seed: int = 0,
) -> tuple[Picture, ...]:
    """Draws the views of each image; images whose views share no region are left out."""
    superpixels = superpixels or Superpixels()
    pictures = []
    for index, item in enumerate(shown):
        rng = np.random.default_rng([seed, index])
        try:
            views = sampler(item.pixels, _regions(item, superpixels), rng)
        except (NoMutualRegions, ImageError) as error:
            logger.warning("%s: left out of the pictures of views: %s", item.name, error)
            continue
        path = save_png(draw_views(item.pixels, views, seed=seed), folder / f"views-{index}.png")
        caption = CAPTIONS["views"].format(name=item.name, count=_mutual(views.regions))
        pictures.append(Picture(path.resolve(), caption))
    return tuple(pictures)


def draw_class_maps(
    shown: Sequence[Shown],
    folder: Path,
    sources: Mapping[str, str | Path],
    classes: Sequence[str],
) -> tuple[Picture, ...]:
    """Draws images beside their class maps; images that lack one of the maps are left out."""
    rows = []
    for item in shown if sources else ():
        if item.path is None:
            continue
        files = [Path(source) / f"{item.path.stem}.png" for source in sources.values()]
        missing = [str(file) for file in files if not file.is_file()]
        if missing:
            logger.warning("%s is left out: no %s", item.name, ", ".join(missing))
            continue
        maps = [colorize(_read_map(file, item.pixels), len(classes)) for file in files]
        rows.append([item.pixels, *maps])
    if not rows:
        return ()
    sheet = contact_sheet(rows, ["image", *sources])
    names = legend(classes, palette(len(classes)), sheet.shape[1])
    path = save_png(np.concatenate([sheet, names]), folder / "classes.png")
    return (Picture(path.resolve(), CAPTIONS["classes"]),)


def embed(shown: Sequence[Shown], predictor: Predictor) -> Iterator[np.ndarray]:
    """Yields each image's embedding at half its size: float32, (D, ceil(H/2), ceil(W/2)).

    A model of stride 4 has no more to show, and a quarter of the memory holds it.
    """
    for item in progress(shown, len(shown), "embedding pictures"):
        yield predictor.embed(item.pixels)[:, ::2, ::2].numpy()


def draw_embeddings(
    shown: Sequence[Shown],
    before: Iterable[np.ndarray],
    trained: Iterable[np.ndarray],
    path: Path,
) -> tuple[Picture, ...]:
    """Draws images beside the principal components of their embeddings by two models."""
    columns = [[item.pixels for item in shown], pca_rgb(list(before)), pca_rgb(list(trained))]
    titles = ["image", "random weights", "trained"]
    sheet = contact_sheet(list(zip(*columns, strict=True)), titles, height=_row_height(shown))
    return (Picture(save_png(sheet, path).resolve(), CAPTIONS["pca"]),)


def draw_clusters(
    shown: Sequence[Shown],
    embeddings: Sequence[np.ndarray],
    vectors: np.ndarray,
    path: Path,
    clusters: Sequence[int],
    seed: int = 0,
) -> tuple[Picture, ...]:
    """Fits k-means to vectors (N, D) and draws the cluster maps of embedded images."""
    from vice.clustering import fit_kmeans

    columns = [[item.pixels for item in shown]]
    clusters = [k for k in clusters if k <= len(vectors)]
    for k in clusters:
        concepts = fit_kmeans(vectors, k, seed=seed).concepts()
        maps = (nearest_concepts(embedding, concepts) for embedding in embeddings)
        columns.append([colorize(labels, k, ignore=None) for labels in maps])
    titles = ["image", *(f"{k} clusters" for k in clusters)]
    sheet = contact_sheet(list(zip(*columns, strict=True)), titles, height=_row_height(shown))
    return (Picture(save_png(sheet, path).resolve(), CAPTIONS["clusters"]),)


def sample_vectors(embeddings: Iterable[np.ndarray], seed: int = 0) -> np.ndarray:
    """Draws up to 2,000 pixels of each embedding: float32, (N, D)."""
    rng = np.random.default_rng(seed)
    drawn = []
    for embedding in embeddings:
        pixels = embedding.reshape(len(embedding), -1).T
        count = min(_FIT_PIXELS, len(pixels))
        drawn.append(pixels[rng.choice(len(pixels), count, replace=False)])
    return np.concatenate(drawn)


def _mutual(regions: np.ndarray) -> int:
    return len(np.unique(regions[regions >= 0]))


def _row_height(shown: Sequence[Shown]) -> int:
    return min(240, max(item.pixels.shape[0] for item in shown))


def _shrink(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    scale = min(1.0, _MAX_SIDE / max(height, width))
    return resize(pixels, max(1, round(height * scale)), max(1, round(width * scale)))


def _regions(item: Shown, superpixels: Superpixels) -> np.ndarray:
    if superpixels.files is None:
        return superpixels(item.pixels)
    if item.path is None:
        raise ImageError(f"{item.name} has no file, so there is no region map of that name")
    # Nearest-neighbor resize, to the size that `_shrink` gives the image.
    return superpixels.read(item.path, min_side=1, max_side=_MAX_SIDE)[1]


def _read_map(file: Path, pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    with open_picture(file) as image:
        return resize(np.asarray(image), height, width, interpolation="nearest")
