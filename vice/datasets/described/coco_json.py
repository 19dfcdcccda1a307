"""Annotations in COCO's format: polygons and run lengths of each image, drawn as one label map."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vice.datasets.described.templates import composed
from vice.errors import MissingPart, UserError, brief


@dataclass(frozen=True)
class Annotations:
    """What a file of annotations holds.

    Attributes:
        path: The file.
        categories: Name by id.
        images: Id, file name, height and width by stem of the file name.
        shapes: Annotations by id of the image.
        crowds: How many annotations are of crowds; their pixels are ignored.
    """

    path: Path
    categories: dict[int, str]
    images: dict[str, dict[str, Any]]
    shapes: dict[Any, list[dict[str, Any]]]
    crowds: int

    def draw(self, stem: str) -> np.ndarray:
        """Category of each pixel of an image.

        Where annotations overlap, the one of the smallest area is in front. Crowds stand for
        objects nobody has told apart.

        Returns:
            int32 (H, W): id of the category, -1 where there is no annotation, -2 of crowds.

        Raises:
            UserError: A shape that cannot be drawn; names the annotation.
        """
        masks = _masks()
        image = self.images[stem]
        size = int(image["height"]), int(image["width"])
        drawn = np.full(size, -1, np.int32)
        shapes = self.shapes.get(image["id"], [])
        parts = []
        for shape in shapes:
            mask = self._mask(masks, shape, size)
            parts.append((int(mask.sum()), shape, mask))
        for _, shape, mask in sorted(parts, key=lambda part: -part[0]):
            drawn[mask] = -2 if shape.get("iscrowd") else int(shape["category_id"])
        return drawn

    def _mask(self, masks: Any, shape: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
        given = shape.get("segmentation")
        try:
            if isinstance(given, list):
                _check_numbers(given)
                code = masks.merge(masks.frPyObjects(given, *size)) if given else None
            elif isinstance(given, dict) and isinstance(given.get("counts"), list):
                code = masks.frPyObjects(given, *size)
            else:
                code = given
            if code is None:
                raise ValueError("no segmentation")
            mask = masks.decode(code).astype(bool)
            if mask.shape != size:
                raise ValueError(f"of {mask.shape[1]}x{mask.shape[0]} pixels")
        # Catch-all: pycocotools meets broken shapes with almost any exception.
        except Exception as error:
            raise UserError(
                f"{self.path}: the shape of annotation {shape.get('id')} cannot be drawn "
                f"({brief(error)}): mend it, or leave the annotation out"
            ) from error
        return np.asarray(mask)


def _check_numbers(polygons: list[Any]) -> None:
    """Refuses what pycocotools takes for numbers and draws as noise."""
    for polygon in polygons:
        for number in polygon:
            if not isinstance(number, int | float) or not math.isfinite(number):
                raise ValueError(f"coordinate {number!r}")


@lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> Annotations:
    try:
        plain = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: no annotations in JSON ({brief(error)})") from error
    try:
        categories = {int(each["id"]): str(each["name"]) for each in plain["categories"]}
        images = {_stem(each["file_name"]): each for each in plain["images"]}
        if len(images) < len(plain["images"]):
            raise UserError(f"{path}: names an image twice; leave one of its entries")
        numbers = {each["id"] for each in images.values()}
        if not all(0 <= number < 2**31 for number in categories):
            raise UserError(f"{path}: ids of categories must be from 0 to {2**31 - 1}")
        shapes: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for each in plain["annotations"]:
            if each["category_id"] not in categories:
                raise UserError(f"{path}: annotation {each.get('id')} is of no category")
            if each["image_id"] not in numbers:
                raise UserError(
                    f"{path}: annotation {each.get('id')} is of image {each['image_id']!r}, which "
                    "it does not list"
                )
            shapes[each["image_id"]].append(each)
        for each in images.values():
            (each["id"], int(each["height"]), int(each["width"]))
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path}: not in COCO's format, which has images, annotations and categories "
            f"({brief(error)})"
        ) from error
    crowds = sum(bool(each.get("iscrowd")) for each in plain["annotations"])
    return Annotations(path, categories, images, dict(shapes), crowds)


def read_annotations(path: Path) -> Annotations:
    """Reads a file of annotations; the same file only once.

    Raises:
        UserError: It cannot be read, or is not in COCO's format.
    """
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return _read(path, changed)


def _stem(name: str) -> str:
    return composed(str(Path(name.replace("\\", "/")).with_suffix("")))


def _masks() -> Any:
    try:
        from pycocotools import mask
    except ModuleNotFoundError as error:
        raise MissingPart(
            "annotations in COCO's format need pycocotools: pip install pycocotools",
            name="pycocotools",
        ) from error
    return mask
