"""A folder of VOC annotation files as a table, whatever is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from rankdet.data.errors import DatasetError
from rankdet.data.files import voc_image_folders
from rankdet.data.raster import read_size
from rankdet.data.voc_folder import VOCFolder, VOCImages, locate_images
from rankdet.data.voc_xml import CORNERS, class_name, difficulty, number_of, parse_xml
from rankdet.doctor.draft import LeaveOutFiles, LeaveOutNameless
from rankdet.doctor.finding import Finding, Severity, find
from rankdet.doctor.locate import locate
from rankdet.doctor.table import Classes, Images, Objects, Table

ORIGIN = 1
"""What VOC calls the first pixel."""
_ANOTHER_DATASET = "name a VOC folder (with Annotations), a folder of XML files, or a COCO annotation file"


def read_voc(
    root: Path, *, split: str | None = None, images: Path | None = None, classes: Sequence[str] | None = None
) -> tuple[Table | None, list[Finding]]:
    """The table of a VOC folder, and what was wrong while reading; no table when nothing can be read.

    Args:
        root: a VOC folder, or a folder of XML files.
        split: the name of a file in ``ImageSets/Main``; None for all annotation files.
        images: the folder of the images; None to look for it.
        classes: the classes in use, in label order; objects of others are left out. None for all.
    """
    try:
        place = VOCFolder.find(root)
        stems, findings = (list(place.files), []) if split is None else _of_split(place, split)
    except DatasetError as error:
        return None, [Finding("unreadable-file", Severity.ERROR, str(error), 1, _ANOTHER_DATASET)]
    files, unreadable = _read_all(place, stems)
    findings += unreadable
    if not files:
        return None, findings
    names = tuple(classes) if classes is not None else _class_names(files)
    folders = voc_image_folders(place.home) if images is None else [images]
    found, image_names = locate_images(folders, [file.stem for file in files], [file.image for file in files])
    pictures = _image_columns(place, files, image_names)
    table = Table(
        source=place.home,
        format="VOC",
        images=pictures,
        objects=_object_columns(files, names, pictures.ids),
        classes=Classes(np.arange(1, len(names) + 1), names, np.arange(len(names))),
        content=[place.files[file.stem] for file in files],
    )
    table = locate(table, [found.folder] if found is not None else folders)
    findings += [*_check_objects(files), *_check_names(files, found)]
    return _with_sizes(table), findings


@dataclass(frozen=True)
class _File:
    """One annotation file: its objects as (name, corners, difficult), as `rankdet.data.voc_xml` reads them.

    Corners are NaN where they are no numbers.
    """

    stem: str
    image: str
    size: tuple[int, int]
    objects: list[tuple[str, tuple[float, ...], bool | None]] = field(default_factory=list)


def _of_split(place: VOCFolder, split: str) -> tuple[list[str], list[Finding]]:
    """The annotation files of a split, and those it names in vain."""
    stems, absent = place.split(split)
    if not stems and not absent:
        raise DatasetError(f"the split {split} of {place.root} is empty: its file has no line with a name")
    findings = find(
        "missing-annotation",
        Severity.ERROR,
        np.arange(len(absent)),
        what=f"annotation {{file/files}} of the split {split} {{does/do}} not exist",
        remedy=f"add the files to {place.home}, or remove the lines from the file of the split",
        example=lambda row: f"{absent[row]}.xml",
    )
    return stems, list(findings)


def _read_all(place: VOCFolder, stems: Sequence[str]) -> tuple[list[_File], list[Finding]]:
    files, problems = [], []
    for stem in stems:
        try:
            files.append(_read(stem, parse_xml(place.path(stem))))
        except DatasetError as error:
            problems.append(str(error).removeprefix(f"{place.home}/"))
    findings = find(
        "unreadable-annotation",
        Severity.ERROR,
        np.arange(len(problems)),
        what="annotation {file/files} cannot be read",
        remedy="correct or remove the files; everything below is without them",
        example=lambda row: problems[row],
        repair=LeaveOutFiles(len(problems)),
    )
    return files, list(findings)


def _read(stem: str, root: Element) -> _File:
    sides = [number_of(root.findtext(f"size/{key}")) for key in ("height", "width")]
    known = all(math.isfinite(side) and side >= 1 for side in sides)
    return _File(
        stem=stem,
        image=(root.findtext("filename") or "").strip(),
        size=(int(sides[0]), int(sides[1])) if known else (0, 0),
        objects=[
            (
                class_name(item),
                tuple(number_of(item.findtext(f"bndbox/{key}")) for key in CORNERS),
                difficulty(item),
            )
            for item in root.findall("object")
        ],
    )


def _class_names(files: Sequence[_File]) -> tuple[str, ...]:
    """All classes that are named, as `VOCDetection` has them."""
    return tuple(sorted({name for file in files for name, _, _ in file.objects if name}))


def _image_columns(place: VOCFolder, files: Sequence[_File], names: Sequence[str | None]) -> Images:
    """Images by the names they were found by; one that was not, by ``<filename>`` or as its annotation file."""
    return Images(
        ids=place.image_ids([file.stem for file in files]),
        files=[name or file.image or f"{file.stem}.jpg" for file, name in zip(files, names, strict=True)],
        sizes=np.array([file.size for file in files], dtype=np.int64),
        entries=np.arange(len(files)),
    )


def _object_columns(files: Sequence[_File], names: Sequence[str], image_ids: np.ndarray) -> Objects:
    label_of = {name: label for label, name in enumerate(names)}
    rows = [
        (image, number, label_of[name], bool(difficult), *corners)
        for image, file in enumerate(files)
        for number, (name, corners, difficult) in enumerate(file.objects)
        if name in label_of
    ]
    columns = np.array(rows, dtype=np.float64).reshape(len(rows), 8)
    owners, numbers, labels = (columns[:, place].astype(np.int64) for place in range(3))
    sides = columns[:, 6:] - columns[:, 4:6]
    xywh = np.concatenate([columns[:, 4:6] - ORIGIN, np.where(sides > 0, sides + ORIGIN, sides)], axis=1)
    return Objects(
        ids=numbers + 1,
        images=owners,
        image_ids=image_ids[owners],
        labels=labels,
        category_ids=labels + 1,
        xywh=xywh,
        areas=np.full(len(rows), np.nan),
        ignored=columns[:, 3].astype(bool),
        entries=numbers,
    )


def _check_objects(files: Sequence[_File]) -> Iterator[Finding]:
    """Objects without a class, and those that may be difficult or not."""
    objects = [
        (f"object {place} of {file.stem}.xml", item) for file in files for place, item in enumerate(file.objects, 1)
    ]
    nameless = [called for called, item in objects if not item[0]]
    unclear = [called for called, item in objects if item[2] is None]
    yield from find(
        "malformed-annotation",
        Severity.ERROR,
        np.arange(len(nameless)),
        what="{object has/objects have} no <name>",
        remedy="name their classes, or remove them",
        example=lambda row: nameless[row],
        repair=LeaveOutNameless(len(nameless)),
    )
    yield from find(
        "unclear-difficult",
        Severity.WARNING,
        np.arange(len(unclear)),
        what="{object has/objects have} a <difficult> that is neither 0 nor 1",
        remedy="write 0 or 1; it is read as 0, so that the objects are learnt and counted",
        example=lambda row: unclear[row],
    )


def _check_names(files: Sequence[_File], images: VOCImages | None) -> Iterator[Finding]:
    """Annotation files that name the image of another one."""
    others = [(file, images.other(file.stem, file.image)) for file in files] if images is not None else []
    misled = [(file, other) for file, other in others if other is not None]
    yield from find(
        "filename-of-another-image",
        Severity.WARNING,
        np.arange(len(misled)),
        what="annotation {file names/files name} another image in <filename> than the one of {its/their} own name",
        remedy="check with --preview whether the boxes fit: the image with the name of the file is used",
        example=lambda row: f"{misled[row][0].stem}.xml names {misled[row][1]}",
    )


def _with_sizes(table: Table) -> Table:
    """The sizes that annotation files do not say, from the headers of the images."""
    sizes = table.images.sizes.copy()
    for row in np.flatnonzero((sizes < 1).any(1) & table.files.present).tolist():
        try:
            sizes[row] = read_size(table.image_path(row))
        except DatasetError:
            continue
    return replace(table, images=replace(table.images, sizes=sizes))
