"""Graphs that leave suppression out: they give candidates, and whoever runs them suppresses duplicates."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from rankdet.export.about import Suppression
from rankdet.export.fixed import MOST
from rankdet.models import Detector, Postprocess, TopPostprocess
from rankdet.ops.nms import top_after_nms


def left_out(model: Detector) -> Suppression:
    """What remains to be done with the candidates of a detector.

    Raises:
        ValueError: it is not suppression alone; the message says what it is.
    """
    if reason := _more_than_suppression(model):
        raise ValueError(f"{reason}; leave out raw (--raw)")
    rule = model.postprocess
    return Suppression(nms_threshold=rule.nms_threshold, max_detections=rule.max_detections)


def _more_than_suppression(model: Detector) -> str | None:
    """Why suppression is not all that a graph of the detector does with its candidates."""
    rule, name = type(model.postprocess), type(model).__name__
    if issubclass(rule, TopPostprocess):
        return f"{name} suppresses nothing, so its graph is the same without it"
    if model.needs_masks:
        return f"{name} draws the masks of what suppression leaves, so it has no raw graph"
    if rule is not Postprocess:
        return f"{rule.__name__} of {name} does more than to suppress boxes, which would be left to you"
    return None


def without_suppression(model: Detector) -> Detector:
    """The same detector, its parts shared, with the best `MOST` candidates as detections."""
    rule = model.postprocess
    best = TopPostprocess(score_threshold=rule.score_threshold, max_detections=MOST)
    best.pre_nms, best.selection = rule.pre_nms, rule.selection
    best.least_side, best.inset = rule.least_side, rule.inset
    model = copy.copy(model)
    model.postprocess = best
    return model


def suppressed(boxes: Tensor, scores: Tensor, labels: Tensor, left: Suppression) -> Tensor:
    """Rows of the detections of an image, best first.

    Candidates (D, 4), (D,), (D,) of a raw graph, in its order, which decides between two of them.
    """
    places = torch.arange(len(boxes), 0, -1, dtype=torch.float64)
    rows = top_after_nms(boxes, places, labels, threshold=left.nms_threshold, limit=left.max_detections)
    return rows[scores[rows].argsort(descending=True, stable=True)]
