"""Average recall of proposals: whether the objects were found at all, whatever their class (Hosang et al., 2015)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rankdet.eval.average_precision import recall_precision
from rankdet.eval.columns import IouType
from rankdet.eval.matching import match
from rankdet.eval.reading import PathLike, read_ground_truth
from rankdet.eval.results import Results, read_proposals
from rankdet.eval.undefined import mean_of_defined


def evaluate_proposals(
    ground_truth: Mapping[str, Any] | PathLike,
    proposals: Results,
    *,
    iou_type: IouType = "bbox",
    max_detections: tuple[int, ...] = (100, 300, 1000),
    convert: str = "",
) -> dict[str, float]:
    """Recall with the first 100, 300 and 1000 proposals of each image, averaged over the IoU thresholds 0.5 to 0.95.

    ``proposals`` are COCO results; their ``category_id`` may be absent; ``convert`` is as in `read_results`. Gives
    ``AR_100``, ``AR_300``, ``AR_1000``, and with the largest number ``AR_small``, ``AR_medium`` and ``AR_large``, in
    [0, 1], and NaN without objects: pycocotools' numbers with ``useCats = 0``.

    >>> truth = {"images": [{"id": 1}], "categories": [{"id": 3, "name": "cat"}],
    ...          "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10]}]}
    >>> evaluate_proposals(truth, [{"image_id": 1, "bbox": [0, 0, 10, 8], "score": 0.9}])["AR_100"]
    0.7
    """
    limits = tuple(sorted(max_detections))
    truth = read_ground_truth(ground_truth, iou_type=iou_type)
    detections = read_proposals(proposals, truth, iou_type=iou_type, convert=convert)
    matches = match(truth, detections, max_detections=limits[-1], pool_categories=True)
    recall = recall_precision(matches, max_detections=limits).recall
    metrics = {f"AR_{limit}": mean_of_defined(recall[:, :, 0, place]) for place, limit in enumerate(limits)}
    for area, name in list(enumerate(matches.groups))[1:]:
        metrics[f"AR_{name}"] = mean_of_defined(recall[:, :, area, -1])
    return metrics
