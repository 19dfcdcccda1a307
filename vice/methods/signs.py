"""What a sick training looks like, step by step, with a remedy for each sign."""

from __future__ import annotations

from vice.images.survey import MOST_EMPTY, MOST_REPEATED

#: Share of images that cannot be used above which the rest is no longer what was given.
MOST_SKIPPED = 0.1


#: With fewer images, repetitions say nothing.
FEWEST_SEEN = 20


class HealthMonitor:
    """Watches the records of the steps and raises each alarm once.

    Args:
        num_prototypes: K.
        patience: Steps in a row that a sign must last.
        collapse_share: Perplexity below this share of K (and below 2 prototypes at least) counts
            as collapse.
    """

    def __init__(
        self, num_prototypes: int, *, patience: int = 50, collapse_share: float = 0.05
    ) -> None:
        self.floor = max(2.0, collapse_share * num_prototypes)
        self.patience = patience
        self._queue_age = 0.0
        self._lasting: dict[str, int] = {}
        self._raised: set[str] = set()

    def update(self, record: dict[str, float]) -> list[str]:
        """Takes one step's record and returns the alarms that are due now.

        Args:
            record: At least ``perplexity``, ``loss_over_lnk`` and ``regions_per_view``; with
                ``queue_length`` and ``queue_age`` the queue is watched too, with ``seen_images``,
                ``flat_share``, ``different_share`` and ``skipped_images`` the images.

        Returns:
            Messages that say what is wrong and what to change; mostly empty.
        """
        signs = {
            "collapse": (
                record["perplexity"] < self.floor,
                f"collapse: {record['perplexity']:.1f} prototypes in use for {self.patience} "
                "steps. Lower the learning rate (config.VICE.SCHEDULE.base_lr), freeze the "
                "prototypes longer (config.VICE.PROTOTYPES.freeze_iterations) or start the queue "
                "later (config.VICE.LOSS.queue_start)",
            ),
            "stuck": (
                record["loss_over_lnk"] > 0.999,
                f"the loss has stayed at ln K for {self.patience} steps: nothing is learnt. Raise "
                "the learning rate (config.VICE.SCHEDULE.base_lr) or lower epsilon "
                "(config.VICE.LOSS.epsilon)",
            ),
            "no regions": (
                record["regions_per_view"] < 1,
                f"less than one mutual region a view for {self.patience} steps. Use smaller "
                "regions (config.VICE.SUPERPIXELS.region_size) or milder views "
                "(config.VICE.VIEWS.scale, mask_intensity)",
            ),
            "stuck queue": (
                self._queue_stands_still(record),
                f"the queue has taken in nothing for {self.patience} steps: assignments are "
                "balanced with ever older regions. Look at the regions (config.VICE.SUPERPIXELS), "
                "or do without a queue (config.VICE.LOSS.queue_length=0)",
            ),
            **self._image_signs(record),
        }
        due = []
        for name, (seen, message) in signs.items():
            self._lasting[name] = self._lasting.get(name, 0) + 1 if seen else 0
            if self._lasting[name] == self.patience and name not in self._raised:
                self._raised.add(name)
                due.append(message)
        return due

    def _image_signs(self, record: dict[str, float]) -> dict[str, tuple[bool, str]]:
        """Prototypes are used evenly by images that hold nothing, too."""
        seen, skipped = record.get("seen_images", 0), record.get("skipped_images", 0)
        flat, different = record.get("flat_share", 0.0), record.get("different_share", 1.0)
        return {
            "no content": (
                flat > MOST_EMPTY,
                f"{flat:.0%} of the {seen:.0f} images seen are of one colour but for noise: there "
                "is nothing to learn from them. Remove them (config.DATA.TRAIN.DATA_PATHS), or "
                "look at how they were made",
            ),
            "repetitions": (
                seen >= FEWEST_SEEN and different < 1 - MOST_REPEATED,
                f"only {different:.0%} of the {seen:.0f} images seen differ from one another: all "
                "else are exact copies. Give different images (config.DATA.TRAIN.DATA_PATHS)",
            ),
            "skipped": (
                skipped > MOST_SKIPPED * (seen + skipped),
                f"{skipped:.0f} images have been skipped beside {seen:.0f} that were used: the "
                "training is on what is left. Each is named above with its remedy",
            ),
        }

    def _queue_stands_still(self, record: dict[str, float]) -> bool:
        """Whether everything in the queue has grown older by a whole step."""
        age = record.get("queue_age", 0.0)
        older = record.get("queue_length", 0.0) > 0 and age >= self._queue_age + 1
        self._queue_age = age
        return older
