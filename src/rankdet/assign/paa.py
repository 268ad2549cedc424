"""Probabilistic anchor assignment (Kim & Lee, ECCV 2020, section 3.2).

Two steps. First every prior with some overlap is a candidate of an object. When the network has been asked about them,
each object keeps those that it predicts better than the rest: costs are modelled by a mixture of two Gaussians, fitted
for all objects of the batch at once. As in the published code the cheap component is taken up to its likeliest member,
all other candidates are background and none is ignored.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rankdet.assign.assignment import Assigner, Assignment
from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.max_iou import BestPriors, MaxIoU
from rankdet.assign.mixture import fit_two_gaussians
from rankdet.assign.two_steps import TwoStepAssigner
from rankdet.ops.precision import has_float64
from rankdet.ops.priors import Priors

EQUALLY_LIKELY = 1e-9  # difference of log likelihoods that is none


class PAAAssigner(TwoStepAssigner):
    """Each object keeps the candidates whose cost belongs to the lower of two Gaussians.

    The pool of an object are its ``topk`` cheapest candidates on each pyramid level. An object with a pool of less than
    two has no positive.

    Invariant: positives are candidates, with the objects they are candidates of.

    Args:
        topk: candidates of an object that each level may send to its pool.
        candidates: the first step; by default every prior goes to the object it overlaps most, from an IoU of 0.1 on,
            and every object that is touched at all gets its best priors.
        reg_covar: added to the variances of the mixture. 1e-5 is that of the Rank & Sort paper, 1e-6 the original.

    >>> truth = GroundTruth((torch.tensor([[0., 0., 8., 8.]]),), (torch.tensor([1]),), (torch.empty(0, 4),))
    >>> boxes = [[0., 0., 8., 8.], [0., 0., 8., 7.], [0., 0., 8., 4.], [0., 0., 4., 4.], [9., 9., 12., 12.]]
    >>> priors, assigner = Priors.proposals([torch.tensor(boxes)]), PAAAssigner()
    >>> candidates = assigner(priors, truth)
    >>> candidates.labels
    tensor([ 1,  1,  1,  1, -1])
    >>> assigner.choose(candidates, torch.tensor([0.3, 0.2, 2.0, 2.2]), priors=priors, truth=truth).labels
    tensor([-1,  1, -1, -1, -1])
    """

    def __init__(self, *, topk: int = 9, candidates: Assigner | None = None, reg_covar: float = 1e-5) -> None:
        if topk < 1 or not reg_covar > 0:
            raise ValueError(f"topk must be at least 1 and reg_covar above 0; got {topk=}, {reg_covar=}")
        self.topk = topk
        self.candidates = candidates or MaxIoU(positive_iou=0.1, negative_iou=0.1, low_quality=BestPriors())
        self.reg_covar = reg_covar

    @torch.no_grad()
    def choose(self, candidates: Assignment, cost: Tensor, *, priors: Priors, truth: GroundTruth) -> Assignment:
        """The second step: candidates and the cost of each positive among them (M,), lower is better.

        In float64, on the CPU where the device has none: an iteration more or less would choose others.
        """
        if len(cost) == 0:
            return candidates
        there = cost.device if has_float64(cost.device) else torch.device("cpu")
        pool = self._pool(candidates, cost, priors, len(truth.all_boxes)).to(there)
        precise = cost.to(there).double()
        costs, order = torch.cat((precise, precise.new_full((1,), torch.inf)))[pool].sort(1)
        chosen = choose_lower(costs, costs.isfinite(), reg_covar=self.reg_covar)
        kept = torch.zeros(len(cost) + 1, dtype=torch.bool, device=there)
        kept.scatter_(0, pool.gather(1, order).flatten(), chosen.flatten())
        return candidates.demote(kept[:-1].to(cost.device))

    def _pool(self, candidates: Assignment, cost: Tensor, priors: Priors, objects: int) -> Tensor:
        """The cheapest candidates of each object, level by level: (G, L topk) rows of the M candidates, M for none."""
        level, levels = priors.levels_of(candidates.positive_index), max(1, len(priors.level_sizes))
        group = candidates.matched_index * levels + level
        by_cost = cost.argsort(stable=True)
        order = by_cost[group[by_cost].argsort(stable=True)]
        sorted_group = group[order]
        place = torch.arange(len(cost), device=cost.device) - torch.searchsorted(sorted_group, sorted_group)
        slots = objects * levels * self.topk
        slot = torch.where(place < self.topk, sorted_group * self.topk + place, slots)
        pool = torch.full((slots + 1,), len(cost), device=cost.device).scatter_(0, slot, order)
        return pool[:-1].view(objects, -1)


def choose_lower(costs: Tensor, valid: Tensor, *, reg_covar: float) -> Tensor:
    """Which costs (G, C), ascending in each row, belong to the lower component up to its likeliest member, (G, C).

    Of equally likely ones the first counts: two members of a component always are, and only rounding would tell them
    apart.
    """
    mixture = fit_two_gaussians(costs, valid, reg_covar=reg_covar)
    joint = mixture.log_joint(costs.masked_fill(~valid, 0))
    lower = valid & (joint[0] >= joint[1]) & (valid.sum(1, keepdim=True) >= 2)
    likelihood = torch.logaddexp(joint[0], joint[1]).masked_fill(~lower, -torch.inf)
    likeliest = likelihood >= likelihood.amax(1, keepdim=True) - EQUALLY_LIKELY
    first = likeliest.int().argmax(1, keepdim=True)
    return lower & (torch.arange(costs.shape[1], device=costs.device) <= first)
