"""Calibrates the scores of detections on some of the images, and says on others what that changed.

The procedure of Kuzucu et al., "On Calibration of Object Detectors" (ECCV 2024), for each class:

1. The threshold at which its LRP is lowest. It is that of matches at IoU 0.5, as everywhere here; in the paper it goes
   with the errors, so at any overlap.
2. A mapping of the scores is fitted to the IoU of each detection with the object that it found at any overlap, 0 of a
   false one. Temperature and Platt scaling see the detections from the threshold on, as in the paper; isotonic
   regression sees all, since its steps are local, and would else not tell the detections below the threshold apart.
3. The threshold again, of the mapped scores. Errors are those of the detections from the threshold on.

A class with few detections keeps its scores. `shift_scores` is another method: it puts the threshold of every class at
0.5 and fits nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from rankdet.eval.calibration import (
    ANY_OVERLAP,
    POOLED_BINS,
    Calibration,
    calibration_error,
    operating_thresholds,
    with_highest,
)
from rankdet.eval.instances import Detections
from rankdet.eval.lrp import lrp_at
from rankdet.eval.matching import COCO_IOU_THRESHOLDS, Matches, match
from rankdet.eval.rules import COCORules, LVISRules, Rules
from rankdet.eval.score_fitting import LEAST_SLOPE, fit_isotonic, fit_platt, fit_temperature
from rankdet.eval.score_mapping import Affine, ClassMapping, ScoreMapping, logits_of, scores_of
from rankdet.eval.shapes import Bools, Floats
from rankdet.eval.sizes import COCO_AREA_RANGES
from rankdet.eval.undefined import mean_of_defined

LEAST_DETECTIONS = 10
"""A class with fewer keeps its scores."""
_EVERYTHING = {"all": COCO_AREA_RANGES["all"]}
ClassFit = Callable[[Floats, Floats], ClassMapping]
"""Logits (D,) and targets (D,) -> a mapping."""


@dataclass(frozen=True)
class FittedScores:
    """A mapping, and how it came about.

    ``before`` and ``after`` (K,) are the thresholds of the classes in logits, ``seen`` the number of detections that
    each was fitted to, ``notes`` what there is to say of each, empty for nothing.
    """

    mapping: ScoreMapping
    before: Floats
    after: Floats
    seen: tuple[int, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ScoreAssessment:
    """What detections are like: ``metrics`` by name, and of those from the thresholds on, the reliability diagram.

    ``AP`` and ``oLRP`` are those of all detections; ``AP_deployed``, ``LRP`` (IoU 0.5) and ``LRP_0`` (any overlap)
    those at the thresholds. ``LaECE_0``, ``LaACE_0``, ``D_ECE`` (pooled, 10 bins) and ``D_ECE_per_class`` (mean of the
    classes, 25 bins) are the errors from the thresholds on, and those of all detections where ``_all`` follows.

    ``per_class`` has LaECE_0, LaACE_0 and D_ECE (25 bins) of each by category id, from the thresholds on. The diagram
    has the precision at IoU 0.5, and the worth and LaECE at any overlap.
    """

    metrics: dict[str, float]
    per_class: dict[int, dict[str, float]]
    diagram: Calibration


def split_images(number: int, *, share: float, seed: int = 0) -> Bools:
    """(N,) which images a mapping is fitted to, drawn at random: a share of them, at least one and not all.

    With a share of 1 it is all of them.

    >>> split_images(4, share=0.5).sum(), split_images(4, share=1.0).all()
    (np.int64(2), np.True_)
    """
    if not 0 < share <= 1:
        raise ValueError(f"the share of the images to fit to must lie above 0 and be at most 1; got {share}")
    if share < 1 and number < 2:
        raise ValueError(
            f"{number} images cannot be parted into those to fit to and those to report on; use a share of 1"
        )
    count = number if share == 1 else min(max(round(share * number), 1), number - 1)
    chosen = np.zeros(number, np.bool_)
    chosen[np.random.default_rng(seed).permutation(number)[:count]] = True
    return chosen


def of_images(rules: Rules, detections: Detections, images: Bools) -> tuple[Rules, Detections]:
    """The same rules and detections, where only some ``images`` (N,) have objects and detections."""
    truth = rules.truth.take(images[rules.truth.images])
    if isinstance(rules, LVISRules):
        some: Rules = replace(rules, lvis=replace(rules.lvis, truth=truth))
    elif isinstance(rules, COCORules):
        some = replace(rules, truth=truth)
    else:
        raise TypeError(f"{type(rules).__name__} cannot be calibrated by; accepted are the rules of COCO and LVIS")
    return some, detections.take(images[detections.images])


def in_logits(detections: Detections) -> Detections:
    """The same with logits, from the scores where it has none; ValueError for scores outside 0..1."""
    if detections.logits is not None:
        return detections
    wrong = np.flatnonzero((detections.scores < 0) | (detections.scores > 1))
    if len(wrong):
        raise ValueError(
            f"entry {wrong[0]} has the score {detections.scores[wrong[0]]:.6g}; scores to be calibrated lie in 0..1, "
            "so write the sigmoids of logits"
        )
    return replace(detections, logits=logits_of(detections.scores))


def map_scores(detections: Detections, mapping: ScoreMapping) -> Detections:
    """The detections with calibrated scores and logits."""
    detections = in_logits(detections)
    assert detections.logits is not None, "they have just been made"
    logits = mapping(detections.logits, detections.categories)
    return replace(detections, scores=scores_of(logits), logits=logits)


def shift_scores(rules: Rules, detections: Detections) -> FittedScores:
    """Adds to the logits of each class what puts its best threshold at 0, a score of 0.5.

    Raises:
        ValueError: no object was found.
    """
    matches = _matches(rules, _by_logits(rules, detections), COCO_IOU_THRESHOLDS[0])
    found = operating_thresholds(matches)
    before = with_highest(found)
    notes = tuple("no object was found: shifted as the highest" if unknown else "" for unknown in np.isnan(found))
    return FittedScores(
        mapping=_mapping(rules, "shift", [Affine(1.0, -limit) for limit in before.tolist()], before, before * 0),
        before=before,
        after=np.zeros(len(before)),
        seen=tuple(np.bincount(matches.categories, minlength=len(before)).tolist()),
        notes=notes,
    )


def fit_scores(
    rules: Rules, detections: Detections, *, fit: ClassFit, name: str, deployed_only: bool = True
) -> FittedScores:
    """Fits a mapping of each class to the IoU of its detections.

    Args:
        rules: the objects to fit to.
        detections: what was found of them.
        fit: such as `fit_platt`.
        name: of the method.
        deployed_only: only the detections from the threshold of their class on.

    Raises:
        ValueError: no object was found.

    >>> from rankdet.eval import read_results, read_rules
    >>> from rankdet.eval.score_fitting import fit_platt
    >>> box = {"image_id": 1, "category_id": 3}
    >>> rules = read_rules({"images": [{"id": 1}], "categories": [{"id": 3, "name": "cat"}], "annotations": [
    ...     {**box, "bbox": [20 * i, 0, 10, 10]} for i in range(10)]})
    >>> found = read_results([{**box, "bbox": [20 * i, 0, 10, 8], "score": 0.1} for i in range(10)], rules.truth)
    >>> map_scores(found, fit_scores(rules, found, fit=fit_platt, name="platt").mapping).scores.round(3)[0]
    np.float64(0.8)
    """
    counted = _by_logits(rules, detections)
    matches = _matches(rules, counted, COCO_IOU_THRESHOLDS[0])
    found = operating_thresholds(matches)
    before = with_highest(found)
    outcomes = _matches(rules, counted, ANY_OVERLAP).outcomes()
    targets = outcomes.overlaps * outcomes.true_positive
    usable = ~outcomes.ignored & ((outcomes.scores >= before[outcomes.categories]) | (not deployed_only))
    classes: list[ClassMapping] = []
    seen, notes = [], []
    for category, unknown in enumerate(np.isnan(found).tolist()):
        rows = usable & (outcomes.categories == category)
        seen.append(int(rows.sum()))
        enough = seen[-1] >= LEAST_DETECTIONS and not unknown
        of_class = fit(outcomes.scores[rows], np.minimum(targets[rows], 1.0)) if enough else Affine()
        classes.append(of_class)
        notes.append(_note(of_class, seen[-1], found=not unknown))
    mapping = _mapping(rules, name, classes, before, before)
    moved = replace(matches, scores=mapping(matches.scores, matches.categories))
    after = with_highest(operating_thresholds(moved))
    mapping = replace(mapping, thresholds=tuple(scores_of(after).tolist()))
    return FittedScores(mapping=mapping, before=before, after=after, seen=tuple(seen), notes=tuple(notes))


CALIBRATIONS: Mapping[str, Callable[[Rules, Detections], FittedScores]] = {
    "shift": shift_scores,
    "temperature": partial(fit_scores, fit=fit_temperature, name="temperature"),
    "platt": partial(fit_scores, fit=fit_platt, name="platt"),
    "isotonic": partial(fit_scores, fit=fit_isotonic, name="isotonic", deployed_only=False),
}
"""The methods by name: the rules and what was found -> what was fitted."""


def assess_scores(rules: Rules, detections: Detections, thresholds: Floats) -> ScoreAssessment:
    """The numbers of detections at ``thresholds`` (K,), which are logits."""
    counted = _by_logits(rules, detections)
    evaluation = rules.evaluate(counted)
    deployed = rules.evaluate(counted.take(counted.scores >= thresholds[counted.categories]))
    matches, loose = (_matches(rules, counted, tau) for tau in (COCO_IOU_THRESHOLDS[0], ANY_OVERLAP))
    kept = matches.scores >= thresholds[matches.categories]
    metrics = {
        "AP": evaluation.metrics["AP"],
        "AP_deployed": deployed.metrics["AP"],
        "oLRP": evaluation.metrics["oLRP"],
        "LRP": mean_of_defined(lrp_at(matches, thresholds).value),
        "LRP_0": mean_of_defined(lrp_at(loose, thresholds).value),
    }
    matches, loose = (replace(each, scores=scores_of(each.scores)) for each in (matches, loose))
    for suffix, chosen in (("_all", None), ("", kept)):
        at_any, at_half = (calibration_error(each, kept=chosen) for each in (loose, matches))
        pooled = calibration_error(matches, bins=POOLED_BINS, kept=chosen).pooled_d_ece
        metrics |= {f"LaECE_0{suffix}": at_any.la_ece, f"LaACE_0{suffix}": at_any.la_ace}
        metrics |= {f"D_ECE{suffix}": pooled, f"D_ECE_per_class{suffix}": at_half.d_ece}
    columns = (at_any.la_ece_per_class, at_any.la_ace_per_class, at_half.d_ece_per_class)
    rows = zip(rules.truth.category_ids.tolist(), *(column.tolist() for column in columns), strict=True)
    per_class = {number: {"LaECE_0": ece, "LaACE_0": ace, "D_ECE": d_ece} for number, ece, ace, d_ece in rows}
    return ScoreAssessment(metrics, per_class, replace(at_half, worth=at_any.worth, la_ece=at_any.la_ece))


def _matches(rules: Rules, counted: Detections, tau: float) -> Matches:
    """At one IoU threshold, of what `_by_logits` gave."""
    return match(
        rules.truth,
        counted,
        iou_thresholds=(tau,),
        area_ranges=_EVERYTHING,
        max_detections=rules.per_image,
    )


def _by_logits(rules: Rules, detections: Detections) -> Detections:
    """Those that count, with logits as scores."""
    counted = rules.counted(in_logits(detections))
    assert counted.logits is not None, "they have just been made"
    return replace(counted, scores=counted.logits, logits=None)


def _mapping(rules: Rules, method: str, classes: list[ClassMapping], before: Floats, after: Floats) -> ScoreMapping:
    truth = rules.truth
    return ScoreMapping(
        method=method,
        category_ids=tuple(truth.category_ids.tolist()),
        category_names=truth.category_names,
        classes=tuple(classes),
        thresholds_before=tuple(scores_of(before).tolist()),
        thresholds=tuple(scores_of(after).tolist()),
    )


def _note(of_class: ClassMapping, seen: int, *, found: bool) -> str:
    if not found:
        return "scores kept: no object of it was found"
    if seen < LEAST_DETECTIONS:
        return f"scores kept: {seen} detections to fit to, fewer than {LEAST_DETECTIONS}"
    if isinstance(of_class, Affine) and of_class.slope == LEAST_SLOPE:
        return "its scores do not rise with the IoU: nearly one score for all"
    return ""
