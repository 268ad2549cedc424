"""The Hungarian matcher against all permutations, and what must not matter to it: order, batching, padding."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import box_iou, generalized_box_iou

from rankdet.assign import (
    BACKGROUND,
    IGNORE,
    CriterionCost,
    FocalCost,
    GroundTruth,
    HungarianMatcher,
    LateMatcher,
    SoftmaxCost,
)
from rankdet.assign.hungarian import _blocks
from rankdet.criteria import RankingCriterion, ScoreCriterion
from rankdet.losses import FocalLoss
from rankdet.ops import FrameCoder, Priors
from rankdet.ops.predictions import Predictions

K = 3
FRAME = torch.tensor([0.0, 0.0, 200.0, 100.0])


def predicted(queries: list[int], seed: int, *, columns: int = K) -> Predictions:
    """Random queries of each image, in the frame of the image."""
    generator = torch.Generator().manual_seed(seed)
    total = sum(queries)
    centres = torch.rand(total, 2, generator=generator) * 0.6 + 0.2
    sizes = torch.rand(total, 2, generator=generator) * 0.3 + 0.05
    logits = torch.randn(total, columns, generator=generator) * 2
    priors = Priors.proposals([FRAME.expand(count, 4) for count in queries])
    return Predictions(logits, torch.cat((centres, sizes), 1), logits[:, :0], priors, FrameCoder())


def objects(counts: list[int], seed: int) -> GroundTruth:
    generator = torch.Generator().manual_seed(seed + 1)
    boxes, labels = [], []
    for count in counts:
        corners = torch.rand(count, 2, generator=generator) * torch.tensor([120.0, 60.0])
        boxes.append(torch.cat((corners, corners + torch.rand(count, 2, generator=generator) * 60 + 5), 1))
        labels.append(torch.randint(0, K, (count,), generator=generator))
    return GroundTruth(tuple(boxes), tuple(labels), tuple(torch.empty(0, 4) for _ in counts))


def pair_cost(logits: Tensor, share: Tensor, label: int, box: Tensor) -> float:
    """The published costs of one query and one object, with numbers alone."""
    p = 1 / (1 + math.exp(-float(logits[label])))
    of_class = 0.25 * (1 - p) ** 2 * -math.log(p + 1e-8) - 0.75 * p**2 * -math.log(1 - p + 1e-8)
    width, height = 200.0, 100.0
    x1, y1, x2, y2 = box.tolist()
    wanted = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
    distance = sum(abs(a - b) for a, b in zip(share.tolist(), wanted, strict=True))
    cx, cy, w, h = share.tolist()
    own = [(cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height]
    both = max(min(own[2], x2) - max(own[0], x1), 0) * max(min(own[3], y2) - max(own[1], y1), 0)
    union = (own[2] - own[0]) * (own[3] - own[1]) + (x2 - x1) * (y2 - y1) - both
    hull = (max(own[2], x2) - min(own[0], x1)) * (max(own[3], y2) - min(own[1], y1))
    return 2 * of_class + 5 * distance - 2 * (both / union - (hull - union) / hull)


def least(costs: list[list[float]]) -> float:
    """The least sum over all ways to give each object a query of its own, or each query an object."""
    queries, count = len(costs), len(costs[0])
    if count <= queries:
        return min(
            sum(costs[row][column] for column, row in enumerate(rows))
            for rows in itertools.permutations(range(queries), count)
        )
    return min(
        sum(costs[row][column] for row, column in enumerate(columns))
        for columns in itertools.permutations(range(count), queries)
    )


@settings(max_examples=25)
@given(queries=st.integers(1, 6), count=st.integers(1, 6), seed=st.integers(0, 10_000))
def test_no_permutation_costs_less(queries: int, count: int, seed: int):
    predictions, truth = predicted([queries], seed), objects([count], seed)
    found = HungarianMatcher().match(predictions, truth, RankingCriterion())
    costs = [
        [
            pair_cost(logits, share, int(label), box)
            for label, box in zip(truth.all_labels, truth.all_boxes, strict=True)
        ]
        for logits, share in zip(predictions.logits, predictions.deltas, strict=True)
    ]
    pairs = list(zip(found.positive_index.tolist(), found.matched_index.tolist(), strict=True))
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == min(queries, count)
    assert sum(costs[row][column] for row, column in pairs) == pytest.approx(least(costs), abs=1e-4)
    assert found.labels[found.positive_index].tolist() == truth.all_labels[found.matched_index].tolist()
    assert torch.equal(found.matched_boxes, truth.all_boxes[found.matched_index])


@pytest.mark.parametrize("queries", [[7, 7, 7, 7], [7, 9, 9, 4]], ids=["equal", "unequal"])
def test_a_batch_is_matched_as_its_images_alone(queries: list[int]):
    """Images with many, no and one object, and with more objects than queries."""
    predictions, truth = predicted(queries, 3), objects([3, 0, 1, 8], 3)
    together = HungarianMatcher().match(predictions, truth, RankingCriterion())
    labels, index, matched = [], [], []
    for image, (start, stop) in enumerate(itertools.pairwise(predictions.priors.offsets)):
        rows = slice(start, stop)
        alone = HungarianMatcher().match(
            replace(
                predictions,
                logits=predictions.logits[rows],
                deltas=predictions.deltas[rows],
                priors=Priors.proposals([predictions.priors.boxes[image]]),
            ),
            GroundTruth(truth.boxes[image : image + 1], truth.labels[image : image + 1], truth.crowd[:1]),
            RankingCriterion(),
        )
        labels.append(alone.labels)
        index.append(alone.positive_index + start)
        matched.append(alone.matched_index + truth.offsets[image])
    assert torch.equal(together.labels, torch.cat(labels))
    assert torch.equal(together.positive_index, torch.cat(index))
    assert torch.equal(together.matched_index, torch.cat(matched))


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_another_order_of_queries_is_another_order_of_the_same_matches(seed: int):
    predictions, truth = predicted([9], seed), objects([4], seed)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(seed))
    shuffled = replace(predictions, logits=predictions.logits[order], deltas=predictions.deltas[order])
    first = HungarianMatcher().match(predictions, truth, RankingCriterion())
    second = HungarianMatcher().match(shuffled, truth, RankingCriterion())
    assert torch.equal(first.labels[order], second.labels)


def test_no_objects_at_all():
    found = HungarianMatcher().match(predicted([5, 5], 0), objects([0, 0], 0), RankingCriterion())
    assert (found.labels == BACKGROUND).all()
    assert len(found.positive_index) == 0


def test_a_block_ends_before_there_are_too_many_pairs(monkeypatch):
    monkeypatch.setattr("rankdet.assign.hungarian.MAX_PAIRS", 40)
    truth = objects([2, 2, 3, 2], 0)
    assert [(block.first, block.last) for block in _blocks([7] * 4, truth)] == [(0, 2), (2, 3), (3, 4)]
    few = HungarianMatcher().match(predicted([7] * 4, 0), truth, RankingCriterion())
    monkeypatch.undo()
    assert torch.equal(few.labels, HungarianMatcher().match(predicted([7] * 4, 0), truth, RankingCriterion()).labels)


def test_what_is_not_valid_is_neither_matched_nor_looked_at():
    predictions, truth = predicted([4], 1), objects([4], 1)
    priors = replace(predictions.priors, valid=(torch.tensor([True, False, True, True]),))
    found = HungarianMatcher().match(replace(predictions, priors=priors), truth, RankingCriterion())
    assert found.labels[1] == IGNORE
    assert found.positive_index.tolist() == [0, 2, 3]


def test_numbers_that_are_none_are_matched_last():
    predictions, truth = predicted([4], 1), objects([2], 1)
    best = HungarianMatcher().match(predictions, truth, RankingCriterion()).positive_index
    predictions.logits[best[0]] = float("nan")
    again = HungarianMatcher().match(predictions, truth, RankingCriterion())
    assert best[0] not in again.positive_index
    assert len(again.positive_index) == 2


def test_boxes_in_crowds_are_ignored_where_asked_for():
    predictions, truth = predicted([12], 2), objects([1], 2)
    crowded = replace(truth, crowd=(torch.tensor([[-50.0, -50.0, 110.0, 150.0]]),))
    inside = predictions.boxes_of(torch.arange(12), predictions.deltas)[:, 2] <= 110
    assert 0 < inside.sum() < 12
    found = HungarianMatcher(crowd_overlap=0.999).match(predictions, crowded, RankingCriterion())
    published = HungarianMatcher().match(predictions, crowded, RankingCriterion())
    assert torch.equal(found.positive_index, published.positive_index)
    assert (published.labels != IGNORE).all()
    assert torch.equal(found.labels == IGNORE, inside & (published.labels == BACKGROUND))


@pytest.mark.parametrize("criterion", [RankingCriterion(), ScoreCriterion()], ids=["ranking", "score"])
def test_the_criterion_can_say_what_a_pair_costs(criterion):
    """Focal loss as if positive, and 1 - GIoU, which both criteria ask: the sum is least over all permutations."""
    predictions, truth = predicted([5, 5], 4), objects([3, 2], 4)
    matcher = HungarianMatcher(class_cost=1, box_cost=0, giou_cost=0, classification=CriterionCost())
    found = matcher.match(predictions, truth, criterion)
    for image, count in enumerate((3, 2)):
        rows, first = slice(5 * image, 5 * image + 5), truth.offsets[image]
        boxes = predictions.boxes_of(torch.arange(10), predictions.deltas)[rows]
        costs = [[0.0] * count for _ in range(5)]
        for row, column in itertools.product(range(5), range(count)):
            label, box = truth.labels[image][column], truth.boxes[image][column]
            loss = FocalLoss().of_rows(predictions.logits[rows][row : row + 1], label[None], torch.ones(1))
            costs[row][column] = float(loss + 1 - generalized_box_iou(boxes[row : row + 1], box[None])[0])
        pairs = [
            (row - 5 * image, column - first)
            for row, column in zip(found.positive_index.tolist(), found.matched_index.tolist(), strict=True)
            if 5 * image <= row < 5 * image + 5
        ]
        assert sum(costs[row][column] for row, column in pairs) == pytest.approx(least(costs), abs=1e-4)


def test_the_cost_of_a_softmax():
    predictions, truth = predicted([4], 5, columns=K + 1), objects([2], 5)
    matcher = HungarianMatcher(class_cost=1, box_cost=0, giou_cost=0, classification=SoftmaxCost())
    found = matcher.match(predictions, truth, RankingCriterion())
    costs = (-predictions.logits.softmax(1)[:, truth.all_labels]).tolist()
    total = sum(costs[row][column] for row, column in zip(found.positive_index, found.matched_index, strict=True))
    assert total == pytest.approx(least(costs), abs=1e-6)


def test_the_late_matcher_goes_by_score_and_overlap_alone():
    """All permutations by -s q^4, which another matching than the early one costs least by, as these seeds show."""
    differ = 0
    for seed in range(12):
        predictions, truth = predicted([5], seed), objects([3], seed)
        frame, shares = FRAME.expand(5, 4), predictions.deltas
        overlap = box_iou(FrameCoder().decode(frame, shares), truth.all_boxes)
        costs = -predictions.logits.sigmoid()[:, truth.all_labels] * overlap**4
        matcher = LateMatcher(epoch=2)
        early = matcher.match(predictions, truth, None)
        matcher.begin_epoch(2)
        late = matcher.match(predictions, truth, None)
        found = costs[late.positive_index, late.matched_index].sum()
        assert float(found) == pytest.approx(least(costs.T.tolist()), abs=1e-6)
        differ += not torch.equal(early.labels, late.labels)
        matcher.begin_epoch(1)
        assert torch.equal(matcher.match(predictions, truth, None).labels, early.labels)
    assert differ


def test_the_message_names_the_extra_where_scipy_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r"rankdet\[transformers\]"):
        HungarianMatcher().match(predicted([2], 0), objects([1], 0), RankingCriterion())


def test_priors_alone_cannot_be_matched():
    with pytest.raises(TypeError, match="match"):
        HungarianMatcher()(predicted([2], 0).priors, objects([1], 0))


@pytest.mark.parametrize("weights", [{"class_cost": -1}, {"class_cost": 0, "box_cost": 0, "giou_cost": 0}])
def test_weights_that_mean_nothing_are_refused(weights):
    with pytest.raises(ValueError, match="weights of a matching"):
        HungarianMatcher(**weights, classification=FocalCost())
