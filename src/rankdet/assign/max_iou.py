"""Assignment by overlap alone, as in Faster R-CNN (Ren et al. 2015, section 3.1.2) and RetinaNet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

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
MANY_IMAGES = 4  # as many times that are held of a batch


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
        """Overlaps (N, G, P) -> the object (N, P) that claims each prior, or -1."""
        best, at = iou.max(dim=2, keepdim=True)
        claimed = (iou == best) if self.ties else torch.zeros_like(iou, dtype=torch.bool).scatter_(2, at, True)
        claimed &= (best >= self.min_iou) & (best > 0)
        objects = torch.arange(iou.shape[1], device=iou.device, dtype=torch.int32)[:, None]
        return torch.where(claimed, objects, -1).amax(1).long()


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
        """See `Assigner`. Objects are compared with the priors of their own image alone.

        An accelerator compares all images at once, filled up to equally many objects and priors. On a CPU the filling
        would cost time, and images come one by one.
        """
        check_same_images(priors, truth)
        considered = map(self._considered, priors.boxes, priors.valid, truth.crowd)
        images = list(map(_Image, priors.boxes, considered, truth.boxes))
        at_once = 1 if truth.all_boxes.device.type == "cpu" else len(images)
        parts = [images[start : start + at_once] for start in range(0, len(images), at_once)]
        matches, overlaps = zip(*(of_image for part in parts for of_image in self._match(part)), strict=True)
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

    def _match(self, images: Sequence[_Image]) -> Iterator[tuple[Tensor, Tensor]]:
        """Of each image matches (P_i,), row of the object, BACKGROUND or IGNORE; and the largest overlaps (P_i,)."""
        all_priors, all_considered, all_objects = zip(*images, strict=True)
        priors, considered = _filled_up(all_priors, 0), _filled_up(all_considered, False)
        even = len({len(objects) for objects in all_objects}) == 1
        overlap, matches, claims = self._compare(priors, considered, _filled_up(all_objects, torch.nan), even=even)
        matches = torch.where(overlap >= self.positive_iou, matches, IGNORE)
        matches = torch.where((overlap < self.negative_iou) & considered, BACKGROUND, matches)
        matches = torch.where(claims >= 0, claims, matches)
        for image, of_image, most in zip(images, matches, overlap.clamp(min=0), strict=True):
            yield of_image[: len(image.priors)], most[: len(image.priors)]

    def _compare(
        self, priors: Tensor, considered: Tensor, objects: Tensor, *, even: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of each prior the greatest overlap, the first object that has it, and the one that claims it or -1, (N, P).

        Priors (N, P, 4), of which some are considered (N, P), and objects (N, G, 4), NaN behind those of an image
        unless all have equally many (``even``). So many objects at a time that memory is bounded.
        """
        overlap, matches = torch.full_like(considered, -1, dtype=priors.dtype), torch.zeros_like(considered).long()
        claims, hidden = torch.full_like(matches, -1), ~considered[:, None]
        if not considered.numel():
            return overlap, matches, claims
        at_once = max(1, MAX_OVERLAPS * min(len(considered), MANY_IMAGES) // considered.numel())
        for start in range(0, objects.shape[1], at_once):
            part = objects[:, start : start + at_once]
            iou = self.overlaps(part, priors).masked_fill_(hidden, -1)
            if not even:
                iou.masked_fill_(part[..., :1].isnan(), -1)
            most, row = iou.max(dim=1)
            matches = torch.where(most > overlap, row + start, matches)
            overlap = torch.maximum(overlap, most)
            if self.low_quality is not None:
                claimed = self.low_quality.claims(iou)
                claims = torch.where(claimed >= 0, claimed + start, claims)
        return overlap, matches, claims

    def overlaps(self, objects: Tensor, priors: Tensor) -> Tensor:
        """What objects (N, G, 4) and priors (N, P, 4) are compared by, (N, G, P); subclasses may replace it."""
        return pairwise_iou(objects, priors)

    def _considered(self, priors: Tensor, valid: Tensor, crowd: Tensor) -> Tensor:
        """Which priors (P,) of an image take part: valid ones outside of crowds."""
        if self.crowd_overlap is None or len(crowd) == 0:
            return valid
        return valid & (pairwise_intersection_over_second(crowd, priors) < self.crowd_overlap).all(0)


class _Image(NamedTuple):
    """Priors (P, 4) of an image, which of them take part (P,), and its objects (G, 4)."""

    priors: Tensor
    considered: Tensor
    objects: Tensor


def _filled_up(images: Sequence[Tensor], padding: float) -> Tensor:
    """What images have different numbers of, in one tensor, (N, most, ...); not copied where they share one."""
    if all(of_image is images[0] for of_image in images):
        return images[0].expand(len(images), *images[0].shape)
    return pad_sequence(list(images), batch_first=True, padding_value=padding)
