"""The priors of a batch: the boxes that a stage's predictions start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


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
        valid = tuple(torch.ones(len(b), dtype=torch.bool, device=b.device) for b in boxes)
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
        device = self.boxes[0].device
        return torch.cat([torch.full((len(b),), i, device=device) for i, b in enumerate(self.boxes)])

    def levels_of(self, index: Tensor) -> Tensor:
        """Pyramid level of each of the rows (M,); 0 where there are no levels."""
        if not self.level_sizes:
            return torch.zeros_like(index)
        ends = torch.tensor(self.level_sizes, device=index.device).cumsum(0)
        return torch.bucketize(index % sum(self.level_sizes), ends, right=True)

    def images_of(self, index: Tensor) -> Tensor:
        """Images (M,) int64 of the rows (M,) asked for, without a list that the device would have to be sent."""
        images = torch.zeros_like(index)
        for start in self.offsets[1:-1]:
            images += index >= start
        return images

    def select(self, rows: Tensor) -> Priors:
        """The priors in the mask (P,) alone, without levels."""
        kept = [of_image.nonzero().squeeze(1) for of_image in rows.split([len(boxes) for boxes in self.boxes])]
        return Priors(
            tuple(boxes[index] for boxes, index in zip(self.boxes, kept, strict=True)),
            tuple(valid[index] for valid, index in zip(self.valid, kept, strict=True)),
        )

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
            return first[index % max(len(first), 1)]
        return torch.cat(self.boxes)[index]
