"""What the tags of a TIFF file say of its samples, and whether that is enough to read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from vice.runtime.regular_file import open_regular

#: First bytes: byte order, then 42 (TIFF) or 43 (BigTIFF).
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: PhotometricInterpretation to its name and its number of bands.
_PHOTOMETRIC = {
    0: ("grey, white is zero", 1),
    1: ("grey", 1),
    2: ("RGB", 3),
    3: ("palette", 1),
    5: ("CMYK", 4),
    6: ("YCbCr", 3),
}
_UNREADABLE = {
    4: "a transparency mask",
    8: "CIELab",
    9: "ICC Lab",
    10: "ITU Lab",
    32803: "the raw mosaic of a camera's sensor",
    34892: "linear raw data of a camera",
}
_WHITE_IS_ZERO, _GRAY, _RGB, _PALETTE, _CMYK, _YCBCR = _PHOTOMETRIC
_FORMATS = {1: "unsigned", 2: "signed", 3: "float", 4: "untyped", 5: "complex", 6: "complex float"}
_UNSIGNED, _FLOAT = 1, 3
_ALPHA = {1, 2}
_WIDTH, _HEIGHT = 256, 257
_ORIENTATION = 274
_USED = (254, _WIDTH, _HEIGHT, 258, 259, 262, _ORIENTATION, 277, 284, 332, 338, 339)
EIGHT_BITS = (
    "convert the images to 8-bit RGB with a scale of your choice, the same for all of them, or "
    "train with --scale"
)
_BANDS = "train with --bands, write the red, green and blue bands alone as RGB"


@dataclass(frozen=True)
class TiffLayout:
    """Tags of the first page.

    Attributes:
        photometric: PhotometricInterpretation; None where the tag is missing.
        bands: SamplesPerPixel.
        bits: BitsPerSample of the bands.
        formats: SampleFormat of the bands.
        extra: ExtraSamples; empty where the tag is missing.
        planar: PlanarConfiguration; 2 for one plane a band.
        subfile: NewSubfileType.
        ink_set: InkSet; 1 is CMYK.
        pages: Whether more than one page is there.
        stacked: Whether the second page is as large as the first and no smaller copy or mask of it.
        size: ImageLength and ImageWidth.
        orientation: Orientation, as of EXIF.
    """

    photometric: int | None
    bands: int
    bits: tuple[int, ...]
    formats: tuple[int, ...]
    extra: tuple[int, ...]
    planar: int = 1
    subfile: int = 0
    ink_set: int = 1
    pages: bool = False
    stacked: bool = False
    size: tuple[int, int] = (0, 0)
    orientation: int = 1

    @property
    def white_is_zero(self) -> bool:
        """Whether grey values count down from white."""
        return self.photometric == _WHITE_IS_ZERO

    @property
    def premultiplied(self) -> bool:
        """Whether colours have been multiplied by alpha already."""
        return self.extra == (1,)

    @property
    def depth(self) -> int:
        """Bits a sample; only for layouts that `objection` has nothing against."""
        return self.bits[0]


def read_layout(path: str | Path) -> TiffLayout | None:
    """Reads the tags of a file's first page, whether Pillow knows their combination or not.

    Returns:
        The layout; None where the file is no TIFF or its tags cannot be read.
    """
    with open_regular(path) as file:
        if file.read(4) not in MAGIC:
            return None
        try:
            directory = first_directory(file)
            page = _load(directory, file, directory.next)
            # Truncated file: past its end Pillow finds no tags and no error.
            if not page.keys() >= {_WIDTH, _HEIGHT}:
                return None
            following = _next_page(directory, file) if directory.next else {}
        # Catch-all: broken tags raise almost anything; Pillow says what is wrong when it opens it.
        except Exception:
            return None
    return layout_of(page, following)


def first_directory(file: BinaryIO) -> Any:
    """Pillow's reader of the tags of a TIFF file, which points to the first page.

    Args:
        file: That begins with one of ``MAGIC``.

    Raises:
        Exception: Almost any, of a file that ends too early.
    """
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    file.seek(0)
    head = file.read(8)
    if head[:4] not in MAGIC[2:]:
        return ImageFileDirectory_v2(head)
    head += file.read(8)
    if head[:2] == b"II":
        return ImageFileDirectory_v2(head)
    # Big-endian BigTIFF: Pillow looks for its mark at the place of the other byte order.
    directory: Any = ImageFileDirectory_v2(b"MM\0*\0\0\0\0")
    directory._bigtiff, directory.next = True, int.from_bytes(head[8:], "big")
    return directory


def _load(directory: Any, file: Any, offset: int) -> dict[int, Any]:
    file.seek(offset)
    directory.load(file)
    return {tag: directory[tag] for tag in _USED if tag in directory}


def _next_page(directory: Any, file: Any) -> dict[int, Any]:
    try:
        return _load(directory, file, directory.next)
    # Multi-page TIFF: a broken second page leaves the first as good as it is.
    except Exception:
        return {}


def layout_of(page: Mapping[int, Any], following: Mapping[int, Any] | None = None) -> TiffLayout:
    """The layout that tags describe.

    Args:
        page: Tags of the first page by number.
        following: Tags of the second page.
    """
    jpeg = page.get(259) in (6, 7)
    photometric = 6 if page.get(259) == 6 else page.get(262)
    bands = int(page.get(277, 3 if jpeg and photometric in (_RGB, _YCBCR) else 1))
    return TiffLayout(
        photometric,
        bands,
        _for_each(page.get(258, 1), bands),
        _for_each(page.get(339, 1), bands),
        _tuple(page.get(338, ())),
        int(page.get(284, 1)),
        int(page.get(254, 0)),
        int(page.get(332, 1)),
        bool(following),
        _is_stacked(page, following or {}),
        (int(page.get(_HEIGHT, 0)), int(page.get(_WIDTH, 0))),
        int(page.get(_ORIENTATION, 1)),
    )


def _is_stacked(page: Mapping[int, Any], following: Mapping[int, Any]) -> bool:
    same = all(tag in following and following[tag] == page.get(tag) for tag in (_WIDTH, _HEIGHT))
    return same and not int(following.get(254, 0)) & 5


def _tuple(value: Any) -> tuple[int, ...]:
    return tuple(map(int, value)) if isinstance(value, tuple) else (int(value),)


def _for_each(value: Any, bands: int) -> tuple[int, ...]:
    values = _tuple(value)
    # Tag count: some writers give the value once; one of millions is a lie, not a table to build.
    return values * bands if len(values) == 1 and bands <= 1024 else values


def objection(layout: TiffLayout) -> str | None:
    """Why samples of this layout cannot be read without guessing what they mean.

    Returns:
        What is unclear and the remedy, in one line; None for what can be read.
    """
    for look in (_of_page, _of_bands, _of_samples, _of_order):
        reason = look(layout)
        if reason:
            return reason
    return None


def _of_page(layout: TiffLayout) -> str | None:
    if layout.subfile & 1:
        return (
            "the first page is a thumbnail, as in camera raw files: develop the image to 8-bit RGB"
        )
    if layout.photometric in _UNREADABLE:
        return f"its pixels are {_UNREADABLE[layout.photometric]}: {EIGHT_BITS}"
    if layout.photometric not in _PHOTOMETRIC:
        given = "missing" if layout.photometric is None else f"{layout.photometric}"
        return f"tag PhotometricInterpretation is {given}: {EIGHT_BITS}"
    return None


def _of_bands(layout: TiffLayout) -> str | None:
    assert layout.photometric is not None
    name, wanted = _PHOTOMETRIC[layout.photometric]
    if layout.photometric == _YCBCR and layout.bands == 1:
        wanted = 1
    if layout.photometric == _CMYK and layout.ink_set != 1:
        return f"its {layout.bands} bands are inks other than CMYK: {EIGHT_BITS}"
    more = layout.bands - wanted
    if more < 0:
        return f"it has {layout.bands} bands, too few for {name}: {EIGHT_BITS}"
    if not more:
        return _of_stack(layout)
    if more == 1 and len(layout.extra) == 1 and layout.extra[0] in _ALPHA:
        if layout.photometric in (_GRAY, _RGB, _PALETTE):
            return None
        return f"it is {name} with alpha: {EIGHT_BITS}"
    stated = f"has the values {list(layout.extra)}" if layout.extra else "is missing"
    return (
        f"it has {layout.bands} bands, of which {name} takes {wanted}, and tag ExtraSamples, which "
        f"could say that the rest is alpha (and not near infrared), {stated}: {_BANDS}, or state "
        "an alpha by ExtraSamples=2"
    )


def _of_stack(layout: TiffLayout) -> str | None:
    if layout.stacked and layout.bands == 1 and layout.photometric in (_WHITE_IS_ZERO, _GRAY):
        return (
            "it holds several grey pages of one size, which may be bands or a stack: write the "
            "page that is meant, or the bands as RGB, to a file of its own, or train with --page"
        )
    return None


def _of_samples(layout: TiffLayout) -> str | None:
    if len(set(layout.bits)) != 1 or len(set(layout.formats)) != 1:
        return (
            f"its bands have different samples (bits {layout.bits}, formats {layout.formats}): "
            f"{EIGHT_BITS}"
        )
    kind, depth = layout.formats[0], layout.depth
    if kind == _FLOAT and depth == 32 and layout.bands == 1 and layout.photometric == _GRAY:
        return None
    if kind == _UNSIGNED and depth in (1, 2, 4, 8):
        return None
    if kind == _UNSIGNED and depth == 16 and layout.photometric in (0, 1, 2):
        return None
    if kind == _UNSIGNED and depth == 12 and layout.bands == 1:
        return None
    return (
        f"it has {describe(layout)}, and nothing says which values are black and white: "
        f"{EIGHT_BITS}"
    )


def describe(layout: TiffLayout) -> str:
    """Bands and samples, for people."""
    kind, depth = layout.formats[0], layout.depth
    name = _FORMATS.get(kind, f"format {kind}")
    return f"{layout.bands} band{'s' * (layout.bands > 1)} of {name} {depth}-bit samples"


def _of_order(layout: TiffLayout) -> str | None:
    if layout.planar == 2 and layout.bands > 1 and layout.depth == 16:
        return (
            f"its {layout.bands} bands of 16 bits lie in separate planes, which cannot be read: "
            "write them pixel by pixel (PlanarConfiguration=1)"
        )
    return None
