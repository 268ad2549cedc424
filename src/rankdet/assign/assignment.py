"""Who is positive: the outcome of an assigner, half of the seam between a detector and its criterion."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.reach import CellGrid, Reach
from rankdet.ops.part import Part
from rankdet.ops.predictions import Predictions
from rankdet.ops.priors import Priors

BACKGROUND = -1
IGNORE = -2


@dataclass(frozen=True)
class Assignment:
    """What each of the P priors of a batch shall predict.

    Invariant: ``positive_index`` lists, ascending, exactly the rows with ``labels >= 0``, and the other two tensors
    follow its order.

    Attributes:
        labels: (P,) int64: class 0..K-1, BACKGROUND (-1) or IGNORE (-2).
        positive_index: (M,) int64, rows of the positives.
        matched_index: (M,) int64, the object of each positive: its row among the objects of the whole batch.
        matched_boxes: (M, 4), the box of that object.
        overlaps: (P,), the largest IoU of each prior with an object of its image, 0 without objects, from assigners
            that compare overlaps; None from others.
    """

    labels: Tensor
    positive_index: Tensor
    matched_index: Tensor
    matched_boxes: Tensor
    overlaps: Tensor | None = field(default=None, kw_only=True)

    @classmethod
    def from_matches(cls, matches: Tensor, truth: GroundTruth, *, overlaps: Tensor | None = None) -> Assignment:
        """Build from matches (P,): a row of ``truth.all_boxes``, BACKGROUND or IGNORE.

        One boolean selection, the only point of an assignment where the host waits for an accelerator.
        """
        positive_index = (matches >= 0).nonzero().squeeze(1)
        matched_index = matches[positive_index]
        labels = matches.clone()
        labels[positive_index] = truth.all_labels[matched_index]
        return cls(labels, positive_index, matched_index, truth.all_boxes[matched_index], overlaps=overlaps)

    def select(self, rows: Tensor) -> Assignment:
        """The assignment of the priors in the mask (P,) alone, which must contain every positive."""
        return Assignment(
            self.labels[rows],
            rows.cumsum(0)[self.positive_index] - 1,
            self.matched_index,
            self.matched_boxes,
            overlaps=None if self.overlaps is None else self.overlaps[rows],
        )

    def keep(self, kept: Tensor) -> Assignment:
        """The same with every prior outside the mask (P,) ignored."""
        still = kept[self.positive_index].nonzero().squeeze(1)
        return Assignment(
            torch.where(kept, self.labels, IGNORE),
            self.positive_index[still],
            self.matched_index[still],
            self.matched_boxes[still],
            overlaps=self.overlaps,
        )

    def demote(self, kept: Tensor) -> Assignment:
        """The same with the positives outside the mask (M,) turned into background."""
        still = kept.nonzero().squeeze(1)
        demoted = torch.where(kept, self.labels[self.positive_index], BACKGROUND)
        return Assignment(
            self.labels.index_copy(0, self.positive_index, demoted),
            self.positive_index[still],
            self.matched_index[still],
            self.matched_boxes[still],
            overlaps=self.overlaps,
        )


class CandidateCost(Protocol):
    """What an assigner may ask the criterion of its stage."""

    def cost(self, predictions: Predictions, candidates: Assignment) -> Tensor:
        """How badly each positive of an assignment predicts its object, (M,), lower is better."""


class Assigner(Part, ABC):
    """Decides for every prior which object it shall predict.

    Invariant: a prior that is not valid is ignored; with no objects every valid prior is background.
    """

    @abstractmethod
    def __call__(self, priors: Priors, truth: GroundTruth) -> Assignment:
        """Priors and objects of the same N images -> assignment of all P priors."""

    def match(self, predictions: Predictions, truth: GroundTruth, criterion: CandidateCost) -> Assignment:  # noqa: ARG002
        """What a stage asks: the assignment of the priors of its predictions, whatever the network predicts there.

        Assigners that look at predictions, or at what they would cost by the criterion, decide here.
        """
        return self(predictions.priors, truth)

    def reach(self, boxes: Tensor, grids: Sequence[CellGrid]) -> Reach | None:  # noqa: ARG002
        """Which objects (M, 4), in pixels of the network input, it can match on a pyramid of such levels.

        None, as here, from an assigner that does not say: then nothing is known of any object.
        """
        return None


def check_same_images(priors: Priors, truth: GroundTruth) -> None:
    """Guard shared by the assigners: priors and objects must belong to the same number of images."""
    if priors.num_images != truth.num_images:
        raise ValueError(f"priors of {priors.num_images} images cannot be assigned to objects of {truth.num_images}")


def matches_of_batch(per_image: Sequence[Tensor], truth: GroundTruth) -> Tensor:
    """Matches counted within each image -> matches counted over the batch, (P,)."""
    shifted = [torch.where(m >= 0, m + start, m) for m, start in zip(per_image, truth.offsets, strict=True)]
    return torch.cat(shifted)
