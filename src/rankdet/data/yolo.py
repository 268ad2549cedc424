"""Datasets in the YOLO format, as Ultralytics' tools train on: a YAML file, images, and a text file of labels for each.

Read as COCO files are: all labels become one table in pixels, which the same rules are applied to.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rankdet.data.annotated import AnnotatedImages
from rankdet.data.coco import read_columns
from rankdet.data.coco_content import CocoContent
from rankdet.data.coco_file import CocoFile
from rankdet.data.files import as_path
from rankdet.data.image import read_upright
from rankdet.data.packed import PackedStrings
from rankdet.data.table import Called, filter_images, make_report
from rankdet.data.yolo_folder import YOLOFolder, label_file
from rankdet.data.yolo_split import SplitLabels, read_split
from rankdet.garbage import without_garbage_collection

if TYPE_CHECKING:
    from torchvision import tv_tensors


class YOLODetection(AnnotatedImages):
    """Images and objects of a YOLO dataset.

    Images are rotated according to their EXIF orientation, as labelling tools show them. Image ids are the numbers in
    the file names if all names are numbers, otherwise 1, 2, ...; category ids are the numbers of the classes, from 0. A
    line that appears twice in a file is one object. An image without a label file has no objects.

    Args:
        file: the YAML file, see :class:`rankdet.data.yolo_folder.YOLOFolder`.
        split: ``train`` (the default), ``val``, ``test`` or another key of the file.
        masks: also load masks, from polygons; objects that only have boxes are then left out, and counted.
        classes: use only these classes, by name; the others count as background.
        skip_empty: leave out images without objects.
        min_size: leave out images whose shorter side is below this many pixels.

    Raises:
        DatasetError: whatever is wrong with the files: YAML, paths, lines of labels (with file and number), missing
            images, unknown `classes`, no images left.

    Example:
        >>> from PIL import Image
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     home = Path(folder)
        ...     (home / "data.yaml").write_text("{train: images, names: [cat, dog]}") and None
        ...     (home / "images").mkdir(), (home / "labels").mkdir()
        ...     Image.new("RGB", (64, 48)).save(home / "images" / "a.png")
        ...     (home / "labels" / "a.txt").write_text("1 0.5 0.5 0.25 0.5") and None
        ...     image, target = YOLODetection(home / "data.yaml")[0]
        (None, None)
        >>> target["boxes"].tolist(), target["labels"].tolist()
        ([[24.0, 12.0, 40.0, 36.0]], [1])
    """

    turns_upright = True

    def __init__(
        self,
        file: str | Path,
        *,
        split: str | None = None,
        masks: bool = False,
        classes: Sequence[str] | None = None,
        skip_empty: bool = False,
        min_size: int = 0,
    ) -> None:
        place = YOLOFolder.find(as_path(file, "the YAML file of a YOLO dataset"), split)
        with without_garbage_collection():
            labels = read_split(place)
            labels.refuse()
            read = read_columns(_LabelFiles(labels), classes, masks=masks)
        table, names = read.table, read.names
        keep, left_out = filter_images(
            read.sizes,
            table,
            names=names,
            source=place.file,
            min_size=min_size,
            skip_empty=skip_empty,
            faults=read.faults,
        )
        table = table.select_images(keep)
        super().__init__(
            folder=place.root,
            files=PackedStrings([names[row] for row in keep]),
            ids=read.ids[keep],
            sizes=read.sizes[keep],
            annotations=table,
            categories=read.categories,
            report=make_report(f"{place.file}:{place.split}", table, [*read.faults, *labels.faults, *left_out]),
        )

    def read(self, path: Path, *, size: tuple[int, int]) -> tv_tensors.Image:
        """Turned upright; the size is that of the file."""
        del size
        return read_upright(path)


class _LabelFiles(CocoFile):
    """A split as training wants it; messages name the file and the line."""

    def __init__(self, labels: SplitLabels) -> None:
        super().__init__(labels.place.file, CocoContent.of(labels.content))
        self.labels = labels

    def names_of(self, ids: np.ndarray, owners: np.ndarray) -> Called:
        """See `CocoFile`."""
        lines = np.array([entry["line"] for entry in self.labels.content["annotations"]], dtype=np.int64)
        files = np.array([label_file(image).name for image in self.labels.place.images], dtype=object)
        return Called("line {} of {}", lines[ids - 1], files[owners])
