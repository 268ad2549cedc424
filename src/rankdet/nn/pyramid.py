"""The pyramid that a recipe puts on a backbone unless told otherwise, and the strides of its levels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rankdet.nn.backbone import Backbone
from rankdet.nn.fpn import FPN, ExtraLevels, Upsampling
from rankdet.nn.neck import NeckFactory
from rankdet.nn.network import require
from rankdet.nn.simple_pyramid import SimplePyramid
from rankdet.nn.timm_backbone import TimmBackbone, plain_stride


def backbone_of(backbone: str | Backbone, strides: Sequence[int] = (4, 8, 16, 32)) -> Backbone:
    """The backbone itself, or that of a timm name with maps of these strides, or with its one map if it is a plain ViT.

    >>> backbone_of("vit_tiny_patch16_224", (8, 16, 32)).strides
    (16,)
    """
    if not isinstance(backbone, str):
        require(backbone, Backbone, "channels", "strides")
        return backbone
    stride = plain_stride(backbone)
    return TimmBackbone(backbone, strides=strides if stride is None else (stride,))


def pyramid_on(
    backbone: Backbone,
    *,
    levels: int,
    channels: int,
    extra_levels: ExtraLevels | None = None,
    upsampling: Upsampling | None = None,
) -> NeckFactory:
    """An `FPN` on the last ``levels`` maps of a backbone; on the map of a plain ViT a `SimplePyramid` of as many."""
    if len(backbone.channels) == 1:
        scales = (4.0, 2.0, 1.0, 0.5)[-levels:]
        return partial(SimplePyramid, channels=channels, scales=scales, extra_levels=extra_levels)
    return partial(FPN, channels=channels, extra_levels=extra_levels, upsampling=upsampling)


def level_strides(backbone: Backbone, *, finest: int, levels: int) -> tuple[float, ...]:
    """Strides in pixels of the levels of a pyramid whose finest has the stride ``finest`` on an ordinary backbone.

    They double from level to level. On the map of a plain ViT with patches of 14 pixels all are 14 / 16 times as large.
    """
    unit = backbone.strides[-1] / (16 if len(backbone.channels) == 1 else 32)
    strides = [finest * 2**level * unit for level in range(levels)]
    return tuple(int(stride) if stride == int(stride) else stride for stride in strides)
