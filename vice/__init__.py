"""ViCE: visual concept embeddings learnt from raw images.

The core (this package without ``vice.plugins``) needs torch, torchvision, numpy, Pillow, OpenCV and
safetensors only.
``vice.plugins.vissl`` trains through VISSL, ``vice.plugins.mmseg`` scores through MMSegmentation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vice._version import __version__

if TYPE_CHECKING:
    from vice.predictor import Predictor, load

__all__ = ["Predictor", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # Loading on first use keeps `import vice` light for command lines that only print help.
    if name in ("Predictor", "load"):
        from vice import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module 'vice' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
