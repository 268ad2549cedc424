"""What LVIS says beside objects travels from its file to the evaluation."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rankdet.data import CocoDetection, ConcatDetection, DatasetError, SubsetDetection
from rankdet.data.lvis import IdLists
from rankdet.eval import evaluate_lvis
from tests.data.files import annotation, write_image


def lvis() -> dict[str, Any]:
    """Three images, one of them without objects; two of three classes occur."""
    listed = ([5], []), ([90, 5], [7]), ([], [90])
    images = [
        {
            "id": number,
            "coco_url": f"http://images.cocodataset.org/train2017/{number:012d}.jpg",
            "height": 48,
            "width": 64,
            "neg_category_ids": negative,
            "not_exhaustive_category_ids": not_exhaustive,
        }
        for number, (negative, not_exhaustive) in enumerate(listed, start=1)
    ]
    annotations = [
        {key: value for key, value in annotation(number, image, category, box).items() if key != "iscrowd"}
        for number, image, category, box in ((1, 1, 90, [4, 5, 10, 20]), (2, 3, 7, [0, 0, 30, 30]))
    ]
    categories = [
        {"id": 90, "name": "cat", "frequency": "f"},
        {"id": 5, "name": "emu", "frequency": "r"},
        {"id": 7, "name": "owl", "frequency": "c"},
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def write(folder, content=None):
    content = lvis() if content is None else content
    for image in content["images"]:
        write_image(folder / "train2017" / image["coco_url"].rpartition("/")[2])
    (folder / "annotations").mkdir()
    file = folder / "annotations" / "lvis_v1_train.json"
    file.write_text(json.dumps(content))
    return file


def test_the_truth_keeps_what_was_looked_for_and_how_frequent_classes_are(tmp_path):
    dataset = CocoDetection(write(tmp_path))
    truth = dataset.ground_truth()
    keys = ("neg_category_ids", "not_exhaustive_category_ids")
    assert [[image[key] for key in keys] for image in truth["images"]] == [[[5], []], [[90, 5], [7]], [[], [90]]]
    assert [category["frequency"] for category in truth["categories"]] == ["f", "r", "c"]
    assert [item["iscrowd"] for item in truth["annotations"]] == [0, 0]
    assert dataset.report.crowd == 0
    assert dataset.image_path(0) == tmp_path / "train2017" / "000000000001.jpg"


def test_images_left_out_and_classes_not_chosen_leave_the_lists(tmp_path):
    truth = CocoDetection(write(tmp_path), classes=["owl", "cat"], skip_empty=True).ground_truth()
    assert [(image["id"], image["neg_category_ids"]) for image in truth["images"]] == [(1, []), (3, [])]
    assert truth["images"][1]["not_exhaustive_category_ids"] == [90]
    assert [(category["name"], category["frequency"]) for category in truth["categories"]] == [
        ("owl", "c"),
        ("cat", "f"),
    ]


def test_parts_and_sums_of_datasets_keep_it(tmp_path):
    dataset = CocoDetection(write(tmp_path))
    part = SubsetDetection(dataset, [2, 1])
    both = ConcatDetection([part, SubsetDetection(dataset, [0])])
    for truth, ids in ((part.ground_truth(), [3, 2]), (both.ground_truth(), [3, 2, 1])):
        assert [image["id"] for image in truth["images"]] == ids
        assert truth["images"][1]["neg_category_ids"] == [90, 5]
        assert truth["categories"][1]["frequency"] == "r"


def test_it_is_a_truth_for_the_evaluation_of_lvis(tmp_path):
    truth = CocoDetection(write(tmp_path)).ground_truth()
    found = [
        {"image_id": 1, "category_id": 90, "bbox": [4, 5, 10, 20], "score": 0.9},
        {"image_id": 1, "category_id": 7, "bbox": [4, 5, 10, 20], "score": 0.8},  # not looked for here
    ]
    metrics = evaluate_lvis(truth, found).metrics
    assert (metrics["AP_f"], metrics["AP_c"]) == (pytest.approx(1), 0)


def test_other_files_have_none_of_it(tmp_path):
    content = lvis()
    for image in content["images"]:
        del image["neg_category_ids"], image["not_exhaustive_category_ids"]
    truth = CocoDetection(write(tmp_path, content)).ground_truth()
    assert set(truth["images"][0]) == {"id", "file_name", "height", "width"}
    assert set(truth["categories"][0]) == {"id", "name"}


def test_lists_of_ids_in_text_are_lists_of_ids(tmp_path):
    content = lvis()
    expected = CocoDetection(write(tmp_path / "a", content)).ground_truth()
    for image in content["images"]:
        image["neg_category_ids"] = list(map(str, image["neg_category_ids"]))
    dataset = CocoDetection(write(tmp_path / "b", content))
    assert dataset.ground_truth() == expected
    assert "'neg_category_ids' of images in text, read as a number" in dataset.report.summary()


@pytest.mark.parametrize(
    ("where", "key", "value", "message"),
    [
        (
            "images",
            "neg_category_ids",
            None,
            "image 2 has None for 'neg_category_ids'; LVIS",
        ),
        ("images", "not_exhaustive_category_ids", ["cat"], r"image 2 has \['cat'\] for 'not_exh"),
        ("categories", "frequency", "often", "category 5 has frequency 'often'; LVIS has r, c and f"),
    ],
)
def test_half_a_file_of_lvis_is_refused(tmp_path, where, key, value, message):
    content = lvis()
    content[where][1][key] = value
    with pytest.raises(DatasetError, match=message):
        CocoDetection(write(tmp_path, content))


def test_lists_of_ids_are_packed():
    lists = IdLists.pack([])
    assert len(lists.ids) == 0
