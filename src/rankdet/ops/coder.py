"""Box coders: how four numbers of a head describe a box relative to its prior."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from rankdet.ops.boxes import centres_and_sizes
from rankdet.ops.part import Part
from rankdet.ops.remembered import constant

# A predicted side may be at most 1000/16 times, at least 16/1000 times that of its prior.
MAX_LOG_RATIO = math.log(1000 / 16)


class BoxCoder(Part, ABC):
    """Maps boxes to what a head regresses, and back. Invariant: ``decode(p, encode(p, b)) == b`` within rounding."""

    @abstractmethod
    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """Priors (M, 4) and boxes (M, 4) -> regression targets (M, 4)."""

    @abstractmethod
    def decode(self, priors: Tensor, deltas: Tensor) -> Tensor:
        """Priors (M, 4) and regressed deltas (M, 4) -> boxes (M, 4), not clipped to any image."""


class DeltaCoder(BoxCoder):
    """Offsets of the centre in units of the prior's size, and log ratios of the sizes (R-CNN, Girshick et al. 2014).

    ``stds`` divides the targets, so that a smaller value makes the same box error weigh more in a loss on deltas.
    Sides are clamped on decoding to 16/1000 .. 1000/16 times those of the prior, both ways.

    >>> coder = DeltaCoder(stds=(0.1, 0.1, 0.2, 0.2))
    >>> prior, box = torch.tensor([[10., 10., 50., 40.]]), torch.tensor([[12., 8., 48., 44.]])
    >>> coder.encode(prior, box)
    tensor([[ 0.0000,  0.3333, -0.5268,  0.9116]])
    >>> coder.decode(prior, coder.encode(prior, box)).round(decimals=3)
    tensor([[12.,  8., 48., 44.]])
    """

    def __init__(self, stds: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)) -> None:
        if len(stds) != 4 or min(stds) <= 0:
            raise ValueError(f"stds must be four positive numbers for dx, dy, dw, dh; got {stds}")
        self.stds = tuple(stds)

    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """See `BoxCoder.encode`. Boxes without area give targets of -inf: leave them out before."""
        prior_centres, prior_sizes = centres_and_sizes(priors)
        centres, sizes = centres_and_sizes(boxes)
        deltas = torch.cat(((centres - prior_centres) / prior_sizes, (sizes / prior_sizes).log()), -1)
        return deltas / constant(self.stds, device=deltas.device, dtype=deltas.dtype)

    def decode(self, priors: Tensor, deltas: Tensor) -> Tensor:
        """See `BoxCoder.decode`. Half precision deltas are decoded in the precision of the priors."""
        prior_centres, prior_sizes = centres_and_sizes(priors)
        scaled = deltas.to(priors.dtype) * constant(self.stds, device=priors.device, dtype=priors.dtype)
        centres = prior_centres + scaled[..., :2] * prior_sizes
        halves = prior_sizes * self._bounded(scaled[..., 2:]).exp() / 2
        return torch.cat((centres - halves, centres + halves), -1)

    def _bounded(self, log_ratios: Tensor) -> Tensor:
        return log_ratios.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


class OneSidedDeltaCoder(DeltaCoder):
    """`DeltaCoder` that only bounds how much a box grows, not how much it shrinks: Detectron2 and torchvision.

    >>> prior, deltas = torch.tensor([[0., 0., 100., 100.]]), torch.tensor([[0., 0., -50., 50.]])
    >>> OneSidedDeltaCoder().decode(prior, deltas).round(decimals=3)
    tensor([[    49.9980, -3075.0000,     50.0020,  3175.0000]])
    """

    def _bounded(self, log_ratios: Tensor) -> Tensor:
        return log_ratios.clamp(max=MAX_LOG_RATIO)


class LogDistanceCoder(BoxCoder):
    """Logarithms of the distances from the prior's centre to the four sides, in units of its width (FoveaBox).

    Kong et al., "FoveaBox: Beyound Anchor-based Object Detection", TIP 2020, section 3.4; order left, top, right,
    bottom. Targets are cut to distances of 1/16 to 16 units, as in the published code, so the invariant of `BoxCoder`
    holds for boxes within. Unlike it, decoding is cut to 16/1000 .. 1000/16 units, which only a box loss on an
    untrained network would ever notice.

    >>> prior, box = torch.tensor([[8., 8., 24., 24.]]), torch.tensor([[8., 0., 32., 32.]])
    >>> LogDistanceCoder().encode(prior, box)
    tensor([[-0.6931,  0.0000,  0.0000,  0.0000]])
    >>> LogDistanceCoder().decode(prior, torch.tensor([[-0.6931, 0., 0., 0.]])).round(decimals=3)
    tensor([[ 8.,  0., 32., 32.]])
    """

    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """See `BoxCoder.encode`."""
        centres, sizes = centres_and_sizes(priors)
        distances = torch.cat((centres - boxes[..., :2], boxes[..., 2:] - centres), -1) / sizes[..., :1]
        return distances.clamp(1 / 16, 16).log()

    def decode(self, priors: Tensor, deltas: Tensor) -> Tensor:
        """See `BoxCoder.decode`. Half precision deltas are decoded in the precision of the priors."""
        centres, sizes = centres_and_sizes(priors)
        distances = deltas.to(priors.dtype).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp() * sizes[..., :1]
        return torch.cat((centres - distances[..., :2], centres + distances[..., 2:]), -1)


class FrameCoder(BoxCoder):
    """Centre and size of a box as shares of its prior, the frame of an image: what a DETR regresses.

    >>> frame, box = torch.tensor([[0., 0., 200., 100.]]), torch.tensor([[50., 10., 150., 30.]])
    >>> FrameCoder().encode(frame, box)
    tensor([[0.5000, 0.2000, 0.5000, 0.2000]])
    """

    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """See `BoxCoder.encode`."""
        _, sides = centres_and_sizes(priors)
        centres, sizes = centres_and_sizes(boxes)
        return torch.cat(((centres - priors[..., :2]) / sides, sizes / sides), -1)

    def decode(self, priors: Tensor, deltas: Tensor) -> Tensor:
        """See `BoxCoder.decode`. Half precision deltas are decoded in the precision of the priors."""
        _, sides = centres_and_sizes(priors)
        shares = deltas.to(priors.dtype)
        centres, halves = priors[..., :2] + shares[..., :2] * sides, shares[..., 2:] * sides / 2
        return torch.cat((centres - halves, centres + halves), -1)
