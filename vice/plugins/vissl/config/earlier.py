"""Names and settings of earlier versions: what is read under them, and what they count as."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from omegaconf import DictConfig

from vice.errors import UserError
from vice.plugins.vissl.config.schema import is_group, node_at
from vice.plugins.vissl.trunks import DECODERS, TRUNK

_NAME, _DECODER = "MODEL.TRUNK.NAME", "MODEL.TRUNK.VICE.decoder"
#: Where VISSL had the options of the loss once more.
_LOSS = "LOSS.vice_dense_swav."
#: The method that there was when none was named.
_FIRST = {"VICE.METHOD.name": "vice"}
#: Options that no config of version 0.1 named, and what they were; they were settings only where
#: they were set. An option that comes later belongs here, with the value that changes nothing.
_UNNAMED = {
    "VICE.VIEWS.resolution_ratios": "[0.5, 1.0, 2.0, 4.0, 8.0]",
    "VICE.VIEWS.canny_low": "10.0",
    "VICE.VIEWS.canny_high": "50.0",
    "VICE.VIEWS.edge_floor": "0.005",
    "VICE.PHOTOMETRIC.brightness": "0.8",
    "VICE.PHOTOMETRIC.contrast": "0.8",
    "VICE.PHOTOMETRIC.saturation": "0.8",
    "VICE.PHOTOMETRIC.hue": "0.2",
    "VICE.PHOTOMETRIC.jitter_probability": "0.8",
    "VICE.PHOTOMETRIC.taps": "17",
    "VICE.DATASET.keep_mib": "1024",
    "MODEL.TRUNK.VICE.output_stride": "None",
    "MODEL.TRUNK.VICE.align_corners": "False",
    "MODEL.TRUNK.VICE.centre": "False",
    "MODEL.TRUNK.VICE.padding": "zeros",
    "MODEL.TRUNK.VICE.stages": "4",
    "MODEL.TRUNK.VICE.frozen": "False",
}
_COHERENCE = "VICE.LOSS.coherence_gradient"
#: Options that version 0.1 did not have at all, and the value that comes to what it did.
_YOUNGER = {
    "VICE.DATASET.scale": "None",
    "VICE.DATASET.bands": "[]",
    "VICE.DATASET.page": "None",
    _COHERENCE: "through",
    "VICE.SUPERPIXELS.blur_sigma": "None",
    "VICE.SCHEDULE.shape": "cosine",
    "VICE.SCHEDULE.power": "0.9",
    "VICE.SCHEDULE.head_peak_lr": "None",
}


def name_trunk(config: DictConfig, overrides: Collection[str]) -> None:
    """Turns the name of a trunk of version 0.1 into the one trunk and its decoder, in place.

    Args:
        config: ``config.*``.
        overrides: As they were typed.

    Raises:
        UserError: They ask for another decoder than the name stands for.
    """
    trunk = node_at(config, "MODEL.TRUNK")
    name = trunk.get("NAME") if is_group(trunk) else None
    if name not in DECODERS or not is_group(node_at(trunk, "VICE")):
        return
    typed = [text.lstrip("+") for text in overrides]
    asked = [text for text in typed if text.startswith(f"config.{_DECODER}=")]
    if asked and asked[-1].partition("=")[2] != DECODERS[name]:
        raise UserError(
            f"config.{_NAME}={name} is the decoder {DECODERS[name]}, which {asked[-1]} denies: set "
            f"config.{_NAME}={TRUNK} and the decoder"
        )
    trunk.NAME, trunk.VICE.decoder = TRUNK, DECODERS[name]


def earlier(settings: Mapping[str, str], filled: Collection[str]) -> dict[str, str]:
    """Settings as version 0.1 wrote them, so that the keys of runs that are made of it stay.

    Args:
        settings: Dotted key to value as text; those of version 0.1 stay as they are.
        filled: Keys whose values are defaults because nothing else was said.
    """
    stated = {
        key: value
        for key, value in without_younger(_renamed(settings)).items()
        if key not in filled or _UNNAMED.get(key) != value
    }
    return stated if "VICE.METHOD.name" in stated else {**stated, **_vissl_settings(stated)}


def comparable(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings of any version in a form in which what means the same is equal."""
    # Loss parameters: what it was given beside its own options is set elsewhere.
    loss = {
        key.replace(_LOSS, "VICE.LOSS."): value
        for key, value in settings.items()
        if key.startswith(_LOSS)
    }
    said = {key: value for key, value in loss.items() if key in settings}
    stated = {**_UNNAMED, **_YOUNGER, **_renamed(settings), **said}
    return stated if _has_coherence(stated) else {**stated, _COHERENCE: "constant"}


def without_younger(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings without the options that version 0.1 did not have, where they change nothing.

    Args:
        settings: Dotted key to value as text.
    """
    idle = set() if _has_coherence(settings) else {_COHERENCE}
    return {
        key: value
        for key, value in settings.items()
        if key not in idle and _YOUNGER.get(key) != value
    }


def as_before(settings: Mapping[str, str]) -> dict[str, str]:
    """Options that version 0.1 did not have, of which a run has the value that comes to the same.

    It was begun before there was the option, or goes on as one that was.

    Args:
        settings: Dotted key to value as text, of the run's state; none of no run.

    Returns:
        Dotted key to that value.
    """
    stated = comparable(settings) if settings else {}
    return {key: value for key, value in _YOUNGER.items() if stated.get(key) == value}


def _has_coherence(settings: Mapping[str, str]) -> bool:
    """Whether the loss has a coherence, which without it no option can change."""
    return settings.get("VICE.LOSS.region_vector") == "representative"


def _renamed(settings: Mapping[str, str]) -> dict[str, str]:
    renamed = dict(settings)
    for key, value in _FIRST.items():
        if renamed.get(key) == value:
            del renamed[key]
    names = {decoder: name for name, decoder in DECODERS.items()}
    if renamed.get(_NAME) == TRUNK and renamed.get(_DECODER) in names:
        renamed[_NAME] = names[renamed.pop(_DECODER)]
    return renamed


def _vissl_settings(settings: dict[str, str]) -> dict[str, str]:
    """What version 0.1 told VISSL of its one method, taken from where it stands now."""
    if settings.get("LOSS.name") != "vice_method":
        return {}
    prototypes = {
        name: int(settings[f"VICE.PROTOTYPES.{name}"]) for name in ("dim", "num_prototypes")
    }
    frozen = int(settings["VICE.PROTOTYPES.freeze_iterations"])
    loss = {
        key.replace("VICE.LOSS.", _LOSS): value
        for key, value in settings.items()
        if key.startswith("VICE.LOSS.")
    }
    return {
        **loss,
        **{f"{_LOSS}{name}": str(value) for name, value in prototypes.items()},
        f"{_LOSS}num_views": settings["VICE.VIEWS.num_views"],
        "LOSS.name": "vice_dense_swav",
        "MODEL.HEAD.PARAMS": str([["vice_prototypes", prototypes]]),
        "MODEL.SINGLE_PASS_EVERY_CROP": "False",
        "MODEL.TEMP_FROZEN_PARAMS_ITER_MAP": str([["module.heads.0.prototypes.weight", frozen]]),
        "TRAINER.TASK_NAME": "self_supervision_task",
    }
