"""Coders of distances from a point to the four sides of a box (FCOS, Tian et al., ICCV 2019)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rankdet.ops.boxes import centres_and_sizes
from rankdet.ops.coder import BoxCoder

MAX_LOG_PIXELS = math.log(1e4)


def distances_to_sides(points: Tensor, boxes: Tensor) -> Tensor:
    """Left, top, right, bottom (..., 4) from points (..., 2) to the sides of boxes (..., 4); below 0 from outside.

    >>> distances_to_sides(torch.tensor([3., 4.]), torch.tensor([0., 0., 10., 10.]))
    tensor([3., 4., 7., 6.])
    """
    return torch.cat((points - boxes[..., :2], boxes[..., 2:] - points), -1)


def boxes_from_distances(points: Tensor, distances: Tensor) -> Tensor:
    """The inverse: points (..., 2) and distances (..., 4) -> boxes (..., 4)."""
    return torch.cat((points - distances[..., :2], points + distances[..., 2:]), -1)


class PixelDistanceCoder(BoxCoder):
    """Logarithms of the distances in pixels from the centre of the prior: the exponential of FCOS's paper, equation 2.

    Distances are cut to 1 to 10,000 pixels, so the invariant of `BoxCoder` holds for boxes within.

    >>> prior, box = torch.tensor([[0., 0., 8., 8.]]), torch.tensor([[-1., 2., 9., 24.]])
    >>> PixelDistanceCoder().decode(prior, PixelDistanceCoder().encode(prior, box)).round(decimals=3)
    tensor([[-1.,  2.,  9., 24.]])
    """

    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """See `BoxCoder.encode`."""
        points, _ = centres_and_sizes(priors)
        return distances_to_sides(points, boxes).clamp(1, 1e4).log()

    def decode(self, priors: Tensor, deltas: Tensor) -> Tensor:
        """See `BoxCoder.decode`. Half precision deltas are decoded in the precision of the priors."""
        points, _ = centres_and_sizes(priors)
        return boxes_from_distances(points, deltas.to(priors.dtype).clamp(max=MAX_LOG_PIXELS).exp())


class SideDistanceCoder(BoxCoder):
    """Distances from the centre of the prior in units of its sides times ``unit``: top, bottom, left, right (FSAF).

    Distances are at least 1e-4 units, as in training in the published code, which has 0 in detection. A box that does
    not hold the centre is cut to one that does.

    >>> prior, box = torch.tensor([[-16., -16., 16., 16.]]), torch.tensor([[-20., -10., 12., 30.]])
    >>> SideDistanceCoder().encode(prior, box)
    tensor([[0.0781, 0.2344, 0.1562, 0.0938]])
    """

    def __init__(self, *, unit: float = 4.0) -> None:
        if not unit > 0:
            raise ValueError(f"unit must be above 0; got {unit}")
        self.unit = unit

    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """See `BoxCoder.encode`."""
        points, sizes = centres_and_sizes(priors)
        left, top, right, bottom = (distances_to_sides(points, boxes) / self._units(sizes)).unbind(-1)
        return torch.stack((top, bottom, left, right), -1).clamp(min=1e-4)

    def decode(self, priors: Tensor, deltas: Tensor) -> Tensor:
        """See `BoxCoder.decode`. Half precision deltas are decoded in the precision of the priors."""
        points, sizes = centres_and_sizes(priors)
        top, bottom, left, right = deltas.to(priors.dtype).clamp(min=1e-4).unbind(-1)
        return boxes_from_distances(points, torch.stack((left, top, right, bottom), -1) * self._units(sizes))

    def _units(self, sizes: Tensor) -> Tensor:
        """Width, height, width, height (..., 4)."""
        return self.unit * torch.cat((sizes, sizes), -1)


class StrideDistanceCoder(BoxCoder):
    """Distances from the centre of the prior in units of its sides, cut at 0: FCOS with ``norm_on_bbox``.

    A prior is a square of one stride. A box that does not hold the centre is cut to one that does.

    >>> prior, box = torch.tensor([[0., 0., 8., 8.]]), torch.tensor([[-4., 0., 12., 24.]])
    >>> StrideDistanceCoder().encode(prior, box)
    tensor([[1.0000, 0.5000, 1.0000, 2.5000]])
    """

    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """See `BoxCoder.encode`."""
        points, sizes = centres_and_sizes(priors)
        return distances_to_sides(points, boxes).clamp(min=0) / torch.cat((sizes, sizes), -1)

    def decode(self, priors: Tensor, deltas: Tensor) -> Tensor:
        """See `BoxCoder.decode`. Half precision deltas are decoded in the precision of the priors."""
        points, sizes = centres_and_sizes(priors)
        return boxes_from_distances(points, deltas.to(priors.dtype).clamp(min=0) * torch.cat((sizes, sizes), -1))
