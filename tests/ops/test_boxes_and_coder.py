"""Overlaps and coder against worked numbers, torchvision and invariants."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou, generalized_box_iou

from rankdet.ops import DeltaCoder, aligned_giou, aligned_iou, pairwise_iou
from rankdet.ops.boxes import clip_boxes, pairwise_intersection_over_second
from rankdet.ops.coder import MAX_LOG_RATIO

PRIOR = torch.tensor([[10.0, 10.0, 50.0, 40.0]])
BOX = torch.tensor([[12.0, 8.0, 48.0, 44.0]])


def random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 100
    return torch.cat((corners, corners + torch.rand(count, 2, generator=generator) * 60 + 2), 1)


def test_worked_pair():
    assert float(aligned_iou(PRIOR, BOX)) == pytest.approx(0.762712, abs=1e-6)
    assert float(aligned_giou(PRIOR, BOX)) == pytest.approx(0.746045, abs=1e-6)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_overlaps_agree_with_torchvision(seed: int):
    first, second = random_boxes(7, seed), random_boxes(5, seed + 1)
    torch.testing.assert_close(pairwise_iou(first, second), box_iou(first, second), rtol=1e-5, atol=1e-6)
    giou = generalized_box_iou(first, first.flip(0)).diagonal()
    torch.testing.assert_close(aligned_giou(first, first.flip(0)), giou, rtol=1e-5, atol=1e-6)


def test_equal_boxes_overlap_exactly():
    boxes = random_boxes(50, 3)
    assert (aligned_iou(boxes, boxes) == 1).all()
    assert (aligned_giou(boxes, boxes) == 1).all()


def test_boxes_without_area_do_not_divide_by_zero():
    point = torch.tensor([[5.0, 5.0, 5.0, 5.0]])
    assert float(aligned_iou(point, point)) == 0
    assert torch.isfinite(aligned_giou(point, point)).all()


def test_share_of_the_second_box():
    region, priors = (
        torch.tensor([[0.0, 0.0, 10.0, 10.0]]),
        torch.tensor([[5.0, 0.0, 15.0, 10.0], [2.0, 2.0, 4.0, 4.0]]),
    )
    assert pairwise_intersection_over_second(region, priors).tolist() == [[0.5, 1.0]]


@pytest.mark.parametrize(
    ("prior", "box", "deltas"),
    [
        (PRIOR, BOX, [0, 0.333333, -0.526803, 0.911608]),
        (torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor([[20.0, 20.0, 30.0, 40.0]]), [20, 25, 0, 3.465736]),
    ],
)
def test_worked_encodings(prior, box, deltas):
    torch.testing.assert_close(DeltaCoder().encode(prior, box), torch.tensor([deltas], dtype=torch.float32))


def test_decoding_clamps_sides_both_ways():
    decoded = DeltaCoder().decode(PRIOR, torch.tensor([[0.0, 0.0, 100.0, -100.0]]))
    torch.testing.assert_close(decoded, torch.tensor([[-1220.0, 24.76, 1280.0, 25.24]]))
    assert MAX_LOG_RATIO == pytest.approx(4.1352, abs=1e-4)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_decoding_inverts_encoding(seed: int):
    priors, boxes = random_boxes(20, seed), random_boxes(20, seed + 1)
    coder = DeltaCoder(stds=(0.3, 0.1, 0.5, 0.2))
    torch.testing.assert_close(coder.decode(priors, coder.encode(priors, boxes)), boxes, rtol=1e-4, atol=1e-3)


def test_wrong_stds():
    with pytest.raises(ValueError, match="positive"):
        DeltaCoder(stds=(0.1, 0.1, 0.0, 0.2))


def test_clipping_keeps_the_far_edge():
    assert clip_boxes(torch.tensor([[-3.0, 2.0, 50.0, 99.0]]), (40, 45)).tolist() == [[0.0, 2.0, 45.0, 40.0]]
