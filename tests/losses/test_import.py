"""The losses need torch alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

import rankdet.losses

ALONE = """
import sys
from importlib.abc import MetaPathFinder

import torch

KNOWN = set(sys.modules) | {name.split(".")[0] for name in sys.modules}


class Refuse(MetaPathFinder):
    # Everything that neither the standard library nor torch brought in so far.
    def find_spec(self, name, path=None, target=None):
        root = name.split(".")[0]
        if root in KNOWN or root in sys.stdlib_module_names or root == "rankdet":
            return None
        raise ImportError(f"{name} must not be needed")


hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "numpy"}
KNOWN -= {"torchvision", "numpy", "rankdet"}
sys.meta_path.insert(0, Refuse())
from rankdet.losses import ALRPLoss, AveragePrecisionLoss, BucketedRankSortLoss, NDCGLoss, RankingLoss, RankSortLoss
from rankdet.losses.functional import alrp_loss, average_precision_loss, ndcg_loss, rank_sort_loss

logits = torch.tensor([1.0, 0.0, 2.0], requires_grad=True)
RankSortLoss()(logits, torch.tensor([0.0, 1.0, 0.5])).backward()
print(logits.grad.abs().sum().item() > 0)

# Assigners, criteria and all other losses need numpy as well, but neither torchvision nor anything that trains.
KNOWN.add("numpy")
sys.modules.update(hidden)
import rankdet.assign, rankdet.criteria, rankdet.losses, rankdet.ops
for package in (rankdet.losses, rankdet.ops):
    for name in package.__all__:
        getattr(package, name)
box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
print(rankdet.losses.GIoULoss()(torch.zeros(1, 4), box, box, rankdet.ops.DeltaCoder()).item())
"""


def test_losses_assigners_and_criteria_need_torch_alone():
    result = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=False)
    assert result.stdout.split() == ["True", "0.0"], result.stderr


def test_every_public_name_is_there_and_listed():
    assert sorted(rankdet.losses.__all__) == sorted(rankdet.losses._MODULES) == dir(rankdet.losses)
    for name in rankdet.losses.__all__:
        assert getattr(rankdet.losses, name).__name__ == name


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'RankLoss'.*RankSortLoss"):
        _ = rankdet.losses.RankLoss
