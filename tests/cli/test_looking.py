"""``predict`` and ``eval`` by tiles and by several views."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rankdet.data import Shapes


def results(folder: Path) -> list[dict[str, object]]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def test_an_image_that_is_one_tile_is_found_as_without_tiles(rankdet, trained, tmp_path):
    Shapes(length=2, seed=1, image_size=64, num_classes=3).export(tmp_path / "shapes")
    common = (
        "predict",
        "--checkpoint",
        trained / "best.ckpt",
        "shapes/images",
        "--threshold",
        "none",
        "--trust",
        "tests",
        "--batch-size",
        1,
    )
    for folder, options in {"plain": (), "one": ("--tiles", 64), "many": ("--tiles", 40, "--flip", "--whole")}.items():
        done = rankdet(*common, "--threshold", "none", "--save", "results", "--output", folder, *options)
        assert done.code == 0, done.err
    assert results(tmp_path / "plain") == results(tmp_path / "one") != results(tmp_path / "many")
    assert {row["image_id"] for row in results(tmp_path / "many")} == {1, 2}


def test_the_numbers_of_one_tile_are_those_of_the_images(rankdet, trained, tmp_path):
    numbers, trust = [], ("--trust", "tests")
    resize = ("--data.resize", "{class_path: ResizeExactly, init_args: {height: 96, width: 96}}")
    for options in (resize, (*resize, "--tiles", 64), (*resize, "--tiles", 40, "--overlap", 0.5, "--scales", "0.5,1")):
        done = rankdet("eval", "--checkpoint", trained / "best.ckpt", "--save-results", "all.json", *trust, *options)
        assert done.code == 0, done.err
        numbers.append(json.loads((tmp_path / "all.json").read_text(encoding="utf-8")))
    plain, one, many = numbers
    assert [row["bbox"] for row in plain] == [pytest.approx(row["bbox"], abs=1e-3) for row in one]
    assert one != many


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tiles", "0"], "--tiles must be a whole number from 1 on; got 0"),
        (["--tiles", "8", "--overlap", "1"], "--overlap is a part of the tile, from 0 to below 1; got 1"),
        (["--tiles", "8", "--overlap", "x"], "--overlap takes numbers, got x"),
        (["--whole"], "--whole goes with --tiles PIXELS"),
        (["--scales", "1,0"], "--scales must be above 0, as in 0.5,1,1.5; got 1,0"),
    ],
)
def test_options_that_mean_nothing_are_refused(rankdet, options, message):
    done = rankdet("predict", "--checkpoint", "absent.ckpt", "photo.jpg", "--output", "out", *options)
    assert (done.code, done.err.strip()) == (2, f"rankdet predict: {message}")


def test_detections_that_are_made_already_are_looked_at_no_more(rankdet):
    done = rankdet("eval", "--results", "a.json", "--annotations", "b.json", "--tiles", "800")
    assert "--tiles goes with --checkpoint" in done.err
