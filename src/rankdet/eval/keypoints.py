"""Keypoints: AP, AR and oLRP by object keypoint similarity (see `keypoint_shapes`), by the rules of COCO.

An object without labelled keypoints counts for nothing. The first 20 detections of each image and class count, and
there are no small objects. LRP takes OKS where it takes IoU for boxes. The oracle of the tests is pycocotools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rankdet.eval.coco import evaluate_detections
from rankdet.eval.columns import Columns
from rankdet.eval.evaluation import Evaluation
from rankdet.eval.instances import Detections, GroundTruth
from rankdet.eval.keypoint_shapes import Keypoints, keypoint_table
from rankdet.eval.reading import GroundTruthError, PathLike, ground_truth_of, load_ground_truth
from rankdet.eval.results import Results, read_results
from rankdet.eval.shapes import Floats
from rankdet.eval.sizes import LARGEST, AreaRanges
from rankdet.eval.suspicions import warn_of_suspicions
from rankdet.eval.undefined import mean_of_defined

COCO_SIGMAS = (
    *(0.026, 0.025, 0.025, 0.035, 0.035),  # nose, eyes, ears
    *(0.079, 0.079, 0.072, 0.072, 0.062, 0.062),  # shoulders, elbows, wrists
    *(0.107, 0.107, 0.087, 0.087, 0.089, 0.089),  # hips, knees, ankles
)
"""Of COCO's 17 keypoints of a person."""
MAX_DETECTIONS = 20
KEYPOINT_AREA_RANGES: AreaRanges = {
    "all": (0.0, LARGEST),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, LARGEST),
}


@dataclass(frozen=True)
class KeypointRules:
    """The rules of COCO for keypoints, of a ground truth whose shapes are `Keypoints`."""

    truth: GroundTruth
    per_image: int = MAX_DETECTIONS
    name: str = "COCO for keypoints"

    def counted(self, detections: Detections) -> Detections:
        """All of them."""
        return detections

    def evaluate(self, detections: Detections) -> Evaluation:
        """AP, AR and oLRP with the details; with ``AR50`` and ``AR75`` in addition to the names for boxes."""
        evaluation = evaluate_detections(
            self.truth, detections, area_ranges=KEYPOINT_AREA_RANGES, max_detections=(self.per_image,)
        )
        assert evaluation.details is not None, "what has just been evaluated has details"
        recall, thresholds = evaluation.details.recall_precision.recall, evaluation.details.matches.iou_thresholds
        more = {
            name: mean_of_defined(recall[np.isclose(thresholds, level), :, 0, -1])
            for name, level in (("AR50", 0.5), ("AR75", 0.75))
        }
        return replace(evaluation, metrics={**evaluation.metrics, **more})


def evaluate_keypoints(
    ground_truth: Mapping[str, Any] | PathLike,
    results: Results,
    *,
    sigmas: Sequence[float] | None = None,
    convert: str = "",
) -> Evaluation:
    """AP, AR and oLRP of keypoints in COCO's format, as pycocotools with ``iouType = "keypoints"``.

    ``sigmas`` (K,) are those of the keypoints; None for COCO's 17. ``convert``, errors and warnings are as in
    `evaluate`.

    >>> keypoints = [x for place in range(17) for x in (10.0 + place, 20.0, 2)]
    >>> truth = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "person"}], "annotations": [
    ...     {"image_id": 1, "category_id": 1, "bbox": [0, 0, 40, 40], "area": 1600, "keypoints": keypoints}]}
    >>> found = {"image_id": 1, "category_id": 1, "keypoints": keypoints, "score": 0.9}
    >>> evaluation = evaluate_keypoints(truth, [found])
    >>> round(evaluation.metrics["AP"], 6), evaluation.metrics["oLRP"]
    (1.0, 0.0)
    """
    rules = read_keypoint_rules(ground_truth, sigmas=sigmas)
    detections = read_results(results, rules.truth, convert=convert)
    warn_of_suspicions(rules.truth, detections)
    return rules.evaluate(detections)


def read_keypoint_rules(
    ground_truth: Mapping[str, Any] | PathLike, *, sigmas: Sequence[float] | None = None
) -> KeypointRules:
    """A COCO ground truth with keypoints, a dict or the path of a JSON file. Raises GroundTruthError."""
    name, content = load_ground_truth(ground_truth)
    truth = ground_truth_of(content, name=name, iou_type="bbox")
    spread = np.array(COCO_SIGMAS if sigmas is None else sigmas, np.float64)
    entries = content["annotations"]
    if not any("keypoints" in entry for entry in entries) and len(entries):
        raise GroundTruthError(f"no annotation of {name} has 'keypoints'; evaluate boxes or masks")
    _check_sigmas(entries, spread, name)
    nothing = [0] * (3 * len(spread))
    table = keypoint_table(
        Columns(
            [{"keypoints": entry.get("keypoints") or nothing} for entry in entries],
            f"annotation {{}} of {name}",
            GroundTruthError,
        ),
        len(spread),
    )
    labelled = table[..., 2] > 0
    keypoints = Keypoints(table[..., :2], labelled, truth.shapes.boxes(np.arange(len(truth))), truth.areas, spread)
    return KeypointRules(replace(truth, shapes=keypoints, uncounted=_stated_counts(entries, labelled.sum(axis=1)) == 0))


def _check_sigmas(entries: Sequence[Mapping[str, Any]], sigmas: Floats, name: str) -> None:
    if not len(sigmas) or not (sigmas > 0).all():
        raise ValueError(f"sigmas are {sigmas.tolist()}; accepted are numbers above 0, one for each keypoint")
    counts = [len(entry["keypoints"]) // 3 for entry in entries if isinstance(entry.get("keypoints"), list | tuple)]
    if counts and counts[0] != len(sigmas):
        raise GroundTruthError(
            f"objects of {name} have {counts[0]} keypoints, but there are sigmas for {len(sigmas)}; give one for each"
        )


def _stated_counts(entries: Sequence[Mapping[str, Any]], labelled: Any) -> Any:
    """(G,) ``num_keypoints``, or the number of those labelled where it is not stated."""
    stated = [entry.get("num_keypoints") for entry in entries]
    return np.array([own if count is None else count for count, own in zip(stated, labelled.tolist(), strict=True)])
