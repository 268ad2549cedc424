"""CARAFE: content-aware reassembly of features (Wang et al., ICCV 2019), the upsampling of the "+" models.

Each cell of the finer map is a weighted mean of the k x k cells around its parent; the weights are predicted from the
content. With one group and a factor of 2. Unfolded, the neighbourhoods are k^2 times as large as the map; here they
are formed for a few rows at a time, in the backward pass once more. Oracle: ``tests/reference/carafe.py``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rankdet.nn.fpn import Upsampling
from rankdet.ops.precision import without_autocast

_FACTOR = 2
_MAX_UNFOLDED = 1 << 23
"""Numbers in the neighbourhoods that are held at once."""


class CARAFE(Upsampling):
    """Upsampling by predicted kernels, twice as fine and cut to the size of the finer map.

    Args:
        kernel: side k of the neighbourhood, odd.
        encoder_kernel: side of the convolution that predicts the weights, odd.
        compressed: channels that it sees.

    >>> upsample = CARAFE().build(16)
    >>> tuple(upsample(torch.rand(1, 16, 3, 4), (5, 8)).shape)
    (1, 16, 5, 8)
    """

    def __init__(self, *, kernel: int = 5, encoder_kernel: int = 3, compressed: int = 64) -> None:
        for name, side in (("kernel", kernel), ("encoder_kernel", encoder_kernel)):
            if side < 1 or side % 2 == 0:
                raise ValueError(f"{name} of CARAFE must be odd and positive, to have a centre; got {side}")
        self.kernel = kernel
        self.encoder_kernel = encoder_kernel
        self.compressed = compressed

    def build(self, channels: int) -> nn.Module:
        """See `Upsampling`."""
        return _CARAFE(channels, kernel=self.kernel, encoder_kernel=self.encoder_kernel, compressed=self.compressed)


def reassemble(level: Tensor, weights: Tensor) -> Tensor:
    """Every finer cell as the weighted sum of the neighbourhood of its parent, zeros beyond the border.

    Takes a map (N, C, h, w) and weights (N, k^2, 2 h, 2 w) of the same type, the k x k neighbours row by row; gives
    (N, C, 2 h, 2 w).

    >>> reassemble(torch.tensor([[[[1.0, 2.0]]]]), torch.ones(1, 1, 2, 4)).tolist()
    [[[[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]]]
    """
    images, taps, height, width = weights.shape
    channels = level.shape[1]
    margin = int(taps**0.5) // 2
    cells = F.pad(level, (margin,) * 4).permute(0, 2, 3, 1).contiguous()
    children = weights.unflatten(3, (-1, _FACTOR)).unflatten(2, (-1, _FACTOR))
    by_parent = children.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).contiguous()
    summed: Tensor = _Reassembly.apply(cells, by_parent)
    finer = summed.view(images, height // _FACTOR, width // _FACTOR, _FACTOR, _FACTOR, channels)
    return finer.permute(0, 5, 1, 3, 2, 4).reshape(images, channels, height, width)


class _CARAFE(nn.Module):
    def __init__(self, channels: int, *, kernel: int, encoder_kernel: int, compressed: int) -> None:
        super().__init__()
        self.compress = nn.Conv2d(channels, compressed, 1)
        self.encode = nn.Conv2d(compressed, (kernel * _FACTOR) ** 2, encoder_kernel, padding=encoder_kernel // 2)
        nn.init.xavier_uniform_(self.compress.weight)
        nn.init.normal_(self.encode.weight, std=0.001)
        for conv in (self.compress, self.encode):
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)

    def forward(self, level: Tensor, size: tuple[int, int]) -> Tensor:
        if any(new > _FACTOR * old for new, old in zip(size, level.shape[-2:], strict=True)):
            raise ValueError(
                f"CARAFE makes maps {_FACTOR} times as fine, {tuple(level.shape[-2:])} cannot become {tuple(size)}; "
                "take a backbone whose maps halve from stage to stage, or another upsampling"
            )
        logits = F.pixel_shuffle(self.encode(self.compress(level)), _FACTOR)
        finer = reassemble(level, logits.float().softmax(1).to(level.dtype))
        return finer[..., : size[0], : size[1]]


class _Reassembly(torch.autograd.Function):
    """Padded cells (N, h + k - 1, w + k - 1, C) and weights (N, h, w, 4, k^2) -> sums (N, h, w, 4, C)."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(cells, weights)
        sums = cells.new_empty(*weights.shape[:-1], cells.shape[-1])
        with without_autocast(cells.device):
            for rows in _strips(cells, weights):
                sums[:, rows] = weights[:, rows] @ _neighbourhoods(cells, weights, rows)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        cells, weights = ctx.saved_tensors
        kernel, width = _kernel(weights), weights.shape[2]
        cells_grad = torch.zeros_like(cells)
        weights_grad = torch.empty_like(weights)
        with without_autocast(cells.device):
            for rows in _strips(cells, weights):
                weights_grad[:, rows] = grad[:, rows] @ _neighbourhoods(cells, weights, rows).mT
                taps = (weights[:, rows].mT @ grad[:, rows]).unbind(3)
                for tap, tap_grad in enumerate(taps):
                    y, x = divmod(tap, kernel)
                    cells_grad[:, rows.start + y : rows.stop + y, x : x + width] += tap_grad
        return cells_grad, weights_grad


def _kernel(weights: Tensor) -> int:
    return int(weights.shape[-1] ** 0.5)


def _strips(cells: Tensor, weights: Tensor) -> list[slice]:
    """Rows of the coarser map, in portions whose neighbourhoods fit into the bound."""
    images, height, width, _, taps = weights.shape
    rows = max(1, _MAX_UNFOLDED // (images * width * taps * cells.shape[-1]))
    return [slice(start, min(start + rows, height)) for start in range(0, height, rows)]


def _neighbourhoods(cells: Tensor, weights: Tensor, rows: slice) -> Tensor:
    """(N, rows, w, k^2, C)."""
    kernel = _kernel(weights)
    windows = cells[:, rows.start : rows.stop + kernel - 1].unfold(1, kernel, 1).unfold(2, kernel, 1)
    return windows.permute(0, 1, 2, 4, 5, 3).flatten(3, 4)
