"""Calibration errors against their definition written out; and the shifts that put optimal thresholds at 0.5."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rankdet.eval import evaluate_detections, lrp_at, match, read_ground_truth, read_results
from rankdet.eval.calibration import ANY_OVERLAP, calibration_error, operating_thresholds, with_highest
from rankdet.eval.reliability import draw_reliability
from tests.reference.coco_sets import random_problem


def errors_by_definition(matches, category: int, bins: int) -> tuple[float, float, float] | None:
    outcomes = matches.outcomes()
    rows = [
        (score, bool(hit), overlap)
        for score, hit, overlap, ignored, k in zip(
            outcomes.scores,
            outcomes.true_positive,
            outcomes.overlaps,
            outcomes.ignored,
            outcomes.categories,
            strict=True,
        )
        if k == category and not ignored
    ]
    if not rows:
        return None
    d_ece = la_ece = 0.0
    la_ace = np.mean([abs(score - (overlap if hit else 0.0)) for score, hit, overlap in rows])
    for number in range(bins):
        inside = [row for row in rows if in_bin(row[0], number, bins)]
        if not inside:
            continue
        confidence = np.mean([row[0] for row in inside])
        precision = np.mean([row[1] for row in inside])
        overlap = np.mean([row[2] for row in inside if row[1]]) if precision else 0.0
        d_ece += len(inside) / len(rows) * abs(confidence - precision)
        la_ece += len(inside) / len(rows) * abs(confidence - precision * overlap)
    return d_ece, la_ece, la_ace


def in_bin(score: float, number: int, bins: int) -> bool:
    """Bins are closed above, and the first one below as well."""
    return number / bins < score <= (number + 1) / bins or (number == 0 and score == 0)


@pytest.mark.parametrize("tau", [0.5, ANY_OVERLAP])
@pytest.mark.parametrize("bins", [1, 10, 25])
@pytest.mark.parametrize("seed", range(6))
def test_errors_are_as_defined(seed, bins, tau):
    truth, results = random_problem(np.random.default_rng(seed))
    columns = read_ground_truth(truth)
    matches = match(columns, read_results(results, columns), iou_thresholds=(tau,))
    found = calibration_error(matches, bins=bins)
    expected = [errors_by_definition(matches, category, bins) for category in range(matches.num_categories)]
    for category, errors in enumerate(expected):
        d_ece, la_ece, la_ace = errors if errors is not None else (np.nan, np.nan, np.nan)
        np.testing.assert_allclose(found.d_ece_per_class[category], d_ece, atol=1e-12)
        np.testing.assert_allclose(found.la_ece_per_class[category], la_ece, atol=1e-12)
        np.testing.assert_allclose(found.la_ace_per_class[category], la_ace, atol=1e-12)
    known = [errors for errors in expected if errors is not None]
    means = np.mean(known, axis=0)
    np.testing.assert_allclose((found.d_ece, found.la_ece, found.la_ace), means, atol=1e-12)
    pooled = errors_by_definition(replace(matches, categories=matches.categories * 0), 0, bins)
    assert found.pooled_d_ece == pytest.approx(pooled[0], abs=1e-12)
    assert found.counts.sum() == np.count_nonzero(~matches.outcomes().ignored)


def test_only_what_is_kept_counts():
    truth, results = random_problem(np.random.default_rng(1))
    columns = read_ground_truth(truth)
    matches = match(columns, read_results(results, columns))
    kept = matches.scores > 0.3
    some = calibration_error(matches, kept=kept)
    assert some.counts[: int(0.28 * 25)].sum() == 0
    assert some.counts.sum() == np.count_nonzero(kept & ~matches.outcomes().ignored)
    assert np.isnan(calibration_error(matches, kept=kept & False).d_ece)


def test_bins_are_at_least_one():
    columns = read_ground_truth(random_problem(np.random.default_rng(1))[0])
    with pytest.raises(ValueError, match="bins is 0"):
        calibration_error(match(columns, read_results([], columns)), bins=0)


def logit_problem(seed: int):
    """Detections whose scores all saturate at 1 in double precision, in logits."""
    truth, results = random_problem(np.random.default_rng(seed))
    columns = read_ground_truth(truth)
    detections = read_results(results, columns)
    return columns, replace(detections, scores=40 + 20 * detections.scores)


@pytest.mark.parametrize("seed", range(12))
def test_after_the_shift_zero_is_the_best_threshold(seed):
    columns, detections = logit_problem(seed)
    before = evaluate_detections(columns, detections)
    matches = before.details.matches
    present = before.details.lrp.value[:, 0] >= 0
    thresholds = with_highest(operating_thresholds(matches))
    shifted = replace(detections, scores=detections.scores - thresholds[detections.categories])
    after = evaluate_detections(columns, shifted)
    for old, new in zip(before.per_class, after.per_class, strict=True):
        assert (new.AP, new.AP50, new.AP75, new.oLRP) == (old.AP, old.AP50, old.AP75, old.oLRP)
    # Evaluation cuts between equal scores, a threshold cannot; so compare with the best threshold there is.
    at_zero = lrp_at(after.details.matches, 0.0).value[:, 0]
    for category in np.flatnonzero(present).tolist():
        scores = np.unique(matches.scores[matches.categories == category])
        if np.isnan(before.details.lrp.threshold[category, 0]):
            continue
        best = min(lrp_at(matches, score).value[category, 0] for score in scores)
        assert at_zero[category] == pytest.approx(best)


def test_without_any_threshold_there_is_nothing_to_calibrate_with():
    with pytest.raises(ValueError, match="no object was found"):
        with_highest(np.array([np.nan, np.nan]))


def test_a_perfect_class_counts_as_one_without_error():
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "owl"}],
        "annotations": [{"image_id": 1, "category_id": number, "bbox": [0, 0, 10, 10]} for number in (1, 2, 3)],
    }
    results = [
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 4], "score": 0.4},
        {"image_id": 1, "category_id": 2, "bbox": [0, 0, 10, 4], "score": 0.9},
        {"image_id": 1, "category_id": 2, "bbox": [30, 30, 10, 4], "score": 0.2},
    ]
    columns = read_ground_truth(truth)
    errors = calibration_error(match(columns, read_results(results, columns), iou_thresholds=(ANY_OVERLAP,)))
    np.testing.assert_allclose(errors.la_ece_per_class, [0.0, (0.5 + 0.2) / 2, np.nan])
    assert (errors.la_ece, errors.la_ace) == (pytest.approx(0.175), pytest.approx(0.175))


def test_the_diagram_is_drawn(tmp_path: Path):
    truth, results = random_problem(np.random.default_rng(1))
    columns = read_ground_truth(truth)
    errors = calibration_error(match(columns, read_results(results, columns)))
    for name in ("diagram.svg", "diagram.png"):
        draw_reliability({"before": errors, "after": errors}, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 5000
