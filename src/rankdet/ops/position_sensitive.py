"""Position-sensitive pooling (Dai et al., "R-FCN", NeurIPS 2016, equation 1), as in the authors' code.

``torchvision.ops.ps_roi_pool`` rounds regions to whole cells of the map, here they are rounded to whole pixels of the
image. Oracle: ``tests/reference/position_sensitive.py``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rankdet.ops.remembered import constant


def position_sensitive_pool(scores: Tensor, boxes: Tensor, image_index: Tensor, *, size: int, stride: float) -> Tensor:
    """Score maps (N, C size^2, H, W) and regions (R, 4) of images (R,) -> (R, C, size, size).

    Each cell of a region is the mean of its own map over the pixels that the cell touches, 0 where there are none; the
    maps of an output follow one another row by row. Corners are rounded, and a region ends with its last pixel.

    >>> ramp = 10 * torch.arange(4.)[:, None] + torch.arange(4.)
    >>> position_sensitive_pool(ramp.expand(1, 4, 4, 4), torch.tensor([[0., 0., 3., 3.]]), torch.tensor([0]), size=2,
    ...     stride=1.0)
    tensor([[[[ 5.5000,  7.5000],
              [25.5000, 27.5000]]]])
    """
    channels, height, width = scores.shape[1:]
    outputs = channels // size**2
    # Sums over rectangles are differences of sums from the corner, which float32 does not hold well.
    exact = torch.float32 if scores.device.type == "mps" else torch.float64
    sums = F.pad(scores.to(exact).cumsum(2).cumsum(3), (1, 0, 1, 0))
    first, last = _edges(boxes, size=size, stride=stride, limits=(width, height))
    cells = torch.arange(size, device=scores.device)
    place = torch.arange(outputs * size**2, device=scores.device).view(outputs, size, size)
    image = image_index.view(-1, 1, 1, 1)
    left, right = (edge[:, None, None, :, 0] for edge in (first, last))
    top, bottom = (edge[:, None, :, None, 1] for edge in (first, last))

    def at(row: Tensor, column: Tensor) -> Tensor:
        return sums[image, place, row, column]

    total = at(bottom, right) - at(top, right) - at(bottom, left) + at(top, left)
    area = ((bottom - top).clamp(min=0) * (right - left).clamp(min=0)).expand(-1, -1, len(cells), len(cells))
    return torch.where(area > 0, total / area.clamp(min=1), 0.0).to(scores.dtype)


def _edges(boxes: Tensor, *, size: int, stride: float, limits: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """First cell and the one behind the last, of each part (R, size, 2), as x and y."""
    start = boxes[:, :2].round() / stride
    end = (boxes[:, 2:].round() + 1) / stride
    part = ((end - start).clamp(min=0.1) / size)[:, None]
    number = torch.arange(size, device=boxes.device, dtype=boxes.dtype)[None, :, None]
    limit = constant(limits, device=boxes.device, dtype=boxes.dtype)
    first = (number * part + start[:, None]).floor()
    last = ((number + 1) * part + start[:, None]).ceil()
    return tuple(torch.minimum(edge.clamp(min=0), limit).long() for edge in (first, last))  # type: ignore[return-value]
