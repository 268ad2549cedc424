"""Branches of a region stage: what it says of its positives, and of detections, beside classes and boxes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from rankdet.assign.assignment import Assignment
from rankdet.assign.ground_truth import GroundTruth
from rankdet.criteria.criterion import Criterion, CriterionOutput
from rankdet.models.detector import Detection
from rankdet.nn.preprocess import ImageBatch
from rankdet.ops.part import Part
from rankdet.ops.predictions import Predictions


@dataclass(frozen=True)
class RegionStep:
    """What a region stage did in a training step: its losses, and all that its branches and later stages go on from.

    ``objects`` says how many regions of each image, its first, are the objects themselves.
    """

    output: CriterionOutput
    predictions: Predictions
    assignment: Assignment
    objects: Sequence[int]


class Branch(nn.Module, Part, ABC):
    """Masks, their quality, grid points, ...: with a pooler, a head and a criterion of its own.

    In a cascade every stage has its own; ``peers`` are those of all stages up to and including its own, in their order.

    Attributes:
        needs_masks: whether it learns from the masks of the objects.
        rescores: whether it gives detections scores that are not those of their classes.
    """

    needs_masks = False
    rescores = False

    def join(self, earlier: Sequence[Branch]) -> None:
        """Be put into a cascade behind these branches of its kind, which happens once; nothing to do here."""

    @abstractmethod
    def loss(
        self, maps: Sequence[Tensor], step: RegionStep, truth: GroundTruth, *, peers: Sequence[Branch]
    ) -> CriterionOutput:
        """What it learns from the positives of a training step of its stage."""

    @abstractmethod
    def complete(
        self, maps: Sequence[Tensor], found: list[Detection], batch: ImageBatch, *, peers: Sequence[Branch]
    ) -> None:
        """Add what it knows to the detections of each image, or put them right, in place; the last stage's is asked."""


def some_rows(positives: int, limit: int | None, *, device: torch.device) -> Tensor:
    """Rows of the positives to learn from, ascending: all, or a random choice of ``limit`` of them."""
    if limit is None or positives <= limit:
        return torch.arange(positives, device=device)
    return torch.randperm(positives, device=device)[:limit].sort().values


class BranchFactory(Protocol):
    """Makes a branch once the pyramid, K, and what the stage learns from, are known; ``MaskBranch`` is one."""

    def __call__(self, in_channels: int, *, num_classes: int, strides: Sequence[float], follows: Criterion) -> Branch:
        """See the class."""
