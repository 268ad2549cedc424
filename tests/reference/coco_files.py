"""Random COCO files with everything that a sound one may have."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask


def random_coco(rng: np.random.Generator) -> dict[str, Any]:
    """Up to 6 images, 4 classes and 15 objects; ids with gaps, in any order, negative and 0 among them."""
    image_ids = rng.choice(np.arange(-3, 40), rng.integers(1, 7), replace=False).tolist()
    category_ids = rng.choice(100, rng.integers(1, 5), replace=False).tolist()
    is_lvis = rng.random() < 0.3
    images = [_image(rng, place, number, category_ids, is_lvis=is_lvis) for place, number in enumerate(image_ids)]
    frequency = {"frequency": "r"} if is_lvis else {}
    categories = [{"id": number, "name": f"class {number}", **frequency} for number in category_ids]
    numbers = rng.permutation(np.arange(1, 200)).tolist()
    annotations = [
        _annotation(rng, number, images[rng.integers(len(images))], int(rng.choice(category_ids)))
        for number in numbers[: rng.integers(0, 16)]
    ]
    if annotations and rng.random() < 0.1:
        annotations[0]["id"] = annotations[-1]["id"]
    return {"info": {"year": 2017}, "images": images, "annotations": annotations, "categories": categories}


def _image(rng: np.random.Generator, place: int, number: int, classes: list[int], *, is_lvis: bool) -> dict[str, Any]:
    height, width = rng.integers(20, 60, 2).tolist()
    image = {"id": number, "file_name": f"{place}.png", "height": height, "width": float(width), "license": 3}
    if is_lvis:
        image["neg_category_ids"] = rng.choice([*classes, 777], rng.integers(0, 3)).tolist()
        image["not_exhaustive_category_ids"] = rng.choice(classes, rng.integers(0, 2)).tolist()
    return image


def _annotation(rng: np.random.Generator, number: int, image: dict[str, Any], category: int) -> dict[str, Any]:
    height, width = image["height"], int(image["width"])
    x, y = int(rng.integers(0, width - 4)), int(rng.integers(0, height - 4))
    box = [x, y, *(round(float(1.5 + rng.random() * (side - start)), 2) for side, start in ((width, x), (height, y)))]
    kind = rng.random()
    if kind < 0.1:
        box[2] = 0
    elif kind < 0.15:
        box[3] = float("nan")
    elif kind < 0.4:
        box = [int(side) for side in box]
    entry = {"id": number, "image_id": image["id"], "category_id": category, "bbox": box, "keypoints": [1, 2]}
    for key, value in {"area": float(rng.random() * 900), "iscrowd": int(rng.random() < 0.2), "ignore": 1}.items():
        if rng.random() < (0.05 if key == "ignore" else 0.85):
            entry[key] = value
    segmentation = _segmentation(rng, height, width)
    if rng.random() < 0.9:
        entry["segmentation"] = segmentation
    if rng.random() < 0.01:
        del entry["id"]
    return entry


def _segmentation(rng: np.random.Generator, height: int, width: int) -> Any:
    kind = rng.random()
    polygons = [(rng.random(2 * rng.integers(3, 8)) * 20).round(2).tolist() for _ in range(rng.integers(1, 3))]
    if kind < 0.5:
        return polygons
    if kind < 0.6:
        return [*polygons, [1, 1, 2, 2]]
    if kind < 0.75:
        background = int(rng.integers(0, height * width))
        return {"size": [height, width], "counts": [background, height * width - background]}
    if kind < 0.9:
        pixels = np.asfortranarray(rng.random((height, width)) < 0.5).astype(np.uint8)
        return {"counts": coco_mask.encode(pixels)["counts"].decode(), "size": [height, width]}
    return [[], None, [[1, 1, 2, 2]]][rng.integers(3)]
