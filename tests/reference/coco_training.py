"""What training gets from a sound COCO file, written as plainly as it can be: one loop, no arrays, no libraries."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


def read_plainly(file: Path, *, masks: bool, classes: list[str] | None, skip_empty: bool, min_size: int) -> list[dict]:
    """For each image that stays: id, (H, W), and its objects in the order of the file."""
    content = json.loads(file.read_text())
    names = classes or [category["name"] for category in content["categories"]]
    ids = {category["name"]: category["id"] for category in content["categories"]}
    labels = {ids[name]: label for label, name in enumerate(names)}
    numbers = [item.get("id") for item in content["annotations"]]
    anew = None in numbers or len(set(numbers)) < len(numbers) or min(numbers, default=1) < 1
    images = []
    for image in content["images"]:
        size = (int(image["height"]), int(image["width"]))
        objects = [
            read_object(item, place + 1 if anew else item["id"], labels[item["category_id"]], size, masks=masks)
            for place, item in enumerate(content["annotations"])
            if item["image_id"] == image["id"] and item["category_id"] in labels
        ]
        learnt = [one for one in objects if one["usable"] and not one["iscrowd"]]
        if min(size) >= min_size and (learnt or not skip_empty):
            images.append({"id": image["id"], "size": size, "objects": objects})
    return images


def read_object(item: dict[str, Any], number: int, label: int, size: tuple[int, int], *, masks: bool) -> dict[str, Any]:
    box = [float(side) for side in item["bbox"]]
    if not all(map(math.isfinite, box)):
        box = [0.0, 0.0, 0.0, 0.0]
    x, y, width, height = box
    corners = [min(max(x, 0), size[1]), min(max(y, 0), size[0])]
    corners += [min(max(x + width, 0), size[1]), min(max(y + height, 0), size[0])]
    inside = min(corners[2] - corners[0], corners[3] - corners[1])
    mask = usable_mask(item.get("segmentation"))
    return {
        "id": number,
        "label": label,
        "xywh": box,
        "area": item.get("area"),
        "crowd": bool(item.get("iscrowd")),
        "iscrowd": bool(item.get("iscrowd")) or bool(item.get("ignore")),
        "box": corners,
        "usable": width >= 1 and height >= 1 and inside >= 1 and (bool(mask) or not masks),
        "segmentation": mask,
    }


def usable_mask(segmentation: Any) -> Any:
    if isinstance(segmentation, list):
        return [polygon for polygon in segmentation if len(polygon) >= 6]
    return segmentation or []
