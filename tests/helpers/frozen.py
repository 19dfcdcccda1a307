"""Imported once all that tests need is imported, by what runs or forks them; saves their time.

Garbage collection: what is imported lives on, and nobody need look through it again, as MMEngine
does for each data set. In a fork a collection would also write into every page that it shares.

Formatting: MMEngine has each config's text formatted anew each time that it writes it down.
"""

import gc
import sys
from typing import Any


def format_each_text_once() -> None:
    from yapf.yapflib import yapf_api

    real, known = yapf_api.FormatCode, {}

    def format_code(text: str, **options: Any) -> tuple[str, bool]:
        key = text, repr(options)
        if key not in known:
            known[key] = real(text, **options)
        return known[key]

    yapf_api.FormatCode = format_code


if "mmengine" in sys.modules:
    format_each_text_once()
gc.collect()
gc.freeze()
