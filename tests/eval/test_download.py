"""Detections come from a device as they were there, in one copy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

import rankdet
from rankdet.eval.download import on_cpu
from rankdet.eval.inference import rescale_batch
from tests.pretend_device import DEVICE, Pretend, needs_pretence

ROOT = Path(rankdet.__file__).parent


def detections(counts: Sequence[int], *, masks: bool = True) -> list[dict[str, Tensor]]:
    """So many in each image, of 7 x 9 pixels, which is no whole number of bytes."""
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "labels": torch.arange(count),
            "boxes": torch.rand(count, 4, generator=generator),
            "scores": torch.rand(count, generator=generator).to(torch.bfloat16),
            **({"masks": torch.rand(count, 7, 9, generator=generator) < 0.5} if masks else {}),
            "known": torch.rand(count, generator=generator) < 0.5,
        }
        for count in counts
    ]


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return list(found) == list(expected) and all(
        value.dtype == expected[name].dtype and torch.equal(value, expected[name]) for name, value in found.items()
    )


@needs_pretence
@pytest.mark.parametrize("counts", [[20, 0, 3], [0], [0, 0], [17]])
@pytest.mark.parametrize("masks", [True, False])
def test_what_is_downloaded_is_what_was_there(counts: list[int], masks: bool):
    expected = detections(counts, masks=masks)
    with Pretend(root=ROOT) as device:
        there = [{name: value.to(DEVICE) for name, value in found.items()} for found in expected]
        list(on_cpu(there[:1]))  # what is constant is uploaded once
        device.waits.clear()
        found = list(on_cpu(there))
        assert sum(device.waits.values()) == 1
    assert all(same(*pair) for pair in zip(found, expected, strict=True))


@needs_pretence
def test_masks_are_resized_where_they_are():
    sizes = {"from_sizes": [(7, 9), (7, 9)], "to_sizes": [(12, 17), (7, 9)]}
    expected = list(rescale_batch(detections([3, 2]), **sizes))
    with Pretend(root=ROOT):
        there = [{name: value.to(DEVICE) for name, value in found.items()} for found in detections([3, 2])]
        found = list(rescale_batch(there, **sizes))
    assert found[0]["masks"].shape == (3, 12, 17)
    assert all(same(*pair) for pair in zip(found, expected, strict=True))


def test_nothing_is_copied_on_the_cpu():
    expected = detections([2, 1])
    found = list(on_cpu(expected))
    assert all(one is other for one, other in zip(found, expected, strict=True))
    assert list(on_cpu([])) == []
