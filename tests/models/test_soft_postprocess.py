"""Soft-NMS: the worked values, a loop, and what detectors make of it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rankdet.models import CutLast, FastPostprocess, Postprocess, SoftPostprocess, VotingPostprocess
from rankdet.models.queries.postprocess import TopPostprocess
from rankdet.ops.matrix_nms import GaussianDecay, LinearDecay
from tests.models.test_voting import candidates
from tests.reference.soft_nms import soft_nms

BOXES = torch.tensor([[0.0, 0, 10, 10], [1, 1, 11, 11], [0, 0, 10, 5], [20, 20, 30, 30]])
SCORES = torch.tensor([0.9, 0.8, 0.7, 0.6])
WAYS = [
    ({"nms_threshold": 0.5}, None, [0.9, 0.6, 0.35, 0.255462]),
    ({"nms_threshold": 0.0, "decay": GaussianDecay(sigma=2.0)}, 0.5, [0.9, 0.6, 0.424571, 0.259443]),
]


@pytest.mark.parametrize(("arguments", "sigma", "expected"), WAYS)
def test_worked_values(arguments, sigma, expected):
    found = SoftPostprocess(**arguments)(BOXES, SCORES.logit(), torch.zeros(4, dtype=torch.long), (40, 40))
    torch.testing.assert_close(found["scores"], torch.tensor(expected), atol=1e-5, rtol=0)
    torch.testing.assert_close(found["boxes"], BOXES[[0, 3, 2, 1]])


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), way=st.sampled_from(WAYS), min_score=st.sampled_from([0.001, 0.2]))
def test_it_equals_the_loop(seed, way, min_score):
    arguments, sigma, _ = way
    boxes, logits, labels = candidates(seed)
    found = SoftPostprocess(**arguments, min_score=min_score)(boxes, logits, labels, (100, 100))
    threshold = arguments["nms_threshold"]
    expected = soft_nms(
        boxes.tolist(),
        logits.sigmoid().tolist(),
        labels.tolist(),
        threshold=threshold,
        min_score=min_score,
        sigma=sigma,
    )
    torch.testing.assert_close(found["boxes"], boxes[[row for row, _ in expected]])
    torch.testing.assert_close(found["scores"], torch.tensor([score for _, score in expected]))


@pytest.mark.parametrize(
    "postprocess",
    [Postprocess(), SoftPostprocess(), CutLast(), VotingPostprocess(), FastPostprocess(top=9), TopPostprocess()],
)
def test_a_batch_is_what_each_of_its_images_is_alone(postprocess: Postprocess):
    postprocess.max_detections, postprocess.score_threshold = 15, 0.3
    images = [tuple(part[:count] for part in candidates(count)) for count in (40, 0, 17)]
    sizes = [(100, 100), (50, 60), (70, 30)]
    together = postprocess.of_batch(*zip(*images, strict=True), sizes)
    for image, size, found in zip(images, sizes, together, strict=True):
        alone = postprocess(*image, size)
        assert all(torch.equal(found[name], alone[name]) for name in alone)
    assert [len(found["boxes"]) > 0 for found in together] == [True, False, True]


def test_boxes_apart_keep_their_scores():
    apart = torch.arange(5.0)[:, None] * 20 + torch.tensor([0.0, 0, 10, 10])
    logits, labels = torch.randn(5), torch.zeros(5, dtype=torch.long)
    soft, hard = (kind()(apart, logits, labels, (100, 100)) for kind in (SoftPostprocess, Postprocess))
    for name in hard:
        torch.testing.assert_close(soft[name], hard[name])


@pytest.mark.parametrize("count", [0, 1])
def test_hardly_any_candidates(count):
    found = SoftPostprocess(decay=LinearDecay())(BOXES[:count], SCORES[:count].logit(), torch.arange(count), (40, 40))
    assert len(found["scores"]) == count


def test_a_duplicate_goes():
    twice = BOXES[[0, 0]]
    found = SoftPostprocess()(twice, SCORES[:2].logit(), torch.zeros(2, dtype=torch.long), (40, 40))
    assert len(found["scores"]) == 1
    with pytest.raises(ValueError, match="min_score must lie in"):
        SoftPostprocess(min_score=1.0)
