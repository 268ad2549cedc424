from __future__ import annotations

import pytest
import torch

from rankdet.data import (
    CocoDetection,
    ConcatDetection,
    DatasetError,
    Shapes,
    SubsetDetection,
)
from tests.data.files import coco, write_coco


def shapes(length: int = 6, seed: int = 0, **arguments) -> Shapes:
    return Shapes(length=length, seed=seed, image_size=48, **arguments)


def check_consistency(dataset) -> None:
    """What holds for any dataset: samples, ids, sizes and truth say the same."""
    truth = dataset.ground_truth()
    assert [image["id"] for image in truth["images"]] == dataset.image_ids
    assert len({item["id"] for item in truth["annotations"]}) == len(truth["annotations"])
    for index, (image, target) in enumerate(dataset):
        assert target["image_id"] == dataset.image_ids[index]
        assert image.shape[-2:] == dataset.image_sizes[index]
        mine = [item for item in truth["annotations"] if item["image_id"] == target["image_id"]]
        assert [dataset.categories.label_of(item["category_id"]) for item in mine] == target["labels"].tolist()
        assert dataset.labels(index).tolist() == target["labels"][~target["iscrowd"]].tolist()
        path = dataset.image_path(index)
        assert path is None or path.is_file()
    assert index == len(dataset) - 1


def test_a_subset_keeps_ids_and_categories(tmp_path):
    whole = shapes()
    subset = SubsetDetection(whole, [4, -6, 2])
    check_consistency(subset)
    assert subset.image_ids == [5, 1, 3]
    assert subset.categories == whole.categories
    assert torch.equal(subset[0][0], whole[4][0])
    assert subset.report.images == 3
    check_consistency(SubsetDetection(CocoDetection(write_coco(tmp_path)), [2, 0]))


@pytest.mark.parametrize(("indices", "message"), [([], "at least one"), ([1, 1], "more than once")])
def test_a_subset_names_images_once(indices, message):
    with pytest.raises(DatasetError, match=message):
        SubsetDetection(shapes(), indices)
    with pytest.raises(IndexError, match="index 6 is outside of a dataset of 6 images"):
        SubsetDetection(shapes(), [6])


def test_colliding_ids_are_numbered_anew(tmp_path):
    both = ConcatDetection([shapes(3), shapes(2, seed=1)])
    check_consistency(both)
    assert both.image_ids == [1, 2, 3, 4, 5]
    assert torch.equal(both[3][0], shapes(2, seed=1)[0][0])
    assert torch.equal(both[-1][0], shapes(2, seed=1)[1][0])
    assert both.report.images == 5


def test_ids_that_do_not_collide_stay(tmp_path):
    first = CocoDetection(write_coco(tmp_path / "a"))
    content = coco()
    for image in content["images"]:
        image["id"] += 100
    for item in content["annotations"]:
        item["image_id"] += 100
    both = ConcatDetection([first, CocoDetection(write_coco(tmp_path / "b", content))])
    check_consistency(both)
    assert both.image_ids == [7, 0, 3, 107, 100, 103]
    assert both.report.objects == 6
    assert both.report.crowd == 2
    assert both.image_path(3) == tmp_path / "b" / "a.png"


def test_different_categories_do_not_go_together():
    with pytest.raises(DatasetError, match="different categories: only the first has 'bar'"):
        ConcatDetection([shapes(), shapes(num_classes=7)])
    with pytest.raises(DatasetError, match="at least one"):
        ConcatDetection([])
