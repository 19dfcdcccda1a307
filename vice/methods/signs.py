"""What a sick training looks like, step by step, with a remedy for each sign."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from vice.errors import spell
from vice.images.survey import MOST_EMPTY, MOST_REPEATED

#: Share of images that cannot be used above which the rest is no longer what was given.
MOST_SKIPPED = 0.1
#: With fewer images, repetitions say nothing.
FEWEST_SEEN = 20


@dataclass(frozen=True)
class Measure:
    """A number of the loss's ``health``: its key, its words in the log, and how it is written."""

    name: str
    text: str
    form: str = ".3f"


@dataclass(frozen=True)
class Sign:
    """What a sick training looks like; given a step's record and the one before it.

    Attributes:
        name: Of the sign; each is told once.
        seen: Whether this step shows it.
        message: What is wrong and what to change; `vice.errors.spell` fills in options
            (``{queue_length}``), measures of the record (``{now.queue_length}``), and
            ``{patience}``.
    """

    name: str
    seen: Callable[[Mapping[str, float], Mapping[str, float]], bool]
    message: str


#: Numbers of a record that are not the loss's.
IMAGE_MEASURES = (
    Measure("seen_images", "images seen", ".0f"),
    Measure("skipped_images", "images skipped", ".0f"),
    Measure("flat_share", "of one color", ".0%"),
    Measure("different_share", "different from one another", ".0%"),
)
#: Prototypes are used evenly by images that hold nothing, too.
IMAGE_SIGNS = (
    Sign(
        "no content",
        lambda now, _: now.get("flat_share", 0.0) > MOST_EMPTY,
        "{now.flat_share} of the {now.seen_images} images seen are of one colour but for noise: "
        "there is nothing to learn from them. Remove them ({data_paths}), or look at how they were "
        "made",
    ),
    Sign(
        "repetitions",
        lambda now, _: (
            now.get("seen_images", 0) >= FEWEST_SEEN
            and now.get("different_share", 1.0) < 1 - MOST_REPEATED
        ),
        "only {now.different_share} of the {now.seen_images} images seen differ from one another: "
        "all else are exact copies. Give different images ({data_paths})",
    ),
    Sign(
        "skipped",
        lambda now, _: (
            now.get("skipped_images", 0)
            > MOST_SKIPPED * (now.get("seen_images", 0) + now.get("skipped_images", 0))
        ),
        "{now.skipped_images} images have been skipped beside {now.seen_images} that were used: "
        "the training is on what is left. Each is named above with its remedy",
    ),
)


class HealthMonitor:
    """Watches the records of the steps and raises each alarm once.

    Args:
        signs: What a method holds for sick; signs of the images are added.
        measures: Numbers of the records that the signs' messages name.
        keys: What options are called where they are set (`vice.errors.spell`).
        patience: Steps in a row that a sign must last.
    """

    def __init__(
        self,
        signs: Iterable[Sign],
        measures: Iterable[Measure] = (),
        *,
        keys: Mapping[str, str] | None = None,
        patience: int = 50,
    ) -> None:
        self.signs = (*signs, *IMAGE_SIGNS)
        self.measures = (*measures, *IMAGE_MEASURES)
        self.keys = keys or {}
        self.patience = patience
        self._before: Mapping[str, float] = {}
        self._lasting: dict[str, int] = {}
        self._raised: set[str] = set()

    def update(self, record: Mapping[str, float]) -> list[str]:
        """Takes one step's record and returns the alarms that are due now.

        Args:
            record: The loss's health; with ``seen_images``, ``flat_share``, ``different_share`` and
                ``skipped_images`` the images are watched too.

        Returns:
            Messages that say what is wrong and what to change; mostly empty.
        """
        due = []
        for sign in self.signs:
            lasting = self._lasting.get(sign.name, 0) + 1
            self._lasting[sign.name] = lasting if sign.seen(record, self._before) else 0
            if self._lasting[sign.name] == self.patience and sign.name not in self._raised:
                self._raised.add(sign.name)
                due.append(spell(sign.message, self.keys, self._values(record)))
        self._before = record
        return due

    def _values(self, record: Mapping[str, float]) -> dict[str, object]:
        known = (each for each in self.measures if each.name in record)
        shown = {f"now.{each.name}": format(record[each.name], each.form) for each in known}
        return {**shown, "patience": self.patience}
