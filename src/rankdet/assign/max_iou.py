"""Assignment by overlap alone, as in Faster R-CNN (Ren et al. 2015, section 3.1.2) and RetinaNet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rankdet.assign.assignment import (
    BACKGROUND,
    IGNORE,
    Assigner,
    Assignment,
    check_same_images,
    matches_of_batch,
)
from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.reach import CellGrid, Reach, best_overlaps
from rankdet.ops.boxes import pairwise_intersection_over_second, pairwise_iou
from rankdet.ops.part import Part
from rankdet.ops.priors import Priors

MAX_OVERLAPS = 1 << 22  # overlaps between objects and priors of an image that are held at once: 16 MiB, some times


class BestPriors(Part):
    """Low-quality matching: an object without a good prior takes its best ones.

    Every prior that reaches the best overlap of an object becomes positive for it, provided this overlap is at least
    ``min_iou`` and above 0 (an object that no prior touches claims none). Where several objects claim the same prior,
    the last one has it. With ``ties=False`` an object claims the first of its best priors only.
    """

    def __init__(self, *, min_iou: float = 0.0, ties: bool = True) -> None:
        self.min_iou = min_iou
        self.ties = ties

    def claims(self, iou: Tensor) -> Tensor:
        """Overlaps (G, P) -> the object (P,) that claims each prior, or -1."""
        best, at = iou.max(dim=1, keepdim=True)
        claimed = (iou == best) if self.ties else torch.zeros_like(iou, dtype=torch.bool).scatter_(1, at, True)
        claimed &= (best >= self.min_iou) & (best > 0)
        objects = torch.arange(len(iou), device=iou.device, dtype=torch.int32)[:, None]
        return torch.where(claimed, objects, -1).amax(0).long()


class MaxIoU(Assigner):
    """Each prior goes to the object that it overlaps most, when the overlap is high enough.

    Positive from ``positive_iou`` on, background below ``negative_iou``, ignored between the two; then ``low_quality``
    adds priors for objects that have none so far (None: not). With ``crowd_overlap`` set, priors that lie in a crowd
    region to that share of their area or more are ignored (None: crowd regions are ordinary background, as in the
    published configurations).

    Invariant: every positive without ``low_quality`` has IoU >= ``positive_iou`` with its object, its best one.

    >>> truth = GroundTruth((torch.tensor([[0., 0., 10., 10.]]),), (torch.tensor([3]),), (torch.empty(0, 4),))
    >>> priors = Priors.proposals([torch.tensor([[0., 0., 10., 9.], [0., 0., 10., 4.], [50., 50., 60., 60.]])])
    >>> MaxIoU(positive_iou=0.7, negative_iou=0.3)(priors, truth).labels
    tensor([ 3, -2, -1])
    """

    def __init__(
        self,
        *,
        positive_iou: float = 0.5,
        negative_iou: float = 0.5,
        low_quality: BestPriors | None = None,
        crowd_overlap: float | None = None,
    ) -> None:
        if not 0 <= negative_iou <= positive_iou <= 1:
            raise ValueError(
                f"0 <= negative_iou <= positive_iou <= 1 must hold; got {negative_iou=}, {positive_iou=}. Overlaps "
                f"between the two are ignored"
            )
        self.positive_iou = positive_iou
        self.negative_iou = negative_iou
        self.low_quality = low_quality
        self.crowd_overlap = crowd_overlap

    def __call__(self, priors: Priors, truth: GroundTruth) -> Assignment:
        """See `Assigner`. Image by image: objects are compared with the priors of their own image alone."""
        check_same_images(priors, truth)
        images = zip(priors.boxes, priors.valid, truth.boxes, truth.crowd, strict=True)
        matches, overlaps = zip(*(self._match(*of_image) for of_image in images), strict=True)
        return Assignment.from_matches(matches_of_batch(matches, truth), truth, overlaps=torch.cat(overlaps))

    def reach(self, boxes: Tensor, grids: Sequence[CellGrid]) -> Reach:
        """See `Assigner`."""
        best = best_overlaps(boxes, grids)
        least = self.positive_iou if self.low_quality is None else self.low_quality.min_iou
        rule = f"an anchor that overlaps an object by {self.positive_iou:g} matches it"
        if self.low_quality is not None:
            rule += "; else its best one does" + (f", from {least:g} on" if least else "")
        unmatched = best < least
        return Reach(rule, unmatched, (best < self.positive_iou) & ~unmatched, least)

    def _match(self, priors: Tensor, valid: Tensor, objects: Tensor, crowd: Tensor) -> tuple[Tensor, Tensor]:
        """Of one image matches (P_i,), row of the object, BACKGROUND or IGNORE; and the largest overlaps (P_i,)."""
        considered = valid & ~self._in_crowd(priors, crowd)
        if len(objects) == 0 or len(priors) == 0:
            return torch.where(considered, BACKGROUND, IGNORE), torch.zeros_like(priors[:, 0])
        overlap, matches, claims = self._compare(objects, priors, considered)
        matches = torch.where(overlap >= self.positive_iou, matches, IGNORE)
        matches = torch.where((overlap < self.negative_iou) & considered, BACKGROUND, matches)
        return torch.where(claims >= 0, claims, matches), overlap.clamp(min=0)

    def _compare(self, objects: Tensor, priors: Tensor, considered: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of each prior the greatest overlap, the first object that has it, and the one that claims it or -1, (P_i,).

        So many objects at a time that memory is bounded.
        """
        overlap, matches = torch.full_like(priors[:, 0], -1), torch.zeros_like(considered, dtype=torch.long)
        claims = torch.full_like(matches, -1)
        at_once = max(1, MAX_OVERLAPS // len(priors))
        for start in range(0, len(objects), at_once):
            iou = self.overlaps(objects[start : start + at_once], priors).masked_fill_(~considered, -1)
            most, row = iou.max(dim=0)
            matches = torch.where(most > overlap, row + start, matches)
            overlap = torch.maximum(overlap, most)
            if self.low_quality is not None:
                claimed = self.low_quality.claims(iou)
                claims = torch.where(claimed >= 0, claimed + start, claims)
        return overlap, matches, claims

    def overlaps(self, objects: Tensor, priors: Tensor) -> Tensor:
        """What objects (G, 4) and priors (P, 4) are compared by, (G, P); subclasses may compare something else."""
        return pairwise_iou(objects, priors)

    def _in_crowd(self, priors: Tensor, crowd: Tensor) -> Tensor:
        if self.crowd_overlap is None or len(crowd) == 0:
            return torch.zeros(len(priors), dtype=torch.bool, device=priors.device)
        return (pairwise_intersection_over_second(crowd, priors) >= self.crowd_overlap).any(0)
