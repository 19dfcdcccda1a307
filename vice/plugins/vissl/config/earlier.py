"""Names and settings of earlier versions: what is read under them, and what they count as."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from omegaconf import DictConfig

from vice.errors import UserError
from vice.options import defaults
from vice.plugins.vissl.config.schema import groups, is_group, node_at
from vice.plugins.vissl.trunks import DECODERS, TRUNK

_NAME, _DECODER = "MODEL.TRUNK.NAME", "MODEL.TRUNK.VICE.decoder"
#: The method that there was when none was named.
_FIRST = {"VICE.METHOD.name": "vice"}
#: Options that no config of version 0.1 named: they were settings only of who set them.
_UNNAMED = {
    "VICE.VIEWS": ("resolution_ratios", "canny_low", "canny_high", "edge_floor"),
    "VICE.PHOTOMETRIC": (
        *("brightness", "contrast", "saturation", "hue", "jitter_probability", "taps"),
    ),
    "MODEL.TRUNK.VICE": (
        *("output_stride", "align_corners", "centre", "padding", "stages", "frozen"),
    ),
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


def earlier(settings: Mapping[str, str], filled: Collection[str] | None = None) -> dict[str, str]:
    """Settings as version 0.1 wrote them; those of that version stay as they are.

    What two versions mean by the same settings is equal in this form, and so are the keys of
    finished runs that are made of it.

    Args:
        settings: Dotted key to value as text.
        filled: Keys whose values are defaults because nothing else was said. None: a default
            counts as not said.
    """
    found = dict(settings)
    for key, value in _FIRST.items():
        if found.get(key) == value:
            del found[key]
    names = {decoder: name for name, decoder in DECODERS.items()}
    if found.get(_NAME) == TRUNK and found.get(_DECODER) in names:
        found[_NAME] = names[found.pop(_DECODER)]
    for prefix, options in _UNNAMED.items():
        values = defaults(groups("vice")[prefix])
        for name in options:
            key = f"{prefix}.{name}"
            if (found.get(key) == str(values[name])) if filled is None else (key in filled):
                found.pop(key, None)
    return found
