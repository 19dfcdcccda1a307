"""Images that hold nothing or the same again: counted, and said; good ones raise no alarm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.helpers import content
from tests.hostile import runs
from tests.hostile.case import Action, Expected, Family, Make

Rng = np.random.Generator
Images = Sequence[np.ndarray]
GROUP = "image content"
SHARE = 0.03
_SIZE = (80, 100)
FLAT, SAME = "of one colour", "same pictures"


def _photos(rng: Rng, least: int = 6, most: int = 12) -> list[np.ndarray]:
    return [content.photo(rng, _SIZE) for _ in range(int(rng.integers(least, most)))]


def _write(folder: Path, images: Images, rng: Rng, lossy: bool = False) -> Path:
    """Files in formats that keep every pixel, or in any."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = (".png", ".bmp", ".tif", ".ppm") if not lossy else (".png", ".jpg", ".webp")
    for number, image in enumerate(images):
        suffix = kinds[rng.integers(len(kinds))]
        Image.fromarray(image).save(folder / f"{rng.integers(10**6)}-{number}{suffix}")
    return folder


def _looked_at(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Counts and warnings, as before a training."""
    from vice.images import list_images
    from vice.images.survey import content_warnings, survey_images

    survey = survey_images(list_images(folder))
    return survey.describe(), content_warnings(survey.duplicates())


def _watched(images: Images) -> list[str]:
    """Alarms of the health of a training that sees these images, 90 steps long."""
    from tests.helpers.methods import vice_monitor
    from vice.images.content import Content
    from vice.images.fingerprints import fingerprint

    seen, monitor, alarms = Content(), vice_monitor(64), []
    healthy = {"perplexity": 63.4, "loss_over_lnk": 0.5, "regions_per_view": 30.0}
    for step in range(90):
        number = step % len(images)
        seen.add([(number, fingerprint(images[number]))])
        alarms += monitor.update({**healthy, **seen.record()})
    return alarms


def _set(
    make: Callable[[Rng], tuple[Images, dict[str, int], str | None]],
    lossy: bool,
    folder: Path,
    rng: Rng,
) -> Action:
    images, counts, word = make(rng)
    photos = _write(folder / "photos", images, rng, lossy)

    def check(found: tuple[dict[str, Any], list[str]]) -> str | None:
        said, warnings = found
        # Of many lossy copies, one may be too far from all others.
        free = {"near_duplicates": int(counts.get("near_duplicates", 0) > 2)}
        wrong = {
            name: said[name]
            for name, count in counts.items()
            if not count - free.get(name, 0) <= said[name] <= count
        }
        if wrong:
            return f"{wrong} of {len(images)} images, not {counts}"
        if word is None:
            return f"a false alarm: {warnings[0]}" if warnings else None
        return None if any(word in line for line in warnings) else f"no word of it: {warnings}"

    return Action(run=lambda: _looked_at(photos), check=check)


def _all_flat(rng: Rng) -> tuple[Images, dict[str, int], str | None]:
    make = (content.flat, content.noisy_flat)[rng.integers(2)]
    images = [make(rng) for _ in range(int(rng.integers(3, 15)))]
    return images, {"flat": len(images)}, FLAT


def _black_frames(rng: Rng) -> tuple[Images, dict[str, int], str | None]:
    good = _photos(rng)
    black = [np.zeros((*_SIZE, 3), np.uint8)] * int(rng.integers(1, len(good) - 2))
    return [*good, *black], {"flat": len(black), "exact_duplicates": len(black) - 1}, None


def _copies(rng: Rng) -> tuple[Images, dict[str, int], str | None]:
    images = _photos(rng, 1, 2) * int(rng.integers(3, 12))
    return images, {"exact_duplicates": len(images) - 1, "flat": 0}, SAME


def _clothes(change: str, rng: Rng) -> tuple[Images, dict[str, int], str | None]:
    one = content.photo(rng, _SIZE)
    other = content.NEAR[change](one)
    return [one, other], {"near_duplicates": 2, "exact_duplicates": 0}, SAME


def _compressed(rng: Rng) -> tuple[Images, dict[str, int], str | None]:
    one = content.photo(rng, (120, 160))
    images = [one, *(content.jpeg(one, int(q)) for q in rng.permutation(range(65, 95, 5))[:6])]
    return images, {"near_duplicates": 7}, SAME


def _scaled(rng: Rng) -> tuple[Images, dict[str, int], str | None]:
    one = content.photo(rng, (240, 320))
    images = [one, *(content.resized(one, share) for share in rng.uniform(0.4, 1.5, 5))]
    return images, {"near_duplicates": 6}, SAME


def _video(rng: Rng) -> tuple[Images, dict[str, int], str | None]:
    first = content.photo(rng, (240, 320))
    images = [np.roll(first, shift, axis=1) for shift in range(int(rng.integers(4, 9)))]
    return images, {"near_duplicates": len(images)}, "frames of a video"


def _simple(make: Callable[[Rng], np.ndarray], rng: Rng) -> tuple[Images, dict[str, int], None]:
    return [*(make(rng) for _ in range(3)), *_photos(rng)], {"flat": 0}, None


def _good(rng: Rng) -> tuple[Images, dict[str, int], str | None]:
    images = _photos(rng, 2, 20)
    return images, {"flat": 0, "exact_duplicates": 0, "near_duplicates": 0}, None


def _lines(rng: Rng) -> tuple[Images, dict[str, int], str | None]:
    shapes = [(1, int(n)) for n in rng.integers(1, 400, 3)] + [(int(rng.integers(1, 400)), 1)]
    return [*(_noise(rng, shape) for shape in shapes), *_photos(rng)], {}, None


def _noise(rng: Rng, shape: tuple[int, int]) -> np.ndarray:
    return rng.integers(0, 256, (*shape, 3), dtype=np.uint8)


def _health(kind: str, folder: Path, rng: Rng) -> Action:
    images: Images = {
        "flat": lambda: [content.flat(rng) for _ in range(25)],
        "noisy": lambda: [content.noisy_flat(rng) for _ in range(25)],
        "copies": lambda: _photos(rng, 1, 2) * 25,
        "good": lambda: _photos(rng, 20, 30),
        "one": lambda: _photos(rng, 1, 2),
        "few-black": lambda: [*_photos(rng), np.zeros((*_SIZE, 3), np.uint8)],
    }[kind]()
    wanted = int(kind in ("flat", "noisy", "copies"))

    def check(alarms: list[str]) -> str | None:
        return None if len(alarms) == wanted else f"{len(alarms)} alarms, not {wanted}: {alarms}"

    return Action(run=lambda: _watched(images), check=check)


def _leak(kind: str, folder: Path, rng: Rng) -> Action:
    """Scored images that are among the fitted ones, as an evaluation counts them."""
    fitted, scored = _photos(rng), _photos(rng)
    some = int(rng.integers(1, len(scored)))
    if kind == "exact":
        scored[:some] = [fitted[i % len(fitted)] for i in range(some)]
    elif kind == "near":
        names = ("jpeg", "mirrored", "brighter", "one-pixel")
        change = content.NEAR[names[rng.integers(len(names))]]
        scored[:some] = [change(fitted[i % len(fitted)]) for i in range(some)]
    root = runs.labelled(folder / "data", rng)
    for split, images in (("train", fitted), ("val", scored)):
        _write_labelled(root, split, images)
    wanted = {"exact": (some, 0), "near": (0, some), "none": (0, 0)}[kind]

    def look() -> Any:
        from vice.evaluation.task import make_task
        from vice.plugins.mmseg.content import look_at_images

        task = make_task("lab", str(root), folder / "out", protocol="native")
        return look_at_images(task, task.open())["shared"]

    def check(shared: dict[str, int]) -> str | None:
        found = shared["exact"], shared["near"]
        return None if found == wanted else f"{found} scored images are fitted on, not {wanted}"

    return Action(run=look, check=check)


def _write_labelled(root: Path, split: str, images: Images) -> None:
    for kind in ("images", "labels"):
        for path in (root / kind / split).iterdir():
            path.unlink()
    for number, image in enumerate(images):
        Image.fromarray(image).save(root / "images" / split / f"{number}.png")
        label = np.zeros(image.shape[:2], np.uint8)
        label[:, ::2] = 1
        Image.fromarray(label).save(root / "labels" / split / f"{number}.png")


def _few_vectors(folder: Path, rng: Rng) -> Action:
    """K-means on vectors of which few differ."""
    distinct, k = int(rng.integers(1, 5)), int(rng.integers(2, 9))
    vectors = rng.normal(size=(distinct, 6)).astype(np.float32)[np.arange(200) % distinct]

    def fit() -> Any:
        from vice.clustering import fit_kmeans

        return fit_kmeans(vectors, k, spherical=bool(rng.integers(2)))

    def check(found: Any) -> str | None:
        said = getattr(found, "distinct", None), getattr(found, "occupied", None)
        right = said[0] == distinct and said[1] is not None and 1 <= said[1] <= min(distinct, k)
        return None if right else f"distinct and not empty: {said}, of {distinct} for {k} clusters"

    return Action(run=fit, check=check)


def _sets(make: Any, *given: Any, lossy: bool = False) -> tuple[Expected, Make]:
    return "worked", partial(_set, partial(make, *given), lossy)


_GENERATORS: dict[str, tuple[Expected, Make]] = {
    "all-flat": _sets(_all_flat),
    "black-frames": _sets(_black_frames),
    "copies": _sets(_copies),
    "compressed": _sets(_compressed, lossy=True),
    "scaled": _sets(_scaled, lossy=True),
    "video": _sets(_video),
    **{f"same-{name}": _sets(_clothes, name) for name in content.NEAR if name != "next-frame"},
    "gradients": _sets(_simple, content.gradient),
    "checkers": _sets(_simple, content.checkers),
    "two-valued": _sets(_simple, content.two_valued),
    "lines": _sets(_lines),
    "good": _sets(_good),
    **{
        f"health-{kind}": ("worked", partial(_health, kind))
        for kind in ("flat", "noisy", "copies", "good", "one", "few-black")
    },
    **{f"leak-{kind}": ("worked", partial(_leak, kind)) for kind in ("exact", "near", "none")},
    "few-vectors": ("worked", _few_vectors),
}
FAMILY = Family(GROUP, _GENERATORS)
FIXED = FAMILY.listed()
drawn = FAMILY.drawn
