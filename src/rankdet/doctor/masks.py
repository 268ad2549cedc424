"""Are masks well-formed, made for their images, and where the boxes are?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rankdet.doctor.draft import LeaveOutMasks
from rankdet.doctor.finding import Finding, Severity, find
from rankdet.doctor.polygons import polygon_bounds
from rankdet.doctor.runs import run_bounds
from rankdet.doctor.table import Table

_SLACK, _SHARE = 2.0, 0.1  # pixels, and share of the side of the box, by which a mask may miss its box


def check_masks(table: Table) -> Iterator[Finding]:
    """Masks that are malformed, missing, of another size, or elsewhere; nothing for datasets of boxes alone."""
    if table.objects.segmentations is None:
        return
    kinds = np.array([_kind(part) for part in table.objects.segmentations], dtype=np.int64)
    bounds, sound, fitting = _bounds(table, kinds)
    yield from _check_form(table, kinds, sound, fitting)
    known = sound & fitting & (kinds != _NONE)
    empty = known & np.isnan(bounds).any(1)
    yield from find(
        "empty-mask",
        Severity.WARNING,
        empty,
        what="{mask has/masks have} no area: no pixels, or no polygon with three points",
        remedy="draw them again; a training with masks leaves the objects out",
        example=table.object_name,
        repair=LeaveOutMasks(np.flatnonzero(empty)),
    )
    yield from _check_place(table, bounds, known & ~empty)


_NONE, _POLYGONS, _RUNS, _OTHER = range(4)


def _kind(segmentation: object) -> int:
    if segmentation is None or segmentation == []:
        return _NONE
    return _POLYGONS if type(segmentation) is list else _RUNS if type(segmentation) is dict else _OTHER


def _bounds(table: Table, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(M, 4) extents, NaN where there are none; (M,) well-formed; (M,) of the size of the image."""
    parts = table.objects.segmentations or ()
    bounds, sound = np.full((len(kinds), 4), np.nan), kinds == _NONE
    fitting = np.ones(len(kinds), dtype=bool)
    rows = np.flatnonzero(kinds == _POLYGONS)
    bounds[rows], sound[rows] = polygon_bounds([parts[row] for row in rows.tolist()])
    rows = np.flatnonzero(kinds == _RUNS)
    sizes = table.sizes_of_objects[rows]
    bounds[rows], sound[rows], fitting[rows] = run_bounds([parts[row] for row in rows.tolist()], sizes)
    return bounds, sound, fitting


def _check_form(table: Table, kinds: np.ndarray, sound: np.ndarray, fitting: np.ndarray) -> Iterator[Finding]:
    yield from find(
        "malformed-mask",
        Severity.ERROR,
        ~sound,
        what="{mask is/masks are} neither polygons nor run lengths",
        remedy="write lists [x1, y1, x2, y2, ...], or a dict with 'size' and 'counts'; or remove the key",
        example=lambda row: f"{table.object_name(row)}: {str((table.objects.segmentations or ())[row])[:60]}",
        repair=LeaveOutMasks(np.flatnonzero(~sound)),
    )
    yield from find(
        "mask-of-another-size",
        Severity.ERROR,
        sound & ~fitting,
        what="{mask has/masks have} another size than the image",
        remedy="make them for the image as it is stored, height first",
        example=table.object_name,
        repair=LeaveOutMasks(np.flatnonzero(sound & ~fitting)),
    )
    yield from find(
        "missing-mask",
        Severity.WARNING,
        kinds == _NONE,
        what="{object has/objects have} no mask, though others do",
        remedy="draw them; a training with masks leaves the objects out",
        example=table.object_name,
    )


def _check_place(table: Table, bounds: np.ndarray, known: np.ndarray) -> Iterator[Finding]:
    xywh = table.objects.xywh
    corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    slack = _SLACK + _SHARE * np.concatenate([xywh[:, 2:], xywh[:, 2:]], axis=1)
    with np.errstate(invalid="ignore"):
        apart = known & (xywh[:, 2:] > 0).all(1) & (np.abs(bounds - corners) > slack).any(1)
    yield from find(
        "mask-beside-box",
        Severity.WARNING,
        apart,
        what="{mask does not fit its box/masks do not fit their boxes}",
        remedy="find out which of both is right: boxes are learnt from boxes, masks from masks",
        example=lambda row: f"{table.object_with_box(row)}, its mask is {_extent_text(bounds[row])}",
    )


def _extent_text(bounds: np.ndarray) -> str:
    x1, y1, x2, y2 = bounds.tolist()
    return f"{x2 - x1:.6g} x {y2 - y1:.6g} at ({x1:.6g}, {y1:.6g})"
