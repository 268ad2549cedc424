"""Targets that are no targets are refused with what they are and what they should be."""

from __future__ import annotations

import pytest
import torch

from rankdet.assign.ground_truth import GroundTruth


@pytest.mark.parametrize("key", ["boxes", "labels", "iscrowd"])
def test_lists_are_no_tensors(key):
    target = {"boxes": torch.tensor([[0.0, 0, 4, 4]]), "labels": torch.tensor([0]), "iscrowd": torch.tensor([False])}
    target[key] = target[key].tolist()
    with pytest.raises(TypeError, match=rf"targets\[0\]: {key} must be a tensor, got a list"):
        GroundTruth.from_targets([target], num_classes=1, device=torch.device("cpu"))
