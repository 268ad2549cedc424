"""Boundary AP against pycocotools whose overlaps are those of eroded masks."""

from __future__ import annotations

import contextlib
import copy
import io

import numpy as np
import pycocotools.mask as codec
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rankdet.eval import evaluate, evaluate_boundaries, evaluate_lvis
from rankdet.eval.boundaries import boundary
from tests.eval.test_coco import assert_equal_curves
from tests.eval.test_lvis import random_lvis_problem
from tests.reference.coco_sets import random_problem, with_masks

ndimage = pytest.importorskip("scipy.ndimage")


def eroded_boundary(mask: np.ndarray, dilation: float) -> np.ndarray:
    """A mask without what is left of it after many erosions by a square of nine pixels."""
    times = max(1, round(dilation * np.hypot(*mask.shape)))
    inner = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=times, border_value=0)
    return mask & ~inner


class BoundaryEval(COCOeval):
    """pycocotools with Boundary IoU, as the paper's code has it."""

    dilation = 0.02

    def computeIoU(self, image, category):  # noqa: N802
        ious = np.array(super().computeIoU(image, category))
        if not ious.size:
            return ious
        found = sorted(self._dts[image, category], key=lambda entry: -entry["score"])[: self.params.maxDets[-1]]
        objects = self._gts[image, category]
        edges = [[self.edge(entry) for entry in entries] for entries in (found, objects)]
        of_edges = np.array(codec.iou(*edges, [0] * len(objects)))
        crowd = np.array([bool(entry["iscrowd"]) for entry in objects])
        return np.where(crowd, ious, np.minimum(ious, of_edges))

    def edge(self, entry):
        mask = codec.decode(entry["segmentation"]) > 0
        return codec.encode(np.asfortranarray(eroded_boundary(mask, self.dilation), np.uint8))


def boundary_evaluation(truth: dict, results: list[dict], dilation: float) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = copy.deepcopy(truth)
        reference.createIndex()
        evaluation = BoundaryEval(reference, reference.loadRes(copy.deepcopy(results)), "segm")
        evaluation.dilation = dilation
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


@pytest.mark.parametrize("width", [1, 2, 5, 40])
def test_a_boundary_is_what_erosion_takes_away(width):
    rng = np.random.default_rng(width)
    for _ in range(40):
        shape = rng.integers(1, 30, 2)
        mask = ndimage.binary_dilation(rng.random(shape) < rng.choice([0.02, 0.5, 1.0]), iterations=2)
        inner = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=width, border_value=0)
        np.testing.assert_array_equal(boundary(mask, width), mask & ~inner)


@pytest.mark.parametrize("dilation", [0.02, 0.005])
def test_random_problems_equal_pycocotools_with_boundaries(dilation):
    rng = np.random.default_rng(0)
    differ = 0
    for _ in range(25):
        truth, results = with_masks(*random_problem(rng), rng)
        ours = evaluate_boundaries(truth, results, dilation=dilation)
        assert_equal_curves(ours, boundary_evaluation(truth, results, dilation))
        differ += ours.metrics["AP"] != evaluate(truth, results, iou_type="segm").metrics["AP"]
    assert differ > 5


def test_boundaries_by_the_rules_of_lvis():
    rng = np.random.default_rng(1)
    for _ in range(10):
        truth, results = random_lvis_problem(rng)
        truth, results = with_masks(truth, results, rng)
        by_masks = evaluate_lvis(truth, results, iou_type="segm")
        by_boundaries = evaluate_boundaries(truth, results)
        assert set(by_boundaries.metrics) == set(by_masks.metrics)
        assert not by_boundaries.metrics["AP"] > by_masks.metrics["AP"] + 1e-12


@pytest.mark.parametrize("dilation", [0.0, 1.0, -1.0])
def test_a_dilation_that_is_no_share_is_refused(dilation):
    truth, results = with_masks(*random_problem(np.random.default_rng(0)), np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"dilation is .* accepted are shares"):
        evaluate_boundaries(truth, results, dilation=dilation)
