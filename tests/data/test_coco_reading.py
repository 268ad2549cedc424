"""What training gets from COCO files: bit-equal to a plain reader, shared by processes, read where it can be."""

from __future__ import annotations

import json
import pickle
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest

from rankdet.data import CocoDetection, DatasetError
from tests.data.files import annotation, coco, write_coco
from tests.reference.coco_files import random_coco
from tests.reference.coco_training import read_plainly

SEEDS = range(150)


def options(rng: np.random.Generator, content: dict) -> dict:
    names = [category["name"] for category in content["categories"] if rng.random() < 0.6]
    return {
        "masks": bool(rng.random() < 0.5),
        "classes": names if names and rng.random() < 0.4 else None,
        "skip_empty": bool(rng.random() < 0.4),
        "min_size": int(rng.choice([0, 30])),
    }


def write_random(folder: Path, seed: int) -> tuple[Path, dict]:
    rng = np.random.default_rng(seed)
    content = random_coco(rng)
    for image in content["images"]:
        (folder / image["file_name"]).touch()
    file = folder / "instances_train.json"
    file.write_text(json.dumps(content, indent=int(rng.integers(0, 3)) or None))
    return file, options(rng, content)


def column(images: list[dict], key: str, dtype: type) -> np.ndarray:
    return np.array([one[key] for image in images for one in image["objects"]], dtype=dtype)


@pytest.mark.parametrize("seed", SEEDS)
def test_columns_are_bit_equal_to_those_of_a_plain_reader(tmp_path, seed):
    file, chosen = write_random(tmp_path, seed)
    expected = read_plainly(file, **chosen)
    everything = read_plainly(file, **chosen | {"skip_empty": False, "min_size": 0})
    masks = [one["segmentation"] for image in everything for one in image["objects"]]
    if not expected or (chosen["masks"] and masks and not any(masks)):
        with pytest.raises(DatasetError):
            CocoDetection(file, **chosen)
        return
    dataset = CocoDetection(file, **chosen)
    table = dataset.annotations
    assert [(number, tuple(size)) for number, size in zip(dataset.image_ids, dataset.image_sizes, strict=True)] == [
        (image["id"], image["size"]) for image in expected
    ]
    assert np.diff(table.starts).tolist() == [len(image["objects"]) for image in expected]
    columns = {"id": table.ids, "label": table.labels, "xywh": table.xywh, "crowd": table.crowd}
    columns |= {"iscrowd": table.iscrowd, "usable": table.usable, "box": table.boxes, "area": table.area}
    for key, found in columns.items():
        wanted = column(expected, key, found.dtype).reshape(found.shape)
        assert wanted.tobytes() == found.tobytes(), key
    if chosen["masks"]:
        assert repr(list(map(plain, table.segmentations))) == repr(
            [plain(one["segmentation"]) for image in expected for one in image["objects"]]
        )


def plain(segmentation):
    return dict(sorted(segmentation.items())) if isinstance(segmentation, dict) else segmentation


def test_processes_share_the_columns_and_masks_of_a_dataset_that_is_sent_to_them(tmp_path):
    content = coco()
    polygon = np.random.default_rng(0).random(400).round(3).tolist()
    content["annotations"] = [
        annotation(number, 7, 5, [1, 1, 20, 20], segmentation=[polygon]) for number in range(1, 3001)
    ]
    dataset = CocoDetection(write_coco(tmp_path, content), masks=True)
    before = repr(dataset.ground_truth())
    sent = [ForkingPickler.loads(ForkingPickler.dumps(dataset)) for _ in range(2)]
    assert [repr(each.ground_truth()) for each in sent] == [before, before]
    sent[0].annotations.xywh[0] = -7
    assert dataset.annotations.xywh[0].tolist() == sent[1].annotations.xywh[0].tolist() == [-7] * 4
    sent[0].annotations.segmentations.buffer[:4] = np.frombuffer(b"[[9,", np.uint8)
    assert sent[1].annotations.segmentations[0][0][0] == 9
    assert len(ForkingPickler.dumps(dataset)) < 200_000 < 2_000_000 < len(pickle.dumps(dataset))
    assert pickle.loads(pickle.dumps(dataset)).annotations.xywh[0, 0] == -7
