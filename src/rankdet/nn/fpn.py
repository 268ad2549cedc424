"""Feature pyramid network (Lin et al., CVPR 2017) with the extra levels and upsampling that detectors use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.nn.blocks import conv_block, init_xavier
from rankdet.nn.neck import Neck
from rankdet.nn.norm import Norm
from rankdet.ops.part import Part


class ExtraLevels(Part, ABC):
    """Makes the levels above the last one of the backbone. Invariant: each halves the sides, rounding up.

    Attributes:
        on_path: how many of them join the top-down path as laterals do: all that `build` makes, or 0.
    """

    on_path = 0

    @abstractmethod
    def build(self, backbone_channels: int, channels: int, *, norm: Norm | None = None) -> nn.Module:
        """A module that maps (last backbone map, last pyramid map) to the list of extra maps.

        The last lateral map stands for the last pyramid map where the levels join the top-down path. Convolutions have
        the ``norm`` of the pyramid behind them.
        """


class PoolLevel(ExtraLevels):
    """One level, every other cell of the last pyramid map: P6 of Faster R-CNN."""

    def build(self, backbone_channels: int, channels: int, *, norm: Norm | None = None) -> nn.Module:  # noqa: ARG002
        """See `ExtraLevels`."""
        return _Pool()


class ConvLevelsOnInput(ExtraLevels):
    """Levels by 3 x 3 convolutions of stride 2, the first one on the last map of the backbone: P6, P7 of RetinaNet."""

    def __init__(self, num: int = 2, *, relu_between: bool = False) -> None:
        self.num = num
        self.relu_between = relu_between

    def build(self, backbone_channels: int, channels: int, *, norm: Norm | None = None) -> nn.Module:
        """See `ExtraLevels`."""
        return _Convs(_convs(backbone_channels, channels, self.num, norm), relu_between=self.relu_between, source=0)


class ConvLevelsOnOutput(ExtraLevels):
    """The same with the first convolution on the last map of the pyramid: P6, P7 of ATSS."""

    def __init__(self, num: int = 2, *, relu_between: bool = False) -> None:
        self.num = num
        self.relu_between = relu_between

    def build(self, backbone_channels: int, channels: int, *, norm: Norm | None = None) -> nn.Module:  # noqa: ARG002
        """See `ExtraLevels`."""
        return _Convs(_convs(channels, channels, self.num, norm), relu_between=self.relu_between, source=1)


class ConvLevelsOnPath(ExtraLevels):
    """The levels of `ConvLevelsOnInput` as the top of the top-down path, with outputs of their own: P6 with CARAFE."""

    def __init__(self, num: int = 1) -> None:
        self.num = num
        self.on_path = num

    def build(self, backbone_channels: int, channels: int, *, norm: Norm | None = None) -> nn.Module:
        """See `ExtraLevels`."""
        return _Convs(_convs(backbone_channels, channels, self.num, norm), relu_between=False, source=0)


class Upsampling(Part, ABC):
    """How a map of the top-down path grows to the next finer one."""

    @abstractmethod
    def build(self, channels: int) -> nn.Module:
        """A module that maps (coarser map (N, C, h, w), (height, width)) to (N, C, height, width); one per step."""


class Nearest(Upsampling):
    """Every cell repeated, as in the paper."""

    def build(self, channels: int) -> nn.Module:  # noqa: ARG002
        """See `Upsampling`."""
        return _Nearest()


class Bilinear(Upsampling):
    """Bilinear between the centres of the cells: YOLACT."""

    def build(self, channels: int) -> nn.Module:  # noqa: ARG002
        """See `Upsampling`."""
        return _Bilinear()


class _Nearest(nn.Module):
    def forward(self, level: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(level, size=size, mode="nearest")


class _Bilinear(nn.Module):
    def forward(self, level: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(level, size=size, mode="bilinear", align_corners=False)


class _Pool(nn.Module):
    def forward(self, backbone_map: Tensor, pyramid_map: Tensor) -> list[Tensor]:  # noqa: ARG002
        return [F.max_pool2d(pyramid_map, kernel_size=1, stride=2)]


def _conv(in_channels: int, channels: int, kernel: int, norm: Norm | None, *, stride: int = 1) -> nn.Module:
    """A convolution, with its normalisation if any, and no ReLU."""
    layers = conv_block(in_channels, channels, kernel=kernel, stride=stride, norm=norm, relu=False)
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


def _convs(in_channels: int, channels: int, num: int, norm: Norm | None) -> list[nn.Module]:
    """Convolutions of stride 2, one for each further level."""
    return [_conv(channels if level else in_channels, channels, 3, norm, stride=2) for level in range(num)]


class _Convs(nn.Module):
    def __init__(self, convs: Sequence[nn.Module], *, relu_between: bool, source: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(convs)
        self.relu_between = relu_between
        self.source = source

    def forward(self, backbone_map: Tensor, pyramid_map: Tensor) -> list[Tensor]:
        level = (backbone_map, pyramid_map)[self.source]
        levels = []
        for position, conv in enumerate(self.convs):
            level = conv(F.relu(level) if self.relu_between and position else level)
            levels.append(level)
        return levels


class FPN(nn.Module, Part, Neck):
    """Backbone maps -> pyramid maps of equal width: laterals, a top-down path, 3 x 3 outputs.

    Args:
        in_channels: channels of the backbone maps it is given, finest first.
        channels: channels of every pyramid map.
        extra_levels: the levels above the last backbone map.
        upsampling: how the top-down path grows; `Nearest` by default.
        norm: after each convolution; None for none.

    Attributes:
        channels: the width.

    >>> import torch
    >>> neck = FPN([8, 16], channels=4, extra_levels=PoolLevel())
    >>> [tuple(level.shape) for level in neck([torch.zeros(1, 8, 6, 6), torch.zeros(1, 16, 3, 3)])]
    [(1, 4, 6, 6), (1, 4, 3, 3), (1, 4, 2, 2)]
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        channels: int = 256,
        extra_levels: ExtraLevels | None = None,
        upsampling: Upsampling | None = None,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels of a pyramid must be at least 1, got {channels}")
        self.channels = channels
        upsampling = upsampling or Nearest()
        self.settle(upsampling=upsampling)
        on_path = len(in_channels) + (0 if extra_levels is None else extra_levels.on_path)
        self.laterals = nn.ModuleList(_conv(width, channels, 1, norm) for width in in_channels)
        self.outputs = nn.ModuleList(_conv(channels, channels, 3, norm) for _ in range(on_path))
        self.extra = None if extra_levels is None else extra_levels.build(in_channels[-1], channels, norm=norm)
        init_xavier(self)
        self.upsamplers = nn.ModuleList(upsampling.build(channels) for _ in range(on_path - 1))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Backbone maps, finest first -> pyramid maps, finest first."""
        merged = [lateral(level) for lateral, level in zip(self.laterals, maps, strict=True)]
        joins = len(self.outputs) > len(maps)
        if self.extra is not None and joins:
            merged += self.extra(maps[-1], merged[-1])
        for finer in reversed(range(len(merged) - 1)):
            above = self.upsamplers[finer](merged[finer + 1], merged[finer].shape[-2:])
            merged[finer] = merged[finer] + above
        levels = [output(level) for output, level in zip(self.outputs, merged, strict=True)]
        return levels if self.extra is None or joins else levels + self.extra(maps[-1], levels[-1])
