"""A dataset of one format written in another."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rankdet.data.dataset import DetectionDataset
from rankdet.data.errors import DatasetError
from rankdet.data.files import new_folder
from rankdet.data.sources import open_dataset
from rankdet.data.write_voc import write_annotations
from rankdet.data.write_yolo import describe, write_labels
from rankdet.doctor.placement import Links, Placement, names_within
from rankdet.doctor.read import Source, read_table

Content = Mapping[str, Any]


@dataclass(frozen=True)
class Form:
    """A format to write: how messages call it, the folder of the images, and what writes the content of a COCO file.

    ``write`` gives in words what the format cannot hold.
    """

    name: str
    images: str
    write: Callable[[Content, Path], list[str]]


def _write_coco(content: Content, folder: Path) -> list[str]:
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return []


FORMS = {
    "coco": Form("COCO", "images", _write_coco),
    "voc": Form("VOC", "JPEGImages", write_annotations),
    "yolo": Form("YOLO", "images", write_labels),
}
"""The formats by the name that they have on the command line."""


def convert(
    sources: Mapping[str, Source], folder: Path, *, form: Form, placement: Placement | None = None
) -> dict[str, list[str]]:
    """Write datasets in another format into a folder, which appears complete or not at all.

    Several become subfolders of the names that they are given by. A YOLO dataset of ``train`` and ``val`` gets one
    ``data.yaml`` for both.

    Args:
        sources: what is read, by name.
        folder: must not exist yet.
        form: one of `FORMS`.
        placement: how images get there; None for `Links`.

    Returns:
        How many images and objects were written, and what the format cannot hold, in words, by the names of `sources`.

    Raises:
        DatasetError: if a source cannot be used as it is, or the folder exists.

    >>> import tempfile
    >>> from rankdet.data import Shapes
    >>> with tempfile.TemporaryDirectory() as home:
    ...     made = Shapes(length=2, seed=0, image_size=64).export(home + "/shapes")
    ...     _ = convert({"train": Source(str(made))}, Path(home, "out"), form=FORMS["yolo"])
    ...     sorted(path.name for path in Path(home, "out").iterdir())
    ['data.yaml', 'images', 'labels']
    """
    with new_folder(folder) as unfinished:
        said: dict[str, list[str]] = {}
        names: dict[str, Sequence[str]] = {}
        for key, source in sources.items():
            place = unfinished / key if len(sources) > 1 else unfinished
            place.mkdir(exist_ok=True)
            dataset = _open(source)
            names[key] = dataset.categories.names
            said[key] = _write(dataset, place, form, placement or Links())
        if form is FORMS["yolo"] and len(sources) > 1:
            _describe_all(unfinished, names)
        return said


def _describe_all(folder: Path, names: Mapping[str, Sequence[str]]) -> None:
    first, *others = names
    if different := [key for key in others if tuple(names[key]) != tuple(names[first])]:
        raise DatasetError(
            f"{first} has the classes {', '.join(names[first])}, {different[0]} has {', '.join(names[different[0]])}; "
            "a YOLO dataset has the same in all splits"
        )
    describe(folder, names[first], train=f"{first}/images", val=f"{others[0]}/images")


def _open(source: Source) -> DetectionDataset:
    """With masks where there are any."""
    table, findings = read_table(source)
    if table is None:
        raise DatasetError(findings[0].what)
    masks = table.format != "VOC" and table.objects.segmentations is not None
    return open_dataset(source.path, images=source.images, classes=source.classes, masks=masks)


def _write(dataset: DetectionDataset, folder: Path, form: Form, placement: Placement) -> list[str]:
    content = dataset.ground_truth()
    names = _own_names([image["file_name"] for image in content["images"]])
    content["images"] = [{**image, "file_name": name} for image, name in zip(content["images"], names, strict=True)]
    content["annotations"] = [
        {key: value for key, value in entry.items() if key != "segmentation" or value}
        for entry in content["annotations"]
    ]
    lost = form.write(content, folder)
    for row, name in enumerate(names):
        target, path = folder / form.images / name, dataset.image_path(row)
        target.parent.mkdir(parents=True, exist_ok=True)
        assert path is not None, "a dataset with files"
        placement.place(path, target)
    return [f"{len(names):,} images, {len(content['annotations']):,} objects", *lost]


def _own_names(files: Sequence[str]) -> list[str]:
    """A name for each image that stays in its folder, without subfolders, and differs in more than the ending.

    >>> _own_names(["a.jpg", "b/a.jpg", "a.png"])
    ['a.jpg', 'b_a.jpg', 'a_2.png']
    """
    taken: set[str] = set()
    names = []
    for file in names_within(files):
        path = PurePosixPath(file.replace("/", "_"))
        stem, number = path.stem, 1
        while stem in taken:
            number += 1
            stem = f"{path.stem}_{number}"
        taken.add(stem)
        names.append(f"{stem}{path.suffix}")
    return names
