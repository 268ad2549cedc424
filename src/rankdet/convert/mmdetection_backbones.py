"""Where MMDetection keeps the tensors of backbones and necks: ResNet and its modifications, HRNet, VGG, pyramids."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import nn

from rankdet.convert.changes import Lengthened, Reshaped, Reversed
from rankdet.convert.errors import ConversionError
from rankdet.convert.table import Match, conv_module
from rankdet.nn import (
    FPN,
    HRFPN,
    BalancedPyramid,
    ContextBlock,
    GeneralisedAttention,
    ModulatedDeformConv,
    NoNeck,
    SSDNeck,
    TimmBackbone,
)

ALWAYS = 100.0
"""A logit whose score is 1."""


def of_backbone(backbone: Any, *, blue_first: bool) -> Iterator[Match]:
    """The names of a backbone; those of a network of timm are the same, its modifications aside.

    Args:
        backbone: of ours.
        blue_first: whether its images are blue, green, red.
    """
    ours = "backbone.network" if isinstance(backbone, TimmBackbone) else "backbone"
    network = backbone.network if isinstance(backbone, TimmBackbone) else backbone
    if blue_first:
        first = next(name for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d))
        yield Match(f"{ours}.{first}.weight", (f"backbone.{first}.weight",), Reversed())
    yield from of_network(network, ours, ("backbone",))


def of_network(network: nn.Module, ours: str, theirs: Sequence[str]) -> Iterator[Match]:
    """The names of a residual network or a part of one: what is called otherwise, then all the rest."""
    for name, layer in network.named_modules():
        for kind, matches in _LAYERS.items():
            if isinstance(layer, kind):
                yield from matches(layer, f"{ours}.{name}", [f"{start}.{name}" for start in theirs])
    yield Match(ours, tuple(theirs))


def _of_group_norm(_: Any, ours: str, theirs: Sequence[str]) -> Iterator[Match]:
    """A norm is called after its kind there, but for those of shortcuts."""
    yield Match(ours, tuple(re.sub(r"(^|\.)bn(\d+)$", r"\1gn\2", name) for name in theirs))


def _of_deformable(layer: ModulatedDeformConv, ours: str, theirs: Sequence[str]) -> Iterator[Match]:
    """Offsets, then modulation; a file of plain deformable convolutions has offsets alone, and all modulation is 1.

    Files of MMDetection 1 have the offsets beside the convolution.
    """
    names = [*(f"{name}.conv_offset" for name in theirs), *(f"{name}_offset" for name in theirs)]
    rows = layer.conv_offset.out_channels
    for kind, added in (("weight", 0.0), ("bias", ALWAYS)):
        change = Lengthened(length=rows * 2 // 3, total=rows, value=added)
        yield Match(f"{ours}.conv_offset.{kind}", tuple(f"{name}.{kind}" for name in names), change)


def _of_context(_: Any, ours: str, theirs: Sequence[str]) -> Iterator[Match]:
    blocks = [f"{name.rpartition('.')[0]}.context_block" for name in theirs]
    parts = {"attend": "conv_mask", "narrow": "channel_add_conv.0", "norm": "channel_add_conv.1"}
    for own, name in (parts | {"widen": "channel_add_conv.3"}).items():
        yield Match(f"{ours}.{own}", tuple(f"{block}.{name}" for block in blocks))


def _of_attention(layer: GeneralisedAttention, ours: str, theirs: Sequence[str]) -> Iterator[Match]:
    """Linear layers are 1 x 1 convolutions there, and the biases of the heads stand in a row."""
    blocks = [f"{name.rpartition('.')[0]}.gen_attention_block" for name in theirs]
    width, heads = layer.channels, layer.heads
    as_linear = Reshaped(ours=(width, width), theirs=(width, width, 1, 1))
    for own, name in (("query", "query_conv"), ("key", "key_conv"), ("value", "value_conv")):
        yield Match(f"{ours}.{own}.weight", tuple(f"{block}.{name}.weight" for block in blocks), as_linear)
    in_a_row = Reshaped(ours=(heads, width // heads), theirs=(width,))
    for own, name in (("salience", "appr_bias"), ("position", "geom_bias")):
        yield Match(f"{ours}.{own}", tuple(f"{block}.{name}" for block in blocks), in_a_row)
    for own, name in (("project", "proj_conv"), ("across", "appr_geom_fc_x"), ("down", "appr_geom_fc_y")):
        yield Match(f"{ours}.{own}", tuple(f"{block}.{name}" for block in blocks))
    yield Match(f"{ours}.gamma", tuple(f"{block}.gamma" for block in blocks))


_LAYERS: dict[type[nn.Module], Callable[..., Iterator[Match]]] = {
    nn.GroupNorm: _of_group_norm,
    ModulatedDeformConv: _of_deformable,
    ContextBlock: _of_context,
    GeneralisedAttention: _of_attention,
}


def of_neck(neck: nn.Module, ours: str = "neck", theirs: str = "neck") -> Iterator[Match]:
    """The names of a neck; `ConversionError` if none are known."""
    for kind, matches in _NECKS.items():
        if isinstance(neck, kind):
            return matches(neck, ours, theirs)
    raise ConversionError(f"no names of MMDetection are known for the neck {type(neck).__name__}")


def _of_pyramid(neck: FPN, ours: str, theirs: str) -> Iterator[Match]:
    inputs, outputs = len(neck.laterals), len(neck.outputs)
    for number, layer in enumerate(neck.laterals):
        yield from conv_module(f"{ours}.laterals.{number}", layer, [f"{theirs}.lateral_convs.{number}"])
    for number, layer in enumerate(neck.outputs):
        yield from conv_module(f"{ours}.outputs.{number}", layer, [f"{theirs}.fpn_convs.{number}"])
        for own, name in (("compress", "channel_compressor"), ("encode", "content_encoder")):
            yield Match(f"{ours}.upsamplers.{number}.{own}", (f"{theirs}.upsample_modules.{number}.{name}",))
    above = "lateral_convs" if outputs > inputs else "fpn_convs"
    for number, layer in enumerate(getattr(neck.extra, "convs", ())):
        yield from conv_module(f"{ours}.extra.convs.{number}", layer, [f"{theirs}.{above}.{inputs + number}"])


def _of_balanced(neck: BalancedPyramid, ours: str, theirs: str) -> Iterator[Match]:
    yield from of_neck(neck.pyramid, f"{ours}.pyramid", f"{theirs}.0")
    for own, name in (("value", "g"), ("query", "theta"), ("key", "phi"), ("out", "conv_out")):
        yield Match(f"{ours}.refine.{own}", (f"{theirs}.1.refine.{name}.conv",))


def _of_high_resolution(neck: HRFPN, ours: str, theirs: str) -> Iterator[Match]:
    yield Match(f"{ours}.mix", (f"{theirs}.reduction_conv.conv",))
    for number in range(len(neck.outputs)):
        yield Match(f"{ours}.outputs.{number}", (f"{theirs}.fpn_convs.{number}.conv",))


def _of_ssd(neck: SSDNeck, ours: str, theirs: str) -> Iterator[Match]:
    """Before MMDetection 2.14 the further layers were of the backbone, all in a row."""
    yield Match(f"{ours}.l2_norm", (f"{theirs}.l2_norm", "backbone.l2_norm"))
    for number in range(len(neck.extra)):
        for place in range(2):
            names = (f"{theirs}.extra_layers.{number}.{place}.conv", f"backbone.extra.{2 * number + place}")
            yield Match(f"{ours}.extra.{number}.{2 * place}", names)


def _of_nothing(_neck: NoNeck, _ours: str, _theirs: str) -> Iterator[Match]:
    yield from ()


_NECKS: dict[type[nn.Module], Callable[..., Iterator[Match]]] = {
    FPN: _of_pyramid,
    BalancedPyramid: _of_balanced,
    HRFPN: _of_high_resolution,
    SSDNeck: _of_ssd,
    NoNeck: _of_nothing,
}
