"""What is checked of the arguments of a ranking loss, and how dense targets become a list of positives."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rankdet.losses.ranking.numbers import alone, on_cpu
from rankdet.losses.ranking.search import BlockScan

ROUNDING = 1e-3  # an IoU may come out a little above 1
NAN_LOGITS = "logits contain NaN: an image is not finite, or an earlier step diverged; lower the learning rate"


@dataclass(frozen=True)
class PositiveEntries:
    """Which entries of the flattened logits are positives, and which rows take no part.

    Attributes:
        index: (P,) int64, distinct.
        quality: (P,) in 0..1.
        ignored: bool, shape of the leading dimensions of the logits; None: nothing is ignored.
        sorting_group: (P,) int64, which of them are sorted among themselves; None: all.
    """

    index: Tensor
    quality: Tensor
    ignored: Tensor | None = None
    sorting_group: Tensor | None = None


def check_tensors(logits: object, targets: object) -> None:
    """Raise unless the logits, and the targets where there are any, are tensors."""
    for name, value in (("logits", logits), ("targets", targets)):
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(f"{name} are a {type(value).__name__}; give a tensor")


def check_dtype(logits: Tensor) -> None:
    """Raise unless the logits are floating."""
    if not logits.is_floating_point():
        raise TypeError(f"logits are {logits.dtype}; accepted are float16, bfloat16, float32 and float64")


def listed(logits: Tensor, scan: BlockScan, found: PositiveEntries) -> PositiveEntries:
    """A list of positives, once it is known to fit the logits; on a CPU, where looking costs little, all is checked.

    Of several processes none complains about values: the others would wait for it, and a loss of NaN tells them.
    """
    if found.index.ndim != 1 or found.index.dtype != torch.long or found.index.shape != found.quality.shape:
        raise ValueError(
            f"positive_index is {found.index.dtype} of shape {tuple(found.index.shape)}, quality has shape "
            f"{tuple(found.quality.shape)}; accepted are int64 of shape (M,) and numbers of shape (M,)"
        )
    groups = found.sorting_group
    if groups is not None and (groups.dtype != torch.long or groups.shape != found.index.shape):
        raise ValueError(
            f"sorting_group is {groups.dtype} of shape {tuple(groups.shape)}; accepted is int64, one number for each "
            f"positive, {tuple(found.index.shape)}"
        )
    if found.ignored is not None and found.ignored.dtype != torch.bool:
        raise ValueError(f"ignored is {found.ignored.dtype}; accepted is a boolean mask")
    if found.ignored is not None:
        check_leading("ignored", found.ignored, logits)
    if on_cpu(logits) and alone() and logits.numel() and bool(scan.greatest().isnan()):
        raise ValueError(NAN_LOGITS)
    if on_cpu(logits) and found.index.numel():
        _check_distinct(found.index, logits.numel())
    return replace(found, quality=_checked_quality(found.quality))


def with_errors(found: PositiveEntries, quality: Tensor) -> PositiveEntries:
    """The same positives with the qualities, (P,) in their order, that stand for localisation errors."""
    if quality.shape != found.index.shape:
        raise ValueError(
            f"localisation_errors have shape {tuple(quality.shape)}, but there are {found.index.numel()} positives; "
            f"give one for each, {tuple(found.index.shape)}, in their order in the flattened targets"
        )
    if on_cpu(quality) and alone() and quality.numel() and not bool(quality.amax() <= 1 + ROUNDING):  # NaN too
        raise ValueError("a localisation error is NaN or below 0; accepted are numbers >= 0, such as 1 - iou")
    return replace(found, quality=quality.clamp(max=1))


def _check_distinct(index: Tensor, number: int) -> None:
    ordered = index.sort().values
    if ordered[0] < 0 or ordered[-1] >= number:
        raise ValueError(
            f"positive_index holds {int(ordered[0])} to {int(ordered[-1])}, but the flattened logits are {number}; "
            f"accepted are 0 to {number - 1}"
        )
    twice = ordered[1:][ordered.diff() == 0]
    if twice.numel():
        raise ValueError(f"positive_index holds {int(twice[0])} more than once; name each positive once")


def _checked_quality(quality: Tensor) -> Tensor:
    """At most 1: what is above by rounding becomes 1, what is more is an error (on a CPU, elsewhere nobody looks)."""
    looked = on_cpu(quality) and alone() and quality.numel()
    if looked and not (most := float(quality.amax())) <= 1 + ROUNDING:  # NaN too
        raise ValueError(f"a quality is {most}; accepted is at most 1")
    return quality.clamp(max=1)


def check_index(name: str, index: Tensor, logits: Tensor) -> None:
    """Raise unless it is an integer for some leading dimensions of the logits."""
    if index.is_floating_point() or index.dtype == torch.bool:
        raise ValueError(f"{name} is {index.dtype}; accepted is int64, one number for each row of the logits")
    check_leading(name, index, logits)


def check_weight(weight: Tensor, logits: Tensor, found: PositiveEntries) -> None:
    """Raise unless the weights are those of some leading dimensions, and (on a CPU) above 0 for every positive."""
    check_leading("weight", weight, logits)
    if not (on_cpu(weight) and found.index.numel()):
        return
    least = float(weight.amin())
    of_positives = weight.reshape(-1).index_select(0, found.index // (logits.numel() // weight.numel()))
    if not (least >= 0 and float(of_positives.amin()) > 0):
        raise ValueError(
            f"a weight is {least}, that of a positive {float(of_positives.amin())}; accepted are weights from 0 on, "
            f"and above 0 for positives (to leave a positive out, make its target negative, or ignore its row)"
        )


def check_leading(name: str, rows: Tensor, logits: Tensor) -> None:
    """Raise unless the shape is that of some leading dimensions of the logits."""
    if rows.ndim == 0 or rows.shape != logits.shape[: rows.ndim]:
        raise ValueError(
            f"{name} has shape {tuple(rows.shape)}, the logits {tuple(logits.shape)}; "
            f"accepted is the shape of the leading dimensions of the logits"
        )


def read_targets(logits: Tensor, scan: BlockScan, targets: Tensor, positives: Tensor | None) -> PositiveEntries:
    """The positives of dense targets; see `RankingLoss.terms` for what is accepted."""
    _check_shapes(logits, targets, positives)
    flat = targets.detach().reshape(-1)
    if not flat.is_floating_point():
        flat = flat.to(logits.dtype)
    if flat.numel() == 0:
        return PositiveEntries(torch.zeros(0, dtype=torch.long, device=flat.device), flat)
    read = BlockScan(flat)
    extremes = torch.stack([flat.amin(), read.greatest(), scan.greatest().to(flat.dtype)]).cpu()
    least, most, logit = (number.item() for number in extremes)  # tolist() fails inside of torch.func up to torch 2.6
    if logit != logit and alone():
        raise ValueError(NAN_LOGITS)
    if not most <= 1 + ROUNDING:  # NaN too
        raise ValueError(f"a target is {most}; accepted are a quality of at most 1, 0 for negatives, < 0 for ignored")
    index = (
        read.indices_of(lambda value: value > 0) if positives is None else positives.reshape(-1).nonzero().squeeze(1)
    )
    quality = flat.index_select(0, index).clamp(0, 1)
    return PositiveEntries(index, quality, (flat < 0).view(logits.shape) if least < 0 else None)


def _check_shapes(logits: Tensor, targets: Tensor, positives: Tensor | None) -> None:
    if targets.shape != logits.shape:
        raise ValueError(f"targets have shape {tuple(targets.shape)}, logits {tuple(logits.shape)}; they must be equal")
    if positives is not None and (positives.shape != logits.shape or positives.dtype != torch.bool):
        raise ValueError(
            f"positives are {positives.dtype} of shape {tuple(positives.shape)}; "
            f"accepted is a boolean mask of the shape of the logits, {tuple(logits.shape)}"
        )
