"""Heads that predict at every cell of every pyramid level with shared weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.nn.blocks import conv_tower, flatten_level, init_normal, start_at
from rankdet.nn.network import Network
from rankdet.nn.norm import Norm
from rankdet.ops.class_rows import ClassRows
from rankdet.ops.part import Part


class DenseOutputs(NamedTuple):
    """Outputs of a dense head for the S anchors of each of N images, level after level.

    Attributes:
        logits: (N, S, C), C channels of classification per anchor.
        deltas: (N, S, 4), box regression.
        quality_logits: (N, S, Q), Q further logits per anchor: 1 (centerness or predicted IoU) or 0.
    """

    logits: Tensor
    deltas: Tensor
    quality_logits: Tensor


class DensePredictor(Network):
    """Pyramid maps, finest first -> `DenseOutputs`.

    One that keeps its last classification layer as ``classify``, or several as ``class_layers``, can be calibrated by
    their biases; one that has ``class_rows`` can start from weights for other classes (see `rankdet.ops.class_rows`).
    """

    @abstractmethod
    def forward(self, maps: Sequence[Tensor]) -> DenseOutputs:
        """See the class."""


class DensePredictorFactory(Protocol):
    """Makes a head once its input and its outputs are known; ``partial(DenseHead, stacked=2)`` is one.

    It is given the channels of the pyramid maps (a number for each level where they differ), the classification
    channels of an anchor, the anchors of a cell on each level, and how many further logits an anchor has (0 or 1).
    """

    def __call__(
        self,
        in_channels: int | Sequence[int],
        *,
        num_logits: int,
        anchors_per_cell: Sequence[int],
        quality_channels: int,
    ) -> DensePredictor:
        """See the class."""


def same_on_all_levels(numbers: int | Sequence[int], *, what: str = "anchors per cell") -> int:
    """The number of each level, where weights are shared by the levels; ValueError if the levels differ."""
    if isinstance(numbers, int):
        return numbers
    if len(set(numbers)) != 1:
        raise ValueError(
            f"levels that share a head have equally many {what}; got {tuple(numbers)}. Take a head with weights of its "
            "own for each level, such as SSDHead"
        )
    return numbers[0]


class DenseHead(nn.Module, Part, DensePredictor):
    """Two towers of convolutions, one for the classes and one for the boxes (RetinaNet, ATSS and their kin).

    Args:
        in_channels: channels of the pyramid maps.
        num_logits: classification channels per anchor.
        anchors_per_cell: A on each pyramid level, the same for all, since they share the weights.
        quality_channels: further logits per anchor (centerness), 0 or 1.
        stacked: convolutions per tower.
        norm: after each convolution of the towers; None for none.
        scaled_boxes: whether each level has a learnable factor on its box outputs.
        judges_by_class: whether the quality logits come from the tower of the classes instead of that of the boxes.
        prior_probability: score of every anchor before training (RetinaNet, section 4.1).
        box_start: approximate box outputs before training.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        *,
        num_logits: int,
        anchors_per_cell: Sequence[int],
        quality_channels: int = 0,
        stacked: int = 4,
        norm: Norm | None = None,
        scaled_boxes: bool = False,
        judges_by_class: bool = False,
        prior_probability: float = 0.01,
        box_start: float = 0.0,
    ) -> None:
        super().__init__()
        anchors = same_on_all_levels(anchors_per_cell)
        in_channels = same_on_all_levels(in_channels, what="channels")
        self.num_logits = num_logits
        self.quality_channels = quality_channels
        self.class_tower = conv_tower(in_channels, in_channels, stacked=stacked, norm=norm)
        self.box_tower = conv_tower(in_channels, in_channels, stacked=stacked, norm=norm)
        self.classify = nn.Conv2d(in_channels, anchors * num_logits, 3, padding=1)
        self.regress = nn.Conv2d(in_channels, anchors * 4, 3, padding=1)
        if quality_channels:
            self.judge = nn.Conv2d(in_channels, anchors * quality_channels, 3, padding=1)
        self.scales = nn.Parameter(torch.ones(len(anchors_per_cell))) if scaled_boxes else None
        self.judges_by_class = judges_by_class
        self.anchors_per_cell = tuple(anchors_per_cell)
        init_normal(self, std=0.01)
        start_at(self.classify, prior_probability)
        assert self.regress.bias is not None, "it has one"
        nn.init.constant_(self.regress.bias, box_start)

    @property
    def class_rows(self) -> Mapping[str, ClassRows]:
        """See `rankdet.ops.class_rows`."""
        return {"classify": ClassRows(groups=self.anchors_per_cell[0])}

    def forward(self, maps: Sequence[Tensor]) -> DenseOutputs:
        """See `DensePredictor`."""
        return self.outputs(self.towers(maps))

    def towers(self, maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """What the two towers make of each map: features for the classes, and for the boxes."""
        return [(self.class_tower(features), self.box_tower(features)) for features in maps]

    def outputs(self, towers: Sequence[tuple[Tensor, Tensor]]) -> DenseOutputs:
        """What the last layers make of that."""
        logits, deltas, quality = [], [], []
        for level, (for_class, for_box) in enumerate(towers):
            boxes = self.regress(for_box)
            logits.append(flatten_level(self.classify(for_class), self.num_logits))
            deltas.append(flatten_level(boxes if self.scales is None else boxes * self.scales[level], 4))
            if self.quality_channels:
                for_quality = for_class if self.judges_by_class else for_box
                quality.append(flatten_level(self.judge(for_quality), self.quality_channels))
        all_logits = torch.cat(logits, 1)
        all_quality = torch.cat(quality, 1) if quality else all_logits[..., :0]
        return DenseOutputs(all_logits, torch.cat(deltas, 1), all_quality)


class RPNHead(nn.Module, Part, DensePredictor):
    """A shared convolution, or several, then one logit and one box per anchor (Faster R-CNN, section 3.1).

    Args:
        in_channels: channels of the pyramid maps.
        anchors_per_cell: A on each pyramid level, the same for all.
        num_logits: classification channels per anchor.
        quality_channels: none; an RPN has no quality branch.
        prior_probability: approximate score of every anchor before training.
        convs: shared convolutions, at least 1.
        channels: of these; by default as many as the maps have.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        *,
        anchors_per_cell: Sequence[int],
        num_logits: int = 1,
        quality_channels: int = 0,
        prior_probability: float = 0.5,
        convs: int = 1,
        channels: int | None = None,
    ) -> None:
        super().__init__()
        if quality_channels:
            raise ValueError("RPNHead has no quality branch; set judged=None in the criterion, or take a DenseHead")
        anchors = same_on_all_levels(anchors_per_cell)
        in_channels = same_on_all_levels(in_channels, what="channels")
        self.num_logits = num_logits
        self.anchors_per_cell = tuple(anchors_per_cell)
        channels = channels or in_channels
        self.tower = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.further = conv_tower(channels, channels, stacked=convs - 1)
        self.classify = nn.Conv2d(channels, anchors * num_logits, 1)
        self.regress = nn.Conv2d(channels, anchors * 4, 1)
        init_normal(self, std=0.01)
        start_at(self.classify, prior_probability)

    @property
    def class_rows(self) -> Mapping[str, ClassRows]:
        """See `rankdet.ops.class_rows`; an RPN has none, which `TwoStageDetector` says."""
        return {"classify": ClassRows(groups=self.anchors_per_cell[0])}

    def forward(self, maps: Sequence[Tensor]) -> DenseOutputs:
        """See `DensePredictor`."""
        towers = [self.further(F.relu(self.tower(features))) for features in maps]
        logits = torch.cat([flatten_level(self.classify(tower), self.num_logits) for tower in towers], 1)
        deltas = torch.cat([flatten_level(self.regress(tower), 4) for tower in towers], 1)
        return DenseOutputs(logits, deltas, logits[..., :0])
