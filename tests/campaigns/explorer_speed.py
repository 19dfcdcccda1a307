#!/usr/bin/env python
"""Times the explorer of a large folder in headless Chromium; a tool for developers.

Its data is made up: vectors of a few hundred clusters on a grid, pictures of noise. Times are the
page's own: until everything is drawn after the page was asked for, and for a click, from the event
to the next frame, as the browser measures it (Event Timing, in steps of 8 ms). Beside each stands
the CPU time of the page's thread: the former grows with what else the machine computes.

Example:
    python -m tests.campaigns.explorer_speed --images 2000
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from tests.helpers.browser import Browser, browsing, find_browser
from vice.cli import run
from vice.errors import UserError
from vice.explore.compressed_vectors import Compression
from vice.explore.explorer_files import INDEX, ExplorerFiles, encoded
from vice.explore.explorer_pass import CELLS, REGIONS, grid_of
from vice.visualize.maps import palette

DIM, KINDS = 128, 200


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=2000, help="how many (2000)")
    parser.add_argument("--concepts", type=int, default=24, help="how many (24)")
    parser.add_argument("--keep", type=Path, help="folder for the explorer, used again if there")
    parser.add_argument("--clicks", type=int, default=20, help="how many are timed (20)")
    args = parser.parse_args()
    if find_browser() is None:
        raise UserError("there is no Chromium here: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        place = args.keep or Path(folder)
        page = place / INDEX
        if not page.exists():
            page = make(place, args.images, args.concepts)
        size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
        print(f"{args.images} images of 640 x 480: {size / 2**20:.0f} MiB")
        with browsing() as browser:
            measure(browser, page, args.clicks)


def make(folder: Path, images: int, concepts: int) -> Path:
    """An explorer of made-up images, written by the parts that write real ones."""
    rng = np.random.default_rng(0)
    centers = F.normalize(torch.from_numpy(rng.normal(size=(KINDS, DIM))).float(), dim=1)
    compression = Compression.fit(centers)
    files = ExplorerFiles(folder)
    files.begin(images)
    files.prepare(images, CELLS, compression.directions.shape[1])
    size = (480, 640)
    regions, cells = grid_of(size, REGIONS), grid_of(size, CELLS, whole=True)
    picture = rng.integers(0, 256, (480, 640, 3), np.uint8)
    codes, listed = [], []
    for number in range(images):
        kinds = rng.integers(0, KINDS, 6)
        for grid, keep in ((regions, codes.append), (cells, None)):
            owner = kinds[(np.indices(grid).sum(0) * 6 // sum(grid)).ravel()]
            noise = torch.from_numpy(rng.normal(0, 0.04, (len(owner), DIM))).float()
            found = compression.encode(F.normalize(centers[owner] + noise, dim=1))
            if keep:
                keep(found)
            else:
                files.write_map(number, grid, found)
        files.write_pictures(number, np.roll(picture, number, 1))
        listed.append((f"{number:05d}.jpg", 640, 480, *regions, True))
    colors = ["#" + bytes(color.tolist()).hex() for color in palette(concepts)]
    return files.finish(
        {
            "images": listed, "unread": [], "exactness": "", "metric": "cosine", "dim": DIM,
            "model": {"name": "made up", "weights": "0", "dim": DIM},
            "directions": encoded(compression.directions.numpy()),
            "steps": compression.steps.tolist(), "palette": colors,
            "clusters": {"digest": "0", "count": concepts, "seed": 0},
            "concepts": [
                {"name": f"concept {k}", "color": colors[k], "vectors": [centers[k].tolist()]}
                for k in range(concepts)
            ],
        },
        np.concatenate(codes),
    )  # fmt: skip


def measure(browser: Browser, page: Path, clicks: int) -> None:
    browser.call("Performance.enable", timeDomain="threadTicks")
    opened, used = [], []
    for _ in range(3):
        browser.open(page)
        browser.wait("Explorer.started")
        opened.append(browser.run("Explorer.started"))
        used.append(cpu(browser))
    wall, own = statistics.median(opened), statistics.median(used)
    print(f"opens in {wall:.0f} ms (median of {len(opened)}, greatest {max(opened):.0f}), "
          f"{own:.0f} ms of CPU time")  # fmt: skip
    browser.run("""new PerformanceObserver((list) => {
        window.timed = (window.timed || []).concat(
            list.getEntries().filter(e => e.name === "click").map(e => e.duration));
    }).observe({type: "event", durationThreshold: 16, buffered: false})""")
    rng = np.random.default_rng(1)
    browser.click(".tile")
    browser.wait("Explorer.viewer.ready")
    browser.run("window.timed = []")
    begun = cpu(browser)
    for _ in range(clicks):
        browser.click("#heat", *rng.uniform(0.02, 0.98, 2))
        time.sleep(0.3)
    each = (cpu(browser) - begun) / clicks
    seen = browser.run("window.timed")
    # Event Timing reports no event below its threshold of 16 ms.
    seen += [16.0] * (clicks - len(seen))
    print(f"a click is answered in {statistics.median(seen):.0f} ms to the next frame (median of "
          f"{clicks}, greatest {max(seen):.0f}), {each:.0f} ms of CPU time with all that it "
          "draws")  # fmt: skip
    for name, action in (
        ("merging two", "merge(list.slice(0, 2).map(c => c.id))"),
        ("splitting one", "split(list[5].id, 2)"),
        ("undoing", "undo()"),
    ):
        begun = cpu(browser)
        browser.run(f"(() => {{ const {{ list }} = Explorer.concepts; "
                    f"Explorer.concepts.{action}; }})()")  # fmt: skip
        print(f"{name}: {cpu(browser) - begun:.0f} ms of CPU time")


def cpu(browser: Browser) -> float:
    """Milliseconds of CPU time that the page's thread has taken since it was loaded."""
    metrics = browser.call("Performance.getMetrics")["metrics"]
    return 1000 * next(each["value"] for each in metrics if each["name"] == "ThreadTime")


if __name__ == "__main__":
    run(main)
