"""Are masks well-formed, made for their images, and where the boxes are?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rankdet.data.segmentation import MASK_FORM, RunLengths, read_masks
from rankdet.doctor.draft import LeaveOutMasks, Rewrite
from rankdet.doctor.finding import Finding, Severity, find
from rankdet.doctor.polygons import polygon_bounds
from rankdet.doctor.runs import run_bounds
from rankdet.doctor.table import Table

_SLACK, _SHARE = 2.0, 0.1  # pixels, and share of the side of the box, by which a mask may miss its box


def check_masks(table: Table) -> Iterator[Finding]:
    """Masks that are malformed, missing, of another size, or elsewhere; hardly anything for datasets of boxes alone."""
    if table.objects.segmentations is None:
        yield from _check_empty(table)
        return
    masks = _look(table, table.objects.segmentations)
    yield from _check_form(table, masks)
    known = masks.there & masks.fitting
    empty = known & np.isnan(masks.bounds).any(1)
    yield from find(
        "empty-mask",
        Severity.WARNING,
        empty,
        what="{mask has/masks have} no area: no pixels, or no polygon with three points",
        remedy="draw them again; training with masks leaves the objects out",
        example=table.object_name,
        repair=LeaveOutMasks(np.flatnonzero(empty)),
    )
    yield from _check_place(table, masks.bounds, known & ~empty)


def _check_empty(table: Table) -> Iterator[Finding]:
    """Annotations of which none has a mask, though they have the key of one."""
    if table.format == "VOC":
        return
    entries = table.content.entries("annotations")
    yield from find(
        "empty-segmentations",
        Severity.NOTE,
        np.array(["segmentation" in entries[place] for place in table.objects.entries.tolist()], dtype=bool),
        what="{annotation has/annotations have} an empty 'segmentation', and none has a mask",
        remedy=f"fine for boxes; training with masks refuses the file: {MASK_FORM}",
        example=table.object_name,
    )


@dataclass(frozen=True)
class _Masks:
    """M masks.

    ``there`` (M,) says which are masks, empty ones among them, ``fitting`` (M,) which have the size of their image.
    ``bounds`` (M, 4) are their extents, NaN where there are none; ``wrong`` says what is wrong with those that are no
    masks, ``rewritten`` what those are in COCO's form that are written otherwise, and ``written_as`` how, all by row.
    """

    there: np.ndarray
    fitting: np.ndarray
    bounds: np.ndarray
    wrong: dict[int, str]
    written_as: dict[int, str]
    rewritten: dict[int, Any]


def _look(table: Table, parts: Sequence[Any]) -> _Masks:
    number, sizes = len(parts), table.sizes_of_objects
    masks = _Masks(np.zeros(number, bool), np.ones(number, bool), np.full((number, 4), np.nan), {}, {}, {})
    for block in read_masks(parts):
        forms = dict(enumerate(block.forms, start=block.start))
        polygons = [row for row, form in forms.items() if isinstance(form, list)]
        runs = [row for row, form in forms.items() if isinstance(form, RunLengths | dict)]
        masks.there[polygons + runs] = True
        masks.bounds[polygons] = polygon_bounds([forms[row] for row in polygons])
        bounds, complaints, masks.fitting[runs] = run_bounds([forms[row] for row in runs], sizes[runs])
        masks.bounds[runs] = bounds
        masks.wrong.update(block.wrong)
        masks.wrong.update({runs[place]: complaint for place, complaint in complaints.items()})
        masks.written_as.update(block.written_as)
        masks.rewritten.update({row: forms[row] for row in block.written_as})
    masks.there[list(masks.wrong)] = False
    return masks


def _check_form(table: Table, masks: _Masks) -> Iterator[Finding]:
    malformed = np.array(sorted(masks.wrong), dtype=np.int64)
    yield from find(
        "malformed-mask",
        Severity.ERROR,
        malformed,
        what="{mask is/masks are} neither polygons nor run lengths that can be decoded",
        remedy=f"write them in COCO's form ({MASK_FORM}), or remove the key",
        example=lambda row: f"{table.object_name(row)}: {masks.wrong[row]}",
        repair=LeaveOutMasks(malformed),
    )
    other = np.array(sorted(row for row in masks.written_as if row not in masks.wrong), dtype=np.int64)
    places = table.objects.entries
    changes = {int(places[row]): {"segmentation": _plain(masks.rewritten[row])} for row in other.tolist()}
    yield from find(
        "mask-in-another-form",
        Severity.WARNING,
        other,
        what="{mask is/masks are} not written in COCO's form, but can only be meant in one way",
        remedy=f"write them in COCO's form, as the copy does: {MASK_FORM}",
        example=lambda row: f"{table.object_name(row)}: {masks.written_as[row]}",
        repair=Rewrite({"annotations": changes}, "{mask/masks} written in COCO's form"),
    )
    misfits = np.flatnonzero(masks.there & ~masks.fitting)
    yield from find(
        "mask-of-another-size",
        Severity.ERROR,
        misfits,
        what="{mask has/masks have} another size than the image",
        remedy="make them for the image as it is stored, height first",
        example=table.object_name,
        repair=LeaveOutMasks(misfits),
    )
    missing = ~masks.there
    missing[malformed] = False
    yield from find(
        "missing-mask",
        Severity.WARNING,
        missing,
        what="{object has/objects have} no mask, though others do",
        remedy="draw them; training with masks leaves the objects out",
        example=table.object_name,
    )


def _plain(form: Any) -> Any:
    return form.as_dict() if isinstance(form, RunLengths) else form


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
        remedy="find out which of the two is right: boxes are learnt from boxes, masks from masks",
        example=lambda row: f"{table.object_with_box(row)}, its mask is {_extent_text(bounds[row])}",
    )


def _extent_text(bounds: np.ndarray) -> str:
    x1, y1, x2, y2 = bounds.tolist()
    return f"{x2 - x1:.6g} x {y2 - y1:.6g} at ({x1:.6g}, {y1:.6g})"
