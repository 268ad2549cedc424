"""Small random detection problems, hard on purpose, and what pycocotools makes of them."""

from __future__ import annotations

import contextlib
import copy
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def random_problem(rng: np.random.Generator) -> tuple[dict, list[dict]]:
    """Ground truth and results with crowds, equal scores, equal boxes, empty images, missing classes, area edges."""
    image_ids = rng.choice(1000, size=rng.integers(1, 5), replace=False).tolist()
    category_ids = rng.choice(100, size=rng.integers(1, 4), replace=False).tolist()
    # A coarse grid gives many equal overlaps, and areas that are exactly 32^2 and 96^2.
    grid = int(rng.choice([1, 8, 16]))
    annotations = []
    for _ in range(rng.integers(0, 14)):
        box = _random_box(rng, grid)
        area = box[2] * box[3] * float(rng.choice([1.0, 1.0, 0.6]))
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": int(rng.choice(image_ids)),
                "category_id": int(rng.choice(category_ids)),
                "bbox": box,
                "area": area,
                "iscrowd": int(rng.random() < 0.2),
            }
        )
    results = [_random_result(rng, grid, annotations, image_ids, category_ids) for _ in range(rng.integers(1, 40))]
    truth = {
        "images": [{"id": i, "height": 256, "width": 256} for i in image_ids],
        "categories": [{"id": c, "name": f"class {c}"} for c in category_ids],
        "annotations": annotations,
    }
    return truth, results


def _random_box(rng: np.random.Generator, grid: int) -> list[float]:
    corner = rng.integers(0, 128 // grid, 2) * grid
    sides = rng.choice([16, 32, 32, 64, 96, 96, 128], 2) if grid > 1 else rng.integers(1, 128, 2)
    return [float(v) for v in (*corner, *sides)]


def _random_result(rng, grid, annotations, image_ids, category_ids) -> dict:
    image, category, box = rng.choice(image_ids), rng.choice(category_ids), _random_box(rng, grid)
    if annotations and rng.random() < 0.75:
        near = annotations[rng.integers(len(annotations))]
        image, category = near["image_id"], near["category_id"]
        shift = rng.normal(0, 3, 4) * (rng.random() < 0.7)
        box = [float(max(v, 0)) for v in np.array(near["bbox"]) + shift]
    score = float(rng.choice([0.1, 0.25, 0.5, 0.75])) if rng.random() < 0.5 else float(rng.random())
    return {"image_id": int(image), "category_id": int(category), "bbox": box, "score": score}


def with_masks(truth: dict, results: list[dict], rng: np.random.Generator) -> tuple[dict, list[dict]]:
    """The same problem in masks: ellipses in the boxes, as polygons or run lengths, without boxes in the results."""
    import pycocotools.mask as codec

    truth, results = copy.deepcopy(truth), copy.deepcopy(results)
    for entry in [*truth["annotations"], *results]:
        x, y, w, h = entry["bbox"]
        angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        xs, ys = x + w / 2 * (1 + np.cos(angle)), y + h / 2 * (1 + np.sin(angle))
        polygon = np.stack([xs, ys], 1).clip(0, 256).ravel().tolist()
        rle = codec.merge(codec.frPyObjects([polygon], 256, 256))
        entry["segmentation"] = {"size": [256, 256], "counts": rle["counts"].decode()}
        if "id" in entry and rng.random() < 0.5:
            entry["segmentation"] = [polygon]
    for result in results:
        del result["bbox"]
    return truth, results


def with_corners(truth: dict, rng: np.random.Generator) -> dict:
    """The same with areas of 0, and the key ``ignore``, which pycocotools overwrites with ``iscrowd``."""
    truth = copy.deepcopy(truth)
    for annotation in truth["annotations"]:
        annotation["area"] *= float(rng.random() < 0.9)
        if rng.random() < 0.2:
            annotation["ignore"] = int(rng.integers(0, 2))
    return truth


def undefined_as_nan(values: np.ndarray | list[float]) -> np.ndarray:
    """Where pycocotools has -1 rankdet has NaN."""
    return np.where(np.asarray(values) == -1, np.nan, values)


def pycocotools_evaluation(
    truth: dict,
    results: list[dict],
    *,
    iou_type: str = "bbox",
    max_detections: tuple[int, ...] = (1, 10, 100),
    area_ranges: tuple[tuple[float, float], ...] | None = None,
    pool_categories: bool = False,
    sigmas: np.ndarray | None = None,
) -> COCOeval:
    """pycocotools' evaluation, accumulated."""
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = copy.deepcopy(truth)
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(copy.deepcopy(results)), iou_type)
        evaluation.params.maxDets = list(max_detections)
        evaluation.params.useCats = int(not pool_categories)
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = sigmas
        if area_ranges is not None:
            evaluation.params.areaRng = [list(limits) for limits in area_ranges]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def twelve_numbers(evaluation: COCOeval) -> list[float]:
    """pycocotools' own summary, only there for its default parameters; NaN where undefined."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.summarize()
    return undefined_as_nan(evaluation.stats).tolist()
