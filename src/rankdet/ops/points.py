"""Masks at points instead of pixels (Kirillov et al., "PointRend", CVPR 2020).

Shapes: M instances, S points of each, as fractions (x, y) of the map, from its upper left corner.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sample_maps(maps: Tensor, points: Tensor) -> Tensor:
    """Maps (M, C, h, w) at points (M, S, 2), bilinear between the centres of cells -> (M, C, S).

    >>> sample_maps(torch.tensor([[[[0., 4.]]]]), torch.tensor([[[0.25, 0.5], [0.5, 0.5], [0.75, 0.5]]]))
    tensor([[[0., 2., 4.]]])
    """
    return F.grid_sample(maps, 2 * points[:, :, None] - 1, align_corners=False)[..., 0]


def sample_masks(masks: Tensor, rows: Tensor, points: Tensor) -> Tensor:
    """Boolean masks (G, H, W), of which ``rows`` (M,), at points (M, S, 2), by the nearest pixel -> (M, S), 0 and 1.

    >>> sample_masks(torch.tensor([[[False, True]]]), torch.tensor([0]), torch.tensor([[[0.4, 0.5], [0.6, 0.5]]]))
    tensor([[0., 1.]])
    """
    height, width = masks.shape[1:]
    column, row = (
        ((2 * points[..., axis] * side - 1) / 2).round().long().clamp(0, side - 1)
        for axis, side in ((0, width), (1, height))
    )
    return masks[rows[:, None], row, column].to(points.dtype)


@torch.no_grad()
def uncertain_points(logits: Tensor, number: int, *, oversampling: int = 3, share: float = 0.75) -> Tensor:
    """Points (M, number, 2) to compare masks (M, h, w) at: a share where they are least sure, others anywhere.

    The former are those of the logits nearest to 0 among ``oversampling`` times as many points.
    """
    found = torch.rand(len(logits), oversampling * number, 2, device=logits.device)
    doubt = -sample_maps(logits[:, None], found)[:, 0].abs()
    chosen = doubt.topk(int(share * number), dim=1).indices
    sure = found.gather(1, chosen[..., None].expand(-1, -1, 2))
    return torch.cat((sure, torch.rand(len(logits), number - chosen.shape[1], 2, device=logits.device)), 1)
