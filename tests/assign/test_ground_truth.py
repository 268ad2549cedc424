"""Targets that are no targets are refused with what they are and what they should be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rankdet.assign.ground_truth import GroundTruth, InstanceTruth


@pytest.mark.parametrize("key", ["boxes", "labels", "iscrowd"])
def test_lists_are_no_tensors(key):
    target = {"boxes": torch.tensor([[0.0, 0, 4, 4]]), "labels": torch.tensor([0]), "iscrowd": torch.tensor([False])}
    target[key] = target[key].tolist()
    with pytest.raises(TypeError, match=rf"targets\[0\]: {key} must be a tensor, got a list"):
        GroundTruth.from_targets([target], num_classes=1, device=torch.device("cpu"))


@pytest.mark.parametrize("flag", [2, 0.5, float("nan")])
def test_crowd_flags_are_0_or_1(flag):
    target = {"boxes": torch.tensor([[0.0, 0, 4, 4]]), "labels": torch.tensor([0]), "iscrowd": torch.tensor([flag])}
    with pytest.raises(ValueError, match=rf"targets\[0\]: iscrowd must hold 0 and 1; got {flag}"):
        GroundTruth.from_targets([target], num_classes=1, device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("masks", "error", "message"),
    [
        (None, ValueError, r"targets\[0\] has no masks .*open the dataset with masks=True"),
        ([[[1]]], TypeError, r"masks must be a tensor, got a list"),
        (np.zeros((1, 8, 8)), TypeError, r"masks must be a tensor, got a ndarray"),
        (torch.zeros(2, 8, 8), ValueError, r"masks must be \(G, H, W\), one for each of 1 boxes; got \(2, 8, 8\)"),
        (torch.zeros(8, 8), ValueError, r"got \(8, 8\)"),
        (torch.zeros(1, 8), ValueError, r"got \(1, 8\)"),
        (torch.full((1, 8, 8), 0.25), ValueError, r"masks must hold 0 and 1; got 0\.25; write masks > 0\.5"),
    ],
)
def test_masks_that_are_none(masks, error, message):
    target = {"boxes": torch.tensor([[0.0, 0, 4, 4]]), "labels": torch.tensor([0])}
    target |= {} if masks is None else {"masks": masks}
    with pytest.raises(error, match=message):
        InstanceTruth.from_targets([target], num_classes=1, device=torch.device("cpu"))
