"""Datasets made from datasets: a part of one, or several as one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from rankdet.data.dataset import DetectionDataset, Sample, check_index
from rankdet.data.errors import CLASSES, DatasetError
from rankdet.data.report import DatasetReport, merge_reports


class SubsetDetection(DetectionDataset):
    """Some images of a dataset, in the order of `indices`; categories and ids stay.

    Example:
        >>> from rankdet.data import Shapes
        >>> subset = SubsetDetection(Shapes(length=10, seed=0), [7, 2])
        >>> len(subset), subset.image_ids, len(subset.categories)
        (2, [8, 3], 8)
    """

    def __init__(self, dataset: DetectionDataset, indices: Sequence[int]) -> None:
        if not len(indices):
            raise DatasetError(f"no image was chosen from {dataset.report.source}; name at least one index")
        self.dataset = dataset
        self.indices = [check_index(int(index), len(dataset)) for index in indices]
        if len(set(self.indices)) < len(self.indices):
            raise DatasetError("an index occurs more than once; name each image once")
        self.categories = dataset.categories
        self.turns_upright = dataset.turns_upright
        source = f"{len(self.indices)} images of {dataset.report.source}"
        self.report = DatasetReport(source=source, images=len(self.indices), objects=None)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self._inner(index)]

    @property
    def image_ids(self) -> list[int]:
        """The ids in the whole dataset."""
        ids = self.dataset.image_ids
        return [ids[index] for index in self.indices]

    @property
    def image_sizes(self) -> list[tuple[int, int]]:
        """(H, W) of each image."""
        sizes = self.dataset.image_sizes
        return [sizes[index] for index in self.indices]

    @property
    def has_masks(self) -> bool:
        """Whether the dataset has."""
        return self.dataset.has_masks

    def image_path(self, index: int) -> Path | None:
        """The file of an image, if it has one."""
        return self.dataset.image_path(self._inner(index))

    def labels(self, index: int) -> np.ndarray:
        """The labels of one image's objects."""
        return self.dataset.labels(self._inner(index))

    def ground_truth(self) -> dict[str, Any]:
        """The truth of these images alone, in their order."""
        truth, ids = self.dataset.ground_truth(), self.image_ids
        images = {image["id"]: image for image in truth["images"]}
        chosen = set(ids)
        return {
            **truth,
            "images": [images[number] for number in ids],
            "annotations": [item for item in truth["annotations"] if item["image_id"] in chosen],
        }

    def _inner(self, index: int) -> int:
        return self.indices[check_index(index, len(self))]


class ConcatDetection(DetectionDataset):
    """Several datasets with the same categories as one.

    Image ids are kept if no two datasets share one; otherwise all images are numbered 1, 2, ... Annotation ids are
    always renumbered. :class:`DatasetError` when the categories differ.

    Example:
        >>> from rankdet.data import Shapes
        >>> both = ConcatDetection([Shapes(length=3, seed=0), Shapes(length=2, seed=1)])
        >>> both.image_ids, both[4][1]["image_id"]
        ([1, 2, 3, 4, 5], 5)
    """

    def __init__(self, datasets: Sequence[DetectionDataset]) -> None:
        if not datasets:
            raise DatasetError("there is nothing to put together; give at least one dataset")
        self.datasets = list(datasets)
        self.categories = datasets[0].categories
        for other in datasets[1:]:
            if difference := self.categories.difference(other.categories):
                names = f"{datasets[0].report.source} and {other.report.source}"
                raise DatasetError(f"{names} have different categories: {difference}; choose common ones: {CLASSES}")
        self._ends = list(accumulate(len(dataset) for dataset in datasets))
        ids = [number for dataset in datasets for number in dataset.image_ids]
        self._ids = ids if len(set(ids)) == len(ids) else list(range(1, len(ids) + 1))
        reports = [dataset.report for dataset in datasets]
        self.report = merge_reports(" + ".join(report.source for report in reports), reports)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Sample:
        dataset, inner = self._inner(index)
        image, target = dataset[inner]
        target["image_id"] = self._ids[index]
        return image, target

    @property
    def image_ids(self) -> list[int]:
        """The original ids, or 1, 2, ... where those collide."""
        return list(self._ids)

    @property
    def image_sizes(self) -> list[tuple[int, int]]:
        """(H, W) of each image."""
        return [size for dataset in self.datasets for size in dataset.image_sizes]

    @property
    def has_masks(self) -> bool:
        """Whether all of them have."""
        return all(dataset.has_masks for dataset in self.datasets)

    def image_path(self, index: int) -> Path | None:
        """The file of an image, if it has one."""
        dataset, inner = self._inner(index)
        return dataset.image_path(inner)

    def labels(self, index: int) -> np.ndarray:
        """The labels of one image's objects."""
        dataset, inner = self._inner(index)
        return dataset.labels(inner)

    def ground_truth(self) -> dict[str, Any]:
        """The truth of all datasets, with the image ids of this one."""
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        truth: dict[str, Any] = {}
        for dataset, end in zip(self.datasets, self._ends, strict=True):
            new_ids = dict(zip(dataset.image_ids, self._ids[end - len(dataset) : end], strict=True))
            truth = dataset.ground_truth()
            images += [{**image, "id": new_ids[image["id"]]} for image in truth["images"]]
            annotations += [{**item, "image_id": new_ids[item["image_id"]]} for item in truth["annotations"]]
        annotations = [{**item, "id": number} for number, item in enumerate(annotations, start=1)]
        return {"images": images, "annotations": annotations, "categories": truth["categories"]}

    def _inner(self, index: int) -> tuple[DetectionDataset, int]:
        index = check_index(index, len(self))
        which = bisect_right(self._ends, index)
        return self.datasets[which], index - (self._ends[which - 1] if which else 0)
