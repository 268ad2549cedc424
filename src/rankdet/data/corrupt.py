"""Datasets that go on where an image cannot be read: each such image is logged once, by name, and counted."""

from __future__ import annotations

import logging
from abc import abstractmethod

import numpy as np
import torch
from torchvision import tv_tensors

from rankdet.data.dataset import DetectionDataset, Sample, check_index, make_target
from rankdet.data.derived import DerivedDetection
from rankdet.data.errors import CorruptImageError, DatasetError
from rankdet.data.report import EXAMPLES

logger = logging.getLogger(__name__)


class _TolerantDetection(DerivedDetection):
    """A dataset in which something else stands for a corrupt image.

    The flags of the corrupt images lie in shared memory, so that the main process knows what its workers met.

    Args:
        dataset: gives :class:`CorruptImageError` for an image that cannot be used.
        limit: the share of corrupt images from which on the dataset is refused (one is always tolerated).

    Raises:
        DatasetError: on indexing, when more than `limit` of the images are corrupt.
    """

    def __init__(self, dataset: DetectionDataset, *, limit: float = 0.1) -> None:
        super().__init__(dataset)
        self.limit = limit
        self._corrupt = torch.zeros(len(dataset), dtype=torch.uint8).share_memory_()

    def __getitem__(self, index: int) -> Sample:
        index = check_index(index, len(self))
        return self._read(index) or self._instead(index)

    @property
    def corrupt(self) -> list[int]:
        """Indices of the corrupt images met so far, in any worker."""
        return torch.nonzero(self._corrupt)[:, 0].tolist()

    def summary(self) -> str:
        """What was met, for the end of a run; empty when nothing was."""
        found = self.corrupt
        if not found:
            return ""
        names = [str(self.image_path(index) or f"image {self.image_ids[index]}") for index in found[:EXAMPLES]]
        more = ", ..." if len(found) > EXAMPLES else ""
        return f"{len(found)} corrupt images were {self._done}: {', '.join(names)}{more}"

    _done: str

    @abstractmethod
    def _instead(self, index: int) -> Sample:
        """What stands for a corrupt image."""

    def _read(self, index: int) -> Sample | None:
        """A sample, or None when its image is corrupt."""
        if self._corrupt[index]:
            return None
        try:
            return self.dataset[index]
        except CorruptImageError as error:
            self._mark(index, error)
            return None

    def _mark(self, index: int, error: CorruptImageError) -> None:
        self._corrupt[index] = 1
        logger.warning("%s: %s", self._done, error)
        count, source = int(self._corrupt.sum()), self.report.source
        if count > max(1, self.limit * len(self)):
            raise DatasetError(f"{count} of the {len(self)} images of {source} are corrupt: {error}") from error


class SkipCorrupt(_TolerantDetection):
    """For training: the next readable image stands for a corrupt one.

    Which one that is does not depend on the worker that met it, or when.

    Example:
        >>> from rankdet.data import Shapes
        >>> dataset = SkipCorrupt(Shapes(length=3, seed=0))
        >>> dataset[2][1]["image_id"], dataset.corrupt, dataset.summary()
        (3, [], '')
    """

    _done = "skipped"

    def _instead(self, index: int) -> Sample:
        for place in (*range(index + 1, len(self)), *range(index)):
            if sample := self._read(place):
                return sample
        raise DatasetError(f"no image of {self.report.source} can be read")


class BlankCorrupt(_TolerantDetection):
    """For evaluation, where every image counts once: a black image of the same size stands for a corrupt one.

    Its target has no objects, but the truth has them: what lies in a corrupt image counts as missed.
    """

    _done = "taken for black"

    def _instead(self, index: int) -> Sample:
        height, width = self.image_sizes[index]
        target = make_target(
            np.zeros((0, 4)),
            np.zeros(0),
            iscrowd=np.zeros(0),
            image_id=self.image_ids[index],
            size=(height, width),
        )
        return tv_tensors.Image(torch.zeros(3, height, width, dtype=torch.uint8)), target
