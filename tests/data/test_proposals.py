"""Proposals from files: read as they were written, moved like boxes, and asked for where they are needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from rankdet.data import (
    DatasetError,
    DetectionData,
    Expand,
    KeepSize,
    MinIoUCrop,
    PhotometricDistortion,
    ProposalFiles,
    ResizeExactly,
    ResizeShorter,
    Sanitise,
    Shapes,
    WithoutClasses,
    WithProposals,
)
from rankdet.data.proposals import StoredProposals


def write(folder: Path, entries: Any, name: str = "proposals.json") -> Path:
    file = folder / name
    file.write_text(entries if isinstance(entries, str) else json.dumps(entries))
    return file


def entry(image_id: int, *box: float, **more: Any) -> dict[str, Any]:
    return {"image_id": image_id, "bbox": list(box), **more}


def test_they_are_ordered_by_score_and_equal_ones_as_in_the_file(tmp_path):
    file = write(
        tmp_path,
        [
            entry(9, 1, 1, 2, 2, score=0.5, category_id=3),
            entry(4, 5, 6, 7, 8),
            entry(9, 2, 1, 2, 2, score=0.9),
            entry(9, 3, 1, 2, 2, score=0.5),
        ],
    )
    stored = StoredProposals(file)
    assert stored.of(9)[:, 0].tolist() == [2, 1, 3]
    assert stored.of(4).tolist() == [[5, 6, 12, 14]]
    assert stored.of(5).shape == stored.of(100).shape == (0, 4)
    assert stored.of(9).dtype == np.float32


def test_boxes_come_back_as_they_were_to_the_last_bit(tmp_path):
    torch.manual_seed(0)
    corners = torch.rand(500, 2) * 1000
    boxes = torch.cat((corners, corners + torch.rand(500, 2) * 300), 1)
    wide = boxes.double()
    wide[:, 2:] -= wide[:, :2]
    file = write(tmp_path, [entry(1, *box, score=-place) for place, box in enumerate(wide.tolist())])
    assert torch.equal(torch.from_numpy(StoredProposals(file).of(1)), boxes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "is no file of proposals"),
        ({"annotations": []}, "accepted is a list of"),
        ([entry(1, 1, 2, 3)], "length 4"),
        ([{"image_id": "a", "bbox": [1, 2, 3, 4]}], r"Expected `int`, got `str` - at `\$\[0\]\.image_id`"),
        ([entry(1, 0, 0, 1, 1), entry(1, 0, 0, -1, 1)], r"entry 1 has the box \(0\.0, 0\.0, -1\.0, 1\.0\)"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, content, message):
    with pytest.raises(DatasetError, match=message):
        StoredProposals(write(tmp_path, content))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"no\.json cannot be read: No such file"):
        StoredProposals(tmp_path / "no.json")


def some_shapes(**arguments: Any) -> Shapes:
    return Shapes(length=3, seed=0, image_size=(96, 128), empty=0, num_classes=3, **arguments)


def proposals_are_the_boxes(tmp_path: Path) -> WithProposals:
    shapes = some_shapes()
    entries = []
    for index in range(3):
        target = shapes[index][1]
        wide = target["boxes"].double()
        for x1, y1, x2, y2 in wide.tolist():
            entries.append(entry(target["image_id"], x1, y1, x2 - x1, y2 - y1))
    return WithProposals(shapes, write(tmp_path, entries), everywhere=True)


@pytest.mark.parametrize(
    "transform",
    [
        ResizeShorter(short=50, long=90),
        ResizeExactly(height=60, width=40),
        v2.RandomHorizontalFlip(1.0),
        v2.RandomVerticalFlip(1.0),
        v2.Compose([PhotometricDistortion(), Expand(probability=1.0), ResizeExactly(height=80, width=80)]),
    ],
    ids=repr,
)
def test_transforms_move_them_as_they_move_boxes(tmp_path, transform):
    dataset = proposals_are_the_boxes(tmp_path)
    for index in range(3):
        torch.manual_seed(index)
        _, target = v2.Compose([transform, Sanitise(min_size=0)])(*dataset[index])
        assert len(target["boxes"])
        assert isinstance(target["proposals"], tv_tensors.BoundingBoxes)
        assert torch.equal(target["proposals"], target["boxes"])


def test_crops_cut_them_and_drop_what_is_outside(tmp_path):
    dataset = proposals_are_the_boxes(tmp_path)
    crop = v2.Compose([MinIoUCrop(min_ious=(0.0,)), Sanitise(min_size=0)])
    fewer = 0
    for seed in range(20):
        torch.manual_seed(seed)
        image, target = crop(*dataset[seed % 3])
        height, width = image.shape[-2:]
        proposals = target["proposals"].as_subclass(torch.Tensor)
        assert (proposals >= 0).all()
        assert (proposals <= torch.tensor([width, height, width, height])).all()
        assert (proposals[:, 2:] > proposals[:, :2]).all()
        inside = {tuple(box) for box in proposals.tolist()}
        assert {tuple(box) for box in target["boxes"].tolist()} <= inside
        fewer += len(proposals) < len(dataset[seed % 3][1]["proposals"])
    assert fewer


def test_training_wants_them_everywhere_and_validation_somewhere(tmp_path):
    one = write(tmp_path, [entry(2, 0, 0, 9, 9)])
    with pytest.raises(
        DatasetError, match=r"for 2 of the 3 images .* \(image 1, 3\), so that nothing could be learned"
    ):
        WithProposals(some_shapes(), one, everywhere=True)
    with pytest.raises(DatasetError, match=r"for 3 of the 3 images .* nothing could be found"):
        WithProposals(some_shapes(), write(tmp_path, [entry(77, 0, 0, 9, 9)], "other.json"))
    dataset = WithProposals(some_shapes(), one)
    assert [len(dataset[index][1]["proposals"]) for index in range(3)] == [0, 1, 0]


def test_batches_have_them(tmp_path):
    every = write(tmp_path, [entry(image, 0, 0, 64, 48) for image in (1, 2, 3)])
    arguments = {"batch_size": 3, "workers": 0, "resize": ResizeExactly(height=48, width=64)}
    data = DetectionData(
        train=some_shapes(), val=some_shapes(), proposals=ProposalFiles(train=str(every), val=str(every)), **arguments
    )
    (_, targets), (_, validation) = next(iter(data.train_loader(seed=0))), next(iter(data.val_loader()))
    assert all(target["proposals"].tolist() == [[0, 0, 32, 24]] for target in validation)
    flipped = [[32, 0, 64, 24]]
    assert {tuple(target["proposals"][0].tolist()) for target in targets} <= {(0, 0, 32, 24), tuple(flipped[0])}
    assert data.summary() == ""
    plain = DetectionData(train=some_shapes(), val=some_shapes(), **arguments)
    assert all("proposals" not in target for target in next(iter(plain.val_loader()))[1])


def test_one_class():
    data = DetectionData(train=some_shapes(), val=some_shapes(), one_class=True, workers=0, resize=KeepSize())
    assert (data.num_classes, data.categories.names) == (1, ("object",))
    _, targets = next(iter(data.train_loader(seed=0)))
    assert {int(label) for target in targets for label in target["labels"]} == {0}
    assert len(data.train.labels(0)) == len(some_shapes().labels(0))
    truth, original = data.val.ground_truth(), some_shapes().ground_truth()
    assert {item["category_id"] for item in truth["annotations"]} == {1}
    assert truth["categories"] == [{"id": 1, "name": "object"}]
    assert [item["bbox"] for item in truth["annotations"]] == [item["bbox"] for item in original["annotations"]]


def test_what_lvis_says_of_classes_is_gone_with_them():
    class OfLvis(Shapes):
        def ground_truth(self):
            truth = super().ground_truth()
            images = [
                {**image, "neg_category_ids": [1], "not_exhaustive_category_ids": []} for image in truth["images"]
            ]
            return {**truth, "images": images}

    truth = WithoutClasses(OfLvis(length=1, seed=0)).ground_truth()
    assert {"neg_category_ids", "not_exhaustive_category_ids"}.isdisjoint(truth["images"][0])
