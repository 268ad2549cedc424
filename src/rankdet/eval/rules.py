"""By whose rules results are judged: those of LVIS where the ground truth says what was looked for, else those of COCO.

Whatever evaluates a ground truth that it did not choose itself (the command line, a training, the report) takes the
rules from here, so that all of them give the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from rankdet.eval.coco import evaluate_detections
from rankdet.eval.columns import IouType
from rankdet.eval.evaluation import Evaluation
from rankdet.eval.instances import Detections, GroundTruth
from rankdet.eval.lvis import (
    PER_IMAGE,
    LVISGroundTruth,
    PerClass,
    counted_detections,
    evaluate_lvis_detections,
    is_lvis,
    lvis_of,
)
from rankdet.eval.reading import PathLike, ground_truth_of, load_ground_truth
from rankdet.eval.sizes import COCO_AREA_RANGES, AreaRanges


class Rules(Protocol):
    """A ground truth, and how detections are judged against it."""

    @property
    def name(self) -> str:
        """That of the benchmark."""
        ...

    @property
    def per_image(self) -> int:
        """How many detections of an image a model should give; fewer may cost AP."""
        ...

    @property
    def truth(self) -> GroundTruth:
        """The objects."""
        ...

    def counted(self, detections: Detections) -> Detections:
        """Those that are judged at all; doing so twice is the same as once."""
        ...

    def evaluate(self, detections: Detections) -> Evaluation:
        """AP, AR and oLRP, with the details."""
        ...


@dataclass(frozen=True)
class COCORules:
    """Every class is annotated in every image; the first detections of each image and class count."""

    truth: GroundTruth
    max_detections: tuple[int, ...] = (1, 10, 100)
    area_ranges: AreaRanges = field(default_factory=lambda: COCO_AREA_RANGES)
    name: str = "COCO"

    @property
    def per_image(self) -> int:
        """The largest of ``max_detections``."""
        return max(self.max_detections)

    def counted(self, detections: Detections) -> Detections:
        """All of them."""
        return detections

    def evaluate(self, detections: Detections) -> Evaluation:
        """As `evaluate_detections`."""
        return evaluate_detections(
            self.truth, detections, max_detections=self.max_detections, area_ranges=self.area_ranges
        )


@dataclass(frozen=True)
class LVISRules:
    """Only what was looked for counts, and the first detections of each image over all classes, or of each class."""

    lvis: LVISGroundTruth
    max_detections: int | PerClass = PER_IMAGE
    area_ranges: AreaRanges = field(default_factory=lambda: COCO_AREA_RANGES)
    name: str = "LVIS"

    @property
    def truth(self) -> GroundTruth:
        """The objects."""
        return self.lvis.truth

    @property
    def per_image(self) -> int:
        """The limit for each image; of one for each class, as many as are customary."""
        return PER_IMAGE if isinstance(self.max_detections, PerClass) else self.max_detections

    def counted(self, detections: Detections) -> Detections:
        """As `counted_detections`."""
        return counted_detections(self.lvis, detections, max_detections=self.max_detections)

    def evaluate(self, detections: Detections) -> Evaluation:
        """As `evaluate_lvis_detections`."""
        return evaluate_lvis_detections(
            self.lvis, detections, max_detections=self.max_detections, area_ranges=self.area_ranges
        )


def read_rules(
    source: Mapping[str, Any] | PathLike,
    *,
    iou_type: IouType = "bbox",
    area_ranges: AreaRanges = COCO_AREA_RANGES,
    properties: Sequence[str] = (),
) -> Rules:
    """The rules for a ground truth in the format of COCO or LVIS, a dict or the path of a JSON file.

    ``area_ranges`` are the size classes, the first of which must be "all"; ``properties`` of annotations or images give
    more groups of objects, as in `read_properties`. Raises GroundTruthError if it is none.

    >>> truth = {"images": [{"id": 1}], "annotations": [], "categories": [{"id": 3, "name": "cat", "frequency": "r"}]}
    >>> read_rules(truth).name
    'COCO'
    >>> truth["images"][0] |= {"neg_category_ids": [3], "not_exhaustive_category_ids": []}
    >>> read_rules(truth).name, read_rules(truth).per_image
    ('LVIS', 300)
    """
    name, content = load_ground_truth(source)
    return rules_of(content, name=name, iou_type=iou_type, area_ranges=area_ranges, properties=properties)


def rules_of(
    content: Mapping[str, Any],
    *,
    name: str,
    iou_type: IouType,
    area_ranges: AreaRanges = COCO_AREA_RANGES,
    properties: Sequence[str] = (),
) -> Rules:
    """As `read_rules`, for what `load_ground_truth` gave."""
    if is_lvis(content):
        lvis = lvis_of(content, name=name, iou_type=iou_type, properties=properties)
        return LVISRules(lvis, area_ranges=area_ranges)
    truth = ground_truth_of(content, name=name, iou_type=iou_type, properties=properties)
    return COCORules(truth, area_ranges=area_ranges)


def too_few_detections(model: object, rules: Rules) -> str:
    """What to tell a user whose model keeps fewer detections of an image than the rules count; empty if it does not."""
    kept = getattr(getattr(model, "postprocess", None), "max_detections", None)
    if not isinstance(kept, int) or kept >= rules.per_image:
        return ""
    return (
        f"the model keeps {kept} detections of an image but {rules.name} counts {rules.per_image}, which may cost AP; "
        f"more with: --model.init_args.postprocess.init_args.max_detections {rules.per_image}"
    )
