"""Objects against the priors of a detector: which of them none can match."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from rankdet.assign import Assigner, CellGrid, CentreCells
from rankdet.assign.reach import best_overlaps
from rankdet.data.transforms import FixedResize
from rankdet.doctor import Finding, Severity, Table
from rankdet.doctor.census import LARGE, SMALL
from rankdet.doctor.finding import find
from rankdet.nn.anchors import GridPriors


@dataclass(frozen=True)
class SizeFit:
    """Objects of one size: how many, and the median of the overlap that the best anchor can have with each.

    ``unmatched`` is how many of them no anchor can match, ``weak`` how many depend on their best anchor. There is no
    median where there are no anchors.
    """

    name: str
    objects: int
    median_iou: float | None
    weak: int
    unmatched: int


@dataclass(frozen=True)
class AnchorFit:
    """One stage of a detector: ``rule`` says how it matches, ``sizes`` how that goes for small, medium and large.

    Without ``sizes`` nothing is known of it, for the reason in ``rule``.
    """

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


def fit_anchors(model: nn.Module, table: Table, resize: FixedResize) -> list[AnchorFit]:
    """How the objects of a table fit the priors of each stage of a detector that has some, as its assigner says.

    Args:
        model: on any device, `meta` too.
        table: the dataset.
        resize: brings its images to the scale of the network.
    """
    rows, corners = _corners(table, resize)
    fits = []
    for name, module in model.named_modules():
        anchors, assigner = getattr(module, "anchors", None), getattr(module, "assigner", None)
        if isinstance(assigner, Assigner) and isinstance(anchors, GridPriors):
            fits.append(_fit(name, _grids(anchors), assigner, table, rows, corners))
        elif isinstance(assigner, CentreCells):
            fits.append(_fit(name, [], assigner, table, rows, corners))
    return fits


def _grids(anchors: GridPriors) -> list[CellGrid]:
    """The levels of a pyramid, as assigners are told of them."""
    with torch.device("cpu"):
        boxes = [anchors.cell_anchors(level) for level in range(len(anchors.strides))]
    sides = [of_level[:, 2:] - of_level[:, :2] for of_level in boxes]
    return [CellGrid(stride, anchors.centre_offset, cell) for stride, cell in zip(anchors.strides, sides, strict=True)]


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
    name: str, grids: Sequence[CellGrid], assigner: Assigner, table: Table, rows: np.ndarray, corners: np.ndarray
) -> AnchorFit:
    boxes = torch.from_numpy(corners)
    reach = assigner.reach(boxes, grids)
    if reach is None:
        unknown = f"{type(assigner).__name__} does not say which objects it can match, so their fit is unknown"
        return AnchorFit(name, unknown, (), ())
    best = best_overlaps(boxes, grids).numpy() if grids else np.full(len(rows), np.nan)
    unmatched = reach.unmatched.numpy()
    sizes = _by_size(table.objects.xywh[rows], best, reach.weak.numpy(), unmatched)
    if reach.least is not None:
        findings = _too_far(table, rows[unmatched], best[unmatched], reach.least)
    else:
        findings = _between(table, rows[unmatched])
    return AnchorFit(name, reach.rule, sizes, tuple(findings))


def _by_size(xywh: np.ndarray, best: np.ndarray, weak: np.ndarray, unmatched: np.ndarray) -> tuple[SizeFit, ...]:
    size = np.searchsorted([SMALL, LARGE], xywh[:, 2] * xywh[:, 3], side="right")
    fits: Sequence[tuple[str, np.ndarray]] = [
        (name, size == number) for number, name in enumerate(("small", "medium", "large"))
    ]
    return tuple(
        SizeFit(name, int(of.sum()), _median(best[of]), int(weak[of].sum()), int(unmatched[of].sum()))
        for name, of in fits
        if of.any()
    )


def _median(overlaps: np.ndarray) -> float | None:
    return None if np.isnan(overlaps).any() else float(np.median(overlaps))


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
        what="{object is/objects are} out of the reach of every cell: learnt as background",
        remedy="train on larger images (data.resize), or with a finer grid or other sizes for the levels",
        example=table.object_with_box,
    )
