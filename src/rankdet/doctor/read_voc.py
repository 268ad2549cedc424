"""A folder of VOC annotation files as a table, whatever is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from rankdet.data.errors import DatasetError
from rankdet.data.files import Listing, voc_image_folders, without_annotations
from rankdet.data.raster import SUFFIXES, read_size
from rankdet.data.voc_classes import VOC_CLASSES
from rankdet.data.voc_xml import CORNERS, parse_xml
from rankdet.doctor.draft import LeaveOutFiles, LeaveOutNameless
from rankdet.doctor.finding import Finding, Severity, find
from rankdet.doctor.locate import locate
from rankdet.doctor.table import Classes, Images, Objects, Table

ORIGIN = 1
"""What VOC calls the first pixel."""


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
    home = root / "Annotations" if (root / "Annotations").is_dir() else root
    stems = sorted(name[:-4] for name in Listing().names(str(home)) if name.endswith(".xml"))
    if not stems:
        remedy = "name a VOC folder (with Annotations), a folder of XML files, or a COCO annotation file"
        what = without_annotations(home) if home.is_dir() else f"there is no folder {home}"
        return None, [Finding("unreadable-file", Severity.ERROR, what, 1, remedy)]
    findings: list[Finding] = []
    if split is not None:
        stems, findings = _of_split(root, split, stems)
    files, unreadable = _read_all(home, stems)
    findings += unreadable
    if not files:
        return None, findings
    names = tuple(classes) if classes is not None else _class_names(files)
    folders = voc_image_folders(home) if images is None else [images]
    table = Table(
        source=home,
        format="VOC",
        images=_image_columns(files, folders),
        objects=_object_columns(files, names),
        classes=Classes(np.arange(1, len(names) + 1), names, np.arange(len(names))),
        content=[file.stem for file in files],
    )
    table = locate(table, folders)
    findings += _check_objects(files)
    return _with_sizes(table), findings


@dataclass(frozen=True)
class _File:
    """One annotation file: its objects as (name, corners, difficult), corners NaN where they are no numbers."""

    stem: str
    image: str
    size: tuple[int, int]
    objects: list[tuple[str, tuple[float, ...], bool]] = field(default_factory=list)


def _of_split(root: Path, split: str, stems: list[str]) -> tuple[list[str], list[Finding]]:
    """The annotation files of a split, and those it names in vain."""
    homes = [root / "ImageSets" / "Main", root.parent / "ImageSets" / "Main"]
    file = next((home / f"{split}.txt" for home in homes if (home / f"{split}.txt").is_file()), None)
    if file is None:
        what = f"there is no split {split}: no {homes[0]}/{split}.txt"
        return [], [Finding("unreadable-file", Severity.ERROR, what, 1, "name a file in ImageSets/Main, or no split")]
    wanted = list(dict.fromkeys(line.split()[0] for line in file.read_text().splitlines() if line.strip()))
    known = set(stems)
    absent = [stem for stem in wanted if stem not in known]
    findings = find(
        "missing-annotation",
        Severity.ERROR,
        np.arange(len(absent)),
        what=f"annotation {{file/files}} of {file.name} {{does/do}} not exist",
        remedy=f"add the files, or remove the lines from {file}",
        example=lambda row: f"{absent[row]}.xml",
    )
    return [stem for stem in wanted if stem in known], list(findings)


def _read_all(home: Path, stems: Sequence[str]) -> tuple[list[_File], list[Finding]]:
    files, problems = [], []
    for stem in stems:
        try:
            files.append(_read(stem, parse_xml(home / f"{stem}.xml")))
        except DatasetError as error:
            problems.append(str(error).removeprefix(f"{home}/"))
    findings = find(
        "unreadable-annotation",
        Severity.ERROR,
        np.arange(len(problems)),
        what="annotation {file/files} cannot be read",
        remedy="mend or remove the files; they are left out of all that follows",
        example=lambda row: problems[row],
        repair=LeaveOutFiles(len(problems)),
    )
    return files, list(findings)


def _read(stem: str, root: Element) -> _File:
    sides = [_number(root, f"size/{key}") for key in ("height", "width")]
    known = all(math.isfinite(side) and side >= 1 for side in sides)
    return _File(
        stem=stem,
        image=(root.findtext("filename") or "").strip(),
        size=(int(sides[0]), int(sides[1])) if known else (0, 0),
        objects=[
            (
                (item.findtext("name") or "").strip(),
                tuple(_number(item, f"bndbox/{key}") for key in CORNERS),
                (item.findtext("difficult") or "").strip() in ("1", "true", "True"),
            )
            for item in root.findall("object")
        ],
    )


def _number(element: Element, path: str) -> float:
    try:
        number = float(element.findtext(path) or "")
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _class_names(files: Sequence[_File]) -> tuple[str, ...]:
    """The challenge's 20 classes when no other is named, as `VOCDetection` has it."""
    found = {name for file in files for name, _, _ in file.objects if name}
    return VOC_CLASSES if found <= set(VOC_CLASSES) else tuple(sorted(found))


def _image_columns(files: Sequence[_File], folders: Sequence[Path]) -> Images:
    """Images by ``<filename>`` where it is there, else by the name of the annotation file."""
    listing = Listing()
    by_stem: dict[str, str] = {}
    for folder in reversed(folders):
        by_stem |= {Path(name).stem: name for name in listing.names(str(folder)) if _is_image(name)}
    return Images(
        ids=np.arange(1, len(files) + 1),
        files=[_image_of(file, by_stem, listing, folders) for file in files],
        sizes=np.array([file.size for file in files], dtype=np.int64),
        entries=np.arange(len(files)),
    )


def _image_of(file: _File, by_stem: dict[str, str], listing: Listing, folders: Sequence[Path]) -> str:
    if file.image and any(listing.has(folder, file.image) for folder in folders):
        return file.image
    return by_stem.get(file.stem, file.image or f"{file.stem}.jpg")


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _object_columns(files: Sequence[_File], names: Sequence[str]) -> Objects:
    label_of = {name: label for label, name in enumerate(names)}
    rows = [
        (image, number, label_of[name], difficult, *corners)
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
        image_ids=owners + 1,
        labels=labels,
        category_ids=labels + 1,
        xywh=xywh,
        areas=np.full(len(rows), np.nan),
        ignored=columns[:, 3].astype(bool),
        entries=numbers,
    )


def _check_objects(files: Sequence[_File]) -> Iterator[Finding]:
    """Objects without a class."""
    nameless = [
        f"object {place + 1} of {file.stem}.xml"
        for file in files
        for place, item in enumerate(file.objects)
        if not item[0]
    ]
    yield from find(
        "malformed-annotation",
        Severity.ERROR,
        np.arange(len(nameless)),
        what="{object has/objects have} no <name>",
        remedy="name their classes, or remove them",
        example=lambda row: nameless[row],
        repair=LeaveOutNameless(len(nameless)),
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
