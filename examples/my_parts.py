"""A neck and an assigner of one's own, for ``from_parts.yaml``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rankdet.assign import BACKGROUND, IGNORE, Assigner, Assignment, GroundTruth
from rankdet.nn import FPN, ConvLevelsOnOutput
from rankdet.ops import Priors, pairwise_iou


class PathAggregation(nn.Module):
    """A pyramid whose levels are passed on from fine to coarse once more (Liu et al., "PANet", CVPR 2018).

    A neck is given the channels of the backbone's maps, and says by ``channels`` how wide its own are.
    """

    def __init__(self, in_channels: Sequence[int], *, channels: int = 256, extra: int = 2) -> None:
        super().__init__()
        self.channels = channels
        self.extra = extra
        self.pyramid = FPN(in_channels, channels=channels, extra_levels=ConvLevelsOnOutput(extra))
        levels = len(in_channels) + extra
        self.down = nn.ModuleList(nn.Conv2d(channels, channels, 3, stride=2, padding=1) for _ in range(levels - 1))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps of the backbone, finest first -> pyramid maps, finest first."""
        first, *others = self.pyramid(maps)
        levels = [first]
        for down, level in zip(self.down, others, strict=True):
            levels.append(level + down(levels[-1]))
        return levels


class TopOverlaps(Assigner):
    """Every object takes the priors that overlap it most, however little; of several objects the first has a prior.

    Args:
        topk: priors of an object.
    """

    def __init__(self, *, topk: int = 9) -> None:
        self.topk = topk

    def __call__(self, priors: Priors, truth: GroundTruth) -> Assignment:
        """See `Assigner`."""
        matches = []
        images = zip(priors.boxes, priors.valid, truth.boxes, truth.offsets, strict=True)
        for boxes, valid, objects, start in images:
            of_image = torch.where(valid, BACKGROUND, IGNORE)
            overlaps = pairwise_iou(objects, boxes).masked_fill(~valid, 0)
            best, rows = overlaps.topk(min(self.topk, len(boxes)), dim=1)
            for number in reversed(range(len(objects))):
                of_image[rows[number][best[number] > 0]] = start + number
            matches.append(of_image)
        return Assignment.from_matches(torch.cat(matches), truth)
