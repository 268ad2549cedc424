"""Datasets in the COCO format, LVIS included: one JSON file with images, annotations and categories.

Format: https://cocodataset.org/#format-data. Filter rules as in the published Rank & Sort experiments (images without
objects and very small images dropped from training when asked for, boxes below one pixel left out), except that the
``area`` of a file decides nothing but the size classes of the evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from rankdet.data.annotated import AnnotatedImages
from rankdet.data.categories import Categories
from rankdet.data.coco_file import CocoFile
from rankdet.data.errors import DatasetError
from rankdet.data.files import as_path, coco_image_folders, find_images
from rankdet.data.lvis import Federation
from rankdet.data.packed import PackedStrings
from rankdet.data.report import Fault
from rankdet.data.table import Annotations, Called, filter_images, make_report
from rankdet.garbage import without_garbage_collection


class CocoDetection(AnnotatedImages):
    """Images and objects of a COCO-format annotation file.

    Labels follow the order of the categories in the file, or of `classes`. Category and image ids may be any integers;
    annotation ids may be missing or repeated. Numbers in text are read as numbers, and listed in the report.
    Annotations marked ``ignore`` are ignored in training, like crowds; an evaluation counts them as objects, as
    pycocotools does. For LVIS, images are found by their ``coco_url``, and :meth:`ground_truth` keeps which classes
    were looked for in which image, and how frequent they are.

    Args:
        annotations: the JSON file.
        images: the folder of the images. None finds it automatically: next to the file, in ``images``, or in a folder
            named after the split (``train2017`` for ``instances_train2017.json``), here or one level up.
        masks: also load masks; objects without a usable segmentation are then left out, and counted.
        classes: use only these categories, by name; the others count as background.
        skip_empty: leave out images without objects (crowd regions are not objects), as in training.
        min_size: leave out images whose shorter side is below this many pixels.

    Raises:
        DatasetError: whatever is wrong with the file, in one message: JSON, keys, ids of images or categories that
            occur twice, annotations without image or category, masks that cannot be decoded, missing image files,
            unknown `classes`, no images left.

    Example:
        >>> from rankdet.data import Shapes
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Shapes(length=3, seed=0, image_size=64).export(folder + "/shapes")
        ...     dataset = CocoDetection(file)
        ...     image, target = dataset[0]
        >>> len(dataset), image.shape, dataset.categories.names[:2]
        (3, torch.Size([3, 64, 64]), ('circle', 'square'))
    """

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path | None = None,
        *,
        masks: bool = False,
        classes: Sequence[str] | None = None,
        skip_empty: bool = False,
        min_size: int = 0,
    ) -> None:
        file = as_path(annotations, "the path of a COCO file")
        with without_garbage_collection():
            read = read_columns(CocoFile(file), classes, masks=masks)
        table, names, federation = read.table, read.names, read.federation
        called = Called("image {}", read.ids)
        keep, left_out = filter_images(
            read.sizes,
            table,
            names=called,
            source=file,
            min_size=min_size,
            skip_empty=skip_empty,
            faults=read.faults,
        )
        if len(keep) < len(read.ids):
            table, names = table.select_images(keep), [names[index] for index in keep]
            federation = federation and federation.select_images(keep)
        candidates = coco_image_folders(file) if images is None else [Path(images)]
        folder, on_disk = _locate(candidates, names, wanted_by=file, from_url=read.from_url)
        super().__init__(
            folder=folder,
            files=PackedStrings(on_disk),
            ids=read.ids[keep],
            sizes=read.sizes[keep],
            annotations=table,
            categories=read.categories,
            report=make_report(str(file), table, [*read.faults, *left_out]),
            federation=federation,
        )


@dataclass(frozen=True)
class CocoColumns:
    """What an annotation file says; all that it was read from can be forgotten."""

    ids: np.ndarray
    sizes: np.ndarray
    names: list[str]
    from_url: bool
    categories: Categories
    table: Annotations
    faults: list[Fault]
    federation: Federation | None


def read_columns(content: CocoFile, classes: Sequence[str] | None, *, masks: bool) -> CocoColumns:
    """All of an annotation file that a dataset keeps; `DatasetError` for what is wrong with it."""
    categories = content.categories(classes)
    table, faults = content.annotations(categories, masks=masks)
    names, from_url = content.file_names()
    return CocoColumns(
        ids=content.image_ids,
        sizes=content.sizes,
        names=names,
        from_url=from_url,
        categories=categories,
        table=table,
        faults=faults,
        federation=content.federation(categories),
    )


def _locate(
    candidates: Sequence[Path], names: Sequence[str], *, wanted_by: Path, from_url: bool
) -> tuple[Path, Sequence[str]]:
    """The folder of the images and their paths in it."""
    try:
        return find_images(candidates, names, wanted_by=wanted_by)
    except DatasetError:
        if not from_url:
            raise
    return find_images(candidates, [PurePosixPath(name).name for name in names], wanted_by=wanted_by)
