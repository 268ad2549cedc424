"""A repaired copy of a dataset, written from its table and the repairs of its findings; the original is only read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rankdet.data.files import new_folder
from rankdet.doctor.draft import Draft
from rankdet.doctor.finding import Finding
from rankdet.doctor.placement import Links, Placement, names_within, store_upright
from rankdet.doctor.table import Table
from rankdet.doctor.write_coco import write_coco
from rankdet.doctor.write_voc import write_voc
from rankdet.doctor.write_yolo import write_yolo


@dataclass(frozen=True)
class Part:
    """One dataset to be repaired: its table, its findings, and the subfolder of the copy that it goes to.

    Findings without a repair are left as they are.
    """

    table: Table
    findings: Sequence[Finding]
    subfolder: str = ""


def write_repaired(parts: Sequence[Part], folder: Path, *, placement: Placement | None = None) -> list[list[str]]:
    """Write repaired copies into a folder, which appears complete or not at all; what was changed in each part.

    A COCO or LVIS dataset becomes ``annotations.json`` with its images in ``images``, a VOC dataset ``Annotations``
    with ``JPEGImages``, a YOLO dataset ``data.yaml`` with ``images`` and ``labels``; all of them are datasets that
    :func:`rankdet.data.open_dataset` takes by their folder. Keys and elements that no repair changes stay as they are.
    Names of image files that lead out of the image folder are changed so that they do not.

    Args:
        parts: what is to be repaired.
        folder: must not exist yet.
        placement: how images get there; None for `Links`.

    Raises:
        DatasetError: if the folder exists, or an image cannot be placed.

    >>> import tempfile
    >>> from rankdet.data import Shapes
    >>> from rankdet.doctor import Source, diagnose
    >>> with tempfile.TemporaryDirectory() as home:
    ...     made = Shapes(length=2, seed=0, image_size=64).export(home + "/shapes")
    ...     train = diagnose(Source(str(made))).train
    ...     changes = write_repaired([Part(train.table, train.findings)], Path(home, "copy"))
    ...     changes, sorted(path.name for path in Path(home, "copy").iterdir())
    ([[]], ['annotations.json', 'images'])
    """
    with new_folder(folder) as unfinished:
        return [_write(part, unfinished / part.subfolder, placement or Links()) for part in parts]


def _write(part: Part, folder: Path, placement: Placement) -> list[str]:
    draft = Draft(part.table)
    changes = [said for said in (finding.repair.apply(draft) for finding in part.findings if finding.repair) if said]
    changes += _move_inside(draft)
    folder.mkdir(exist_ok=True)
    write = {"VOC": write_voc, "YOLO": write_yolo}.get(part.table.format, write_coco)
    write(draft, folder)
    _place_images(draft, folder / ("JPEGImages" if write is write_voc else "images"), placement)
    return changes


def _move_inside(draft: Draft) -> list[str]:
    names = names_within(draft.files)
    moved = sum(old != new for old, new in zip(draft.files, names, strict=True))
    draft.files = names
    return [f"{moved:,} file names that lead out of the image folder changed"] if moved else []


def _place_images(draft: Draft, folder: Path, placement: Placement) -> None:
    """The files that are there, of the images that stay."""
    home = draft.table.files.folder
    folder.mkdir()
    if home is None:
        return
    there = draft.table.files.present.copy()
    there[list(draft.table.files.found_as)] = True
    for row in np.flatnonzero(draft.keeps_image & there).tolist():
        source, target = home / draft.sources[row], folder / draft.files[row]
        if target.is_symlink() or target.exists() or not source.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if draft.turned[row]:
            store_upright(source, target)
        else:
            placement.place(source, target)
