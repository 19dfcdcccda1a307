"""Masks in the formats of other programs: COCO, YOLO, CVAT, Label Studio, FiftyOne, and named PNGs.

Each function takes `Masks` and writes into a folder; what a format cannot hold is said.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import uuid
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import cv2
import numpy as np
from PIL import Image

from vice.errors import UserError
from vice.explore.label_studio import encode_brush
from vice.explore.mask_files import read_mask
from vice.explore.specks import remove_specks
from vice.names import ESCAPED, printable
from vice.parts import package
from vice.runtime.files import make_folder, write_json, write_text
from vice.visualize.maps import colorize, palette
from vice.visualize.sheets import save_png


@dataclass(frozen=True)
class Masks:
    """What `vice.explore.segment_folder.segment_folder` has written.

    Attributes:
        folder: With the masks.
        files: Their names below it.
        images: The image of each, as its path was given.
        names: Of the concepts, by number.
        least: Parts of fewer pixels are removed.
        colors: uint8 (K, 3) of the concepts; None takes those of the palette.
        void: The value of pixels that belong to none; None where there is none.
    """

    folder: Path
    files: Sequence[str]
    images: Sequence[str]
    names: Sequence[str]
    least: int = 1
    colors: np.ndarray | None = None
    void: int | None = None

    @property
    def shown(self) -> np.ndarray:
        """uint8 (K, 3), colors of the concepts."""
        return palette(len(self.names)) if self.colors is None else self.colors

    def concepts_in(self, labels: np.ndarray) -> list[int]:
        """The concepts of a label map, in their order."""
        return [number for number in np.unique(labels).tolist() if number != self.void]

    def read(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """File, image and label map of each, one after the other."""
        for file, image in zip(self.files, self.images, strict=True):
            yield file, image, remove_specks(read_mask(self.folder / file), self.least)


def write_coco(masks: Masks, out: Path) -> str:
    """``annotations.json``: for each concept of an image its run lengths, box and area."""
    coder = package("pycocotools.mask")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (_, image, labels) in enumerate(masks.read(), 1):
        height, width = labels.shape
        images.append({"id": number, "file_name": image, "height": height, "width": width})
        for concept in masks.concepts_in(labels):
            code = coder.encode(np.asfortranarray(labels == concept, np.uint8))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": concept + 1,
                    "segmentation": {"size": code["size"], "counts": code["counts"].decode()},
                    "area": int(coder.area(code)),
                    "bbox": coder.toBbox(code).tolist(),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(masks.names, 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_json(out / "annotations.json", content)
    return f"{len(annotations)} annotations of {len(images)} images{_given(masks)}"


def write_yolo(masks: Masks, out: Path) -> str:
    """``labels/NAME.txt`` with an outline a line, and ``data.yaml``; outlines have no holes."""
    outlines = 0
    for file, _, labels in masks.read():
        height, width = labels.shape
        lines = []
        for concept in masks.concepts_in(labels):
            for points in outlines_of(labels == concept):
                shares = (points + 0.5) / (width, height)
                lines.append(" ".join([str(concept), *(f"{v:.6g}" for v in shares.ravel())]))
        outlines += len(lines)
        write_text((out / "labels" / file).with_suffix(".txt"), "".join(f"{x}\n" for x in lines))
    named = "".join(f"  {n}: {json.dumps(name)}\n" for n, name in enumerate(masks.names))
    write_text(out / "data.yaml", f"names:\n{named}")
    return f"{outlines} outlines, whose holes are filled: the format has none"


def write_png(masks: Masks, out: Path) -> str:
    """``NAME.png`` with the concept's number as value, and ``classes.txt``: a labelled folder's."""
    for file, _, labels in masks.read():
        save_png(labels.astype(np.uint8 if len(masks.names) <= 255 else np.uint16), out / file)
    write_text(out / "classes.txt", "".join(f"{name}\n" for name in masks.names))
    return f"{len(masks.files)} masks"


def write_cvat(masks: Masks, out: Path) -> str:
    """``cvat.zip``, CVAT's "Segmentation mask 1.1": colors, their table, and a list of names."""
    _check_cvat(masks)
    # Background: black is what the format takes for no class.
    table = ["# label:color_rgb:parts:actions", "background:0,0,0::"]
    table += [f"{name}:{','.join(map(str, color))}::" for name, color in zip(
        masks.names, masks.shown.tolist(), strict=True)]  # fmt: skip
    make_folder(out)
    stems = []
    with zipfile.ZipFile(out / "cvat.zip", "w", zipfile.ZIP_STORED) as file:
        for name, _, labels in masks.read():
            stems.append(name.removesuffix(".png"))
            for folder in ("SegmentationClass", "SegmentationObject"):
                picture = io.BytesIO()
                painted = colorize(labels, len(masks.names), ignore=masks.void, colors=masks.shown)
                Image.fromarray(painted).save(picture, "PNG")
                file.writestr(f"{folder}/{name}", picture.getvalue())
        file.writestr("labelmap.txt", "\n".join(table) + "\n")
        file.writestr("ImageSets/Segmentation/default.txt", "".join(f"{s}\n" for s in stems))
    return f"{len(stems)} masks"


def _check_cvat(masks: Masks) -> None:
    # Its archive holds names as text, and a list with one a line.
    for file in masks.files:
        if printable(file) != file:
            raise UserError(
                f"CVAT's format cannot hold the file name {printable(file)!r}: give the image "
                "another, and run vice segment again"
            )
    # Its file tells classes apart by their colors, and its lines are cut at colons.
    colors = [tuple(color) for color in masks.shown.tolist()]
    taken = {(0, 0, 0): "background"}
    for name, color in zip(masks.names, colors, strict=True):
        if ":" in name or name.startswith("#") or name == "background":
            raise UserError(f"CVAT's format cannot hold the name {name!r}: give it another")
        if color in taken:
            raise UserError(
                f"CVAT's format tells {name!r} and {taken[color]!r} apart by their colors, which "
                "are the same: give one of them another"
            )
        taken[color] = name


def write_label_studio(masks: Masks, out: Path) -> str:
    """``tasks.json`` with brush strokes as predictions, and ``config.xml`` for the project."""
    tasks = []
    for _, image, labels in masks.read():
        height, width = labels.shape
        shown = printable(image)
        result = [
            {
                "id": uuid.uuid5(uuid.NAMESPACE_URL, f"{shown} {concept}").hex[:10],
                "type": "brushlabels",
                "from_name": "concept",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": {
                    "format": "rle",
                    "rle": encode_brush(labels == concept),
                    "brushlabels": [masks.names[concept]],
                },
            }
            for concept in masks.concepts_in(labels)
        ]
        tasks.append({"data": {"image": image}, "predictions": [{"result": result}]})
    write_json(out / "tasks.json", tasks)
    labels_of = "".join(
        f'    <Label value={quoteattr(name)} background="#{r:02x}{g:02x}{b:02x}"/>\n'
        for name, (r, g, b) in zip(masks.names, masks.shown.tolist(), strict=True)
    )
    write_text(
        out / "config.xml",
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="concept" toName="image">\n{labels_of}  </BrushLabels>\n</View>\n',
    )
    return f"{len(tasks)} tasks{_given(masks)}"


def _given(masks: Masks) -> str:
    """How a format names images that it does not hold."""
    strange = sum(ESCAPED.search(image) is not None for image in masks.images)
    more = f"; names of {strange} are no UTF-8, and stand as Python reads such" if strange else ""
    return f"; images are named as they were given{more}"


def write_fiftyone(masks: Masks, out: Path) -> str:
    """FiftyOne's ImageSegmentationDirectory: ``data``, ``labels``, and ``mask_targets.json``."""
    copied = 0
    for file, image, labels in masks.read():
        # Zero means background there.
        numbered = (
            labels + 1 if masks.void is None else np.where(labels == masks.void, 0, labels + 1)
        )
        save_png(numbered.astype(np.uint16), out / "labels" / file)
        if Path(image).is_file():
            target = (out / "data" / file).with_suffix(Path(image).suffix)
            make_folder(target.parent)
            shutil.copyfile(image, target)
            copied += 1
    targets = {str(number): name for number, name in enumerate(masks.names, 1)}
    write_json(out / "mask_targets.json", targets)
    lacking = len(masks.files) - copied
    more = ""
    if lacking:
        more = (
            f"; {lacking} images are not found where {os.getcwd()} leads to them: run it where "
            "vice segment was run, or they were moved"
        )
    return f"{len(masks.files)} masks, {copied} images{more}"


FORMATS: dict[str, Callable[[Masks, Path], str]] = {
    "coco": write_coco,
    "yolo": write_yolo,
    "png": write_png,
    "cvat": write_cvat,
    "labelstudio": write_label_studio,
    "fiftyone": write_fiftyone,
}


def outlines_of(mask: np.ndarray) -> list[np.ndarray]:
    """Outer outlines of the parts of a mask, (N, 2) points (x, y) at centers of pixels, N >= 3."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    outlines = []
    for points in found:
        flat = points[:, 0].astype(np.float64)
        # A line or a point encloses nothing: the corners of its pixels do.
        if len(flat) < 3:
            low, high = flat.min(0) - 0.5, flat.max(0) + 0.5
            flat = np.array([low, [high[0], low[1]], high, [low[0], high[1]]])
        outlines.append(flat)
    return outlines
