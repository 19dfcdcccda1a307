"""What commands on folders share: their images, and the concepts that they are given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vice.errors import UserError

if TYPE_CHECKING:
    from vice.explore.named_concepts import NamedConcepts
    from vice.predictor import Predictor

#: Suffix of concepts that have names; others are what k-means fitted.
NAMED = ".json"


def listed(places: Sequence[Path], out: Path) -> list[Path]:
    """The images of folders and lists, each once, without those below the output folder.

    Raises:
        UserError: There are none.
    """
    from vice.images import list_images
    from vice.images.lists import announce, survey

    for place in places:
        announce(survey(place))
    own = out.absolute()
    found = dict.fromkeys(path for place in places for path in list_images(place))
    # Output below the images: what an earlier call has drawn is none of them.
    return [path for path in found if own not in path.absolute().parents]


def given_concepts(path: Path, predictor: Predictor) -> NamedConcepts:
    """Concepts of a file: named ones of an explorer, or centroids that were fitted.

    Raises:
        UserError: It cannot be read, or belongs to another model.
    """
    from vice.explore.named_concepts import NamedConcepts, read_named
    from vice.models.centroids import Centroids

    if path.suffix.lower() == NAMED:
        return read_named(path, predictor)
    fitted = Centroids.load(path)
    if fitted.vectors.shape[1] != predictor.dim:
        raise UserError(
            f"{path} holds vectors of {fitted.vectors.shape[1]} dimensions, {predictor.name} has "
            f"{predictor.dim}: they were fitted with another model"
        )
    return NamedConcepts.single(fitted.concepts())


def own_concepts(predictor: Predictor) -> NamedConcepts:
    """The model's own concepts.

    Raises:
        UserError: It has none.
    """
    from vice.explore.named_concepts import NamedConcepts

    if predictor.checkpoint.concepts is None:
        raise UserError(
            f"{predictor.name} has no concepts of its own: give --clusters or --concepts"
        )
    return NamedConcepts.single(predictor.checkpoint.concepts)
