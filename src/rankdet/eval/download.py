"""Detections of a batch on the CPU: one copy from an accelerator, in which a pixel of a mask takes a bit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rankdet.ops.remembered import constant

MASKS_AT_ONCE = 16


def on_cpu(detections: Iterable[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """Detections of the images of a batch, dicts of tensors (D, ...), on the CPU, one at a time.

    Those of an accelerator are packed as they come and downloaded together: the host waits once, and whole masks are
    there of one image at a time, on either side. Those of the CPU are handed through.

    >>> [float(found["scores"]) for found in on_cpu([{"scores": torch.ones(1)}, {"scores": torch.zeros(1)}])]
    [1.0, 0.0]
    """
    rest = iter(detections)
    first = next(rest, None)
    if first is None:
        return
    if all(value.device.type == "cpu" for value in first.values()):
        yield from chain([first], rest)
        return
    packed = [_packed(found) for found in chain([first], rest)]
    content = torch.cat([part.content for found in packed for part in found.values()]).cpu()
    sizes = [len(part.content) for found in packed for part in found.values()]
    parts = iter(content.split(sizes))
    for found in packed:
        yield {name: _unpacked(next(parts), part.kind, part.shape) for name, part in found.items()}


class _Packed(NamedTuple):
    """The bytes of a tensor, and what it was."""

    content: Tensor
    kind: torch.dtype
    shape: torch.Size


def _packed(detection: dict[str, Tensor]) -> dict[str, _Packed]:
    return {
        name: _Packed(_bits(value) if _is_mask(value.dtype, value.shape) else _bytes(value), value.dtype, value.shape)
        for name, value in detection.items()
    }


def _is_mask(kind: torch.dtype, shape: torch.Size) -> bool:
    return kind == torch.bool and len(shape) == 3


def _bytes(value: Tensor) -> Tensor:
    return value.contiguous().flatten().view(torch.uint8)


def _bits(masks: Tensor) -> Tensor:
    """Masks (D, H, W), each in as many bytes as it needs, a few at a time."""
    values = constant((1, 2, 4, 8, 16, 32, 64, 128), device=masks.device, dtype=torch.uint8)
    padding = -(masks.shape[1] * masks.shape[2]) % len(values)
    parts = [functional.pad(part.flatten(1), (0, padding)) for part in masks.split(MASKS_AT_ONCE)]
    return torch.cat([(part.unflatten(1, (-1, 8)) * values).sum(2, dtype=torch.uint8) for part in parts]).flatten()


def _unpacked(content: Tensor, kind: torch.dtype, shape: torch.Size) -> Tensor:
    if not _is_mask(kind, shape):
        return content.clone().view(kind).view(shape)  # a copy, whose bytes begin where the type wants them to
    pixels = shape[1] * shape[2]
    rows = content.numpy().reshape(shape[0], -(-pixels // 8))
    bits = np.unpackbits(rows, axis=1, count=pixels, bitorder="little") if pixels else rows
    return torch.from_numpy(bits.view(np.bool_)).view(shape)
