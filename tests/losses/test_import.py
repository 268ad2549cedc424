"""The ranking losses need torch alone."""

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


for name in [name for name in sys.modules if name.split(".")[0] in ("torchvision", "numpy", "rankdet")]:
    del sys.modules[name]
KNOWN -= {"torchvision", "numpy", "rankdet"}
sys.meta_path.insert(0, Refuse())
from rankdet.losses import ALRPLoss, AveragePrecisionLoss, BucketedRankSortLoss, NDCGLoss, RankingLoss, RankSortLoss
from rankdet.losses.functional import alrp_loss, average_precision_loss, ndcg_loss, rank_sort_loss

logits = torch.tensor([1.0, 0.0, 2.0], requires_grad=True)
RankSortLoss()(logits, torch.tensor([0.0, 1.0, 0.5])).backward()
assert "torchvision" not in sys.modules
print(logits.grad.abs().sum().item() > 0)
"""


def test_ranking_losses_need_torch_alone():
    result = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "True", result.stderr


def test_every_public_name_is_there_and_listed():
    assert sorted(rankdet.losses.__all__) == sorted(rankdet.losses._MODULES) == dir(rankdet.losses)
    for name in rankdet.losses.__all__:
        assert getattr(rankdet.losses, name).__name__ == name


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'RankLoss'.*RankSortLoss"):
        _ = rankdet.losses.RankLoss
