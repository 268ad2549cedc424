"""LVIS evaluation (Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance Segmentation", CVPR 2019), v0.5 and v1.

Not every category is looked for in every image. A detection of a category that is neither among an image's objects nor
in its ``neg_category_ids`` is dropped: nobody knows. An unmatched detection of a category in the image's
``not_exhaustive_category_ids`` counts for nothing: it may be an object that nobody marked. Objects without area are
dropped, and so are detections without area, but these take their places among the 300 surest of an image, over all
categories, first. There are no crowds. All else is as in COCO. Categories are rare, common or frequent by their
``frequency``.

The rules are those of the authors' evaluator, whose package does not run with current numpy; the tests compare with its
output on a worked example, and with a loop written from the rules in ``tests/reference/``. Deviation: an object's key
``ignore``, which LVIS does not have, changes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rankdet.data.coco_content import CocoContent
from rankdet.data.columns import ABSENT
from rankdet.data.lvis import FREQUENCIES, FREQUENCY, NEGATIVE, NOT_EXHAUSTIVE
from rankdet.data.references import rows_of
from rankdet.eval.average_precision import recall_precision
from rankdet.eval.coco import category_results, named_metrics
from rankdet.eval.columns import IouType
from rankdet.eval.evaluation import Details, Evaluation
from rankdet.eval.instances import Detections, GroundTruth
from rankdet.eval.lrp import optimal_lrp
from rankdet.eval.matching import match
from rankdet.eval.reading import GroundTruthError, PathLike, ground_truth_of, load_ground_truth
from rankdet.eval.results import Results, read_results
from rankdet.eval.shapes import Ints
from rankdet.eval.sizes import COCO_AREA_RANGES, AreaRanges
from rankdet.eval.suspicions import warn_of_suspicions
from rankdet.eval.undefined import mean_of_defined

COCO_LIMITS = (1, 10, 100)
PER_IMAGE = 300


@dataclasses.dataclass(frozen=True)
class PerClass:
    """A limit on the detections of each class in all images together, and none on those of an image: Fixed AP.

    A limit for each image makes classes compete for it, so that leaving out a rare class can raise AP (Dave et al.,
    "Evaluating Large-Vocabulary Object Detectors: The Devil is in the Details", 2021).
    """

    most: int = 10_000


@dataclasses.dataclass(frozen=True)
class LVISGroundTruth:
    """``truth`` with what LVIS says beside it.

    ``looked_for`` are the ascending keys ``image * K + category`` of the categories known to be or not to be in each
    image; ``frequencies`` (K,) are "r", "c" or "f".
    """

    truth: GroundTruth
    looked_for: Ints
    frequencies: tuple[str, ...]


def evaluate_lvis(
    ground_truth: Mapping[str, Any] | PathLike,
    results: Results,
    *,
    iou_type: IouType = "bbox",
    max_detections: int | PerClass = PER_IMAGE,
    convert: str = "",
) -> Evaluation:
    """AP, AR and oLRP of results in COCO's format against a ground truth in the format of LVIS.

    The metrics have the names of COCO's, and ``AR_300``, ``AP_r``, ``AP_c``, ``AP_f``, ``oLRP_r``, ``oLRP_c`` and
    ``oLRP_f``. ``max_detections`` is a limit for each image, or `PerClass` for Fixed AP; ``AR_1``, ``AR_10`` and
    ``AR_100``, which LVIS does not have, are limits for each image and class, as in COCO. ``convert``, errors and
    warnings are as in `evaluate`.
    """
    lvis = read_lvis(ground_truth, iou_type=iou_type)
    detections = read_results(results, lvis.truth, iou_type=iou_type, convert=convert)
    warn_of_suspicions(lvis.truth, detections)
    return evaluate_lvis_detections(lvis, detections, max_detections=max_detections)


def evaluate_lvis_detections(
    lvis: LVISGroundTruth,
    detections: Detections,
    *,
    max_detections: int | PerClass = PER_IMAGE,
    area_ranges: AreaRanges = COCO_AREA_RANGES,
) -> Evaluation:
    """As `evaluate_lvis`, for columns that are already read."""
    counted = counted_detections(lvis, detections, max_detections=max_detections)
    most = max_detections.most if isinstance(max_detections, PerClass) else max_detections
    matches = match(lvis.truth, counted, max_detections=most, area_ranges=area_ranges)
    limits = (*(limit for limit in COCO_LIMITS if limit < most), most)
    details = Details(matches, recall_precision(matches, max_detections=limits), optimal_lrp(matches))
    metrics = {**named_metrics(details), **_by_frequency(details, lvis.frequencies)}
    return Evaluation(metrics=metrics, per_class=category_results(details), details=details)


def counted_detections(
    lvis: LVISGroundTruth, detections: Detections, *, max_detections: int | PerClass = PER_IMAGE
) -> Detections:
    """Those that LVIS counts: the best of each image, or class, and of them the ones with area that were looked for.

    Doing so twice is the same as once.
    """
    if isinstance(max_detections, PerClass):
        best = _surest(detections, detections.categories, max_detections.most)
    else:
        best = _surest(detections, detections.images, max_detections)
    keys = best.images * lvis.truth.num_categories + best.categories
    return best.take(np.isin(keys, lvis.looked_for) & (best.shapes.areas > 0))


def _surest(detections: Detections, groups: Ints, most: int) -> Detections:
    """The first of each of the ``groups`` (D,) by falling score, in the order in which they came."""
    order = np.lexsort((-detections.rank_values, groups))
    ranks = np.arange(len(order)) - np.searchsorted(groups[order], groups[order], side="left")
    return detections.take(np.sort(order[ranks < most]))


def read_lvis(source: Mapping[str, Any] | PathLike, *, iou_type: IouType = "bbox") -> LVISGroundTruth:
    """An LVIS ground truth, a dict or the path of a JSON file; GroundTruthError when it is none."""
    name, content = load_ground_truth(source)
    return lvis_of(content, name=name, iou_type=iou_type)


def is_lvis(content: Mapping[str, Any]) -> bool:
    """Whether a ground truth is in the format of LVIS: its images say which absent categories were looked for."""
    return bool((CocoContent.of(content).images[NEGATIVE].states != ABSENT).any())


def lvis_of(
    content: Mapping[str, Any], *, name: str, iou_type: IouType, properties: Sequence[str] = ()
) -> LVISGroundTruth:
    """As `read_lvis`, for what `load_ground_truth` gave."""
    read = CocoContent.of(content)
    everything = ground_truth_of(read, name=name, iou_type=iou_type, ignored_by=(), properties=properties)
    truth = everything.take(everything.areas > 0)
    negative, not_exhaustive = (_category_keys(read, key, truth) for key in (NEGATIVE, NOT_EXHAUSTIVE))
    present = truth.images * truth.num_categories + truth.categories
    return LVISGroundTruth(
        truth=dataclasses.replace(truth, not_exhaustive=not_exhaustive),
        looked_for=np.union1d(present, negative),
        frequencies=_frequencies(read, truth),
    )


def _category_keys(content: CocoContent, key: str, truth: GroundTruth) -> Ints:
    """Ascending keys ``image * K + category`` of the lists of category ids under ``key``."""
    lists = content.images[key]
    if len(bad := np.flatnonzero(~lists.readable)):
        got = content.value("images", bad[0], key)
        raise GroundTruthError(
            f"{content.called('images', bad[0])} of {truth.source} has {got!r:.60} for {key!r}; each image of LVIS has "
            f"a list of category ids. If every class is annotated in every image, use the rules of COCO: no image may "
            f"have {NEGATIVE!r} then"
        )
    ids = np.array([number for listed in lists.values for number in listed], np.int64)
    owners = np.repeat(np.arange(len(lists)), [len(listed) for listed in lists.values])
    categories = rows_of(ids, truth.category_ids)
    if len(bad := np.flatnonzero(categories < 0)):
        image = content.called("images", owners[bad[0]])
        raise GroundTruthError(f"{image} of {truth.source}: {key} has {ids[bad[0]]}, no category's id")
    places = rows_of(content.images["id"].values, truth.image_ids)
    return np.unique(places[owners] * truth.num_categories + categories)


def _frequencies(content: CocoContent, truth: GroundTruth) -> tuple[str, ...]:
    stated = [category.get(FREQUENCY) for category in content.entries("categories")]
    of_id = dict(zip(content.categories["id"].values.tolist(), stated, strict=True))
    for number, frequency in of_id.items():
        if frequency not in FREQUENCIES:
            raise GroundTruthError(f"category {number} of {truth.source} has frequency {frequency!r}; LVIS has r, c, f")
    return tuple(str(of_id[number]) for number in truth.category_ids.tolist())


def _by_frequency(details: Details, frequencies: tuple[str, ...]) -> dict[str, float]:
    metrics = {}
    for group in FREQUENCIES:
        chosen = np.array([frequency == group for frequency in frequencies], np.bool_)
        metrics[f"AP_{group}"] = mean_of_defined(details.recall_precision.precision[:, :, chosen, 0])
        metrics[f"oLRP_{group}"] = mean_of_defined(details.lrp.value[chosen, 0])
    return metrics
