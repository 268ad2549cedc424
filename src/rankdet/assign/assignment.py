"""Who is positive: the outcome of an assigner, half of the seam between a detector and its criterion."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
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
_UNDIVIDED = "who learns boxes is settled last, for all priors"


@dataclass(frozen=True)
class Assignment:
    """What each of the P priors of a batch should predict.

    Positives are listed when they are first asked for, so that what narrows an assignment before, such as a sampler,
    need not wait for an accelerator.

    Attributes:
        labels: (P,) int64: class 0..K-1, BACKGROUND (-1) or IGNORE (-2).
        matches: (P,) int64, the object of each positive: its row among the objects of the whole batch. Of no meaning
            elsewhere.
        object_boxes: (G, 4), the boxes of the objects.
        overlaps: (P,), the largest IoU of each prior with an object of its image, 0 without objects, from assigners
            that compare overlaps; None from others.
        ignored_pairs: (I, 2) int64, priors and classes whose logit is no matter, though the prior is not ignored; a
            prior of -1 stands for no pair. Never the class of a positive. None for no such pairs.
        known: (M,), ascending: the rows of the positives where they need not be looked for; None elsewhere.
        box_positives: whose boxes are learned, of which objects, where those are not the positives: the positives of
            another assignment of the same priors. None: the positives, as nearly everywhere.
    """

    labels: Tensor
    matches: Tensor
    object_boxes: Tensor
    overlaps: Tensor | None = field(default=None, kw_only=True)
    ignored_pairs: Tensor | None = field(default=None, kw_only=True)
    known: Tensor | None = field(default=None, kw_only=True)
    box_positives: Assignment | None = field(default=None, kw_only=True)

    @property
    def for_boxes(self) -> Assignment:
        """The assignment whose positives learn boxes."""
        return self if self.box_positives is None else self.box_positives

    @classmethod
    def from_matches(
        cls,
        matches: Tensor,
        truth: GroundTruth,
        *,
        overlaps: Tensor | None = None,
        ignored_pairs: Tensor | None = None,
    ) -> Assignment:
        """Build from matches (P,): a row of ``truth.all_boxes``, BACKGROUND or IGNORE."""
        of_objects = torch.cat((truth.all_labels, matches.new_zeros(1)))[matches.clamp(min=-1)]
        labels = torch.where(matches >= 0, of_objects, matches)
        return cls(labels, matches, truth.all_boxes, overlaps=overlaps, ignored_pairs=ignored_pairs)

    @classmethod
    def of_positives(
        cls, labels: Tensor, positive_index: Tensor, matched_index: Tensor, object_boxes: Tensor
    ) -> Assignment:
        """Build from labels (P,), the rows (M,) of the positives, ascending, their objects (M,), and those' boxes.

        >>> assignment = Assignment.of_positives(
        ...     torch.tensor([-1, 3]), torch.tensor([1]), torch.tensor([0]), torch.ones(1, 4))
        >>> assignment.matched_boxes
        tensor([[1., 1., 1., 1.]])
        """
        matches = labels.index_copy(0, positive_index, matched_index)
        return cls(labels, matches, object_boxes, known=positive_index)

    @cached_property
    def positive_index(self) -> Tensor:
        """Rows of the positives, exactly those with ``labels >= 0``, ascending, (M,) int64.

        The only point of an assignment where the host waits for an accelerator, once, unless they are known.
        """
        return (self.labels >= 0).nonzero().squeeze(1) if self.known is None else self.known

    @cached_property
    def matched_index(self) -> Tensor:
        """The object of each positive: its row among the objects of the whole batch, (M,) int64."""
        return self.matches[self.positive_index]

    @cached_property
    def matched_boxes(self) -> Tensor:
        """The box of the object of each positive, (M, 4)."""
        return self.object_boxes[self.matched_index]

    def considered(self, columns: int) -> Tensor:
        """What of logits (P, columns) is looked at: a mask of rows (P,), or of entries where there are ignored pairs.

        Columns beyond the classes, the background of a softmax, are looked at.

        >>> assignment = Assignment(torch.tensor([-2, 0, -1]), torch.tensor([-2, 0, -1]), torch.zeros(1, 4))
        >>> assignment.considered(2)
        tensor([False,  True,  True])
        >>> replace(assignment, ignored_pairs=torch.tensor([[2, 1], [-1, 0]])).considered(2)[1:]
        tensor([[ True,  True],
                [ True, False]])
        """
        rows = self.labels != IGNORE
        if self.ignored_pairs is None:
            return rows
        prior, label = self.ignored_pairs.unbind(1)
        entries = torch.cat((rows[:, None].expand(-1, columns).flatten(), rows.new_ones(1)))
        place = torch.where(prior >= 0, prior * columns + label, len(entries) - 1)
        return entries.index_fill(0, place, False)[:-1].view(-1, columns)

    def select(self, rows: Tensor, *, known: Tensor | None = None) -> Assignment:
        """The assignment of the priors in a mask (P,), or of rows, ascending, which must contain every positive.

        ``known`` lists the positives by their present rows, where they need not be looked for.
        """
        assert self.box_positives is None, _UNDIVIDED
        rows = rows.nonzero().squeeze(1) if rows.dtype == torch.bool else rows
        pairs = self.ignored_pairs
        if pairs is not None:
            place = torch.full_like(self.labels, -1).index_copy_(0, rows, torch.arange(len(rows), device=rows.device))
            pairs = torch.stack((torch.where(pairs[:, 0] >= 0, place[pairs[:, 0]], -1), pairs[:, 1]), 1)
        return replace(
            self,
            labels=self.labels[rows],
            matches=self.matches[rows],
            overlaps=None if self.overlaps is None else self.overlaps[rows],
            ignored_pairs=pairs,
            known=None if known is None else torch.searchsorted(rows, known),
        )

    def part(self, rows: slice, positives: slice, *, first_object: int) -> Assignment:
        """The priors in ``rows`` alone, among them all of ``positives``; objects are counted from ``first_object``."""
        assert self.ignored_pairs is None, "ignored pairs are not divided"
        assert self.box_positives is None, _UNDIVIDED
        return replace(
            self,
            labels=self.labels[rows],
            matches=self.matches[rows] - first_object,
            object_boxes=self.object_boxes[first_object:],
            overlaps=None if self.overlaps is None else self.overlaps[rows],
            known=self.positive_index[positives] - rows.start,
        )

    def keep(self, kept: Tensor, *, known: Tensor | None = None) -> Assignment:
        """The same with every prior outside the mask (P,) ignored; ``known`` lists the positives that remain."""
        assert self.box_positives is None, _UNDIVIDED
        return replace(self, labels=torch.where(kept, self.labels, IGNORE), known=known)

    def demote(self, kept: Tensor) -> Assignment:
        """The same with the positives outside the mask (M,) turned into background."""
        assert self.box_positives is None, _UNDIVIDED
        demoted = torch.where(kept, self.labels[self.positive_index], BACKGROUND)
        return replace(self, labels=self.labels.index_copy(0, self.positive_index, demoted), known=None)


class CandidateCost(Protocol):
    """What an assigner may ask the criterion of its stage."""

    def cost(self, predictions: Predictions, candidates: Assignment) -> Tensor:
        """How badly each positive of an assignment predicts its object, (M,), lower is better."""


class Assigner(Part, ABC):
    """Decides for every prior which object it should predict.

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
    """Guard shared by the assigners: priors and objects must belong to as many images, and be on one device."""
    if priors.num_images != truth.num_images:
        raise ValueError(f"priors of {priors.num_images} images cannot be assigned to objects of {truth.num_images}")
    devices = [str(boxes[0].device) for boxes in (priors.boxes, truth.boxes) if boxes]
    if len(set(devices)) > 1:
        raise ValueError(f"priors are on {devices[0]}, objects on {devices[1]}; move both to the same device")


def matches_of_batch(per_image: Sequence[Tensor], truth: GroundTruth) -> Tensor:
    """Matches counted within each image -> matches counted over the batch, (P,)."""
    shifted = [torch.where(m >= 0, m + start, m) for m, start in zip(per_image, truth.offsets, strict=True)]
    return torch.cat(shifted)
