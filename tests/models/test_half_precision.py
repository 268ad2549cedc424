"""Half precision stays in the network: assignment, losses, boxes and masks are those of float32, within rounding.

What happens behind the network is compared in tests of the parts: pooled regions, pasted masks, Matrix NMS, CARAFE.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.models.test_every_pair import PAIRS, make, target, two_images

FAMILIES = {
    recipe for recipe, _ in PAIRS if not any(issubclass(recipe, other) for other, _ in PAIRS if other != recipe)
}
STEEP = {"correlated_varifocal", "ia_bce"}  # they magnify roundings: targets made of scores, correlations of few
FIRST_PAIRS = list(
    {
        recipe: (recipe, criterion)
        for recipe, criterion in reversed(PAIRS)
        if recipe in FAMILIES and criterion.__name__ not in STEEP
    }.values()
)
QUICK = {"RetinaNet", "FasterRCNN", "YOLACT", "SOLOv2"}


def case(pair, dtype: torch.dtype, *, long: bool):
    names = (getattr(part, "__name__", str(part)) for part in (*pair, dtype))
    return pytest.param(*pair, dtype, marks=[pytest.mark.long] if long else [], id="-".join(names))


CASES = [case(pair, torch.bfloat16, long=pair not in FIRST_PAIRS) for pair in PAIRS]
# float16 is slow on a CPU: once a family.
CASES += [case(pair, torch.float16, long=pair[0].__name__ not in QUICK) for pair in FIRST_PAIRS]
BOUNDS = {torch.bfloat16: 0.04, torch.float16: 0.005}  # 11 bits of a number are 8 times as exact as 8


class Step(NamedTuple):
    """Losses and the gradient of all parameters of a training step, and what is detected."""

    losses: dict[str, Tensor]
    gradient: Tensor
    detections: list[dict[str, Tensor]]


def step(model: nn.Module, dtype: torch.dtype) -> Step:
    given = two_images()
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        losses = model(given, [target(4, 96), target(2, 50)])
    sum(losses.values()).backward()
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        detections = model.eval()(given)
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return Step({name: loss.detach() for name, loss in losses.items()}, gradient, detections)


def made(recipe, criterion) -> nn.Module:
    torch.manual_seed(0)
    return make(recipe, criterion)


@lru_cache
def exact_step(recipe, criterion) -> Step:
    return step(made(recipe, criterion), torch.float32)


@pytest.mark.parametrize(("recipe", "criterion", "dtype"), CASES)
def test_autocast_learns_and_detects(recipe, criterion, dtype):
    found = step(made(recipe, criterion), dtype)
    assert {loss.dtype for loss in found.losses.values()} == {torch.float32}
    assert torch.isfinite(torch.stack(list(found.losses.values()))).all()
    assert torch.isfinite(found.gradient).all()
    for of_image in found.detections:
        assert len(of_image["boxes"])
        assert {of_image[name].dtype for name in ("boxes", "logits", "scores")} == {torch.float32}
    if (recipe, criterion) in FIRST_PAIRS:
        compare(found, exact_step(recipe, criterion), dtype)


def compare(found: Step, exact: Step, dtype: torch.dtype) -> None:
    """Losses within their bound, gradients in nearly the same direction, the best logits mostly within a tenth."""
    for name, loss in exact.losses.items():
        torch.testing.assert_close(found.losses[name], loss, rtol=BOUNDS[dtype], atol=BOUNDS[dtype], msg=name)
    assert F.cosine_similarity(found.gradient, exact.gradient, dim=0) > 1 - BOUNDS[dtype]
    for of_image, expected in zip(found.detections, exact.detections, strict=True):
        best = min(20, len(of_image["logits"]), len(expected["logits"]))
        assert (of_image["logits"][:best] - expected["logits"][:best]).abs().median() < 0.1
