"""Do boxes enclose something, lie in their images, and occur once?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rankdet.data.columns import WRONG
from rankdet.doctor.draft import LeaveOutObjects, SetAreas, SetBoxes
from rankdet.doctor.finding import Finding, Severity, find
from rankdet.doctor.groups import later, repeated
from rankdet.doctor.table import Table

_MOST = 0.5  # share of boxes from which on it is a habit of the file
_SURELY = 0.99
_ROUNDING = 1.0  # pixels by which file formats round
_FAR = 2.0**50  # pixels that no image has, and whole numbers hold
_EXACT = 1e-6  # pixels by which sums round


def check_boxes(table: Table) -> Iterator[Finding]:
    """Boxes in the wrong units, without extent, outside, repeated."""
    sound = ~np.isnan(table.objects.xywh).any(1)
    malformed = np.flatnonzero(~sound)
    yield from find(
        "malformed-box",
        Severity.ERROR,
        malformed,
        what="{box is/boxes are} not four finite numbers",
        remedy="write [x, y, width, height] in pixels, or remove the annotations",
        example=table.object_name,
        repair=LeaveOutObjects(malformed, "no box"),
    )
    habit = [*_fractions(table, sound), *_corners(table, sound)]
    if habit:
        yield from habit
        return
    yield from _check_extent(table, sound)
    yield from _check_place(table, sound)
    yield from _check_repetition(table, sound)
    yield from _check_areas(table)


def _fractions(table: Table, sound: np.ndarray) -> Iterator[Finding]:
    """Boxes in shares of the image instead of pixels."""
    xywh, sizes = table.objects.xywh, table.sizes_of_objects
    small = sound & (xywh.max(1) <= 1) & (xywh[:, 2:].min(1) > 0) & np.isfinite(sizes).all(1) & (sizes.min(1) > 2)
    if small.sum() <= _MOST * sound.sum():
        return
    rows = np.flatnonzero(small)
    yield from find(
        "fractional-boxes",
        Severity.ERROR,
        rows,
        what="{box lies/boxes lie} within one pixel: they are fractions of the image, not pixels",
        remedy="multiply x and width by the width of the image, y and height by its height",
        example=table.object_with_box,
        repair=SetBoxes(rows, xywh[rows] * sizes[rows][:, [1, 0, 1, 0]], "turned from fractions into pixels"),
    )


def _corners(table: Table, sound: np.ndarray) -> Iterator[Finding]:
    """Corners [x1, y1, x2, y2] where [x, y, width, height] should be."""
    xywh, sizes = table.objects.xywh, table.sizes_of_objects
    known = sound & np.isfinite(sizes).all(1)
    if not known.any():
        return
    limits = sizes[:, ::-1] + _ROUNDING
    beyond = known & (xywh[:, :2] + xywh[:, 2:] > limits).any(1)
    fits = known & (xywh[:, 2:] > xywh[:, :2]).all(1) & (xywh[:, 2:] <= limits).all(1) & (xywh[:, :2] >= 0).all(1)
    if beyond.sum() < 0.3 * known.sum() or fits.sum() < _SURELY * known.sum():
        return
    rows = np.flatnonzero(fits)
    sides = xywh[rows, 2:] - xywh[rows, :2]
    yield from find(
        "corner-boxes",
        Severity.ERROR,
        rows,
        what="{box fits its image/boxes fit their images} only as corners: x2, y2 stand where width, height should",
        remedy="write [x, y, x2 - x, y2 - y]",
        example=table.object_with_box,
        repair=SetBoxes(rows, np.concatenate([xywh[rows, :2], sides], axis=1), "turned from corners into sides"),
    )


def _check_extent(table: Table, sound: np.ndarray) -> Iterator[Finding]:
    least = np.where(sound, table.objects.xywh[:, 2:].min(1), np.inf)
    degenerate = np.flatnonzero(least <= 0)
    yield from find(
        "degenerate-box",
        Severity.ERROR,
        degenerate,
        what="{box has/boxes have} no width or no height",
        remedy="draw them again, or remove them: as they are, their objects are learnt as background",
        example=table.object_with_box,
        repair=LeaveOutObjects(degenerate, "no width or height"),
    )
    yield from find(
        "tiny-box",
        Severity.WARNING,
        np.flatnonzero((least > 0) & (least < 1)),
        what="{box has/boxes have} a side of less than one pixel",
        remedy="draw them again, or remove them: training leaves them out, evaluation counts them as missed",
        example=table.object_with_box,
    )


def _check_place(table: Table, sound: np.ndarray) -> Iterator[Finding]:
    limits = table.sizes_of_objects[:, [1, 0, 1, 0]]
    xywh = table.objects.xywh
    sound = sound & (xywh[:, 2:] > 0).all(1)
    corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    inside = np.clip(corners, 0, limits)
    sides = inside[:, 2:] - inside[:, :2]
    outside = sound & (sides < np.minimum(xywh[:, 2:], 1) - _EXACT).any(1)
    beyond = sound & ~outside & (np.abs(corners - inside).max(1, initial=0) > _ROUNDING)
    yield from find(
        "box-outside-image",
        Severity.ERROR,
        np.flatnonzero(outside),
        what="{box lies/boxes lie} outside of {its image/their images}",
        remedy="correct them or the sizes of their images, or remove them",
        example=lambda row: f"{table.object_with_box(row)} of {_size_text(limits[row])}",
        repair=LeaveOutObjects(np.flatnonzero(outside), "outside of the image"),
    )
    rows = np.flatnonzero(beyond)
    yield from find(
        "box-beyond-image",
        Severity.WARNING,
        rows,
        what="{box reaches/boxes reach} beyond {its image/their images}",
        remedy="clip them, as training does; if there are many, the sizes of the images may be wrong",
        example=lambda row: f"{table.object_with_box(row)} of {_size_text(limits[row])}",
        repair=SetBoxes(rows, np.concatenate([inside[rows, :2], sides[rows]], axis=1), "clipped to the image"),
    )


def _check_repetition(table: Table, sound: np.ndarray) -> Iterator[Finding]:
    """Boxes with the same corners, to the pixel."""
    objects = table.objects
    rows = np.flatnonzero(sound & table.learnable)
    xywh = objects.xywh[rows].clip(-_FAR, _FAR)
    corners = np.rint(np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)).astype(np.int64).T
    twice = rows[later(objects.images[rows], objects.labels[rows], *corners)]
    yield from find(
        "duplicate-box",
        Severity.WARNING,
        twice,
        what="{box repeats/boxes repeat} an earlier one of the same class in the same image",
        remedy="remove them: one of two identical boxes always counts as missed",
        example=table.object_with_box,
        repair=LeaveOutObjects(twice, "repeats another"),
    )
    single = np.setdiff1d(rows, twice, assume_unique=True)
    corners = corners[:, np.isin(rows, single)]
    yield from find(
        "conflicting-boxes",
        Severity.WARNING,
        single[repeated(objects.images[single], *corners)],
        what="{box has/boxes have} the same corners as a box of another class",
        remedy="keep one class for each object, unless objects are meant to have several",
        example=lambda row: f"{table.object_with_box(row)}, {table.class_name(int(objects.labels[row]))}",
    )


def _check_areas(table: Table) -> Iterator[Finding]:
    """Areas decide whether an evaluation counts an object as small, medium or large."""
    if table.format == "VOC":
        return
    xywh, areas = table.objects.xywh, table.objects.areas
    has_mask = table.objects.has_mask
    maskless = np.ones(len(xywh), dtype=bool) if has_mask is None else ~has_mask
    stated = table.content.annotations["area"].states[table.objects.entries]
    whole = np.where(table.learnable, xywh[:, 2] * xywh[:, 3], np.nan)
    malformed = np.flatnonzero(stated == WRONG)
    yield from find(
        "malformed-area",
        Severity.ERROR,
        malformed,
        what="{area is no number/areas are no numbers}",
        remedy="write the area of the mask, or width x height, in pixels",
        example=lambda row: f"{table.object_name(row)}: {_stated(table, row, 'area')}",
        repair=SetAreas(malformed) if maskless[malformed].all() and not np.isnan(whole[malformed]).any() else None,
    )
    missing = np.flatnonzero(np.isnan(areas) & ~np.isnan(whole) & (stated != WRONG))
    yield from find(
        "missing-area",
        Severity.WARNING,
        missing,
        what="{annotation has/annotations have} no area",
        remedy="add 'area': pycocotools fails without it; rankdet uses that of the box, or of the mask it evaluates",
        example=table.object_name,
        repair=SetAreas(missing) if maskless[missing].all() else None,
    )
    with np.errstate(invalid="ignore"):
        wrong = np.flatnonzero((areas <= 0) | (areas > 1.1 * whole + 1))
    wrong = wrong[table.learnable[wrong]]
    yield from find(
        "wrong-area",
        Severity.WARNING,
        wrong,
        what="{area is/areas are} not positive, or larger than width x height",
        remedy="write the area of the mask, or width x height: it decides what counts as small, medium, large",
        example=lambda row: f"{table.object_with_box(row)}, area {areas[row]:g}",
        repair=SetAreas(wrong) if maskless[wrong].all() else None,
    )


def _stated(table: Table, row: int, key: str) -> str:
    """What the file has under a key of an object."""
    return f"'{key}' is {table.content.value('annotations', int(table.objects.entries[row]), key)!r:.60}"


def _size_text(limits: np.ndarray) -> str:
    return f"{limits[0]:g} x {limits[1]:g}"
