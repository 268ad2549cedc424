"""Semantic maps come with their images, and are moved with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from rankdet.data import DatasetError, Expand, ResizeExactly, WithSemantics, open_dataset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    images = []
    for number in (1, 2):
        Image.fromarray(generator.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(tmp_path / f"{number}.jpg")
        images.append({"id": number, "file_name": f"{number}.jpg", "height": 40, "width": 60})
        (tmp_path / "maps").mkdir(exist_ok=True)
        raster = generator.choice(np.array([0, 7, 182, 255], dtype=np.uint8), (40, 60))
        Image.fromarray(raster).save(tmp_path / "maps" / f"{number}.png")
    objects = [{"id": n, "image_id": n, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400} for n in (1, 2)]
    truth = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "thing"}]}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    return tmp_path


def with_maps(folder: Path) -> WithSemantics:
    return WithSemantics(open_dataset(str(folder / "truth.json"), images=str(folder)), folder / "maps")


def test_classes_are_counted_from_one_and_255_is_unknown(folder):
    for number, (_, target) in enumerate(with_maps(folder), 1):
        raster = np.asarray(Image.open(folder / "maps" / f"{number}.png")).astype(int)
        expected = np.where(raster == 255, 0, raster + 1)
        assert np.array_equal(target["semantic"][0].numpy(), expected)


def test_maps_move_with_images_and_what_is_new_is_unknown(folder):
    image, target = with_maps(folder)[0]
    _, flipped = v2.functional.horizontal_flip(image), v2.functional.horizontal_flip(target["semantic"])
    assert torch.equal(v2.RandomHorizontalFlip(p=1)(image, target)[1]["semantic"], flipped)
    resized = ResizeExactly(height=20, width=30)(image, target)[1]["semantic"]
    assert resized.shape == (1, 20, 30)
    assert set(resized.unique().tolist()) <= {0, 1, 8, 183}
    torch.manual_seed(0)
    larger, wider = Expand(ratio=(2.0, 2.0), probability=1.0)(image, target)
    assert larger.shape[-2:] == wider["semantic"].shape[-2:] == (80, 120)
    assert (wider["semantic"] > 0).sum() == (target["semantic"] > 0).sum()


def test_what_lacks_or_misfits_is_named(folder):
    Image.fromarray(np.zeros((40, 61), dtype=np.uint8)).save(folder / "maps" / "1.png")
    with pytest.raises(DatasetError, match=r"1\.png is an array of uint8 of shape \(40, 61\)"):
        with_maps(folder)[0]
    (folder / "maps" / "2.png").unlink()
    with pytest.raises(DatasetError, match=r"has no maps of 1 of the 2 images .*\(2\.png\)"):
        with_maps(folder)
    with pytest.raises(DatasetError, match="is no folder"):
        WithSemantics(open_dataset(str(folder / "truth.json"), images=str(folder)), folder / "none")
