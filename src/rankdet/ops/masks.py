"""Masks: cutting or shrinking ground truth to what a network draws, drawing, and pasting back into the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rankdet.ops.boxes import clip_boxes
from rankdet.ops.precision import without_autocast


def crop_masks(masks: Tensor, index: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Ground-truth masks seen through regions: (G, H, W), rows (M,) and regions (M, 4) -> (M, side, side) of 0 and 1.

    Each region is cut to the image, its mask averaged over ``side`` x ``side`` cells (RoIAlign with as many points as
    there are pixels) and set where at least half of the cell is covered.

    >>> masks = torch.zeros(1, 8, 8)
    >>> masks[0, :, 4:] = 1
    >>> crop_masks(masks, torch.tensor([0]), torch.tensor([[0., 0., 8., 8.]]), 2)
    tensor([[[0., 1.],
             [0., 1.]]])
    """
    from torchvision.ops import roi_align

    height, width = masks.shape[-2:]
    regions = torch.cat((index[:, None].to(boxes.dtype), clip_boxes(boxes, (height, width))), 1)
    covered = roi_align(masks[:, None].to(boxes.dtype), regions, (side, side), 1.0, 0, aligned=True)
    return (covered[:, 0] >= 0.5).to(boxes.dtype)


def shares_inside(masks: Tensor, index: Tensor, boxes: Tensor) -> Tensor:
    """Which part of the masks (G, H, W), of the rows (M,), lies in boxes (M, 4): (M,) in [0, 1], 0 of an empty mask.

    A box takes the pixels from that of its upper left corner to that of its lower right one, both counted, whatever
    their fractions. Masks are added up a few at a time.

    >>> masks = torch.zeros(1, 4, 8)
    >>> masks[0, 0] = 1
    >>> shares_inside(masks, torch.tensor([0]), torch.tensor([[0.9, 0., 2.2, 3.]]))
    tensor([0.3750])
    """
    height, width = masks.shape[-2:]
    x1, y1, x2, y2 = boxes.long().clamp(min=0).unbind(1)
    left, right = x1.clamp(max=width), (x2 + 1).clamp(max=width)
    above, below = y1.clamp(max=height), (y2 + 1).clamp(max=height)
    inside = torch.zeros_like(boxes[:, 0])
    for start in range(0, len(masks), 16):
        part = masks[start : start + 16]
        sums = F.pad(part.to(torch.int32).cumsum(1).cumsum(2), (1, 0, 1, 0))
        row = (index - start).clamp(0, len(part) - 1)
        among = sums[row, below, right] - sums[row, above, right] - sums[row, below, left] + sums[row, above, left]
        share = among / sums[row, -1, -1].clamp(min=1)
        inside = torch.where(index // 16 == start // 16, share, inside)
    return inside


def shrink_masks(masks: Tensor, canvas: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Masks (G, H, W) of an image at the upper left of a canvas -> (G, h, w) of 0 and 1 that show the whole canvas.

    Bilinear between the nearest pixels, without smoothing, and set from a half on, as in the published code of SOLOv2;
    that of YOLACT sets above a half, which differs for sizes that divide evenly only.

    >>> masks = torch.zeros(1, 4, 8)
    >>> masks[0, :, 3:] = 1
    >>> shrink_masks(masks, (8, 8), (2, 2))
    tensor([[[0., 1.],
             [0., 0.]]])
    """
    below, beside = canvas[0] - masks.shape[1], canvas[1] - masks.shape[2]
    if below < 0 or beside < 0:
        raise ValueError(
            f"masks of {tuple(masks.shape[1:])} pixels do not fit the batch of images, {canvas} with padding; masks "
            f"must be resized with their image"
        )
    shrunk = [_resized(F.pad(part, (0, beside, 0, below)).float(), size) >= 0.5 for part in masks.split(32)]
    return torch.cat(shrunk).float()


def grow_masks(logits: Tensor, canvas: tuple[int, int], size: tuple[int, int], *, threshold: float = 0.5) -> Tensor:
    """Mask logits (D, h, w) of a whole canvas -> boolean masks (D, H, W) of the image at its upper left.

    The probabilities are interpolated bilinearly, and set above ``threshold``.
    """
    grown = [_resized(part.float().sigmoid(), canvas)[:, : size[0], : size[1]] > threshold for part in logits.split(16)]
    return torch.cat(grown)


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def mix_maps(maps: Tensor, weights: Tensor, counts: Sequence[int]) -> Tensor:
    """Maps (N, C, h, w) of images, summed over C with weights (M, C) of their own for each instance -> (M, h, w).

    Instances stand image by image, so many of each. It is a 1 x 1 convolution with a kernel for each instance: the
    prototypes and coefficients of YOLACT, the features and kernels of SOLOv2.

    >>> mix_maps(torch.tensor([[[[1.]], [[2.]]], [[[3.]], [[4.]]]]), torch.eye(2), [1, 1]).flatten()
    tensor([1., 4.])
    """
    parts = zip(weights.split(list(counts)), maps.flatten(2), strict=True)
    return torch.cat([of_image @ flat for of_image, flat in parts]).unflatten(1, maps.shape[2:])


def inside_boxes(boxes: Tensor, size: tuple[int, int], *, margin: float = 0.0) -> Tensor:
    """Which cells of a map of (h, w) lie in boxes (M, 4), given in cells: (M, h, w).

    Cell j of a row is inside when x1 - margin <= j < x2 + margin, cells of a column alike.

    >>> inside_boxes(torch.tensor([[1., 0., 3., 1.]]), (2, 4)).int()
    tensor([[[0, 1, 1, 0],
             [0, 0, 0, 0]]], dtype=torch.int32)
    """
    x1, y1, x2, y2 = boxes[:, None].unbind(-1)
    rows, columns = (torch.arange(side, device=boxes.device) for side in size)
    in_row = (columns >= x1 - margin) & (columns < x2 + margin)
    in_column = (rows >= y1 - margin) & (rows < y2 + margin)
    return in_column[:, :, None] & in_row[:, None, :]


def mass_centres(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Centres of mass (G, 2), x and y, and areas (G,) of masks (G, H, W), in pixels; the centre of nothing is 0, 0.

    A pixel's mass lies in its middle.

    >>> masks = torch.zeros(1, 4, 4, dtype=torch.bool)
    >>> masks[0, 1, :2] = True
    >>> mass_centres(masks)
    (tensor([[1.0000, 1.5000]]), tensor([2.]))
    """
    columns, rows = masks.sum(1).float(), masks.sum(2).float()
    area = rows.sum(1)
    middles = [torch.arange(line.shape[1], device=masks.device) + 0.5 for line in (columns, rows)]
    moments = torch.stack([(line * middle).sum(1) for line, middle in zip((columns, rows), middles, strict=True)], 1)
    return moments / area.clamp(min=1)[:, None], area


def boxes_around(masks: Tensor) -> Tensor:
    """Boxes (D, 4) that the masks (D, H, W), boolean, just fill, in units of their pixels; 0, 0, 0, 0 for empty ones.

    >>> masks = torch.zeros(2, 4, 6, dtype=torch.bool)
    >>> masks[0, 1:3, 2:6] = True
    >>> boxes_around(masks)
    tensor([[2., 1., 6., 3.],
            [0., 0., 0., 0.]])
    """
    x1, x2 = _extent(masks.any(1))
    y1, y2 = _extent(masks.any(2))
    return torch.stack((x1, y1, x2, y2), 1).float()


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First True and one past the last True in each row of (D, S); 0 and 0 without any."""
    place = torch.arange(occupied.shape[1], device=occupied.device)
    end = torch.where(occupied, place + 1, 0).amax(1)
    start = torch.where(occupied, place, occupied.shape[1]).amin(1)
    return torch.minimum(start, end), end


def paste_masks(probabilities: Tensor, boxes: Tensor, size: tuple[int, int], *, threshold: float = 0.5) -> Tensor:
    """Mask probabilities of regions, (D, S, S) in boxes (D, 4) -> boolean masks (D, H, W) of an image of (H, W).

    Bilinear between the centres of the cells, 0 outside of the box, set from ``threshold`` on. The interpolation is
    separable, so an image row and an image column each have S weights per box and no sampling grid is formed. In
    float32 also under autocast, and for half inputs: rounded weights would flip pixels.

    >>> paste_masks(torch.ones(1, 2, 2), torch.tensor([[1., 1., 3., 3.]]), (4, 4))[0].int()
    tensor([[0, 0, 0, 0],
            [0, 1, 1, 0],
            [0, 1, 1, 0],
            [0, 0, 0, 0]], dtype=torch.int32)
    """
    cells = probabilities.shape[-1]
    pasted = []
    with without_autocast(boxes.device):
        for part, box in zip(probabilities.float().split(16), boxes.float().split(16), strict=True):
            rows = _weights(box[:, 1], box[:, 3], size[0], cells)
            columns = _weights(box[:, 0], box[:, 2], size[1], cells)
            pasted.append(rows @ part @ columns.transpose(1, 2) >= threshold)
    return torch.cat(pasted) if pasted else probabilities.new_zeros((0, *size), dtype=torch.bool)


def _weights(low: Tensor, high: Tensor, pixels: int, cells: int) -> Tensor:
    """Weight (D, pixels, cells) of each cell between ``low`` and ``high`` (D,) for the centre of each pixel."""
    centres = torch.arange(pixels, device=low.device) + 0.5
    position = (centres - low[:, None]) / (high - low).clamp(min=1e-6)[:, None] * cells - 0.5
    distance = (position[..., None] - torch.arange(cells, device=low.device)).abs()
    return (1 - distance).clamp(min=0)
