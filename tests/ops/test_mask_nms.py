"""Fast NMS and Matrix NMS: worked values, and agreement with loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rankdet.ops.fast_nms import fast_nms, fast_nms_of_batch
from rankdet.ops.matrix_nms import GaussianDecay, LinearDecay, matrix_nms
from rankdet.ops.nms import top_after_nms
from tests.reference import masks as loops


def corner_masks() -> torch.Tensor:
    """4 x 4: the left half, the left three columns, the lower right quarter."""
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[0, :, :2] = masks[1, :, :3] = masks[2, 2:, 2:] = True
    return masks


@pytest.mark.parametrize(
    ("decay", "expected"), [(GaussianDecay(sigma=2.0), [0.9, 0.32889, 0.5]), (LinearDecay(), [0.9, 0.266667, 0.5])]
)
def test_worked_matrix_nms(decay, expected):
    scores = torch.tensor([0.9, 0.8, 0.5])
    found = matrix_nms(corner_masks(), scores.log(), torch.zeros(3), decay=decay).exp()
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    shuffled = matrix_nms(corner_masks()[[2, 0, 1]], scores[[2, 0, 1]].log(), torch.zeros(3), decay=decay).exp()
    torch.testing.assert_close(shuffled, found[[2, 0, 1]])
    apart = matrix_nms(corner_masks(), scores.log(), torch.arange(3), decay=decay).exp()
    torch.testing.assert_close(apart, scores)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_large_masks_are_counted_under_autocast(dtype: torch.dtype):
    """float16 ends at 65,504 cells."""
    masks = torch.ones(3, 300, 300, dtype=torch.bool)
    masks[1, :, :7] = masks[2, :, :90] = False
    log_scores, labels = torch.tensor([0.9, 0.8, 0.7]).log(), torch.zeros(3)
    exact = matrix_nms(masks, log_scores, labels, decay=LinearDecay())
    with torch.autocast("cpu", dtype=dtype):
        found = matrix_nms(masks, log_scores, labels, decay=LinearDecay())
    assert torch.equal(found, exact)
    torch.testing.assert_close(
        matrix_nms(masks, log_scores.to(dtype), labels, decay=LinearDecay()), exact, rtol=0.02, atol=0
    )


random_masks = st.integers(0, 12).flatmap(
    lambda count: st.tuples(
        st.lists(st.sets(st.integers(0, 8), min_size=0, max_size=9), min_size=count, max_size=count),
        st.lists(st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]), min_size=count, max_size=count),
        st.lists(st.integers(0, 1), min_size=count, max_size=count),
    )
)


@settings(max_examples=60)
@given(random_masks)
def test_matrix_nms_equals_loops(drawn):
    pixels, scores, labels = drawn
    masks = torch.zeros(len(pixels), 9, dtype=torch.bool)
    for mask, inside in zip(masks, pixels, strict=True):
        mask[list(inside)] = True
    for decay, f in (
        (GaussianDecay(sigma=1.5), lambda o: math.exp(-1.5 * o * o)),
        (LinearDecay(), lambda o: max(1 - o, 1e-6)),
    ):
        found = matrix_nms(masks.view(-1, 3, 3), torch.tensor(scores).log(), torch.tensor(labels), decay=decay)
        expected = loops.matrix_nms(pixels, scores, labels, f=f)
        torch.testing.assert_close(found.exp(), torch.tensor(expected), rtol=1e-3, atol=1e-6)
        assert (found.exp() <= torch.tensor(scores) + 1e-6).all()


def random_boxes(count: int, generator: torch.Generator) -> torch.Tensor:
    corners = torch.rand(count, 2, generator=generator) * 20
    return torch.cat((corners, corners + 2 + torch.rand(count, 2, generator=generator) * 12), 1)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("top", [3, 200])
def test_fast_nms_equals_loops(seed, top):
    generator = torch.Generator().manual_seed(seed)
    boxes = random_boxes(60, generator)
    logits = torch.randint(-9, 9, (60,), generator=generator).float()  # with ties
    labels = torch.randint(4, (60,), generator=generator)
    found = fast_nms(boxes, logits, labels, threshold=0.3, top=top, limit=25)
    expected = loops.fast_nms(boxes.tolist(), logits.tolist(), labels.tolist(), threshold=0.3, top=top, limit=25)
    assert logits[found].tolist() == logits[expected].tolist()
    if top == 200:
        assert set(found.tolist()) == set(expected) or len(expected) == 25


def test_fast_nms_of_a_batch_is_that_of_each_image_among_its_valid_boxes():
    generator = torch.Generator().manual_seed(5)
    boxes = torch.stack([random_boxes(40, generator) for _ in range(4)])
    logits = torch.randint(-9, 9, (4, 40), generator=generator).float()  # with ties
    labels = torch.randint(3, (4, 40), generator=generator)
    valid = torch.rand(4, 40, generator=generator) < torch.tensor([0.0, 0.2, 0.7, 1.0])[:, None]
    found = fast_nms_of_batch(boxes, logits, labels, valid, threshold=0.3, top=9)
    for image, kept in enumerate(found):
        rows = valid[image].nonzero().squeeze(1)
        parts = (part[image, rows] for part in (boxes, logits, labels))
        assert kept.tolist() == rows[fast_nms(*parts, threshold=0.3, top=9, limit=40)].tolist()


def test_fast_nms_keeps_no_more_than_greedy_suppression():
    generator = torch.Generator().manual_seed(3)
    boxes, logits = random_boxes(80, generator), torch.randn(80, generator=generator)
    labels = torch.zeros(80).long()
    fast = fast_nms(boxes, logits, labels, threshold=0.4, top=200, limit=80)
    greedy = top_after_nms(boxes, logits, labels, threshold=0.4, limit=80)
    assert set(fast.tolist()) < set(greedy.tolist())


def test_nothing_to_suppress():
    empty = torch.zeros(0)
    assert fast_nms(empty.view(0, 4), empty, empty.long(), threshold=0.5, top=2, limit=2).shape == (0,)
    assert matrix_nms(torch.zeros(0, 2, 2).bool(), empty, empty, decay=LinearDecay()).shape == (0,)
    with pytest.raises(ValueError, match="sigma"):
        GaussianDecay(sigma=0)
