"""Object sizes against the anchors of a detector: which objects no anchor can match."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import nn

from rankdet.assign import ATSSAssigner, MaxIoU, PAAAssigner
from rankdet.data.transforms import FixedResize
from rankdet.doctor import Finding, Severity, Table
from rankdet.doctor.census import LARGE, SMALL
from rankdet.doctor.finding import find
from rankdet.nn.anchors import AnchorGenerator


@dataclass(frozen=True)
class SizeFit:
    """Objects of one size: how many, and the median of the overlap that the best anchor can have with each.

    ``unmatched`` is how many of them no anchor can match, ``weak`` how many depend on their best anchor.
    """

    name: str
    objects: int
    median_iou: float
    weak: int
    unmatched: int


@dataclass(frozen=True)
class AnchorFit:
    """One stage of a detector: ``rule`` says how it matches, ``sizes`` how that goes for small, medium and large."""

    stage: str
    rule: str
    sizes: tuple[SizeFit, ...]
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {
            "stage": self.stage,
            "rule": self.rule,
            "sizes": [asdict(size) for size in self.sizes],
            "findings": [finding.to_dict() for finding in self.findings],
        }


def best_ious(sides: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """(M,) the largest IoU that any anchor can have with each object, wherever both lie.

    Of all positions the one with a common centre has the largest overlap; so it depends on width and height alone.

    Args:
        sides: (M, 2) width and height of the objects.
        anchors: (A, 2) width and height of the anchors.

    >>> best_ious(np.array([[8.0, 8.0], [16.0, 64.0]]), np.array([[32.0, 32.0], [16.0, 16.0]]))
    array([0.25      , 0.33333333])
    """
    best = np.zeros(len(sides))
    for width, height in anchors.tolist():
        shared = np.minimum(sides[:, 0], width) * np.minimum(sides[:, 1], height)
        np.maximum(best, shared / (sides.prod(1) + width * height - shared), out=best)
    return best


def hold_centre(corners: np.ndarray, *, stride: float, offset: float) -> np.ndarray:
    """(M,) whether a box x1, y1, x2, y2 (M, 4) has a point of the grid ``(k + offset) * stride`` in it.

    >>> hold_centre(np.array([[1, 1, 7, 7], [1, 1, 9, 9]]), stride=8, offset=0.0).tolist()
    [False, True]
    """
    places = corners / stride - offset
    inside = np.floor(places[:, 2:]) >= np.ceil(places[:, :2])
    return np.asarray(inside.all(axis=1))


def fit_anchors(model: nn.Module, table: Table, resize: FixedResize) -> list[AnchorFit]:
    """How the objects of a table fit the anchors of each stage of a detector that has some.

    Args:
        model: on any device, `meta` too.
        table: the dataset.
        resize: brings its images to the scale of the network.
    """
    rows, corners = _corners(table, resize)
    fits = []
    for name, module in model.named_modules():
        anchors, assigner = getattr(module, "anchors", None), getattr(module, "assigner", None)
        if isinstance(anchors, AnchorGenerator):
            fits.append(_fit(name, anchors, assigner, table, rows, corners))
    return [fit for fit in fits if fit is not None]


def _corners(table: Table, resize: FixedResize) -> tuple[np.ndarray, np.ndarray]:
    """The rows (R,) of the objects that can be learnt in images of known size, and their scaled boxes (R, 4)."""
    sizes = table.sizes_of_objects
    rows = np.flatnonzero(table.learnable & np.isfinite(sizes).all(1))
    known, of_object = np.unique(sizes[rows].astype(np.int64), axis=0, return_inverse=True)
    scaled = np.array([resize.new_size(height, width) for height, width in known.tolist()]).reshape(len(known), 2)
    scales = (scaled / known)[of_object.ravel()][:, ::-1]
    xywh = table.objects.xywh[rows]
    return rows, np.concatenate([xywh[:, :2] * scales, (xywh[:, :2] + xywh[:, 2:]) * scales], axis=1)


def _fit(
    name: str, anchors: AnchorGenerator, assigner: object, table: Table, rows: np.ndarray, corners: np.ndarray
) -> AnchorFit | None:
    """None for an assigner that neither compares overlaps with a threshold nor looks for centres."""
    if isinstance(assigner, PAAAssigner):
        assigner = assigner.candidates
    best = best_ious(corners[:, 2:] - corners[:, :2], _sides(anchors))
    if isinstance(assigner, MaxIoU):
        least = assigner.positive_iou if assigner.low_quality is None else assigner.low_quality.min_iou
        weak, unmatched = best < assigner.positive_iou, best < least
        rule = f"an anchor that overlaps an object by {assigner.positive_iou:g} matches it"
        if assigner.low_quality is not None:
            rule += "; else its best one does" + (f", from {least:g} on" if least else "")
        findings = [*_too_far(table, rows[unmatched], best[unmatched], least)]
    elif isinstance(assigner, ATSSAssigner):
        stride = anchors.strides[0]
        weak = np.zeros(len(rows), dtype=bool)
        unmatched = ~hold_centre(corners, stride=stride, offset=anchors.centre_offset)
        rule = f"an anchor matches an object that it overlaps as much as few others, if its centre (every {stride:g} "
        rule += "pixels) lies in it"
        findings = [*_between(table, rows[unmatched])]
    else:
        return None
    sizes = _by_size(table.objects.xywh[rows], best, weak & ~unmatched, unmatched)
    return AnchorFit(name, rule, sizes, tuple(findings))


def _sides(anchors: AnchorGenerator) -> np.ndarray:
    """(A, 2) width and height of all anchors of all levels."""
    levels = [anchors.cell_anchors(level).double().cpu().numpy() for level in range(len(anchors.strides))]
    boxes = np.concatenate(levels)
    return np.asarray(boxes[:, 2:] - boxes[:, :2])


def _by_size(xywh: np.ndarray, best: np.ndarray, weak: np.ndarray, unmatched: np.ndarray) -> tuple[SizeFit, ...]:
    size = np.searchsorted([SMALL, LARGE], xywh[:, 2] * xywh[:, 3], side="right")
    fits: Sequence[tuple[str, np.ndarray]] = [
        (name, size == number) for number, name in enumerate(("small", "medium", "large"))
    ]
    return tuple(
        SizeFit(name, int(of.sum()), float(np.median(best[of])), int(weak[of].sum()), int(unmatched[of].sum()))
        for name, of in fits
        if of.any()
    )


def _too_far(table: Table, rows: np.ndarray, best: np.ndarray, least: float) -> Iterator[Finding]:
    overlap = dict(zip(rows.tolist(), best.tolist(), strict=True))
    yield from find(
        "object-without-anchor",
        Severity.WARNING,
        rows,
        what=f"{{object overlaps/objects overlap}} no anchor by {least:g}, wherever it lies: learnt as background",
        remedy="train on larger images (data.resize), or with anchors of other sizes or aspect ratios",
        example=lambda row: f"{table.object_with_box(row)}, at most {overlap[row]:.2f}",
    )


def _between(table: Table, rows: np.ndarray) -> Iterator[Finding]:
    yield from find(
        "object-without-anchor",
        Severity.WARNING,
        rows,
        what="{object holds/objects hold} no centre of an anchor: learnt as background",
        remedy="train on larger images (data.resize), or with anchors on a finer grid",
        example=table.object_with_box,
    )
