"""Score voting against a loop over boxes and candidates."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rankdet.models import Postprocess, ScoreVoting, VotingPostprocess
from tests.assign.test_assigners import random_boxes
from tests.reference.assigners import iou


def candidates(seed: int, count: int = 30) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    boxes = random_boxes(count, generator, side=20) + torch.rand(count, 4, generator=generator)
    return boxes, torch.randn(count, generator=generator), torch.randint(0, 3, (count,), generator=generator)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), threshold=st.sampled_from([None, 0.3]))
def test_voting_equals_the_loop(seed: int, threshold: float | None):
    boxes, logits, labels = candidates(seed)
    size = (100, 100)
    plain = Postprocess(score_threshold=threshold, nms_threshold=0.6)(boxes, logits, labels, size)
    voted = VotingPostprocess(score_threshold=threshold)(boxes, logits, labels, size)
    for key in ("labels", "scores", "logits"):
        assert torch.equal(plain[key], voted[key])
    for box, label, moved in zip(plain["boxes"].tolist(), plain["labels"], voted["boxes"], strict=True):
        total, sums = 0.0, [0.0] * 4
        for other, logit, of_class in zip(boxes.tolist(), logits.tolist(), labels, strict=True):
            score, overlap = 1 / (1 + math.exp(-logit)), iou(box, other)
            if of_class == label and overlap > 0.01 and score > (threshold or 0):
                weight = math.exp(-((1 - overlap) ** 2) / 0.025) * score
                total += weight
                sums = [s + weight * x for s, x in zip(sums, other, strict=True)]
        assert moved.tolist() == pytest.approx([s / total for s in sums], rel=1e-4, abs=1e-3)


def test_scores_that_underflow_vote_all_the_same():
    """Only ratios matter: the same logits 200 lower move the boxes to the same places."""
    boxes, logits, labels = candidates(3)
    high = VotingPostprocess()(boxes, logits - 30, labels, (100, 100))
    low = VotingPostprocess()(boxes, logits - 230, labels, (100, 100))
    torch.testing.assert_close(low["boxes"], high["boxes"], rtol=1e-3, atol=1e-3)


def test_nothing_found():
    empty = VotingPostprocess(score_threshold=0.9)(
        *candidates(1, 2)[:1], torch.full((2,), -9.0), torch.zeros(2).long(), (9, 9)
    )
    assert empty["boxes"].shape == (0, 4)


def test_wrong_width():
    with pytest.raises(ValueError, match="width"):
        ScoreVoting(width=0.0)
