"""A dataset from what a person writes on a command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rankdet.data.categories import Categories
from rankdet.data.coco import CocoDetection
from rankdet.data.dataset import DetectionDataset
from rankdet.data.errors import NO_MASKS, DatasetError
from rankdet.data.files import as_path, coco_file, split_off
from rankdet.data.shapes import Shapes
from rankdet.data.voc import VOCDetection
from rankdet.data.yolo import YOLODetection
from rankdet.data.yolo_folder import yolo_file

SHAPES = "shapes"
_SHAPES_LENGTH = 1000


def open_dataset(
    source: str | Path,
    *,
    images: str | Path | None = None,
    masks: bool = False,
    classes: Sequence[str] | Categories | None = None,
    skip_empty: bool = False,
    min_size: int = 0,
    shapes_seed: int = 0,
) -> DetectionDataset:
    """Open a dataset of any format.

    Args:
        source: a COCO annotation file (``*.json``) or a folder with ``annotations.json``; a VOC folder or a folder of
            VOC XML files, with a split after a colon if wanted (``VOC2007:trainval``); the YAML file of a YOLO dataset
            or its folder (``data.yaml:val``, the training data without a split); or ``"shapes"``, the built-in dataset
            with 1,000 images.
        images: the folder of the images, if it is not found automatically; YOLO's file names it.
        masks: also load masks.
        classes: use only these classes, by name.
        skip_empty: leave out images without objects.
        min_size: leave out images whose shorter side is below this many pixels.
        shapes_seed: the seed of the built-in dataset.

    Raises:
        DatasetError: what is wrong with the source, or that it is not a dataset.

    Example:
        >>> len(open_dataset("shapes"))
        1000
    """
    if str(source) == SHAPES:
        return _open_shapes(images, masks=masks, classes=classes, seed=shapes_seed)
    path, split = split_off(str(as_path(source, "the path of a COCO file, a VOC folder or a YOLO file")))
    annotations = coco_file(path)
    if annotations is not None:
        names = classes.names if isinstance(classes, Categories) else classes
        return CocoDetection(annotations, images, masks=masks, classes=names, skip_empty=skip_empty, min_size=min_size)
    if (file := yolo_file(path)) is not None:
        if images is not None:
            raise DatasetError(
                f"{file} says itself where its images are; correct it there, and leave the image folder out"
            )
        names = classes.names if isinstance(classes, Categories) else classes
        return YOLODetection(file, split=split, masks=masks, classes=names, skip_empty=skip_empty, min_size=min_size)
    if not path.is_dir():
        problem = "is" if path.exists() else "does not exist, and is"
        others = "nor a VOC folder, nor a YOLO file (data.yaml), nor 'shapes'"
        raise DatasetError(f"{path} {problem} neither a COCO annotation file (*.json), {others}")
    if masks:
        raise DatasetError(f"{path} is in the VOC format, which has no masks; use a COCO file, or {NO_MASKS}")
    return VOCDetection(path, images, split=split, classes=classes, skip_empty=skip_empty, min_size=min_size)


def _open_shapes(
    images: str | Path | None, *, masks: bool, classes: Sequence[str] | Categories | None, seed: int
) -> Shapes:
    if images is not None or classes is not None:
        raise DatasetError("the built-in dataset takes neither an image folder nor classes; leave them out")
    return Shapes(length=_SHAPES_LENGTH, seed=seed, masks=masks)
