"""Masks are learned cut or shrunk: nothing in a step is as large as a mask of the whole image for each positive."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rankdet.models import YOLACT, CascadeMaskRCNN, MaskRCNN, ProposalSelection, RegionSettings, SOLOv2
from rankdet.nn.solov2 import KernelHead
from tests.models.test_every_pair import SMALL, target

pytestmark = pytest.mark.skipif(
    torch.__version__ < (2, 6), reason="older torch refuses as_subclass of a plain tensor while operators are watched"
)
SIDE = 256


class Largest(TorchDispatchMode):
    """The number of elements of the largest result of an operator; of those that are not 0 where it is sparse."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        results = func(*args, **(kwargs or {}))
        for result in results if isinstance(results, tuple | list) else (results,):
            if isinstance(result, Tensor):
                self.elements = max(self.elements, result._nnz() if result.is_sparse else result.numel())
        return results


def mask_rcnn(recipe: type[nn.Module]) -> nn.Module:
    return recipe(**SMALL, settings=RegionSettings(proposals=ProposalSelection(keep=1000)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: mask_rcnn(MaskRCNN),
        lambda: mask_rcnn(CascadeMaskRCNN),
        lambda: YOLACT(**SMALL, image_size=SIDE),
        lambda: SOLOv2(**SMALL, head=partial(KernelHead, width=16, stacked=1, kernel_channels=16)),
    ],
    ids=["MaskRCNN", "CascadeMaskRCNN", "YOLACT", "SOLOv2"],
)
def test_no_full_mask_for_each_positive(make):
    torch.manual_seed(0)
    model, positives = make(), []
    model.criterion.register_forward_hook(lambda _module, _inputs, output: positives.append(len(output.weights)))
    with Largest() as largest:
        losses = model([torch.rand(3, SIDE, SIDE)], [target(12, SIDE)])
        sum(losses.values()).backward()
    assert positives[0] > 15, "as many as the test is worth"
    assert largest.elements < positives[0] * SIDE**2
