"""Files that other tools write, through the commands: what can be understood is, and what cannot is refused in time."""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rankdet.eval import evaluate

Content = dict[str, Any]


def rewritten(folder: Path, change: Callable[[Content], object]) -> Path:
    file = folder / "annotations.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return file


def on(file: Path) -> tuple[object, ...]:
    return ("--data.train", file, "--data.val", file)


def strange_names(content: Content) -> None:
    for name, category in zip(("round\ncell", "细胞", 7), content["categories"], strict=True):
        category["name"] = name


def in_text(content: Content) -> None:
    for item in content["annotations"]:
        item |= {key: str(item[key]) for key in ("id", "image_id", "category_id", "iscrowd", "area")}
    for image in content["images"]:
        image |= {key: str(image[key]) for key in ("id", "height", "width")}


def same_ids(content: Content) -> None:
    for item in content["annotations"]:
        item["id"] = 7


def flat_masks(content: Content) -> None:
    for item in content["annotations"]:
        x, y, width, height = item["bbox"]
        item["segmentation"] = [x, y, x + width, y, x + width, y + height]


READ = {
    "names": (strange_names, "3: round cell, 细胞, 7", "name-not-in-text"),
    "text": (in_text, "'image_id' of annotations in text, read as a number", "number-in-text"),
    "ids": (same_ids, "annotation with the id of another, numbered anew", "annotation-id-collision"),
    "flat": (flat_masks, "mask written as a flat list [x1, y1, ...], read as one polygon", "mask-in-another-form"),
}


@pytest.mark.parametrize("case", READ)
def test_what_can_be_understood_is_trained_on_and_found_by_check(rankdet, tiny: Path, coco: Path, case: str):
    change, said, finding = READ[case]
    file = rewritten(coco, change)
    outcome = rankdet("train", "--config", tiny, "--output", "run", *on(file), "--data.masks", case == "flat")
    assert outcome.code == 0, outcome.err
    assert said in outcome.out
    checked = rankdet("check", file, "--fix", "fixed")
    assert checked.code == 0
    assert f"[{finding}]" in checked.out
    assert rankdet("check", "fixed").out.count(finding) == 0
    assert rankdet("report", "run", "--trust", "tests").code == 0


MASK_FORM = re.escape("a mask is a list of polygons, [[x1, y1, x2, y2, x3, y3, ...], ...]")


def without_masks(content: Content) -> None:
    for item in content["annotations"]:
        item["segmentation"] = []


def undecodable(content: Content) -> None:
    size = [content["images"][0]["height"], content["images"][0]["width"]]
    content["annotations"][4]["segmentation"] = {"size": size, "counts": "oo"}


def of_another_size(content: Content) -> None:
    content["annotations"][4]["segmentation"] = {"size": [10, 10], "counts": [40, 60]}


def as_an_object(content: Content) -> None:
    content["annotations"] = {str(item["id"]): item for item in content["annotations"]}


def words(content: Content) -> None:
    content["annotations"][4]["image_id"] = "the first"


REFUSED = {
    "no masks": (without_masks, f"has no segmentations.*{MASK_FORM}.*--data.masks false"),
    "run lengths": (undecodable, "annotation 5 of image .* cannot be decoded: the run lengths of a mask break off"),
    "another size": (of_another_size, r"annotation 5 of image .*\[10, 10\] in an image of \[64, 64\]"),
    "object": (as_an_object, r"'annotations' is an object; write \[\{...\}, .*rankdet check DATA --fix"),
    "words": (words, "'image_id' in 'annotations' must be an integer, got 'the first' .annotation 5"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_is_named_with_file_and_annotation_before_a_training(rankdet, tiny: Path, coco: Path, case: str):
    change, message = REFUSED[case]
    file = rewritten(coco, change)
    outcome = rankdet("train", "--config", tiny, *on(file), "--data.masks", "true")
    assert outcome.code == 2
    assert str(file) in outcome.err
    assert re.search(message, outcome.err), outcome.err
    assert "epoch 1" not in outcome.out


def test_images_of_another_unicode_form_are_found(rankdet, tiny: Path, coco: Path):
    def rename(content: Content) -> None:
        for image in content["images"]:
            name = f"é {image['file_name']}"
            path = coco / "images" / image["file_name"]
            path.rename(path.with_name(unicodedata.normalize("NFD", name)))
            image["file_name"] = unicodedata.normalize("NFC", name)

    file = rewritten(coco, rename)
    assert rankdet("train", "--config", tiny, *on(file)).code == 0
    checked = rankdet("check", file, "--images", "--fix", "fixed")
    assert checked.code == 0
    assert "[other-unicode-form]" in checked.out
    assert "other-unicode-form" not in rankdet("check", "fixed", "--images").out


@pytest.mark.parametrize("name", ["person_keypoints_val2017", "image_info_test-dev2017", "my_own_export_val2017"])
def test_the_folder_of_the_split_is_found(rankdet, tiny: Path, coco: Path, name: str):
    split = "test2017" if "test" in name else "val2017"
    (coco / "images").rename(coco / split)
    (coco / "annotations").mkdir()
    file = (coco / "annotations.json").rename(coco / "annotations" / f"{name}.json")
    assert rankdet("train", "--config", tiny, *on(file)).code == 0
    assert rankdet("check", file).code == 0


def test_training_and_file_have_one_truth(rankdet, tiny: Path, coco: Path):
    def ignore(content: Content) -> None:
        for number, item in enumerate(content["annotations"]):
            item["ignore"] = number % 2
            item["area"] = [0, item["area"], 1e6][number % 3]
            item["iscrowd"] = ["0", 0][number % 2]

    file = rewritten(coco, ignore)
    torch.manual_seed(0)
    assert rankdet("train", "--config", tiny, "--output", "run", *on(file), "--schedule.epochs", 3).code == 0
    assert rankdet("report", "run", "--trust", "tests").code == 0
    rows = [row for row in csv.DictReader(Path("run/metrics.csv").open()) if row.get("AP")]
    with pytest.warns(UserWarning, match="'iscrowd' of annotations in text"):
        metrics = evaluate(file, "run/results.json").metrics
    best = max(rows, key=lambda row: float(row["AP"]))
    for name in ("AP", "AP50", "AP_small", "AR_100", "oLRP"):
        assert float(best[name] or "nan") == pytest.approx(metrics[name], abs=1e-6, nan_ok=True)
