"""The subject of a report: a ground truth, detections, their evaluation, and the outcome of each when deployed.

D detections in the order of `rankdet.eval.Matches`, G objects, N images, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rankdet.eval import (
    Detections,
    Evaluation,
    GroundTruth,
    Matches,
    Outcomes,
    read_results,
)
from rankdet.eval.columns import IouType
from rankdet.eval.deployment import Deployment, deploy
from rankdet.eval.reading import PathLike, load_ground_truth
from rankdet.eval.results import Results
from rankdet.eval.rules import Rules, rules_of
from rankdet.eval.shapes import Bools, Floats, Ints
from rankdet.eval.sizes import COCO_AREA_RANGES, AreaRanges
from rankdet.eval.suspicions import warn_of_suspicions


@dataclass(frozen=True)
class Problem:
    """A ground truth and its rules, detections, and their evaluation, whose ``details`` must be there.

    ``file_names`` (N,) are in the order of the image ids.
    """

    rules: Rules
    detections: Detections
    evaluation: Evaluation
    file_names: tuple[str, ...]
    iou_type: IouType

    @property
    def truth(self) -> GroundTruth:
        """The objects."""
        return self.rules.truth

    @property
    def matches(self) -> Matches:
        """What each detection found."""
        assert self.evaluation.details is not None, "a problem is made from an evaluation with details"
        return self.evaluation.details.matches

    @cached_property
    def deployment(self) -> Deployment:
        """What is left at the thresholds to deploy with."""
        return deploy(self.evaluation)

    @property
    def outcomes(self) -> Outcomes:
        """What became of each detection at the first IoU threshold."""
        return self.deployment.outcomes

    @property
    def thresholds(self) -> Floats:
        """(K,) the scores to deploy with."""
        return self.deployment.thresholds

    @property
    def deployed(self) -> Bools:
        """(D,) the detections from the threshold of their class on."""
        return self.deployment.kept

    @property
    def counted(self) -> Bools:
        """(G,) the objects that count."""
        return self.deployment.counted

    @cached_property
    def missed(self) -> Ints:
        """Indices of the counted objects that no deployed detection found."""
        return self.deployment.missed


def read_problem(
    ground_truth: Mapping[str, Any] | PathLike,
    results: Results,
    *,
    iou_type: IouType = "bbox",
    convert: str = "",
    area_ranges: AreaRanges = COCO_AREA_RANGES,
    properties: Sequence[str] = (),
) -> Problem:
    """Reads and evaluates results against a ground truth in the format of COCO or LVIS, by the rules of either.

    ``convert`` is as in `rankdet.eval.read_results`, ``area_ranges`` and ``properties`` as in
    `rankdet.eval.read_rules`. Raises GroundTruthError or ResultsError (both ValueError) naming file and entry, and
    warns of suspicious results.

    >>> problem = read_problem(
    ...     {"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 3, "name": "cat"}],
    ...      "annotations": [{"image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10]}]},
    ...     [{"image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 8], "score": 0.9}])
    >>> problem.file_names, problem.thresholds, problem.missed
    (('a.jpg',), array([0.9]), array([], dtype=int64))
    """
    name, content = load_ground_truth(ground_truth)
    rules = rules_of(content, name=name, iou_type=iou_type, area_ranges=area_ranges, properties=properties)
    truth = rules.truth
    read = read_results(results, truth, iou_type=iou_type, convert=convert)
    warn_of_suspicions(truth, read)
    detections = rules.counted(read)
    names = truth.image_names or [""] * len(truth.image_ids)
    shown = [name or str(number) for name, number in zip(names, truth.image_ids.tolist(), strict=True)]
    return Problem(rules, detections, rules.evaluate(detections), tuple(shown), iou_type)
