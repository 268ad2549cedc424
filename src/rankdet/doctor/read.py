"""A dataset of any format as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rankdet.data.files import as_path, coco_file, split_off
from rankdet.data.yolo_folder import yolo_file
from rankdet.doctor.finding import Finding, Severity
from rankdet.doctor.read_coco import read_coco
from rankdet.doctor.read_voc import read_voc
from rankdet.doctor.read_yolo import read_yolo
from rankdet.doctor.table import Table
from rankdet.garbage import without_garbage_collection


@dataclass(frozen=True)
class Source:
    """What is to be examined.

    Args:
        path: a COCO or LVIS annotation file, a folder with one, a VOC folder, or the YAML file of a YOLO dataset, with
            a split after a colon if wanted.
        images: the folder of the images, where it is not found automatically.
        classes: the classes in use, by name; None for all.
    """

    path: str
    images: str | None = None
    classes: Sequence[str] | None = None


def read_table(source: Source) -> tuple[Table | None, list[Finding]]:
    """The table of a dataset, and what was wrong while reading; no table when nothing can be read.

    :class:`rankdet.data.DatasetError` for a source that is no path.
    """
    path, split = split_off(str(as_path(source.path, "the path of a COCO file, a VOC folder or a YOLO file")))
    images = None if source.images is None else Path(source.images)
    annotations = coco_file(path)
    with without_garbage_collection():
        if annotations is not None:
            return read_coco(annotations, images=images, classes=source.classes)
        if (file := yolo_file(path)) is not None:
            return read_yolo(file, split=split, classes=source.classes)
        if path.is_dir():
            return read_voc(path, split=split, images=images, classes=source.classes)
    what = f"{path} is no dataset" if path.exists() else f"{path} does not exist"
    remedy = "name a COCO annotation file (*.json), a VOC folder, or a YOLO file (data.yaml)"
    return None, [Finding("unreadable-file", Severity.ERROR, what, 1, remedy)]
