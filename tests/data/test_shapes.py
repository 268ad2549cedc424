from __future__ import annotations

import json
import time

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torch.utils.data import DataLoader
from torchvision.ops import masks_to_boxes

from rankdet.data import DatasetError, Shapes
from rankdet.data.scenes import SHAPES, Canvas, Piece, rasterise

SMALL = {"length": 40, "seed": 3, "image_size": (96, 128)}


def piece(name: str = "circle", *, x: float = 20, y: float = 20, radius: float = 10) -> Piece:
    return Piece(SHAPES[name], label=0, x=x, y=y, radius=radius, angle=0.3, stretch=1.0)


def test_samples_keep_the_contract():
    for index, (image, target) in enumerate(Shapes(**SMALL, masks=True)):
        assert image.shape == (3, 96, 128)
        assert image.dtype == torch.uint8
        count = len(target["labels"])
        assert target["boxes"].shape == (count, 4)
        assert target["boxes"].dtype == torch.float32
        assert target["boxes"].canvas_size == target["original_size"] == (96, 128)
        assert target["masks"].shape == (count, 96, 128)
        assert not target["iscrowd"].any()
        assert target["image_id"] == index + 1
    assert index == 39


def test_boxes_are_tight_around_the_visible_masks():
    for _, target in Shapes(**SMALL, masks=True, objects=(1, 9), occlusion=0.6):
        if len(target["masks"]):
            tight = masks_to_boxes(target["masks"]) + torch.tensor([0.0, 0.0, 1.0, 1.0])
            assert torch.equal(tight, torch.Tensor(target["boxes"]))
            assert target["masks"].sum(0).max() <= 1


def test_an_image_depends_on_seed_and_index_alone():
    first, again, other = Shapes(**SMALL), Shapes(**{**SMALL, "length": 8}), Shapes(**{**SMALL, "seed": 4})
    assert torch.equal(first[5][0], again[5][0])
    assert torch.equal(first[5][1]["boxes"], again[5][1]["boxes"])
    assert torch.equal(first[-1][0], first[39][0])
    assert not torch.equal(first[5][0], other[5][0])
    assert not torch.equal(first[5][0], first[6][0])


def test_workers_give_the_same_images():
    dataset = Shapes(**{**SMALL, "length": 6})
    loader = DataLoader(dataset, num_workers=2, batch_size=None, collate_fn=lambda sample: sample)
    for index, (image, target) in enumerate(loader):
        assert torch.equal(image, dataset[index][0])
        assert torch.equal(target["boxes"], dataset[index][1]["boxes"])


def test_the_random_stream_is_pinned():
    """Published results on this dataset stay comparable: boxes and pixels are those of the first release."""
    image, target = Shapes(length=1, seed=0, image_size=128)[0]
    assert target["labels"].tolist() == [3, 1, 2, 5, 2, 5]
    assert target["boxes"][:2].tolist() == [[83, 83, 116, 113], [35, 70, 87, 123]]
    assert image.float().mean().item() == pytest.approx(116.12, abs=0.05)


def test_ground_truth_agrees_with_the_samples():
    dataset = Shapes(**SMALL, masks=True)
    truth = dataset.ground_truth()
    assert [image["id"] for image in truth["images"]] == dataset.image_ids
    assert [annotation["id"] for annotation in truth["annotations"]] == list(range(1, len(truth["annotations"]) + 1))
    for index, (_, target) in enumerate(dataset):
        mine = [annotation for annotation in truth["annotations"] if annotation["image_id"] == index + 1]
        assert [a["category_id"] for a in mine] == (target["labels"] + 1).tolist()
        assert dataset.labels(index).tolist() == target["labels"].tolist()
        for annotation, box, mask in zip(mine, target["boxes"], target["masks"], strict=True):
            x, y, width, height = annotation["bbox"]
            assert [x, y, x + width, y + height] == box.tolist()
            assert annotation["area"] == mask.sum()
            assert np.array_equal(coco_mask.decode(annotation["segmentation"]), mask.numpy())


def test_arguments_shape_the_data():
    def labels(**arguments: object) -> list[np.ndarray]:
        dataset = Shapes(length=150, seed=0, image_size=64, **arguments)
        return [dataset.labels(index) for index in range(150)]

    empty = sum(len(found) == 0 for found in labels(empty=0.5))
    assert 50 < empty < 100
    assert all(len(found) >= 1 for found in labels(empty=0.0))
    counts = np.bincount(np.concatenate(labels(imbalance=50.0)), minlength=8)
    assert counts[0] > 10 * max(counts[7], 1)
    counts = np.bincount(np.concatenate(labels()), minlength=8)
    assert counts.max() < 2 * counts.min()
    assert np.concatenate(labels(num_classes=3)).max() == 2


@pytest.mark.parametrize("occlusion", [0.0, 0.3])
def test_no_object_is_hidden_by_more_than_allowed(occlusion: float):
    dataset = Shapes(length=20, seed=1, image_size=96, objects=(5, 9), occlusion=occlusion)
    for index in range(len(dataset)):
        scene = dataset.scene(index)
        for number in scene.objects():
            full = (rasterise(scene.pieces[number]).coverage >= 128).sum()
            assert (scene.owner == number).sum() >= (1 - occlusion) * full


def test_a_piece_that_hides_too_much_is_refused_and_changes_nothing():
    canvas = Canvas(64, 64, occlusion=0.4)
    assert canvas.place(piece())
    before = canvas.owner.copy()
    assert not canvas.place(piece("square", radius=14))
    assert not canvas.place(piece(x=64, y=64))
    assert np.array_equal(canvas.owner, before)
    assert canvas.place(piece(x=44, y=44))


def test_a_piece_outside_of_the_image_is_refused():
    assert not Canvas(32, 32, occlusion=0.4).place(piece(x=200, y=20))
    assert not Canvas(32, 32, occlusion=0.4).place(piece(x=-200, y=-200))


@pytest.mark.parametrize("name", SHAPES)
def test_each_shape_fits_its_window_and_differs_from_the_others(name: str):
    own = rasterise(piece(name, x=100, y=100, radius=40)).coverage
    assert own.any(1).all()
    assert own.any(0).all()
    assert min(own.shape) > 20
    for other in set(SHAPES) - {name}:
        canvas = np.zeros((2, 400, 400), dtype=bool)
        for layer, kind in enumerate((name, other)):
            window = rasterise(piece(kind, x=100, y=100, radius=40))
            canvas[layer][window.area] = window.coverage >= 128
        assert (canvas[0] & canvas[1]).sum() / (canvas[0] | canvas[1]).sum() < 0.9


def test_export_writes_a_coco_folder(tmp_path):
    dataset = Shapes(length=4, seed=0, image_size=64, masks=True)
    file = dataset.export(tmp_path / "deep" / "shapes")
    assert json.loads(file.read_text()) == dataset.ground_truth()
    for index in range(4):
        written = np.asarray(Image.open(file.parent / "images" / f"{index + 1:06d}.png"))
        assert np.array_equal(written, dataset[index][0].permute(1, 2, 0).numpy())
    with pytest.raises(DatasetError, match="exists already"):
        dataset.export(tmp_path / "deep" / "shapes")


def test_a_failing_export_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(Shapes, "ground_truth", lambda _: {"not": object()})
    with pytest.raises(TypeError):
        Shapes(length=2, seed=0, image_size=32).export(tmp_path / "shapes")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "wrong",
    [
        {"length": 0},
        {"seed": -1},
        {"image_size": 8},
        {"num_classes": 9},
        {"objects": (3, 2)},
        {"sizes": (0.5, 0.1)},
        {"occlusion": 1.0},
        {"imbalance": 0.5},
        {"empty": 2.0},
    ],
)
def test_arguments_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Shapes(**{**SMALL, **wrong})


def test_generation_is_fast_enough_to_train_on():
    dataset = Shapes(length=60, seed=0)
    start = time.process_time()
    for index in range(60):
        dataset[index]
    assert 60 / (time.process_time() - start) > 60, (
        "the goal is 150 images a second; a slow machine may take twice that"
    )
