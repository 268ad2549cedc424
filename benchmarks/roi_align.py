"""RoIAlign's backward pass on a CPU, ours beside torchvision's: alone, and what it makes of a training step.

    python benchmarks/roi_align.py                                   # the operator
    python benchmarks/roi_align.py --step FasterRCNN CascadeMaskRCNN  # training steps, 2 images of 256 x 320

Both take turns in one process, with one thread and the time of the processor; ratios are medians over the turns. Steps
are those of `training.py`, with its presets and random weights, without the optimiser. The results are in
``benchmarks/results/training.md``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torchvision.ops import roi_align

sys.path.insert(0, str(Path(__file__).parent))

from training import BY_RANKING, CLASSES, METHODS, OURS

from rankdet.nn import roi
from rankdet.nn.roi_align import Grid, pool_regions
from rankdet.train import random_batch

SIZES = ((200, 334, 1000, 7), (64, 80, 500, 7), (64, 80, 100, 14))  # of a map of stride 4, regions, cells
HEIGHT, WIDTH = 256, 320


def of_torchvision(features: Tensor, regions: Tensor, grid: Grid) -> Tensor:
    """The same by torchvision's operator in both passes."""
    return roi_align(features, regions, grid.cells, grid.scale, grid.sampling_ratio, grid.aligned)


WAYS: dict[str, Callable[[Tensor, Tensor, Grid], Tensor]] = {"torchvision": of_torchvision, "rankdet": pool_regions}


def taken(work: Callable[[], object]) -> float:
    """Seconds of the processor."""
    start = time.process_time()
    work()
    return time.process_time() - start


def operator(turns: int) -> None:
    """Print the backward pass alone, with regions of up to 112 pixels, which is what the finest level has."""
    generator = torch.Generator().manual_seed(0)
    for height, width, number, cells in SIZES:
        features = torch.randn(2, 256, height, width, generator=generator, requires_grad=True)
        centres = torch.rand(number, 2, generator=generator) * torch.tensor([4.0 * width, 4.0 * height])
        sides = torch.rand(number, 2, generator=generator) * 112
        image = torch.randint(2, (number, 1), generator=generator)
        regions = torch.cat([image, centres - sides / 2, centres + sides / 2], 1)
        seconds: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in range(turns):
            for name, pool in WAYS.items():
                pooled = pool(features, regions, Grid(cells, 0.25, 0, aligned=True)).sum()
                seconds[name].append(taken(pooled.backward))
        ratio = statistics.median(a / b for a, b in zip(*seconds.values(), strict=True))
        print(f"{height} x {width}, {number} regions, {cells} x {cells} cells: {ratio:.1f} times as fast", flush=True)


def steps(detector: str, turns: int) -> None:
    """Print what a step of both presets takes."""
    images, targets = random_batch(2, height=HEIGHT, width=WIDTH, num_classes=CLASSES)
    models = {case: METHODS[detector].build(case, height=HEIGHT, width=WIDTH).train() for case in (OURS, BY_RANKING)}
    seconds: dict[tuple[str, str], list[float]] = {(case, way): [] for case in models for way in WAYS}
    for _ in range(turns):
        for (case, way), own in seconds.items():
            roi.pool_regions = WAYS[way]
            torch.manual_seed(0)
            own.append(taken(lambda case=case: sum(models[case](images, targets).values()).backward()))
            models[case].zero_grad()
    for title, over, under in (
        *((f"{case}: rankdet's / torchvision's", (case, "rankdet"), (case, "torchvision")) for case in models),
        *((f"{BY_RANKING} / {OURS}, {way}'s", (BY_RANKING, way), (OURS, way)) for way in WAYS),
    ):
        ratio = statistics.median(a / b for a, b in zip(seconds[over], seconds[under], strict=True))
        print(f"{detector}, {title}: {ratio:.2f}", flush=True)


def main() -> None:
    """Print one or the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", nargs="+", choices=list(METHODS), help="detectors")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.step:
        operator(arguments.turns)
    for detector in arguments.step or ():
        steps(detector, arguments.turns)


if __name__ == "__main__":
    main()
