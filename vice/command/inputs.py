"""What commands on folders share: images, model, concepts, and how they are stopped and end."""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from vice.cli import show
from vice.errors import UserError
from vice.explore.video_names import FRAMES, SUFFIXES
from vice.model_specs import check_spec
from vice.names import printable
from vice.paths import check_there, typed_path, typed_text
from vice.runtime.amounts import to_bytes
from vice.runtime.device_names import NAMES, check_device_name
from vice.runtime.files import check_folder
from vice.runtime.preemption import Preempted, watch_signals

if TYPE_CHECKING:
    from vice.explore.named_concepts import NamedConcepts
    from vice.predictor import Predictor

logger = logging.getLogger(__name__)
#: Suffix of concepts that have names, and of those that k-means fitted.
NAMED, FITTED = ".json", ".safetensors"
#: Said where they are not there: no command writes what is named on the page.
DOWNLOADED = "the page that vice explore wrote downloads concepts.json, once opened in a browser"

#: How many reasons are shown of images that could not be read.
REASONS = 20
#: What ``images`` may be.
PLACES = "folders, text files with a path a line, images"


def add_places(parser: argparse.ArgumentParser, *, videos: bool) -> None:
    """Adds a model, images and an output folder to a command line."""
    add = parser.add_argument
    add("model", type=typed_text, help="what vice.load takes")
    add("images", nargs="+", type=typed_path, help=f"{PLACES}, videos" if videos else PLACES)
    add("--out", "-o", type=typed_path, required=True, metavar="DIR", help="output folder")


def add_computing(parser: argparse.ArgumentParser) -> None:
    """Adds how a model computes to a command line."""
    add = parser.add_argument
    add("--memory", help="most memory of an image, such as 2GiB: in tiles beyond")
    add("--device", help=f"{NAMES} (a GPU if there is one)")


def begin(
    args: argparse.Namespace, look: Callable[[Inputs], object] = lambda _: None
) -> tuple[Inputs, Predictor]:
    """The images and the model that a command line names.

    Args:
        args: With ``model``, ``images``, ``out`` and what `add_computing` adds.
        look: Is given the images before the model is loaded, and raises what is wrong.

    Raises:
        UserError: There are no images, or the model cannot be loaded.
    """
    check_spec(args.model)
    check_folder("--out", args.out)
    if args.device is not None:
        check_device_name(args.device, "--device")
    if args.memory is not None:
        to_bytes(args.memory, "--memory")
    if getattr(args, "concepts", None) is not None:
        check_concepts(args.concepts)
    inputs = listed(args.images, args.out)
    look(inputs)
    # PyTorch takes seconds to import, and neither help nor a refusal needs it.
    import vice

    return inputs, vice.load(args.model, device=args.device)


class Stops:
    """Signals in a block of a command that can go on later: they are noted, and obeyed in time.

    Ctrl-C and what cluster managers send end the block after the image that is computed; a second
    Ctrl-C ends the process at once.
    """

    def __enter__(self) -> Stops:
        self._watch = watch_signals()
        self._notice = self._watch.__enter__()
        # Something to save: from now on a signal does not end the process at once.
        self._notice.begun.value = 1
        return self

    def __exit__(self, *error: Any) -> None:
        self._watch.__exit__(*error)

    def __call__(self) -> bool:
        """Whether to stop."""
        return bool(self._notice.signal_number)

    def stop(self, done: int, images: int, kept: str) -> NoReturn:
        """Ends the command.

        Args:
            done: Images that are finished.
            images: How many there are.
            kept: What stays of them.

        Raises:
            Preempted: Always.
        """
        raise Preempted(
            f"stopped by {self._notice.name} after {done} of {images} images: {kept}, and the same "
            "command goes on there"
        )


def kept_in(out: Path) -> str:
    """What stays of a pass over images that is stopped, see `vice.explore.kept_pass`."""
    return f"what was computed of them stays in {printable(str(out))}"


def show_readings(predictor: Predictor) -> None:
    """Says what was clipped, passed over or converted in the images that were read."""
    if predictor.clipping.values:
        show(str(predictor.clipping))
    if predictor.notes.images:
        show(f"images read: {predictor.notes}")


def show_unread(unread: Mapping[Any, str]) -> None:
    """Says how many images could not be read, and why the first ones."""
    if unread:
        show(f"not read: {len(unread)} images")
        for reason in list(unread.values())[:REASONS]:
            show(f"  {reason}")
        if len(unread) > REASONS:
            show(f"  and {len(unread) - REASONS} more")


@dataclass
class Inputs:
    """The images of a command.

    Attributes:
        images: All, each once; frames of videos come last.
        videos: The frames of each video, by its name.
    """

    images: list[Path]
    videos: dict[str, list[Path]]


def listed(places: Sequence[Path], out: Path) -> Inputs:
    """The images of folders, lists and videos, without those below the output folder.

    Frames of videos are written to ``frames`` there.

    Raises:
        UserError: There are none, or a video cannot be decoded.
    """
    from vice.images import list_images
    from vice.images.lists import announce, survey

    films = [place for place in places if place.suffix.lower() in SUFFIXES and place.is_file()]
    twice = next((film for film, n in Counter(film.name for film in films).items() if n > 1), None)
    if twice is not None:
        raise UserError(f"two videos are called {twice}: rename one, or segment them one by one")
    others = [place for place in places if place not in films]
    for place in others:
        announce(survey(place))
    own = out.absolute()
    found = dict.fromkeys(path for place in others for path in list_images(place))
    # Output below the images: what an earlier call has drawn is none of them.
    images = [path for path in found if own not in path.absolute().parents]
    if found and not images:
        raise UserError(
            f"{printable(str(out))}: all {len(found)} images lie in this output folder; choose one "
            "beside them"
        )
    if len(images) < len(found):
        show(f"left out: {len(found) - len(images)} images in the output folder itself")
    videos = {film.name: _frames(film, out) for film in films}
    return Inputs([*images, *(frame for frames in videos.values() for frame in frames)], videos)


def _frames(film: Path, out: Path) -> list[Path]:
    from vice.explore.video_frames import extract_frames

    return extract_frames(film, out / FRAMES / film.name)


def check_concepts(path: Path) -> None:
    """Sees whether a file may hold concepts, by its name.

    Raises:
        UserError: It does not exist, or is of another kind.
    """
    check_there(path, "--concepts: ", "file", DOWNLOADED)
    if path.suffix.lower() not in (NAMED, FITTED):
        raise UserError(
            f"{path}: concepts are a concepts.json of vice explore, or the concepts.safetensors "
            "that vice segment or tools/eval_cluster.py has fitted"
        )


def given_concepts(path: Path, predictor: Predictor) -> NamedConcepts:
    """Concepts of a file: named ones of an explorer, or centroids that were fitted.

    Raises:
        UserError: It cannot be read, or belongs to another model.
    """
    from vice.explore.named_concepts import NamedConcepts, read_named
    from vice.models.centroids import Centroids

    check_concepts(path)
    if path.suffix.lower() == NAMED:
        return read_named(path, predictor)
    fitted = Centroids.load(path)
    if fitted.vectors.shape[1] != predictor.dim:
        raise UserError(
            f"{path} holds vectors of {fitted.vectors.shape[1]} dimensions, {predictor.name} has "
            f"{predictor.dim}: they were fitted with another model"
        )
    if fitted.weights is None:
        logger.warning("%s does not say to which model its concepts were fitted", path)
    try:
        fitted.require_model(predictor.weights, predictor.name)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
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
