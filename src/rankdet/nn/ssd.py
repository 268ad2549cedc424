"""Networks of SSD (Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016): more maps, and a head for each map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.nn.blocks import flatten_level, init_xavier, start_at
from rankdet.nn.dense_head import DenseOutputs, DensePredictor
from rankdet.nn.neck import Neck
from rankdet.nn.norm import Norm
from rankdet.ops.class_rows import ClassRows
from rankdet.ops.part import Part


@dataclass(frozen=True, kw_only=True)
class SSDLayer(Part):
    """A further map: half as many channels by a 1 x 1 convolution, then this convolution, a ReLU behind each.

    Attributes:
        channels: of the map.
        kernel: of the second convolution.
        stride: of the second convolution.
        padding: of the second convolution.
    """

    channels: int
    kernel: int = 3
    stride: int = 1
    padding: int = 0

    def build(self, in_channels: int) -> nn.Sequential:
        """The layers on a map with this many channels."""
        middle = self.channels // 2
        return nn.Sequential(
            nn.Conv2d(in_channels, middle, 1),
            nn.ReLU(),
            nn.Conv2d(middle, self.channels, self.kernel, stride=self.stride, padding=self.padding),
            nn.ReLU(),
        )


LAYERS_300 = (
    SSDLayer(channels=512, stride=2, padding=1),
    SSDLayer(channels=256, stride=2, padding=1),
    SSDLayer(channels=256),
    SSDLayer(channels=256),
)
"""Maps of 10, 5, 3 and 1 cells a side behind one of 19: images of 300 pixels."""

LAYERS_512 = (
    SSDLayer(channels=512, stride=2, padding=1),
    SSDLayer(channels=256, stride=2, padding=1),
    SSDLayer(channels=256, stride=2, padding=1),
    SSDLayer(channels=256, stride=2, padding=1),
    SSDLayer(channels=256, kernel=4, padding=1),
)
"""Maps of 16, 8, 4, 2 and 1 cells a side behind one of 32: images of 512 pixels."""


class L2Norm(nn.Module):
    """Every cell's features divided by their Euclidean length, times a learned factor of each channel.

    Liu et al., "ParseNet", 2015. In float32 also under autocast; the length is shifted by 1e-10.

    >>> L2Norm(2)(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)).flatten()
    tensor([12., 16.], grad_fn=<ViewBackward0>)
    """

    def __init__(self, channels: int, *, scale: float = 20.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), scale))

    def forward(self, level: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape and dtype."""
        exact = level.float()
        length = exact.square().sum(1, keepdim=True).sqrt() + 1e-10
        return (self.weight.float()[:, None, None] * exact / length).to(level.dtype)


class SSDNeck(nn.Module, Part, Neck):
    """The maps of the backbone, the first one normalised, and smaller ones by further layers behind the last.

    A map that is smaller than the kernel of the next layer, on images smaller than the detector is made for, is padded
    with zeros at the right and the lower edge.

    Args:
        in_channels: channels of the backbone's maps.
        layers: one for each further map; by default those for images of 300 pixels.

    Attributes:
        channels: of each map.

    >>> neck = SSDNeck([512, 1024])
    >>> [tuple(level.shape[1:]) for level in neck([torch.zeros(1, 512, 38, 38), torch.zeros(1, 1024, 19, 19)])][2:]
    [(512, 10, 10), (256, 5, 5), (256, 3, 3), (256, 1, 1)]
    """

    def __init__(self, in_channels: Sequence[int], *, layers: Sequence[SSDLayer] = LAYERS_300) -> None:
        super().__init__()
        self.channels = (*in_channels, *(layer.channels for layer in layers))
        self.layers = tuple(layers)
        self.l2_norm = L2Norm(in_channels[0])
        before = self.channels[len(in_channels) - 1 :]
        self.extra = nn.ModuleList(layer.build(width) for layer, width in zip(layers, before, strict=False))
        init_xavier(self)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """See `Neck`."""
        levels, last = [self.l2_norm(maps[0]), *maps[1:]], maps[-1]
        for layer, extra in zip(self.layers, self.extra, strict=True):
            last = extra(at_least(last, layer.kernel - 2 * layer.padding))
            levels.append(last)
        return levels


class SSDHead(nn.Module, Part, DensePredictor):
    """For each level one convolution to class logits and one to boxes, with weights of its own.

    Args:
        in_channels: channels of each map.
        num_logits: classification channels per anchor.
        anchors_per_cell: A on each level.
        quality_channels: further logits per anchor, 0 or 1.
        norm: behind each convolution; None for none.
        prior_probability: score of every anchor before training; where it stands for all of a softmax it is none.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        *,
        num_logits: int,
        anchors_per_cell: Sequence[int],
        quality_channels: int = 0,
        norm: Norm | None = None,
        prior_probability: float = 0.01,
    ) -> None:
        super().__init__()
        widths = [in_channels] * len(anchors_per_cell) if isinstance(in_channels, int) else list(in_channels)
        if len(widths) != len(anchors_per_cell):
            raise ValueError(
                f"{len(widths)} maps have anchors on {len(anchors_per_cell)} levels; give one set for each"
            )
        self.num_logits = num_logits
        self.anchors_per_cell = tuple(anchors_per_cell)
        self.quality_channels = quality_channels

        def layers(channels: int) -> nn.ModuleList:
            pairs = zip(widths, anchors_per_cell, strict=True)
            return nn.ModuleList(_output(width, anchors * channels, norm) for width, anchors in pairs)

        self.classify, self.regress = layers(num_logits), layers(4)
        if quality_channels:
            self.judge = layers(quality_channels)
        init_xavier(self)
        for layer in self.class_layers:
            start_at(layer, prior_probability)

    @property
    def class_rows(self) -> Mapping[str, ClassRows]:
        """See `rankdet.ops.class_rows`."""
        return {f"classify.{level}": ClassRows(groups=anchors) for level, anchors in enumerate(self.anchors_per_cell)}

    @property
    def class_layers(self) -> list[nn.Module]:
        """The last layer before the logits of each level."""
        return [layer[-1] if isinstance(layer, nn.Sequential) else layer for layer in self.classify]

    def forward(self, maps: Sequence[Tensor]) -> DenseOutputs:
        """See `DensePredictor`."""
        logits = _of_levels(self.classify, maps, self.num_logits)
        deltas = _of_levels(self.regress, maps, 4)
        quality = _of_levels(self.judge, maps, self.quality_channels) if self.quality_channels else logits[..., :0]
        return DenseOutputs(logits, deltas, quality)


def at_least(level: Tensor, side: int) -> Tensor:
    """A map with at least this many rows and columns."""
    below, right = (max(0, side - size) for size in level.shape[-2:])
    return F.pad(level, (0, right, 0, below)) if below or right else level


def _output(in_channels: int, out_channels: int, norm: Norm | None) -> nn.Module:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=norm is None)
    return conv if norm is None else nn.Sequential(conv, norm.build(out_channels))


def _of_levels(layers: Iterable[nn.Module], maps: Sequence[Tensor], channels: int) -> Tensor:
    """(N, S, channels), level by level."""
    return torch.cat([flatten_level(layer(level), channels) for layer, level in zip(layers, maps, strict=True)], 1)
