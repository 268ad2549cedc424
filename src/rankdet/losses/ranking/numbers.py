"""Small numerical helpers."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def accumulator(device: torch.device) -> torch.dtype:
    """The dtype that sums are taken in: float64, or float32 on devices that have no float64 (MPS)."""
    return torch.float32 if device.type == "mps" else torch.float64


def on_cpu(tensor: Tensor) -> bool:
    """Whether looking at a value costs nothing; elsewhere the host would have to wait for the device."""
    return tensor.device.type == "cpu"


def alone() -> bool:
    """Whether no other process would wait for this one if it gave up over a value that only it has seen."""
    return not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1)


def widened(dtype: torch.dtype) -> torch.dtype:
    """float32 for the 16-bit dtypes, any other as it is."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def finite(values: Tensor) -> Tensor:
    """The values with infinities replaced by numbers so large that nothing can be added to them."""
    largest = torch.finfo(values.dtype).max / 4
    return values.clamp(-largest, largest)


def rounded_up(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The smallest numbers of a narrower dtype that are not below the values: ``x >= value`` stays what it was."""
    if values.dtype == dtype:
        return values
    narrow = values.to(dtype)
    above = torch.nextafter(narrow, torch.full_like(narrow, torch.inf))
    return torch.where(narrow.to(values.dtype) < values, above, narrow)


def running_sums(values: Tensor) -> Tensor:
    """``out[..., k] = sum of values[..., : k + 1]``, also where torch has been asked to be deterministic.

    On accelerators its cumulative sum of floats is not, and raises then; instead, sums over twice as many values are
    added up in each of a few rounds.
    """
    if on_cpu(values) or not torch.are_deterministic_algorithms_enabled():
        return values.cumsum(-1)
    reach = 1
    while reach < values.shape[-1]:
        values = values + torch.nn.functional.pad(values[..., :-reach], (reach, 0))
        reach *= 2
    return values


def suffix_sums(values: Tensor) -> Tensor:
    """``out[..., k] = sum of values[..., k:]``."""
    return running_sums(values.flip(-1)).flip(-1)
