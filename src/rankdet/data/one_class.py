"""Data of one class, for models that only separate objects from background, such as a region proposal network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rankdet.data.categories import Categories
from rankdet.data.dataset import DetectionDataset, Sample
from rankdet.data.derived import DerivedDetection
from rankdet.data.lvis import FREQUENCY, NEGATIVE, NOT_EXHAUSTIVE

OBJECT = Categories(names=("object",), ids=(1,))


class WithoutClasses(DerivedDetection):
    """A dataset whose objects are all of one class, "object".

    LVIS' lists of the classes that were looked for are dropped: they have no meaning then.

    Example:
        >>> from rankdet.data import Shapes
        >>> dataset = WithoutClasses(Shapes(length=2, seed=0))
        >>> dataset.categories.names, dataset[0][1]["labels"].unique()
        (('object',), tensor([0]))
    """

    def __init__(self, dataset: DetectionDataset) -> None:
        super().__init__(dataset)
        self.categories = OBJECT

    def __getitem__(self, index: int) -> Sample:
        image, target = self.dataset[index]
        return image, {**target, "labels": torch.zeros_like(target["labels"])}

    def labels(self, index: int) -> np.ndarray:
        """Zeros."""
        return np.zeros_like(self.dataset.labels(index))

    def ground_truth(self) -> dict[str, Any]:
        """The truth with one category."""
        truth = self.dataset.ground_truth()
        of_lvis = {NEGATIVE, NOT_EXHAUSTIVE, FREQUENCY}
        images = [{key: value for key, value in image.items() if key not in of_lvis} for image in truth["images"]]
        annotations = [{**entry, "category_id": OBJECT.ids[0]} for entry in truth["annotations"]]
        return {**truth, "images": images, "annotations": annotations, "categories": OBJECT.to_coco()}


def one_class_of(dataset: DetectionDataset, wanted: bool) -> DetectionDataset:
    """The dataset itself, or one without classes where that is wanted."""
    return WithoutClasses(dataset) if wanted else dataset
