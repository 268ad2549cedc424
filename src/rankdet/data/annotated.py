"""What datasets of image files with annotations have in common, whatever the format of the annotations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rankdet.data.categories import Categories
from rankdet.data.dataset import DetectionDataset, Sample, check_index, make_target
from rankdet.data.image import read_image
from rankdet.data.lvis import Federation
from rankdet.data.packed import PackedStrings
from rankdet.data.report import DatasetReport
from rankdet.data.segmentation import decode_segmentation
from rankdet.data.table import Annotations

if TYPE_CHECKING:
    from torchvision import tv_tensors


class AnnotatedImages(DetectionDataset):
    """Image files in a folder and their annotations in arrays.

    Args:
        folder: where the image files are.
        files: the path of each image within the folder.
        ids: (N,) image ids.
        sizes: (N, 2) height and width of each image.
        annotations: the annotations, sorted by image.
        categories: the class map.
        report: what was found while reading.
        federation: what LVIS says beside; None for other data.
    """

    def __init__(
        self,
        *,
        folder: Path,
        files: PackedStrings,
        ids: np.ndarray,
        sizes: np.ndarray,
        annotations: Annotations,
        categories: Categories,
        report: DatasetReport,
        federation: Federation | None = None,
    ) -> None:
        self.folder = folder
        self.files = files
        self.annotations = annotations
        self.categories = categories
        self.report = report
        self.federation = federation
        self._ids = ids
        self._sizes = sizes

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> Sample:
        index = check_index(index, len(self))
        height, width = (int(side) for side in self._sizes[index])
        image = self.read(self.folder / self.files[index], size=(height, width))
        table, rows = self.annotations, self.annotations.usable_rows(index)
        return image, make_target(
            table.boxes[rows],
            table.labels[rows],
            iscrowd=table.iscrowd[rows],
            image_id=int(self._ids[index]),
            size=(height, width),
            masks=self._masks(rows, (height, width)),
            difficult=None if table.difficult is None else table.difficult[rows],
        )

    def read(self, path: Path, *, size: tuple[int, int]) -> tv_tensors.Image:
        """The image in a file, whose annotated size (H, W) it must have."""
        return read_image(path, size=size)

    @property
    def image_ids(self) -> list[int]:
        """The ids of the annotation file."""
        return self._ids.tolist()

    @property
    def image_sizes(self) -> list[tuple[int, int]]:
        """(H, W) of each image as the annotations say."""
        return [(height, width) for height, width in self._sizes.tolist()]

    @property
    def has_masks(self) -> bool:
        """Whether they were asked for."""
        return self.annotations.segmentations is not None

    def image_path(self, index: int) -> Path:
        """The file of an image."""
        return self.folder / self.files[check_index(index, len(self))]

    def labels(self, index: int) -> np.ndarray:
        """The labels of one image's objects, crowd regions left out."""
        rows = self.annotations.usable_rows(check_index(index, len(self)))
        return self.annotations.labels[rows[~self.annotations.iscrowd[rows]]]

    def ground_truth(self) -> dict[str, Any]:
        """The truth as a COCO dictionary.

        It holds the boxes as the file has them, degenerate ones and unclipped ones too, so that an evaluation says
        what pycocotools says of the file. Annotation ids are those of the file, or 1, 2, ... where some are missing,
        repeated or below 1 (pycocotools takes a match with annotation 0 for none). Masks are there when the dataset has
        masks, and what LVIS says of images and categories when it is LVIS's. Where the file states no area it is that
        of the box, or left to the evaluation when there are masks.
        """
        return {
            "images": self._coco_images(),
            "annotations": self._coco_annotations(),
            "categories": self._coco_categories(),
        }

    def _coco_images(self) -> list[dict[str, Any]]:
        images: list[dict[str, Any]] = [
            {"id": number, "file_name": name, "height": height, "width": width}
            for number, name, (height, width) in zip(self.image_ids, self.files, self.image_sizes, strict=True)
        ]
        if self.federation is not None:
            for place, image in enumerate(images):
                image |= self.federation.image_entry(place)
        return images

    def _coco_categories(self) -> list[dict[str, Any]]:
        categories = self.categories.to_coco()
        if self.federation is None:
            return categories
        return [entry | self.federation.category_entry(label) for label, entry in enumerate(categories)]

    def _coco_annotations(self) -> list[dict[str, Any]]:
        table = self.annotations
        crowd = table.iscrowd if table.crowd is None else table.crowd
        columns = zip(
            table.ids.tolist(),
            np.repeat(self._ids, np.diff(table.starts)).tolist(),
            np.array(self.categories.ids, dtype=np.int64)[table.labels].tolist(),
            table.xywh.tolist(),
            self._stated_areas().tolist(),
            crowd.astype(int).tolist(),
            strict=True,
        )
        keys = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
        annotations: list[dict[str, Any]] = [dict(zip(keys, row, strict=True)) for row in columns]
        if table.segmentations is not None:
            for annotation, segmentation in zip(annotations, table.segmentations, strict=True):
                annotation["segmentation"] = segmentation
        for row in np.flatnonzero(np.isnan(table.area)).tolist() if self.has_masks else ():
            del annotations[row]["area"]
        for row in np.flatnonzero(table.iscrowd & ~crowd).tolist():
            annotations[row]["ignore"] = 1
        if table.difficult is not None:
            for annotation, difficult in zip(annotations, table.difficult.astype(int).tolist(), strict=True):
                annotation |= {"difficult": difficult, "ignore": difficult}
        return annotations

    def _stated_areas(self) -> np.ndarray:
        """(M,) the areas of the file; those of the boxes where it states none."""
        area, xywh = self.annotations.area, self.annotations.xywh
        return np.where(np.isnan(area), xywh[:, 2] * xywh[:, 3], area)

    def _masks(self, rows: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
        packed = self.annotations.segmentations
        if packed is None:
            return None
        masks = np.zeros((len(rows), *size), dtype=np.uint8)
        for mask, row in zip(masks, rows, strict=True):
            name = f"{self.report.source}: annotation {self.annotations.ids[row]}"
            mask[:] = decode_segmentation(packed[row], size=size, name=name)
        return masks
