"""Semantic maps: what each pixel of an image is, stuff and things, for detectors that learn from that as well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torchvision import tv_tensors

from rankdet.data.dataset import DetectionDataset, Sample
from rankdet.data.derived import DerivedDetection
from rankdet.data.errors import DatasetError
from rankdet.data.image_file import open_image
from rankdet.data.report import EXAMPLES

ENDING = ".png"


class WithSemantics(DerivedDetection):
    """A dataset whose targets have ``semantic`` (1, H, W) uint8: one more than the class of each pixel, 0 unknown.

    Each image has a PNG file of its name and its size in a folder, whose pixels are classes 0, 1, ..., and 255 where
    nothing is known: COCO-stuff's "stuffthingmaps". Transforms move the maps like masks; areas they fill up are
    unknown.

    Raises:
        DatasetError: naming the folder and images without a file; reading an image whose map has another size or form.
    """

    def __init__(self, dataset: DetectionDataset, folder: str | Path) -> None:
        super().__init__(dataset)
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DatasetError(f"{folder} is no folder; give that of the semantic maps of the training images")
        there = {path.name for path in self.folder.iterdir()}
        paths = [dataset.image_path(index) for index in range(len(dataset))]
        self._names = {i: p.stem + ENDING for i, p in zip(dataset.image_ids, paths, strict=True) if p is not None}
        lacking = [name for name in self._names.values() if name not in there]
        if lacking or len(self._names) < len(dataset):
            names = ", ".join(lacking[:EXAMPLES]) + (", ..." if len(lacking) > EXAMPLES else "")
            count = len(dataset) - len(self._names) + len(lacking)
            raise DatasetError(
                f"{folder} has no maps of {count} of the {len(dataset)} images of {dataset.report.source}"
                f"{f' ({names})' if names else ''}; each image needs a PNG file of its name"
            )

    def __getitem__(self, index: int) -> Sample:
        image, target = self.dataset[index]
        path = self.folder / self._names[target["image_id"]]
        with open_image(path) as file:
            raster = np.asarray(file)
        size = tuple(image.shape[-2:])
        if raster.dtype != np.uint8 or raster.shape != size:
            raise DatasetError(
                f"{path} is an array of {raster.dtype} of shape {raster.shape}, its image is of {size}; "
                "a semantic map has one 8-bit channel, and the size of its image"
            )
        classes = torch.from_numpy(raster[None] + np.uint8(1))  # 255 becomes 0
        return image, {**target, "semantic": tv_tensors.Mask(classes)}


def with_semantics(dataset: DetectionDataset, folder: str | None) -> DetectionDataset:
    """The dataset itself, or one with the maps in a folder."""
    return dataset if folder is None else WithSemantics(dataset, folder)
