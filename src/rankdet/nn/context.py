"""Blocks that let a residual network see beyond its convolutions: global context, and attention of four terms.

Both start as the identity, so that pretrained weights stay what they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.nn.modification import Modification


class ContextBlock(nn.Module):
    """Adds to every cell what a weighted mean of all cells says (Cao et al., "GCNet", 2019, section 3.3, figure 4d).

    Args:
        channels: C.
        ratio: the transform has ``ratio`` C channels within.

    >>> block, maps = ContextBlock(32), torch.rand(1, 32, 4, 5)
    >>> torch.equal(block(maps), maps)
    True
    """

    def __init__(self, channels: int, *, ratio: float = 1 / 16) -> None:
        super().__init__()
        width = max(1, int(channels * ratio))
        self.attend = nn.Conv2d(channels, 1, 1)
        self.narrow = nn.Conv2d(channels, width, 1)
        self.norm = nn.LayerNorm([width, 1, 1])
        self.widen = nn.Conv2d(width, channels, 1)
        nn.init.kaiming_normal_(self.attend.weight, mode="fan_in")
        for layer in (self.attend, self.widen):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.widen.weight)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        weights = self.attend(features).flatten(2).softmax(2)
        context = torch.einsum("ncp,nop->nc", features.flatten(2), weights)[..., None, None]
        added: Tensor = self.widen(F.relu(self.norm(self.narrow(context))))
        return features + added


class GeneralisedAttention(nn.Module):
    """Attention of four terms, of which any may be left out (Zhu et al., ICCV 2019, "An Empirical Study", section 3).

    Keys are every other cell of every other row. With the salience alone all cells attend alike.

    Args:
        channels: C.
        content: query and key (E1).
        relative: query and relative position (E2).
        salience: key alone (E3).
        position: relative position alone (E4).
        heads: parts of the channels.

    >>> block, maps = GeneralisedAttention(32), torch.rand(1, 32, 4, 5)
    >>> torch.equal(block(maps), maps)
    True
    """

    def __init__(
        self,
        channels: int,
        *,
        content: bool = True,
        relative: bool = True,
        salience: bool = True,
        position: bool = True,
        heads: int = 8,
    ) -> None:
        super().__init__()
        if channels % (4 * heads):
            raise ValueError(f"channels must be a multiple of 4 times the heads; got {channels=}, {heads=}")
        if not (content or relative or salience or position):
            raise ValueError("attention has at least one of content, relative, salience and position")
        self.heads, self.channels = heads, channels
        part = channels // heads
        self.query = _linear(channels, channels) if content or relative else None
        self.key = _linear(channels, channels) if content or salience else None
        self.value = _linear(channels, channels)
        self.project = nn.Conv2d(channels, channels, 1)
        places = relative or position
        self.across = _linear(channels // 2, channels) if places else None
        self.down = _linear(channels // 2, channels) if places else None
        self.content, self.relative = content, relative
        bound = 1 / math.sqrt(2 * part)
        self.salience = nn.Parameter(torch.empty(heads, part).uniform_(-bound, bound)) if salience else None
        self.position = nn.Parameter(torch.empty(heads, part).uniform_(-bound, bound)) if position else None
        self.gamma = nn.Parameter(torch.zeros(1))
        nn.init.kaiming_uniform_(self.project.weight, a=1)
        assert self.project.bias is not None
        nn.init.zeros_(self.project.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        height, width = features.shape[-2:]
        keys = features[..., ::2, ::2]
        energy = self._energy(features, keys).flatten(-2).float().softmax(-1).to(features.dtype)
        values = self._parts(self.value, keys).flatten(3)
        found = torch.einsum("nhyxp,nhdp->nhdyx", energy, values).flatten(1, 2)
        return features + self.gamma * self.project(found.expand(-1, -1, height, width))

    def _energy(self, features: Tensor, keys: Tensor) -> Tensor:
        """(N, heads, H or 1, W or 1, h, w): what each cell makes of each key."""
        query = None if self.query is None else self._parts(self.query, features)
        energy: Any = 0
        if self.key is not None:
            key = self._parts(self.key, keys)
            asked = _added(query if self.content else None, self.salience)
            energy = energy + torch.einsum("nhdyx,nhdij->nhyxij", asked.expand(len(key), -1, -1, -1, -1), key)
        if self.across is not None and self.down is not None:
            asked = _added(query if self.relative else None, self.position)
            asked = asked.expand(len(features), -1, -1, features.shape[2], features.shape[3])
            across = self._places(self.across, features.shape[3], keys.shape[3], like=features)
            down = self._places(self.down, features.shape[2], keys.shape[2], like=features)
            energy = energy + torch.einsum("nhdyx,xjhd->nhyxj", asked, across)[..., None, :]
            energy = energy + torch.einsum("nhdyx,yihd->nhyxi", asked, down)[..., None]
        found: Tensor = energy
        return found

    def _parts(self, layer: nn.Linear, maps: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, heads, C / heads, H, W)."""
        found: Tensor = layer(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return found.unflatten(1, (self.heads, -1))

    def _places(self, layer: nn.Linear, cells: int, keys: int, *, like: Tensor) -> Tensor:
        """What cells along an axis make of the places of keys: (cells, keys, heads, C / heads)."""
        apart = torch.arange(cells, device=like.device)[:, None] - 2 * torch.arange(keys, device=like.device)
        number = torch.arange(self.channels // 4, device=like.device)
        waves = apart[..., None] / 1000 ** (4 / self.channels * number)
        embedded = torch.cat((waves.sin(), waves.cos()), -1).to(layer.weight.dtype)
        places: Tensor = layer(embedded) / math.sqrt(2)
        return places.unflatten(-1, (self.heads, -1)).to(like.dtype)


def _added(query: Tensor | None, bias: Tensor | None) -> Tensor:
    """What is compared with keys or places: the query, a learned bias, or both; (N or 1, heads, d, H or 1, W or 1)."""
    if bias is None:
        assert query is not None, "one of the two is there"
        return query
    spread = bias[None, :, :, None, None]
    return spread if query is None else query + spread


def _linear(channels: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(channels, outputs, bias=False)
    nn.init.kaiming_uniform_(layer.weight, a=1)
    return layer


class _BlocksOfStages(Modification):
    """Something is put into every bottleneck block of some stages."""

    stages: Sequence[int]

    def bottlenecks(self, network: nn.Module) -> list[Any]:
        """The blocks of the stages; ValueError where there are none."""
        if not self.stages or any(stage not in (2, 3, 4, 5) for stage in self.stages):
            raise ValueError(f"stages must be some of 2, 3, 4, 5 (C2 to C5, of strides 4 to 32); got {self.stages}")
        found = [block for stage in self.stages for block in getattr(network, f"layer{stage - 1}", [])]
        if not found or not all(hasattr(block, "conv3") for block in found):
            raise ValueError(
                f"{type(network).__name__} has no bottleneck blocks in the stages {tuple(self.stages)}; take a network "
                "such as resnet50 or resnext101_64x4d"
            )
        return found


class ContextBlocks(_BlocksOfStages):
    """A `ContextBlock` at the end of each bottleneck block of some stages, before the sum: GCNet.

    Args:
        stages: by the names of their maps, 2 for C2 (stride 4) to 5 for C5 (stride 32).
        ratio: as `ContextBlock`; a sixteenth and a quarter are published.
    """

    def __init__(self, *, stages: Sequence[int] = (3, 4, 5), ratio: float = 1 / 16) -> None:
        if not 0 < ratio <= 1:
            raise ValueError(f"ratio must be above 0 and at most 1; got {ratio}")
        self.stages = tuple(stages)
        self.ratio = ratio

    def prepare(self, network: nn.Module) -> None:
        """See `Modification`."""
        for block in self.bottlenecks(network):
            if getattr(block, "se", None) is not None:
                raise ValueError(f"the blocks of {type(network).__name__} have attention of their own already")
            block.se = ContextBlock(block.conv3.out_channels, ratio=self.ratio)


class AttentionBlocks(_BlocksOfStages):
    """A `GeneralisedAttention` behind the 3 x 3 convolution of each bottleneck block of some stages.

    Args:
        stages: by the names of their maps.
        content: as `GeneralisedAttention`.
        relative: as `GeneralisedAttention`.
        salience: as `GeneralisedAttention`.
        position: as `GeneralisedAttention`.
        heads: as `GeneralisedAttention`.
    """

    def __init__(
        self,
        *,
        stages: Sequence[int] = (4, 5),
        content: bool = True,
        relative: bool = True,
        salience: bool = True,
        position: bool = True,
        heads: int = 8,
    ) -> None:
        self.stages = tuple(stages)
        self.content, self.relative = content, relative
        self.salience, self.position = salience, position
        self.heads = heads

    def prepare(self, network: nn.Module) -> None:
        """See `Modification`."""
        for block in self.bottlenecks(network):
            if not isinstance(block.aa, nn.Identity):
                raise ValueError(f"the blocks of {type(network).__name__} have no place behind their 3 x 3 convolution")
            block.aa = GeneralisedAttention(
                block.conv3.in_channels,
                content=self.content,
                relative=self.relative,
                salience=self.salience,
                position=self.position,
                heads=self.heads,
            )
