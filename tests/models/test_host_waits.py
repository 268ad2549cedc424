"""Where the host waits for the device in a training step: as often as a stage needs, and not for each image.

Operators whose result has a size, or a number, that only the device knows are counted on the CPU, by the place in the
source. Checks of values that are made on a CPU alone do not count.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import rankdet
from rankdet.models import TwoStageDetector
from tests.models.test_every_pair import PAIRS, make, target

pytestmark = pytest.mark.skipif(
    torch.__version__ < (2, 6), reason="older torch refuses as_subclass of a plain tensor while operators are watched"
)
ROOT = Path(rankdet.__file__).parent
WAITING = {
    f"aten::{name}"
    for name in ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal", "bincount")
}
ON_A_CPU_ALONE = {"_check", "_check_values", "_check_distinct", "_checked_quality", "check_logits"}


class Waits(TorchDispatchMode):
    """Counts waits by (file, function) of rankdet."""

    def __init__(self) -> None:
        super().__init__()
        self.places: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = func._schema.name
        by_mask = name in ("aten::index", "aten::index_put", "aten::index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if (name in WAITING or by_mask) and (place := _place(sys._getframe(1))):
            self.places[place] += 1
        return func(*args, **(kwargs or {}))


def _place(frame: FrameType | None) -> tuple[str, str] | None:
    """The innermost function of rankdet, unless it looks at values on a CPU only."""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if ROOT in path.parents:
            name = frame.f_code.co_name
            return None if name in ON_A_CPU_ALONE else (path.relative_to(ROOT).as_posix(), name)
        frame = frame.f_back
    return None


def waits_of_a_step(recipe, criterion, *, images: int) -> Counter[tuple[str, str]]:
    torch.manual_seed(0)
    model = make(recipe, criterion)
    targets = [target(3, 64) for _ in range(images)]
    with Waits() as waits:
        model([torch.rand(3, 64, 64) for _ in range(images)], targets)
    return waits.places


@pytest.mark.parametrize(("recipe", "criterion"), PAIRS, ids=lambda part: part.__name__)
def test_more_images_are_not_more_waits(recipe, criterion):
    """In assigners, criteria and networks; proposals are chosen image by image, losses have tests of their own."""
    few, many = (waits_of_a_step(recipe, criterion, images=images) for images in (2, 5))
    for place in set(few) | set(many):
        if place[0].startswith(("assign", "criteria", "nn")) and place != MIXTURE:
            assert many[place] == few[place], place


MIXTURE = ("assign/mixture.py", "fit_two_gaussians")  # looks at its convergence now and then


@pytest.mark.parametrize(("recipe", "criterion"), PAIRS, ids=lambda part: part.__name__)
def test_assigners_and_criteria_wait_to_list_the_positives(recipe, criterion):
    waits = waits_of_a_step(recipe, criterion, images=2)
    found = {place: count for place, count in waits.items() if place[0].startswith(("assign", "criteria"))}
    unexpected = {place[1] for place in found} - {
        "from_matches",
        "_each_any",
        "keep",
        "select",
        "demote",
        "_pairs_of_batch",
    }
    if recipe.__name__.startswith("SOLO"):
        unexpected -= {"__call__", "_claims"}  # cells that several objects claim are listed, too
    assert unexpected <= {MIXTURE[1]}
    dense_parts = 2 if recipe.__name__ == "FSAFRetinaNet" else 1
    limit = 4 if recipe.__name__.startswith("Cascade") else 2 if issubclass(recipe, TwoStageDetector) else dense_parts
    assert found[("assign/assignment.py", "from_matches")] <= limit
    assert found.get(("assign/ground_truth.py", "_each_any"), 0) <= 1


@pytest.mark.parametrize(("recipe", "criterion"), PAIRS, ids=lambda part: part.__name__)
def test_nothing_waits_on_the_way_back(recipe, criterion):
    """Seen by the profiler: formulas of gradients take another way while a dispatch mode looks on."""
    torch.manual_seed(0)
    model = make(recipe, criterion)
    total = sum(model([torch.rand(3, 64, 64) for _ in range(2)], [target(3, 64) for _ in range(2)]).values())
    with torch.profiler.profile() as profile:
        total.backward()
    assert not WAITING & {event.key for event in profile.key_averages()}
