"""A split of a YOLO dataset as a table, whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rankdet.data.coco_content import CocoContent
from rankdet.data.errors import DatasetError
from rankdet.data.yolo_folder import YOLOFolder, label_file
from rankdet.data.yolo_split import SplitLabels, read_split
from rankdet.doctor.draft import LeaveOutLines
from rankdet.doctor.finding import Finding, Severity, find
from rankdet.doctor.read_coco import table_of
from rankdet.doctor.table import Table


def read_yolo(
    file: Path, *, split: str | None = None, classes: Sequence[str] | None = None
) -> tuple[Table | None, list[Finding]]:
    """The table of a split, and what was wrong while reading; no table when nothing can be read.

    Args:
        file: the YAML file.
        split: ``train`` when None.
        classes: the classes in use; objects of others are left out. None for all.
    """
    try:
        place = YOLOFolder.find(file, split)
    except DatasetError as error:
        remedy = (
            "correct the YAML file: 'path', and a folder or list of images for each split, count from its own folder"
        )
        return None, [Finding("unreadable-file", Severity.ERROR, str(error), 1, remedy)]
    labels = read_split(place, keep_repeated=True)
    table, findings = table_of(CocoContent.of(labels.content), source=file, candidates=[place.root], classes=classes)
    return replace(table, format="YOLO"), [*findings, *_check_labels(labels)]


def _check_labels(labels: SplitLabels) -> Iterator[Finding]:
    problems, images = labels.problems, labels.place.images
    yield from find(
        "malformed-annotation",
        Severity.ERROR,
        np.arange(len(problems)),
        what="{line/lines} of label files cannot be used",
        remedy="correct or remove the lines; Ultralytics leaves out the whole image",
        example=lambda row: problems[row],
        repair=LeaveOutLines(len(problems)),
    )
    if labels.unlabelled == len(images):
        what = f"no image has a label file: that of {images[0].name} would be {label_file(images[0])}"
        remedy = "put the labels there: the last folder 'images' becomes 'labels', or else they lie next to the images"
        yield Finding("labels-not-found", Severity.ERROR, what, len(images), remedy)
    elif labels.unlabelled:
        what = f"{labels.unlabelled:,} of {len(images):,} images have no label file, and so no objects"
        yield Finding("no-label-file", Severity.NOTE, what, labels.unlabelled, "fine for images without objects")
