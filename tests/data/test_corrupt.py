from __future__ import annotations

import logging

import pytest

from rankdet.data import BlankCorrupt, CocoDetection, DatasetError, Shapes, SkipCorrupt, build_loader
from tests.data.files import coco, write_coco


@pytest.fixture
def damaged(tmp_path) -> CocoDetection:
    images = [{"id": n, "file_name": f"{n}.png", "height": 48, "width": 64} for n in range(30)]
    dataset = CocoDetection(write_coco(tmp_path, coco(images=images)))
    for number in (3, 4, 29):
        (tmp_path / f"{number}.png").write_bytes(b"no image")
    return dataset


def test_corrupt_images_are_replaced_counted_and_named(damaged, caplog):
    dataset = SkipCorrupt(damaged, limit=0.2)
    with caplog.at_level(logging.WARNING):
        found = [dataset[index][1]["image_id"] for index in range(30)] + [dataset[3][1]["image_id"]]
    assert found == [0, 1, 2, 5, 5, *range(5, 29), 0, 5]
    assert dataset.corrupt == [3, 4, 29]
    assert dataset.summary().startswith("3 corrupt images were skipped: ")
    assert str(damaged.image_path(29)) in dataset.summary()
    assert sum("3.png cannot be read" in message for message in caplog.messages) == 1
    assert len(caplog.messages) == 3


def test_a_clean_dataset_passes_through():
    dataset = SkipCorrupt(Shapes(length=4, seed=0, image_size=48))
    assert [target["image_id"] for _, target in dataset] == dataset.image_ids
    assert dataset.corrupt == []
    assert dataset.summary() == ""


def test_workers_share_the_count(damaged):
    dataset = SkipCorrupt(damaged, limit=0.2)
    ids = [target["image_id"] for _, targets in build_loader(dataset, batch_size=4, workers=2) for target in targets]
    assert ids == [0, 1, 2, 5, 5, *range(5, 29), 0]
    assert dataset.corrupt == [3, 4, 29]


def test_too_many_corrupt_images_stop_the_training(damaged):
    dataset = SkipCorrupt(damaged, limit=0.05)
    with pytest.raises(DatasetError, match=r"2 of the 30 images of .* are corrupt: .*4\.png"):
        list(dataset)


def test_one_corrupt_image_is_always_tolerated_and_all_never(tmp_path):
    dataset = CocoDetection(write_coco(tmp_path))
    (tmp_path / "a.png").write_bytes(b"")
    assert SkipCorrupt(dataset)[0][1]["image_id"] == 0
    for name in ("b.png", "c.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DatasetError, match=r"no image of .* can be read"):
        SkipCorrupt(dataset, limit=1.0)[0]


def test_black_images_stand_for_corrupt_ones_in_evaluation(damaged, caplog):
    dataset = BlankCorrupt(damaged, limit=0.2)
    with caplog.at_level(logging.WARNING):
        samples = list(dataset)
    assert [target["image_id"] for _, target in samples] == damaged.image_ids
    image, target = samples[4]
    assert image.shape == (3, 48, 64)
    assert not image.any()
    assert target["boxes"].shape == (0, 4)
    assert target["original_size"] == (48, 64)
    assert dataset.ground_truth() == damaged.ground_truth()
    assert dataset.summary().startswith("3 corrupt images were taken for black: ")
    assert len(caplog.messages) == 3
    with pytest.raises(DatasetError, match="2 of the 30 images"):
        list(BlankCorrupt(damaged, limit=0.05))
