"""Where half precision is not enough, whatever autocast would choose."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Within the block operators on tensors of this device compute in the dtype of their inputs.

    >>> ones = torch.ones(1, 300)
    >>> with torch.autocast("cpu", dtype=torch.bfloat16):
    ...     with without_autocast(ones.device):
    ...         exact = ones @ ones.mT
    ...     float(exact), exact.dtype, (ones @ ones.mT).dtype
    (300.0, torch.float32, torch.bfloat16)
    """
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def has_float64(device: torch.device) -> bool:
    """Whether there are numbers of 64 bits; Apple's GPUs have none."""
    return device.type != "mps"
