"""What is checked of the arguments of a ranking loss, and how dense targets become a list of positives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Positives:
    """Which entries of the flattened logits are positives, and which rows take no part."""

    index: Tensor  # (P,) int64
    quality: Tensor  # (P,)
    ignored: Tensor | None  # bool, shape of the leading dimensions of the logits


def check_logits(logits: Tensor) -> None:
    """Raise unless the logits are floating and free of NaN."""
    if not logits.is_floating_point():
        raise TypeError(f"logits are {logits.dtype}; accepted are float16, bfloat16, float32, float64")
    if bool(logits.detach().isnan().any()):
        raise ValueError("logits contain NaN; the step before this one diverged, or its input was not finite")


def read_targets(logits: Tensor, targets: Tensor, positives: Tensor | None) -> Positives:
    """The positives of dense targets; see `RankingLoss.terms`."""
    check_logits(logits)
    if targets.shape != logits.shape:
        raise ValueError(f"targets have shape {tuple(targets.shape)}, logits {tuple(logits.shape)}; they must be equal")
    if positives is not None and (positives.shape != logits.shape or positives.dtype != torch.bool):
        raise ValueError(
            f"positives are {positives.dtype} of shape {tuple(positives.shape)}; "
            f"accepted is a boolean mask of the shape of the logits, {tuple(logits.shape)}"
        )
    targets = targets.detach()
    mask = targets > 0 if positives is None else positives
    index = mask.reshape(-1).nonzero().squeeze(1)
    quality = targets.reshape(-1).index_select(0, index)
    if bool((targets > 1).any() | targets.isnan().any()):
        raise ValueError(f"a target is {targets.max().item()}; accepted are qualities of at most 1, 0 and ignored < 0")
    return Positives(index, quality.clamp(min=0), targets < 0)
