"""The words of the command ``vice``, and what stands behind each.

Most are scripts of ``tools/``, which run as they are; their help and messages then name the word.
Nothing that needs more than the standard library is imported before a word is known.
"""

from __future__ import annotations

import os
import runpy
import sys
import textwrap
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from vice._version import __version__
from vice.errors import UserError
from vice.nearest import close_names
from vice.runtime import interrupts
from vice.runtime.answers import answer, say

#: What people come for: the word, what it does, and a script of ``tools/`` or a module here.
WORDS = {
    "train": ("train on a folder of images, or by a named config", "vice.command.train"),
    "explore": ("a page to look at a folder's concepts and name them", "vice.command.explore"),
    "segment": ("masks of a folder of images by a model's concepts", "vice.command.segment"),
    "export-masks": ("masks in the formats of other programs", "vice.command.export_masks"),
    "export": ("a model in other programs: ONNX, TorchScript, timm, ...", "vice.command.export"),
    "select": ("which images of a folder to label first", "vice.command.select"),
    "score": ("score a model on labelled images, several read-outs at once", "score.py"),
    "compare": ("put results side by side", "compare.py"),
    "prepare": ("put a benchmark where training and scoring expect it", "prepare_data.py"),
    "demo": ("train on a small set, score, and write a report", "demo.py"),
    "info": ("what is installed, or what a model is", "vice.command.info"),
    "install": ("install what training or scoring needs", "vice.command.install"),
}
#: The other scripts, under their own names.
FURTHER = {
    "eval-linear": "eval_linear.py",
    "eval-cluster": "eval_cluster.py",
    "eval-retrieval": "eval_retrieval.py",
    "eval-position": "eval_position.py",
    "eval-boundaries": "eval_boundaries.py",
    "score-masks": "score_masks.py",
    "finetune": "finetune.py",
    "cache-superpixels": "cache_superpixels.py",
    "repeat": "repeat.py",
    "reproduce": "reproduce.py",
    "benchmark": "benchmark.py",
}


def main(words: Sequence[str] | None = None) -> None:
    """Runs ``vice WORD ...`` and ends the process with its exit status.

    Args:
        words: Without the program's name; None takes those of the process.
    """
    given = list(sys.argv[1:] if words is None else words)
    word = given[0] if given else "--help"
    if word in ("-h", "--help", "help"):
        _answer(help_text())
        return
    if word in ("-V", "--version"):
        _answer(f"vice-embeddings {__version__}")
        return
    target = WORDS[word][1] if word in WORDS else FURTHER.get(word)
    if target is None:
        _refuse(word)
    from vice import cli
    from vice.command.conflict import other_package

    if said := other_package():
        _end(said)
    cli.program = f"vice {word}"
    if target.endswith(".py"):
        from vice.paths import tool

        sys.argv = [str(tool(target)), *given[1:]]
        runpy.run_path(sys.argv[0], run_name="__main__")
        return
    sys.argv = [cli.program, *given[1:]]
    # srun starts the command once on each node of a job.
    command = import_module(target)
    joins = "SLURM_STEP_NUM_TASKS" in os.environ
    cli.run(command.main, joins=joins, kept=getattr(command, "KEPT", ""))


def help_text() -> str:
    """What ``vice --help`` prints."""
    width = max(map(len, WORDS))
    lines = [f"  {word:<{width}}  {what}" for word, (what, _) in WORDS.items()]
    return "\n".join(
        [
            f"vice {__version__}: visual concept embeddings from raw images",
            "",
            "usage: vice WORD ...     (vice WORD --help says more)",
            "",
            *lines,
            "",
            *textwrap.wrap(f"further: {', '.join(FURTHER)}", 78, break_on_hyphens=False),
            "Each is a script of tools/, which messages and pages also name: tools/score.py is",
            "vice score, tools/run_distributed.py is vice train.",
        ]
    )


def _refuse(word: str) -> NoReturn:
    scripts = {script: name for name, (_, script) in WORDS.items()}
    scripts |= {script: name for name, script in FURTHER.items()} | {"run_distributed.py": "train"}
    name = scripts.get(f"{word.removesuffix('.py')}.py")
    near = [name] if name else close_names(word, [*WORDS, *FURTHER], most=1)
    meant = f"did you mean vice {near[0]}?" if near else "vice --help lists what it can do"
    _end(f"vice knows no {word!r}; {meant}")


def _end(message: str) -> NoReturn:
    say(f"error: {message}")
    interrupts.give_up_unread()
    sys.exit(2)


def _answer(text: str) -> None:
    """`vice.runtime.answers.answer`, ended as `vice.cli.run` ends it, which would load more."""
    try:
        answer(text)
    except UserError as error:
        _end(str(error))
    except OSError:
        interrupts.give_up_unread()
        sys.exit(interrupts.UNREAD)
