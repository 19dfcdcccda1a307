"""Imported once all that tests need is imported, by what runs or forks them; saves their time.

Garbage collection: what is imported lives on, and nobody need look through it again, as MMEngine
does for each data set. In a fork a collection would also write into every page that it shares.

Formatting: MMEngine has each config's text formatted anew each time that it writes it down.
Parsing: Hydra parses VISSL's long defaults anew for every composition of other files.
Composing: the configs that most trainings of the tests have are composed, and VISSL's defaults
read, before they are forked.
"""

import gc
import io
import pickle
import sys
from typing import Any


def format_each_text_once() -> None:
    from vice.plugins.mmseg.formatter import import_formatter

    # All workers of a test run do this in the same second.
    import_formatter()
    from yapf.yapflib import yapf_api

    real, known = yapf_api.FormatCode, {}

    def format_code(text: str, **options: Any) -> tuple[str, bool]:
        key = text, repr(options)
        if key not in known:
            known[key] = real(text, **options)
        return known[key]

    yapf_api.FormatCode = format_code


def parse_each_text_once() -> None:
    from omegaconf import OmegaConf

    real, known = OmegaConf.load, {}

    def load(file: Any) -> Any:
        if not hasattr(file, "read"):
            return real(file)
        text = file.read()
        if text not in known:
            try:
                known[text] = pickle.dumps(real(io.StringIO(text)))
            except Exception:
                # The message names the file.
                file.seek(0)
                return real(file)
        return pickle.loads(known[text])

    OmegaConf.load = staticmethod(load)


def compose_what_most_train() -> None:
    from vice.plugins.vissl.config.compose import compose
    from vice.plugins.vissl.config.known import vissl_defaults

    vissl_defaults()
    for name in ("vice/folder", "vice/demo"):
        compose([f"config={name}"])


if "mmengine" in sys.modules:
    format_each_text_once()
if "omegaconf" in sys.modules:
    parse_each_text_once()
if "vice.plugins.vissl.train" in sys.modules:
    compose_what_most_train()
gc.collect()
gc.freeze()
