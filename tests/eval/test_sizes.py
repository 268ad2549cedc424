"""Size classes other than COCO's, against pycocotools."""

from __future__ import annotations

import numpy as np
import pytest

from rankdet.eval import COCO_AREA_RANGES, evaluate, parse_sizes
from tests.eval.test_coco import assert_equal_curves
from tests.reference.coco_sets import pycocotools_evaluation, random_problem


def test_any_area_ranges_equal_pycocotools():
    rng = np.random.default_rng(8)
    ranges = {"all": (0.0, 1e10), "tiny": (0.0, 16.0**2), "exact": (1024.0, 1024.0), "rest": (1500.0, 9216.0)}
    for _ in range(50):
        truth, results = random_problem(rng)
        found = evaluate(truth, results, area_ranges=ranges)
        assert_equal_curves(found, pycocotools_evaluation(truth, results, area_ranges=tuple(ranges.values())))
        assert {"AP_tiny", "AR_exact", "oLRP_rest"} <= set(found.metrics)


def test_sizes_by_their_names_and_sides():
    assert parse_sizes("small:32,medium:96,large") == COCO_AREA_RANGES
    rng = np.random.default_rng(8)
    ranges = parse_sizes(" tiny:16, rest ")
    for _ in range(20):
        truth, results = random_problem(rng)
        found = evaluate(truth, results, area_ranges=ranges)
        assert_equal_curves(found, pycocotools_evaluation(truth, results, area_ranges=tuple(ranges.values())))
        expected = evaluate(truth, results).metrics["AP"]
        assert found.metrics["AP"] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("small:big,large", "the side of a square, such as small:32, but one is 'small:big'"),
        ("a:32,b:16,c", "sizes must rise, but b:16 is not above"),
        ("a:32,a", "a word that no other has, got 'a'"),
        ("a:16,r", "a word that no other has, got 'r'"),
        ("a:16,", "a word that no other has, got ''"),
    ],
)
def test_sizes_that_are_none(text, message):
    with pytest.raises(ValueError, match=message):
        parse_sizes(text)
