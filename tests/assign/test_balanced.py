"""Sampling balanced by objects and by overlap: how often each prior is drawn, against the rules as sets of rows."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rankdet.assign import Assignment, GroundTruth, IoUBalancedSampler, MaxIoU
from rankdet.ops import Priors
from tests.reference.samplers import negatives_by_overlap, positives_by_object

DRAWS = 300


def an_image(*, positives: int, touching: int, apart: int, objects: int = 3) -> tuple[Assignment, Priors, GroundTruth]:
    """Many positives of the first object, few of the others; most negatives of little overlap, as in training."""
    generator = torch.Generator().manual_seed(positives + touching)
    total = positives + touching + apart
    matched = torch.where(torch.arange(positives) % 5 < 3, 0, torch.arange(positives) % objects)
    labels = torch.cat((torch.zeros(positives), torch.full((touching + apart,), -1))).long()
    low = torch.rand(touching, generator=generator) ** 2 * 0.5
    high = 0.5 + 0.4 * torch.rand(positives, generator=generator)
    overlaps = torch.cat((high, low, torch.zeros(apart)))
    order = torch.randperm(total, generator=generator)
    row = torch.cat((matched, torch.full((total - positives,), -1)))[order]
    boxes = torch.tensor([[0.0, 0, 8, 8]]).expand(objects, -1)
    truth = GroundTruth((boxes,), (torch.zeros(objects).long(),), (torch.zeros(0, 4),))
    assignment = Assignment(labels[order], row, boxes, overlaps=overlaps[order])
    return assignment, Priors.proposals([torch.zeros(total, 4)]), truth


def drawn(sampler: IoUBalancedSampler, image: tuple[Assignment, Priors, GroundTruth]) -> Tensor:
    return sampler(*image).labels != -2


def often(sampler: IoUBalancedSampler, image: tuple[Assignment, Priors, GroundTruth]) -> Tensor:
    return torch.stack([drawn(sampler, image) for _ in range(DRAWS)]).float().mean(0)


def often_by_rule(sampler: IoUBalancedSampler, assignment: Assignment) -> Tensor:
    objects = [-1] * len(assignment.labels)
    for row, matched in zip(assignment.positive_index.tolist(), assignment.matched_index.tolist(), strict=True):
        objects[row] = matched
    negatives = [row for row, label in enumerate(assignment.labels.tolist()) if label == -1]
    counts = torch.zeros(len(objects))
    for _ in range(DRAWS):
        chosen = positives_by_object(objects, wanted=int(sampler.num * sampler.positive_fraction))
        chosen |= negatives_by_overlap(
            negatives, assignment.overlaps.tolist(), wanted=sampler.num - len(chosen), bins=sampler.bins
        )
        counts[list(chosen)] += 1
    return counts / DRAWS


@pytest.mark.parametrize(
    ("positives", "touching", "apart"),
    [(5, 20, 30), (40, 60, 50), (40, 20, 80), (0, 90, 20), (7, 0, 90), (60, 80, 0)],
)
def test_priors_are_drawn_as_often_as_by_the_rules(positives: int, touching: int, apart: int):
    random.seed(0)
    sampler = IoUBalancedSampler(num=40, positive_fraction=0.4, generator=torch.Generator().manual_seed(1))
    image = an_image(positives=positives, touching=touching, apart=apart)
    expected, found = often_by_rule(sampler, image[0]), often(sampler, image)
    assert (found - expected).abs().max() < 0.2, "five standard deviations"
    assert (found - expected).abs().mean() < 0.04
    always = (expected == 0) | (expected == 1)
    assert torch.equal(found[always], expected[always])


def test_negatives_are_uniform_over_the_bins():
    """Overlaps crowd together near 0; the chosen ones do not."""
    sampler = IoUBalancedSampler(num=96, positive_fraction=0.25, generator=torch.Generator().manual_seed(0))
    assignment, priors, truth = an_image(positives=0, touching=4000, apart=4000)
    histogram, ceiling = torch.zeros(3), float(assignment.overlaps.max())
    for _ in range(10):
        chosen = drawn(sampler, (assignment, priors, truth))
        histogram += torch.histc(assignment.overlaps[chosen], bins=3, min=0, max=ceiling)
    assert histogram.tolist() == [320, 320, 320]


def test_assigners_without_overlaps_are_refused():
    boxes = torch.rand(6, 4).cumsum(1)
    truth = GroundTruth((boxes[:2],), (torch.zeros(2).long(),), (boxes[:0],))
    assignment = MaxIoU()(Priors.proposals([boxes]), truth)
    blind = replace(assignment, overlaps=None)
    with pytest.raises(ValueError, match="needs the overlaps of the priors"):
        IoUBalancedSampler()(blind, Priors.proposals([boxes]), truth)
