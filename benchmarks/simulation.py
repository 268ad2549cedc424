"""A simulated COCO val2017 for benchmarks of evaluation: annotations, boxes and masks that look like those of COCO."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pycocotools.mask as codec

WIDTH, HEIGHT, CLASSES = 640, 480, 80


def simulate(folder: Path, *, images: int, seed: int = 0) -> None:
    """Writes truth.json, boxes.json and masks.json: 7.2 objects and 100 detections an image."""
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(1, CLASSES + 1) ** 0.9
    frequency /= frequency.sum()
    objects, detections = int(7.2 * images), 100 * images
    object_image = np.sort(rng.integers(0, images, objects))
    object_class = rng.choice(CLASSES, objects, p=frequency)
    object_box = random_boxes(rng, objects)

    image, category, box, score = simulate_detections(rng, images, detections, object_image, object_class, object_box)
    truth_masks = masks_in(rng, object_box)
    crowd = rng.random(objects) < 0.01
    annotations = [
        {
            "id": i + 1,
            "image_id": int(object_image[i]) + 1,
            "category_id": int(object_class[i]) + 1,
            "bbox": object_box[i].tolist(),
            "area": float(codec.area(truth_masks[i])),
            "iscrowd": int(crowd[i]),
            "segmentation": as_text(truth_masks[i]),
        }
        for i in range(objects)
    ]
    truth = {
        "images": [{"id": i + 1, "height": HEIGHT, "width": WIDTH} for i in range(images)],
        "categories": [{"id": c + 1, "name": f"class {c + 1}"} for c in range(CLASSES)],
        "annotations": annotations,
    }
    (folder / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    common = [
        {"image_id": int(i) + 1, "category_id": int(c) + 1, "score": float(s)}
        for i, c, s in zip(image, category, score, strict=True)
    ]
    boxes = [{**entry, "bbox": b} for entry, b in zip(common, np.round(box, 2).tolist(), strict=True)]
    (folder / "boxes.json").write_text(json.dumps(boxes), encoding="utf-8")
    masks = [{**entry, "segmentation": as_text(m)} for entry, m in zip(common, masks_in(rng, box), strict=True)]
    (folder / "masks.json").write_text(json.dumps(masks), encoding="utf-8")


def simulate_detections(rng, images, detections, object_image, object_class, object_box, *, classes=CLASSES):
    """About 40 detections an image lie around an object of their class, the others anywhere; the nearer, the surer."""
    image = np.repeat(np.arange(images), detections // images)
    first = np.searchsorted(object_image, image, side="left")
    count = np.searchsorted(object_image, image, side="right") - first
    near = (rng.random(detections) < 0.4) & (count > 0)
    target = np.where(near, first + (rng.random(detections) * count).astype(int), 0)
    category = np.where(near & (rng.random(detections) < 0.85), object_class[target], rng.choice(classes, detections))
    noise = rng.gamma(1.5, 0.08, (detections, 1)) * rng.normal(size=(detections, 4))
    sides = object_box[target][:, [2, 3, 2, 3]]
    box = np.where(near[:, None], object_box[target] + noise * sides, random_boxes(rng, detections))
    box[:, 2:] = np.maximum(box[:, 2:], 2)
    box[:, :2] = np.clip(box[:, :2], 0, [WIDTH - 3, HEIGHT - 3])
    box[:, 2:] = np.minimum(box[:, 2:], [WIDTH, HEIGHT] - box[:, :2])
    logit = np.where(near, 1 - 12 * np.abs(noise).mean(1), -3) + rng.normal(size=detections)
    return image, category, box, np.round(1 / (1 + np.exp(-logit)), 5)


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """xywh inside the image; sides log-normal about 60 pixels, so about 4 in 10 are small."""
    sides = np.exp(rng.normal(np.log(60), 0.9, (count, 1)) + rng.normal(0, 0.3, (count, 2)))
    sides = np.clip(sides, 4, [WIDTH - 1, HEIGHT - 1])
    return np.round(np.concatenate([rng.random((count, 2)) * ([WIDTH, HEIGHT] - sides), sides], axis=1), 2)


def masks_in(rng: np.random.Generator, boxes: np.ndarray) -> list[dict]:
    """A star-shaped polygon of 24 corners in each box, as compressed run lengths."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    masks = []
    for x, y, w, h in boxes:
        radius = rng.uniform(0.75, 1, 24)
        polygon = np.stack([x + w / 2 * (1 + radius * np.cos(angle)), y + h / 2 * (1 + radius * np.sin(angle))], 1)
        masks.append(codec.frPyObjects([polygon.ravel().tolist()], HEIGHT, WIDTH)[0])
    return masks


def as_text(mask: dict) -> dict:
    return {"size": [int(n) for n in mask["size"]], "counts": mask["counts"].decode()}
