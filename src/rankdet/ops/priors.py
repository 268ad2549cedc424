"""The priors of a batch: the boxes that a stage's predictions start from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from rankdet.ops.remembered import constant


@dataclass(frozen=True)
class Priors:
    """Boxes that predictions start from: the anchors of a dense stage or the proposals of an R-CNN stage.

    Rows of all images follow one another (image by image), and every tensor of a stage with a dimension of P = sum of
    the P_i has the rows in this order.

    Attributes:
        boxes: N tensors (P_i, 4), xyxy in pixels of the network input. Images that share a grid share the tensor.
        valid: N boolean tensors (P_i,): False where a prior takes part in nothing (it lies in another image's padding).
        level_sizes: the number of priors of an image on each pyramid level, in row order; empty for proposals.
        strides: pixels from cell to cell on each of these levels; empty where there are none.

    >>> priors = Priors.proposals([torch.rand(3, 4), torch.rand(2, 4)])
    >>> len(priors), priors.image_index.tolist()
    (5, [0, 0, 0, 1, 1])
    """

    boxes: tuple[Tensor, ...]
    valid: tuple[Tensor, ...]
    level_sizes: tuple[int, ...] = ()
    strides: tuple[float, ...] = ()

    @classmethod
    def proposals(cls, boxes: Sequence[Tensor]) -> Priors:
        """Priors without levels, all valid, from one (P_i, 4) tensor per image."""
        valid = tuple(torch.ones(b.shape[0], dtype=torch.bool, device=b.device) for b in boxes)
        return cls(tuple(boxes), valid)

    def __len__(self) -> int:
        """P, the number of priors of the batch."""
        return sum(len(boxes) for boxes in self.boxes)

    @property
    def num_images(self) -> int:
        """N."""
        return len(self.boxes)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Row at which each image starts, and P at the end: N + 1 numbers."""
        offsets = [0]
        for boxes in self.boxes:
            offsets.append(offsets[-1] + len(boxes))
        return tuple(offsets)

    @cached_property
    def image_index(self) -> Tensor:
        """Image of each row, (P,) int64."""
        return image_of_rows([len(boxes) for boxes in self.boxes], self.boxes[0].device)

    def levels_of(self, index: Tensor) -> Tensor:
        """Pyramid level of each of the rows (M,); 0 where there are no levels."""
        if not self.level_sizes:
            return torch.zeros_like(index)
        ends = constant(tuple(accumulate(self.level_sizes)), device=index.device, dtype=torch.long)
        return torch.bucketize(index % sum(self.level_sizes), ends, right=True)

    def images_of(self, index: Tensor) -> Tensor:
        """Images (M,) int64 of the rows (M,) asked for."""
        return index // max(len(self.boxes[0]), 1) if self.shared_grid else self.image_index[index]

    def select(self, rows: Tensor) -> Priors:
        """The priors in the mask (P,) alone, without levels."""
        return self.take(*listed(rows, [len(boxes) for boxes in self.boxes]))

    def take(self, index: Tensor, counts: Sequence[int]) -> Priors:
        """The priors of the rows (M,), ascending, so many of each image, without levels."""
        boxes, valid = (torch.cat(parts)[index].split(list(counts)) for parts in (self.boxes, self.valid))
        return Priors(boxes, valid)

    @cached_property
    def shared_grid(self) -> bool:
        """Whether all images have the same boxes, in one tensor."""
        return all(boxes is self.boxes[0] for boxes in self.boxes)

    @cached_property
    def stacked(self) -> Tensor:
        """Boxes (N, S, 4) of images that have equally many; those of a shared grid are not repeated in memory."""
        if self.shared_grid:
            return self.boxes[0].expand(len(self.boxes), -1, -1)
        return torch.stack(self.boxes)

    def gather(self, index: Tensor) -> Tensor:
        """Boxes (M, 4) of the rows (M,) asked for. A shared grid is never repeated in memory."""
        first = self.boxes[0]
        if self.shared_grid:
            return first[index % max(first.shape[0], 1)]
        return torch.cat(self.boxes)[index]


def image_of_rows(counts: Sequence[int], device: torch.device) -> Tensor:
    """Image of each row, (P,) int64, where the rows of all images follow one another, so many of each.

    >>> image_of_rows([2, 0, 1], torch.device("cpu"))
    tensor([0, 0, 2])
    """
    return torch.cat([torch.full((count,), image, device=device) for image, count in enumerate(counts)])


def rows_of_images(image_index: Tensor, images: int) -> list[int]:
    """How many rows belong to each of so many images, given the image of each row (M,); the host waits once.

    >>> rows_of_images(torch.tensor([0, 0, 2]), 3)
    [2, 0, 1]
    """
    counts: list[int] = (image_index == torch.arange(images, device=image_index.device)[:, None]).sum(1).tolist()
    return counts


def listed(rows: Tensor, counts: Sequence[int]) -> tuple[Tensor, list[int]]:
    """Which rows are in a mask (P,), ascending, and how many of each part of so many rows; the host waits once.

    >>> listed(torch.tensor([True, False, True]), [1, 2])
    (tensor([0, 2]), [1, 1])
    """
    kept: list[int] = torch.stack([part.sum() for part in rows.split(list(counts))]).tolist()
    return _first_set(rows, sum(kept)), kept


def rows_of_each(masks: Iterable[Tensor], *, counts: Sequence[int] | None = None) -> list[Tensor]:
    """Which rows are in each of some masks (D_i,), ascending.

    The host waits once, however many there are, and not at all where ``counts`` says how many rows are in each.

    >>> rows_of_each([torch.tensor([True, False]), torch.tensor([False, True])])
    [tensor([0]), tensor([1])]
    """
    parts = list(masks)
    sizes, joined = [len(part) for part in parts], torch.cat(parts)
    rows, found = listed(joined, sizes) if counts is None else (_first_set(joined, sum(counts)), list(counts))
    return [own - start for own, start in zip(rows.split(found), accumulate([0, *sizes]), strict=False)]


def _first_set(rows: Tensor, number: int) -> Tensor:
    """The first rows that are in a mask (P,), so many of them."""
    return torch.searchsorted(rows.cumsum(0), torch.arange(1, number + 1, device=rows.device))
