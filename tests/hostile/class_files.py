"""Contents of ``classes.txt``: names alone, and what people write beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

Rng = np.random.Generator


class Written:
    """Writes one of several texts, with line ends of any system.

    Args:
        *texts: Contents of the file.
    """

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def __call__(self, root: Path, rng: Rng) -> None:
        text = self.texts[int(rng.integers(len(self.texts)))]
        end = str(rng.choice(["\n", "\r\n", "\r"]))
        (root / "classes.txt").write_bytes(text.replace("\n", end).encode())


BAD = {
    "comment": Written(
        "# classes\ndark\nbright", "dark\n// bright ones\nbright", "dark # 0\nbright # 1",
        "; made by hand\ndark\nbright", "<!-- x -->\ndark\nbright", "dark\nbright\n# end",
        "#dark\nbright", "% sorted\ndark\nbright",
    ),
    "heading": Written(
        "name\ndark\nbright", "id,name\n0,dark\n1,bright", "Class Names\ndark\nbright",
        "label\ndark\nbright", "2\ndark\nbright", "index name\n0 dark\n1 bright",
        "CLASSES:\ndark\nbright", "My data\n0 dark\n1 bright",
        "id\tname\tr\tg\tb\n0\tdark\t1\t2\t3",
    ),
    "columns": Written(
        "dark 0 0 0\nbright 255 255 255", "0 dark 0 0 0\n1 bright 9 9 9", "dark\t0\nbright\t1",
        "0 0 0 dark\n9 9 9 bright", "dark\t#000000\nbright\t#ffffff", "dark, bright",
        "dark #0a0b0c\nbright #ffffff", "0,dark\n1,bright", "dark,stuff\nbright,thing",
        "dark;0\nbright;1", "dark 1\nbright 0", "dark (0, 0, 0)\nbright (1, 1, 1)",
        "dark\tDunkel\nbright\tHell", "0 dark 7 1\n1 bright 8 2", "dark|0\nbright|1",
    ),
    "markup": Written(
        '["dark", "bright"]', '[\n"dark",\n"bright"\n]', '{"0": "dark", "1": "bright"}',
        "- dark\n- bright", "names:\n- dark\n- bright", "0: dark\n1: bright", "dark: 0\nbright: 1",
        "---\ndark\nbright", "dark = 0\nbright = 1", "'dark'\n'bright'", "* dark\n* bright",
        "0. dark\n1. bright", "dark,\nbright,",
    ),
    "twice": Written(
        "background\nBackground\ndark", "traffic light\ntraffic_light", "0 dark\n0 bright",
        "background\n_background_", "dark\u200b\nbright", "dark\x0bbright\nx",
        "dark\u2028bright\nx", "dark\u202e\nbright", "da\u00adrk\nbright", "dark\nbright\u2066",
    ),
}  # fmt: skip
GOOD = Written(
    "dark\nbright", "0 dark\n1 bright", "0\tdark\n1\tbright\n255\tvoid", "class 0\nclass 1",
    "St. Bernard\nbright", "2nd floor\n1 roof", "Dunkel (Nacht)\nHell & klar", "red\ngreen\nblue",
    "building, edifice\nsky", "dark-red\ndark red 2", "天空\nstraße", "region 1\nregion 2", "0\n1",
)  # fmt: skip
