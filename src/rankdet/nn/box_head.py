"""Heads that classify and refine regions."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.nn.blocks import conv_tower, init_kaiming, start_at
from rankdet.nn.network import Network
from rankdet.nn.norm import Norm
from rankdet.ops.class_rows import ClassRows
from rankdet.ops.part import Part


class RegionPredictor(Network):
    """Pooled features (R, C, S, S) -> logits (R, num_logits) and deltas (R, 4 * box_outputs), class after class.

    One that keeps its last classification layer as ``classify``, or several as ``class_layers``, can be calibrated by
    their biases; one that has ``class_rows`` can start from weights for other classes (see `rankdet.ops.class_rows`).
    """

    @abstractmethod
    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""


class RegionPredictorFactory(Protocol):
    """Makes a head once its input and outputs are known; ``partial(BoxHead, convs=4, fcs=1)`` is one.

    It is given the channels of the pooled features, the classification channels and the boxes of a region (one, or one
    for each class), and the score that every region and class should have before training.
    """

    def __call__(
        self, in_channels: int, *, num_logits: int, box_outputs: int, prior_probability: float
    ) -> RegionPredictor:
        """See the class."""


REGION_ROWS = {"classify": ClassRows(), "regress": ClassRows(width=4, shared=True)}
"""The rows of classes of a head whose layers are called so."""


class BoxHead(nn.Module, Part, RegionPredictor):
    """Convolutions if any, then fully connected layers, then class logits and boxes of each region.

    Two fully connected layers by default (FPN, section 4.2); ``convs=4, fcs=1`` is the head of group normalisation (Wu
    & He, ECCV 2018) and of training from scratch.

    Args:
        in_channels: channels of the pooled features.
        num_logits: channels of classification.
        box_outputs: boxes per region: the number of classes, 1 for one box shared by all classes, or 0.
        prior_probability: approximate score of every region and class before training.
        pool_size: cells per side of the pooled features.
        convs: 3 x 3 convolutions, of ``conv_channels``.
        fcs: fully connected layers, of ``width``.
        conv_channels: of the convolutions.
        width: of the fully connected layers.
        norm: after each convolution; None for none.
    """

    class_rows = REGION_ROWS

    def __init__(
        self,
        in_channels: int,
        *,
        num_logits: int,
        box_outputs: int,
        prior_probability: float = 0.5,
        pool_size: int = 7,
        convs: int = 0,
        fcs: int = 2,
        conv_channels: int = 256,
        width: int = 1024,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        self.convs = conv_tower(in_channels, conv_channels, stacked=convs, norm=norm)
        init_kaiming(self.convs)
        channels = conv_channels if convs else in_channels
        features = channels * pool_size**2
        if not 0 <= fcs <= len(_NAMES):
            raise ValueError(f"fcs, the fully connected layers, must be 0 to {len(_NAMES)}; got {fcs}")
        self._names = _NAMES[:fcs]
        for name in self._names:
            self.add_module(name, nn.Linear(features, width))
            features = width
        self.classify = nn.Linear(features, num_logits)
        self.regress = nn.Linear(features, 4 * box_outputs) if box_outputs else None
        for layer in self._connected():
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.classify.weight, std=0.01)
        if self.regress is not None:
            nn.init.normal_(self.regress.weight, std=0.001)
            nn.init.zeros_(self.regress.bias)
        start_at(self.classify, prior_probability)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """See `RegionPredictor`."""
        hidden = self.convs(pooled).flatten(1)
        for layer in self._connected():
            hidden = F.relu(layer(hidden))
        return self.classify(hidden), hidden[:, :0] if self.regress is None else self.regress(hidden)

    def _connected(self) -> list[nn.Linear]:
        """The fully connected layers."""
        return [self.get_submodule(name) for name in self._names]  # type: ignore[misc]


_NAMES = ("first", "second", "third", "fourth")
