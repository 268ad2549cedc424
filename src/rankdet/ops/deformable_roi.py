"""RoIAlign whose bins may move: deformable RoI pooling (Dai et al., "Deformable Convolutional Networks", ICCV 2017).

Without offsets it is ``torchvision.ops.roi_align`` with ``aligned=True`` and as many points in a bin as it has cells,
which has no derivative by the place of a bin. Oracle: that, and the vectors of MMDetection's operator.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def deformable_roi_align(
    features: Tensor, regions: Tensor, offsets: Tensor | None, *, size: int, stride: float, gamma: float = 0.1
) -> Tensor:
    """Maps (N, C, H, W) and regions (R, 5), image number first -> (R, C, size, size).

    ``offsets`` (R, 2, size, size) move the bins along x and y, in units of ``gamma`` times the sides of their region.

    >>> ramp = (10 * torch.arange(20.)[:, None] + torch.arange(30.))[None, None]
    >>> pooled = deformable_roi_align(ramp, torch.tensor([[0., 40, 50, 300, 250]]), None, size=7, stride=16)
    >>> pooled[0, 0, 0, 0], pooled[0, 0, 3, 4]
    (tensor(38.3393), tensor(101.1964))
    """
    height, width = features.shape[-2:]
    image = regions[:, 0].long()
    corners = regions[:, 1:] / stride - 0.5
    sides = corners[:, 2:] - corners[:, :2]
    counts = (sides / size).ceil().clamp(min=1).long()
    per_bin = counts.prod(1).repeat_interleave(size**2)
    starts = per_bin.cumsum(0) - per_bin
    of_bin = torch.repeat_interleave(per_bin)
    of_region = of_bin // size**2
    number = torch.arange(len(of_bin), device=features.device) - starts[of_bin]
    columns = counts[of_region, 0]
    within = torch.stack((number % columns, number // columns), 1)
    cell = torch.stack((of_bin % size, of_bin % size**2 // size), 1)
    share = (cell + (within + 0.5) / counts[of_region]) / size
    if offsets is not None:
        share = share + gamma * offsets.permute(0, 2, 3, 1).reshape(-1, 2)[of_bin]
    points = corners[of_region, :2] + share * sides[of_region]
    rows, weights = _corners(points, height, width)
    rows = rows + (image[of_region] * height * width)[:, None]
    weights = weights / per_bin[of_bin, None]
    table = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
    pooled = F.embedding_bag(
        rows.flatten(), table, 4 * starts, mode="sum", per_sample_weights=weights.flatten().to(table.dtype)
    )
    return pooled.view(len(regions), size, size, features.shape[1]).permute(0, 3, 1, 2)


def _corners(points: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The four cells around each point (T, 2), as rows (T, 4) of a map, and how much each of them counts.

    Up to one cell beside the map the nearest cell counts, farther out nothing does.
    """
    limit = points.new_tensor((width, height))
    inside = ((points >= -1) & (points <= limit)).all(1)
    bounded = torch.minimum(points.clamp(min=0), limit - 1)
    low = bounded.detach().floor()
    high = torch.minimum(low + 1, limit - 1)
    apart = bounded - low
    (x0, y0), (x1, y1) = low.long().unbind(1), high.long().unbind(1)
    across, down = apart.unbind(1)
    rows = torch.stack((y0 * width + x0, y0 * width + x1, y1 * width + x0, y1 * width + x1), 1)
    weights = torch.stack(((1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across), 1)
    return rows, weights * inside[:, None]
