"""A training or an evaluation on images that hold nothing, or all the same, says so."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import content
from tests.helpers.methods import vice_monitor
from tests.helpers.tiffs import tiff
from vice.images.content import Content
from vice.images.fingerprints import fingerprint
from vice.images.survey import content_warnings, survey_images

GOOD = {"perplexity": 20.0, "loss_over_lnk": 0.8, "regions_per_view": 40.0}


def seen(images) -> Content:
    watched = Content()
    watched.add((number, fingerprint(image)) for number, image in enumerate(images))
    return watched


def alarms(record: dict[str, float], skipped: int = 0) -> list[str]:
    monitor = vice_monitor(32, patience=2)
    record = {**GOOD, **record, "skipped_images": skipped}
    return [alarm for _ in range(4) for alarm in monitor.update(record)]


def test_flat_images_raise_an_alarm_once() -> None:
    rng = np.random.default_rng(0)
    pictures = [content.photo(rng) for _ in range(30)]
    assert alarms(seen(pictures).record()) == []
    assert alarms(seen([*pictures, *(content.flat(rng) for _ in range(20))]).record()) == []
    for make in (content.flat, content.noisy_flat):
        (alarm,) = alarms(seen([*pictures[:5], *(make(rng) for _ in range(30))]).record())
        assert "86% of the 35 images seen are of one colour" in alarm and "DATA_PATHS" in alarm


def test_copies_raise_an_alarm_once() -> None:
    pictures = [content.photo(np.random.default_rng(0))] * 40
    (alarm,) = alarms(seen(pictures).record())
    assert "only 2% of the 40 images seen differ" in alarm
    assert alarms(seen(pictures[:1]).record()) == [], "a folder of one picture is what was given"


def test_many_skipped_images_raise_an_alarm() -> None:
    rng = np.random.default_rng(0)
    record = seen([content.photo(rng) for _ in range(30)]).record()
    assert alarms(record, skipped=2) == []
    (alarm,) = alarms(record, skipped=6)
    assert "6 images have been skipped beside 30" in alarm


def test_an_image_that_comes_again_is_one_image(caplog: pytest.LogCaptureFixture) -> None:
    one = fingerprint(content.photo(np.random.default_rng(0)))
    watched = Content()
    for _ in range(30):
        watched.add([(7, one)])
    assert watched.record() == {"seen_images": 1, "flat_share": 0.0, "different_share": 1.0}
    with caplog.at_level(logging.INFO, "vice"):
        watched.warn()
        watched.warn()
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_frames_of_a_video_are_said_and_not_refused(caplog: pytest.LogCaptureFixture) -> None:
    first = content.photo(np.random.default_rng(0), (120, 160))
    frames = [np.roll(first, shift, axis=1) for shift in range(12)]
    with caplog.at_level(logging.INFO, "vice"):
        seen(frames).warn()
    assert "12 near duplicates" in caplog.text
    assert "every n-th frame" in caplog.text


def write(folder: Path, images) -> list[Path]:
    paths = []
    for number, image in enumerate(images):
        paths.append(folder / f"{number}.png")
        Image.fromarray(image).save(paths[-1])
    return paths


def test_a_survey_says_what_was_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = write(tmp_path, [content.photo(rng) for _ in range(5)])
    Image.fromarray(content.photo(rng)[..., 0]).save(tmp_path / "grey.jpg")
    (tmp_path / "infrared.tif").write_bytes(tiff(np.ones((4, 4, 4), np.uint8), 2))
    paths += [tmp_path / "grey.jpg", tmp_path / "infrared.tif"]
    survey = survey_images(paths)
    text = str(survey)
    assert text.startswith("all images looked at: 5 RGB, 8 bits, values 0 to 255; 1 grey, 8 bits")
    assert text.endswith("1 that cannot be used")
    assert "infrared.tif" in str(survey.refused[0])
    assert survey.describe()["formats"]["RGB, 8 bits"]["images"] == 5
    sample = survey_images(paths * 20, most=10)
    assert (sample.looked, sample.total) == (10, 140) and "10 of 140 images" in str(sample)


def test_warnings_of_a_survey(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    good = survey_images(write(tmp_path, [content.photo(rng) for _ in range(6)]))
    assert content_warnings(good.duplicates()) == []
    same = survey_images(write(tmp_path, [content.photo(rng)] * 6)).duplicates()
    assert same.repeated == 5 and "same pictures" in content_warnings(same)[0]
    flat = survey_images(write(tmp_path, [content.flat(rng) for _ in range(6)])).duplicates()
    assert flat.flat == 6 and "of one colour" in content_warnings(flat)[0]


def test_training_says_so_before_it_starts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("vissl")
    from vice.errors import UserError
    from vice.images.survey import look_at_images

    rng = np.random.default_rng(0)
    write(tmp_path, [content.flat(rng) for _ in range(4)])
    with caplog.at_level(logging.INFO, "vice"):
        look_at_images(tmp_path)
    assert "4 RGB, 8 bits" in caplog.text
    assert "ALARM: of those that were looked at, 4 of 4 images are of one colour" in caplog.text
    for number in range(5):
        (tmp_path / f"deep{number}.tif").write_bytes(tiff(np.ones((4, 4), np.uint16), 1))
    with pytest.raises(UserError, match=r"5 of 9 images .* cannot be trained on.*deep0\.tif"):
        look_at_images(tmp_path)
