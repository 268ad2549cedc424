"""Datasets in the COCO format, LVIS included: one JSON file with images, annotations and categories.

Format: https://cocodataset.org/#format-data. Filter rules as in the published Rank & Sort experiments (images without
objects and very small images dropped from training when asked for, boxes below one pixel left out), except that the
``area`` of a file decides nothing but the size classes of the evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from rankdet.data.annotated import AnnotatedImages
from rankdet.data.coco_file import CocoFile, no_garbage_collection
from rankdet.data.errors import DatasetError
from rankdet.data.files import coco_image_folders, find_images
from rankdet.data.table import PackedStrings, filter_images, make_report


class CocoDetection(AnnotatedImages):
    """Images and objects of a COCO-format annotation file.

    Labels follow the order of the categories in the file, or of `classes`. Category, image and annotation ids may be
    any integers; annotation ids may be missing. Annotations marked ``ignore`` count as crowd regions. Of LVIS, images
    are found by their ``coco_url``, and :meth:`ground_truth` keeps which classes were looked for in which image, and
    how frequent they are.

    Args:
        annotations: the JSON file.
        images: the folder of the images; found by itself when None: beside the file, in ``images`` or a folder named
            after the split (``train2017`` for ``instances_train2017.json``), or in those one level up.
        masks: give masks too; objects without a usable segmentation are then left out, and counted.
        classes: use only these categories, by name; the others count as background.
        skip_empty: leave out images without objects (crowd regions alone are none), as in training.
        min_size: leave out images whose shorter side is below so many pixels.

    Raises:
        DatasetError: whatever is wrong with the file, in one message: JSON, keys, duplicate ids, annotations without
            image or category, missing image files, unknown `classes`, no images left.

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
        file = Path(annotations)
        with no_garbage_collection():
            content = CocoFile(file)
            categories = content.categories(classes)
            table, faults = content.annotations(categories, masks=masks)
            names, from_url = content.file_names()
            federation = content.federation(categories)
        counts = table.object_counts() if skip_empty else None
        called = [f"image {number}" for number in content.image_ids]
        keep, left_out = filter_images(content.sizes, counts, names=called, source=file, min_size=min_size)
        if len(keep) < len(content.image_ids):
            table, names = table.select_images(keep), [names[index] for index in keep]
            federation = federation and federation.select_images(keep)
        folder, names = _locate(file, names, images, from_url=from_url)
        super().__init__(
            folder=folder,
            files=PackedStrings(names),
            ids=content.image_ids[keep],
            sizes=content.sizes[keep],
            annotations=table,
            categories=categories,
            report=make_report(str(file), table, [*faults, *left_out]),
            federation=federation,
        )


def _locate(file: Path, names: list[str], images: str | Path | None, *, from_url: bool) -> tuple[Path, list[str]]:
    """The folder of the images and their paths in it."""
    candidates = coco_image_folders(file) if images is None else [Path(images)]
    try:
        return find_images(candidates, names, wanted_by=file), names
    except DatasetError:
        if not from_url:
            raise
    names = [PurePosixPath(name).name for name in names]
    return find_images(candidates, names, wanted_by=file), names
