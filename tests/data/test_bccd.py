"""A real dataset in both formats: set RANKDET_BCCD to a folder with BCCD's COCO files, VOC annotations and images."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from rankdet.data import CocoDetection, DetectionData, VOCDetection

FOLDER = Path(os.environ.get("RANKDET_BCCD", "absent"))
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="RANKDET_BCCD does not name a folder"),
]


@pytest.mark.parametrize(("split", "images", "objects"), [("train", 205, 2804), ("val", 87, 1137)])
def test_one_box_of_each_split_is_degenerate(split, images, objects):
    report = CocoDetection(FOLDER / f"instances_{split}.json").report
    assert (report.images, report.objects, report.count("degenerate box")) == (images, objects, 1)


def test_both_formats_hold_the_same_objects():
    coco = CocoDetection(FOLDER / "instances_val.json")
    stems = [coco.image_path(index).stem for index in range(len(coco))]
    voc = VOCDetection(FOLDER / "annotations_voc", split=stems, classes=coco.categories.names)
    assert voc.report.count("degenerate box") == 1
    for index in range(0, len(coco), 10):
        (image, first), (same, second) = coco[index], voc[index]
        assert torch.equal(image, same)
        assert torch.equal(first["labels"], second["labels"])
        offset = torch.tensor([1.0, 1.0, 0.0, 0.0])  # the COCO file copies corners that count from 1
        assert torch.equal(torch.Tensor(first["boxes"]), torch.Tensor(second["boxes"]) + offset)
    edges = VOCDetection(FOLDER / "annotations_voc", split=stems, classes=coco.categories.names, origin=0)
    assert torch.equal(edges[3][1]["boxes"], coco[3][1]["boxes"])


def test_a_tenth_of_the_images_goes_through_the_loader():
    files = (str(FOLDER / "instances_train.json"), str(FOLDER / "instances_val.json"))
    data = DetectionData(train=files[0], val=files[1], batch_size=4, workers=0)
    for number, (images, targets) in enumerate(data.train_loader(seed=0)):
        assert all(image.shape == (3, 800, 1067) for image in images)
        assert all(len(target["boxes"]) == len(target["labels"]) > 0 for target in targets)
        if number == 5:
            break
