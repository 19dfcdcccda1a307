"""The explorer in a real browser: what is clicked, what it says, and what it downloads."""

from __future__ import annotations

import csv
import json
import sys

import numpy as np
import pytest
import torch.nn.functional as F
from PIL import Image

import vice
from tests.helpers.browser import CONTRAST, CTRL, SHIFT, Browser, browsing, find_browser
from tests.helpers.content import photo
from vice.command import explore, segment
from vice.explore.explorer_pass import REGIONS, grid_of
from vice.explore.mask_files import read_mask
from vice.explore.named_concepts import read_named

pytestmark = pytest.mark.skipif(find_browser() is None, reason="there is no Chromium here")
MODEL, CLUSTERS = "random:resnet18-fpn-8", 5
NAMES = ("a.png", "b.png", "c.png", "inner/a & <b>.png")


def ran(command, *words):
    before, sys.argv = sys.argv, ["vice", *map(str, words)]
    try:
        command.main()
    finally:
        sys.argv = before


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs of several sizes, one of them in a folder, and a broken file."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    (root / "inner").mkdir()
    for name, size in zip(NAMES, ((96, 128), (128, 96), (300, 400), (64, 256)), strict=True):
        Image.fromarray(photo(rng, size)).save(root / name)
    (root / "broken.png").write_bytes(b"")
    return root


@pytest.fixture(scope="module")
def explorer(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "explorer"
    ran(explore, MODEL, folder, "--clusters", CLUSTERS, "-o", out, "--device", "cpu")
    return out


@pytest.fixture(scope="module")
def browser():
    with browsing() as found:
        yield found


@pytest.fixture
def page(browser: Browser, explorer):
    """The explorer as it is first seen; nothing in it may fail."""
    browser.resize(1400, 900)
    browser.faults.clear()
    browser.open(explorer / "index.html")
    browser.wait("Explorer.started")
    yield browser
    assert browser.faults == []
    browser.run("localStorage.clear()")


@pytest.fixture(scope="module")
def predictor():
    return vice.load(MODEL, device="cpu")


def regions_of(predictor, folder):
    """Unit vectors of all regions, by the model alone; and how many each image has."""
    found = []
    for name in NAMES:
        dense = predictor.embed(folder / name, "native")
        with Image.open(folder / name) as image:
            grid = grid_of(image.size[::-1], REGIONS)
        grid = tuple(map(min, grid, dense.shape[1:]))
        pooled = F.normalize(F.adaptive_avg_pool2d(dense, grid), dim=0)
        found.append(pooled.flatten(1).T.numpy())
    return found


def content(page):
    """What the page would download."""
    return json.loads(page.run("JSON.stringify(Explorer.saved.content())"))


def with_first(page, **change):
    """What would be downloaded, with one concept changed."""
    made = content(page)
    made["concepts"][0] |= change
    return made


def names(page):
    return page.run("Explorer.concepts.list.filter(c => !c.dropped).map(c => c.name)")


def card(page, name):
    """Selector of the card of a concept."""
    number = page.run(f"Explorer.concepts.list.find(c => c.name === {json.dumps(name)}).id")
    return f'#cards [data-id="{number}"]'


def tick(page, *which):
    for name in which:
        page.click(f"{card(page, name)} input[type=checkbox]")


def rename(page, old, new):
    page.click(f"{card(page, old)} input[type=text]")
    page.run("document.activeElement.select()")
    page.type(new)
    page.key("Enter")


def nearest(vectors, concepts):
    flat = np.array([vector for each in concepts for vector in each["vectors"]])
    owner = np.repeat(np.arange(len(concepts)), [len(each["vectors"]) for each in concepts])
    return owner[(vectors @ flat.T).argmax(1)]


def test_shows_the_folder_and_its_clusters(page, folder, predictor):
    shown = page.run("Explorer.facts.images.map(image => image.name)")
    assert shown == list(NAMES)
    assert page.run("document.querySelectorAll('.tile img').length") == len(NAMES)
    assert page.wait("[...document.querySelectorAll('.tile img')].every(i => i.naturalWidth > 0)")
    assert "broken.png" in page.run("document.getElementById('unread').textContent")
    assert page.run("document.querySelectorAll('.card').length") == CLUSTERS
    regions = np.concatenate(regions_of(predictor, folder))
    wanted = nearest(regions, content(page)["concepts"])
    assert np.mean(np.array(page.run("[...Explorer.concepts.regionConcepts]")) == wanted) > 0.97


def test_a_click_lights_up_what_is_similar_and_orders_the_images(page, folder, predictor):
    page.click(".tile[data-number='2']")
    page.wait("Explorer.viewer.ready")
    page.click("#heat", 0.3, 0.6)
    assert page.run("document.getElementById('cross').hidden") is False
    dense = predictor.embed(folder / NAMES[2], "native")
    columns, rows = page.run("[document.getElementById('heat').width, "
                             "document.getElementById('heat').height]")  # fmt: skip
    cells = F.normalize(F.adaptive_avg_pool2d(dense, (rows, columns)), dim=0)
    query = cells[:, int(0.6 * rows), int(0.3 * columns)].numpy()
    best = np.array([(vectors @ query).max() for vectors in regions_of(predictor, folder)])
    order = page.run("Explorer.grid.order")
    badges = page.run("[...document.querySelectorAll('.tile .badge')].map(b => b.textContent)")
    assert sorted(order) == list(range(len(NAMES)))
    assert np.array(badges, float) == pytest.approx(best[order], abs=0.02)
    assert all(np.diff(np.array(badges, float)) <= 0)
    # The brightest cell is like the pixel, the darkest is not.
    heat = np.array(page.run("[...document.getElementById('heat').getContext('2d')"
                             ".getImageData(0, 0, 1e4, 1e4).data]".replace(
                                 "0, 0, 1e4, 1e4", f"0, 0, {columns}, {rows}")))  # fmt: skip
    red = heat.reshape(rows, columns, 4)[..., 0]
    similar = np.einsum("dhw,d->hw", cells.numpy(), query)
    assert np.corrcoef(red.ravel(), similar.ravel())[0, 1] > 0.8
    assert page.run("document.querySelectorAll('.tile .mark').length") == len(NAMES)
    # What was clicked is said by its name of now, and of the image that is open.
    said = "document.getElementById('said').textContent"
    clicked = page.run(said).removeprefix("This pixel is ").partition(".")[0]
    rename(page, clicked, "clicked")
    assert page.run(said).startswith("This pixel is clicked.")
    page.click("#next")
    page.wait("Explorer.viewer.ready && Explorer.viewer.number !== 2")
    assert page.run(said).startswith("Click a pixel")
    page.click("#all")
    assert page.run("Explorer.grid.order") == list(range(len(NAMES)))


def test_a_patch_opens_its_image_and_frames_its_region(page):
    page.click(f"{card(page, 'concept 1')} .patch")
    page.wait("Explorer.viewer.ready")
    place = page.run("""(() => { const { list, typical } = Explorer.concepts;
        return Explorer.box(typical(list.find(c => c.name === 'concept 1'))[0]); })()""")
    assert page.run("Explorer.viewer.number") == place["number"]
    framed = page.run("""(() => {
        const [box, whole] = [frame, heat].map((element) => element.getBoundingClientRect());
        return { left: (box.left - whole.left) / whole.width, width: box.width / whole.width,
            top: (box.top - whole.top) / whole.height, height: box.height / whole.height };
    })()""")
    for side, share in framed.items():
        assert share == pytest.approx(place[side], abs=0.005), side
    # What lies under the frame can be clicked.
    middle = (place["left"] + place["width"] / 2, place["top"] + place["height"] / 2)
    page.click("#heat", *middle)
    assert page.run("document.getElementById('cross').hidden") is False
    page.click("#all")
    page.key("[" if place["number"] else "]")
    page.wait(f"Explorer.viewer.ready && Explorer.viewer.number !== {place['number']}")
    assert page.run("document.getElementById('frame').hidden")
    # White sky on a white card has an edge.
    patch = "getComputedStyle(document.querySelector('.patch'))"
    assert "inset" in page.run(f"{patch}.boxShadow")


def test_the_keyboard_is_enough(page):
    page.run("document.querySelector('.tile').focus()")
    page.key("ArrowRight")
    assert page.run("document.activeElement.dataset.number") == "1"
    page.key("Enter")
    page.wait("Explorer.viewer.ready && Explorer.viewer.number === 1")
    assert page.run("document.activeElement.id") == "heat"
    for _ in range(3):
        page.key("ArrowDown", SHIFT)
    page.key("Enter")
    assert "Most similar to a pixel of b.png" in page.run("document.body.innerText")
    page.key("Escape")
    assert page.run("document.getElementById('viewer').hidden")
    assert page.run("document.activeElement.dataset.number") == "1"
    # Names one after the other.
    page.run("document.querySelector('.card input[type=text]').focus()")
    for name in ("one", "two"):
        page.run("document.activeElement.select()")
        page.type(name)
        page.key("Enter")
    shown = page.run("[...document.querySelectorAll('.card input[type=text]')].map(i => i.value)")
    assert shown[:2] == ["one", "two"]
    assert page.run("document.activeElement.value") == shown[2]
    tick(page, "one", "two")
    ticked = page.run("document.getElementById('ticked').textContent")
    assert ticked.startswith("2 ticked: ") and {"one", "two"} == set(ticked[10:].split(", "))
    page.run("document.activeElement.blur()")
    page.key("m")
    assert len(names(page)) == CLUSTERS - 1
    page.key("z", CTRL)
    assert len(names(page)) == CLUSTERS
    page.key("z", CTRL | SHIFT)
    assert len(names(page)) == CLUSTERS - 1


def test_named_merged_split_dropped_undone_downloaded_and_applied(
    page, folder, predictor, explorer, tmp_path
):
    begun = content(page)
    vectors = {each["name"]: each["vectors"][0] for each in begun["concepts"]}
    # Named: a name belongs to one concept alone.
    rename(page, "concept 1", "sky, <b>&")
    rename(page, "concept 2", "sky, <b>&")
    assert "Another concept is called sky" in page.run("Explorer.told")
    assert {"sky, <b>&", "sky, <b>& 2"} <= set(names(page))
    page.click("#undo")
    page.run(f"""(() => {{ const color = document.querySelector('{card(page, "concept 3")} '
        + 'input[type=color]'); color.value = '#12ab34';
        color.dispatchEvent(new Event('change')); }})()""")
    # Merged: both vectors, and the name that a person gave.
    tick(page, "sky, <b>&", "concept 2")
    page.click("#merge")
    merged = next(e for e in content(page)["concepts"] if e["name"] == "sky, <b>&")
    assert merged["vectors"] == [vectors["concept 1"], vectors["concept 2"]]
    # Split: unit vectors; each region of the one that was split is nearest to some vector.
    largest = page.run("""(() => { const { list, share } = Explorer.concepts;
        return [...list].filter(c => c.vectors.length === 1 && c.name !== 'concept 3')
            .sort((a, b) => share(b) - share(a))[0].name; })()""")
    before = page.run("[...Explorer.concepts.regionConcepts]")
    tick(page, largest)
    page.click("#split")
    parts = [e for e in content(page)["concepts"] if e["name"] in (f"{largest}.1", f"{largest}.2")]
    assert [len(e["vectors"]) for e in parts] == [1, 1] and largest not in names(page)
    assert np.linalg.norm([e["vectors"][0] for e in parts], axis=1) == pytest.approx(1, abs=1e-5)
    assert len({e["color"] for e in content(page)["concepts"]}) == len(names(page))
    page.click("#undo")
    assert page.run("[...Explorer.concepts.regionConcepts]") == before
    page.click("#redo")
    assert f"{largest}.1" in names(page)
    # Dropped: its vectors still compete.
    tick(page, f"{largest}.2")
    page.click("#drop")
    saved = content(page)
    assert [e["name"] for e in saved["dropped"]] == [f"{largest}.2"]
    page.click("#download")
    file = page.downloaded("concepts.json")
    assert json.loads(file.read_text()) == saved
    assert not page.run("Explorer.concepts.unsaved")
    # Opened again on a new page: the same.
    page.open(explorer / "index.html")
    page.wait("Explorer.started")
    page.choose_file("#file", file)
    page.wait("Explorer.concepts.list.some(c => c.dropped)")
    assert content(page) == saved
    applied(folder, predictor, file, saved, tmp_path / "masks")
    file.unlink()


def applied(folder, predictor, file, saved, out):
    """Masks are those of the vectors in the file, by NumPy on the model's own embedding."""
    ran(segment, MODEL, folder, "--concepts", file, "-o", out, "--device", "cpu")
    kept, dropped = saved["concepts"], saved["dropped"]
    for name in NAMES:
        labels = read_mask((out / "masks" / name).with_suffix(".png"))
        dense = predictor.embed(folder / name).flatten(1).T.numpy()
        wanted = nearest(dense, [*kept, *dropped]).reshape(labels.shape)
        wanted[wanted >= len(kept)] = 255
        # Pixels between two cells: interpolated scores and interpolated unit vectors differ.
        assert np.mean(labels == wanted) > 0.99
        with Image.open((out / "masks" / name).with_suffix(".png")) as mask:
            colors = np.asarray(mask.convert("RGB"))
        for number, each in enumerate(kept):
            wanted_color = [int(each["color"][at : at + 2], 16) for at in (1, 3, 5)]
            assert (colors[labels == number] == wanted_color).all()
        assert (colors[labels == 255] == 0).all()
    with (out / "summary.csv").open(newline="") as table:
        header = next(csv.reader(table))
    assert header[4:] == [each["name"] for each in kept] + ["dropped"]


def shown_names(page):
    return page.run("[...document.querySelectorAll('#cards input[type=text]')].map(i => i.value)")


def test_parts_of_a_split_stay_beside_each_other(page):
    rename(page, "concept 2", "tree")
    page.run("document.getElementById('parts').value = '3'")
    tick(page, "tree")
    page.click("#split")
    tick(page, "tree 1")
    page.run("document.getElementById('parts').value = '2'")
    page.click("#split")
    shown = shown_names(page)
    places = [place for place, name in enumerate(shown) if name.startswith("tree")]
    parts = [shown[place] for place in places]
    assert sorted(parts) == ["tree 1.1", "tree 1.2", "tree 2", "tree 3"]
    assert places == list(range(places[0], places[0] + 4))
    shares = dict(page.run("Explorer.concepts.list.map(c => [c.name, Explorer.concepts.share(c)])"))
    assert parts == sorted(parts, key=shares.get, reverse=True)
    groups = [sum(shares[name] for name in parts), *(shares[n] for n in shown if n not in parts)]
    assert sorted(groups, reverse=True).index(groups[0]) == places[0]


def test_a_concept_is_made_of_what_is_similar_to_a_pixel(page, folder, predictor):
    assert page.run("document.getElementById('making').checkVisibility()") is False
    page.click(".tile[data-number='2']")
    page.wait("Explorer.viewer.ready")
    page.click("#heat", 0.3, 0.6)
    low, least = page.run("[Number(least.min), Number(least.value)]")
    assert low < least < 1
    page.run("least.focus()")
    for _ in range(3):
        page.key("ArrowRight")
    least = page.run("Number(least.value)")
    assert page.run("document.getElementById('least-is').textContent") == f"{least:.2f}"
    columns, rows = page.run("[heat.width, heat.height]")
    dense = predictor.embed(folder / NAMES[2], "native")
    cells = F.normalize(F.adaptive_avg_pool2d(dense, (rows, columns)), dim=0)
    query = cells[:, int(0.6 * rows), int(0.3 * columns)].numpy()
    # What is less similar is dark.
    pixels = page.run(f"[...heat.getContext('2d').getImageData(0, 0, {columns}, {rows}).data]")
    dark = np.array(pixels).reshape(rows, columns, 4)[..., 0] < 20
    similar = np.einsum("dhw,d->hw", cells.numpy(), query)
    assert np.mean(dark == (similar < least)) > 0.97
    regions = regions_of(predictor, folder)
    every, areas = np.concatenate(regions), []
    for name, vectors in zip(NAMES, regions, strict=True):
        with Image.open(folder / name) as image:
            areas += [image.width * image.height / len(vectors)] * len(vectors)
    members = every @ query >= least
    said = float(page.run("document.getElementById('so-similar').textContent").split()[0])
    assert said == pytest.approx(100 * np.average(members, weights=areas), abs=1.5)
    page.run("document.activeElement.blur()")
    before = content(page)["concepts"]
    page.key("c")
    assert page.run("document.activeElement.value") == f"concept {CLUSTERS + 1}"
    page.type("lamp")
    page.key("Enter")
    made = content(page)["concepts"]
    assert made[:-1] == before and made[-1]["name"] == "lamp"
    assert made[-1]["color"] not in [each["color"] for each in before]
    center = every[members].mean(0)
    vector = np.array(made[-1]["vectors"][0])
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert vector @ center / np.linalg.norm(center) > 0.999
    owned = np.array(page.run("[...Explorer.concepts.regionConcepts]"))
    assert np.mean(owned == nearest(every, made)) > 0.97
    assert (owned == CLUSTERS).any() and "Name it" in page.run("Explorer.told")
    page.click("#undo")
    page.click("#undo")
    assert content(page)["concepts"] == before
    page.click("#all")
    assert page.run("document.getElementById('making').checkVisibility()") is False
    page.run("document.activeElement.blur()")
    page.key("c")
    assert page.run("Explorer.told") == "Click a pixel of an image first."


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ("road  side ", "road side"),
        ("پیاده\u200cرو", "پیاده\u200cرو"),
        ("👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"),
        ("a\u202eb\xadc\u200bd\x07", "abcd"),
        (f"{'x' * 79}😀y", f"{'x' * 79}😀"),
    ],
)
def test_a_name_is_one_that_the_commands_take(typed, named, page, predictor, tmp_path):
    page.run("Explorer.told = ''")
    page.run(f"""(() => {{ const name = document.querySelector(
        '{card(page, "concept 1")} input[type=text]'); name.value = {json.dumps(typed)};
        name.dispatchEvent(new Event('change')); }})()""")
    assert named in names(page) and "Another concept" not in (page.run("Explorer.told") or "")
    (tmp_path / "concepts.json").write_text(json.dumps(content(page)))
    assert named in read_named(tmp_path / "concepts.json", predictor).names


def test_of_a_file_only_directions_count(page, tmp_path):
    before = page.run("[...Explorer.concepts.regionConcepts]")
    changed = content(page)
    for factor, entry in zip((2.0, 0.1, 1e-300, 3e37, 1.0), changed["concepts"], strict=True):
        entry["vectors"] = (np.array(entry["vectors"]) * factor).tolist()
        entry["name"] = f"times {factor}"
    (tmp_path / "concepts.json").write_text(json.dumps(changed))
    page.choose_file("#file", tmp_path / "concepts.json")
    page.wait("Explorer.concepts.list.some(c => c.name === 'times 2.0')")
    assert page.run("[...Explorer.concepts.regionConcepts]") == before
    vectors = [entry["vectors"][0] for entry in content(page)["concepts"]]
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_what_the_page_refuses(page, tmp_path):
    for text, said in (
        ("{", "no JSON"),
        ('{"format": "other"}', "no concepts of ViCE"),
        (json.dumps({**content(page), "model": {"weights": "x"}}), "another model"),
        (json.dumps({**content(page), "concepts": [{"name": "a"}]}), "not whole"),
        (json.dumps(with_first(page, name="\u202e ")), "not whole"),
        (json.dumps(with_first(page, vectors=[[0] * 8])), "not whole"),
        (json.dumps(with_first(page, vectors=[[1e39] * 8])), "not whole"),
    ):
        (tmp_path / "concepts.json").write_text(text)
        page.choose_file("#file", tmp_path / "concepts.json")
        page.wait(f"(Explorer.told || '').includes({json.dumps(said)})")
    page.run("document.querySelectorAll('.card input[type=checkbox]').forEach(t => t.click())")
    page.click("#drop")
    assert "At least one concept has to stay" in page.run("Explorer.told")
    assert len(names(page)) == CLUSTERS


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_can_be_read_and_used_at_any_width(page, width, scheme):
    page.scheme(scheme)
    page.resize(width, 800)
    page.click("#help")
    page.click(".tile")
    page.wait("Explorer.viewer.ready")
    page.click("#heat", 0.5, 0.5)
    contrasts = [page.run(CONTRAST)]
    if width == 400:
        page.click("#show-concepts")
    tick(page, "concept 1")
    # Hovered and pressed: the mouse lies there still.
    contrasts.append(page.run(CONTRAST))
    assert all(ratio >= 4.5 for ratio, _ in contrasts), contrasts
    assert page.run("document.documentElement.scrollWidth") <= width
    small = page.run("""[...document.querySelectorAll("button, input, select")]
        .filter(e => e.checkVisibility() && !e.matches(".patch"))
        .map(e => [e.getBoundingClientRect(), e.outerHTML.slice(0, 80)])
        .filter(([box]) => box.height < 20 || box.width < 20 || box.right > innerWidth + 0.5)
        .map(([, html]) => html)""")
    assert small == []


def test_a_model_whose_lengths_count(browser, folder, tmp_path):
    """Lab: distances instead of cosines, in the page as in the masks."""
    ran(explore, "lab", folder, "--clusters", 4, "-o", tmp_path / "lab", "--device", "cpu")
    browser.resize(1400, 900)
    browser.faults.clear()
    browser.open(tmp_path / "lab" / "index.html")
    browser.wait("Explorer.started")
    tick(browser, "concept 1")
    browser.click("#split")
    saved = content(browser)
    assert len(saved["concepts"]) == 5
    browser.click("#download")
    file = browser.downloaded("concepts.json")
    ran(segment, "lab", folder, "--concepts", file, "-o", tmp_path / "masks", "--device", "cpu")
    file.unlink()
    points = np.array([each["vectors"][0] for each in saved["concepts"]])
    dense = vice.load("lab", device="cpu").embed(folder / "a.png").flatten(1).T.numpy()
    wanted = ((dense[:, None] - points) ** 2).sum(2).argmin(1)
    labels = read_mask(tmp_path / "masks" / "masks" / "a.png")
    assert np.mean(labels.ravel() == wanted) > 0.999
    assert browser.faults == []


def test_what_was_made_is_there_again_after_a_crash(page, explorer, folder, tmp_path_factory):
    rename(page, "concept 2", "tree")
    made = page.run("JSON.stringify(Explorer.saved.content())")
    # The page is left without a download, as in a crash.
    page.open(explorer / "index.html")
    page.wait("Explorer.started")
    assert "Gone on with what was made here before" in page.run("Explorer.told")
    assert page.run("JSON.stringify(Explorer.saved.content())") == made
    # Other clusters are another page.
    other = tmp_path_factory.mktemp("other") / "explorer"
    ran(explore, MODEL, folder, "--clusters", 3, "-o", other, "--device", "cpu")
    page.open(other / "index.html")
    page.wait("Explorer.started")
    assert not page.run("Explorer.concepts.list.some((concept) => concept.named)")
    # Beginning anew is one step.
    page.open(explorer / "index.html")
    page.wait("Explorer.started")
    page.run("document.getElementById('undo').click()")
    assert not page.run("Explorer.concepts.list.some((concept) => concept.named)")
    page.open(explorer / "index.html")
    page.wait("Explorer.started")
    assert not page.run("Explorer.concepts.canUndo")
