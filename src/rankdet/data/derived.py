"""Datasets made from one other: the same images, with something of their samples changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rankdet.data.dataset import DetectionDataset, Sample


class DerivedDetection(DetectionDataset):
    """The images of a dataset, with its ids, sizes, labels and truth; subclasses say what is different."""

    def __init__(self, dataset: DetectionDataset) -> None:
        self.dataset = dataset
        self.categories = dataset.categories
        self.report = dataset.report
        self.turns_upright = dataset.turns_upright

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[index]

    @property
    def image_ids(self) -> list[int]:
        """Those of the dataset."""
        return self.dataset.image_ids

    @property
    def image_sizes(self) -> list[tuple[int, int]]:
        """Those of the dataset."""
        return self.dataset.image_sizes

    @property
    def has_masks(self) -> bool:
        """Whether the dataset has."""
        return self.dataset.has_masks

    def image_path(self, index: int) -> Path | None:
        """The file of an image, if it has one."""
        return self.dataset.image_path(index)

    def labels(self, index: int) -> np.ndarray:
        """The labels of one image's objects."""
        return self.dataset.labels(index)

    def ground_truth(self) -> dict[str, Any]:
        """That of the dataset."""
        return self.dataset.ground_truth()
