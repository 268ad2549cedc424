"""Time and memory of a training step, each detector with its ranking and its baseline criterion, beside torchvision's.

    python benchmarks/training.py                      # 2 images of 800 x 1333, 80 classes
    python benchmarks/training.py --height 320 --width 320 --steps 5 --only FasterRCNN

Every case runs in a process of its own (so that peak memory is its own), cases in turn and the whole round repeated, so
that a drift of the machine's speed meets all of them; printed are medians, and ratios to the first case of the
detector. The same random images and objects for all; SGD included; weights are random, the backbone is frozen and
normalised as in fine-tuning. The result of the last run is committed as ``benchmarks/results/training.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

CLASSES = 80
SIDES = [800, 1333]  # shorter and longer side, which torchvision resizes to; set by the options


def _backbone() -> nn.Module:
    from rankdet.nn import Backbone, FrozenStatistics

    return Backbone("resnet50", frozen_stages=1, norm=FrozenStatistics())


def _faster_rank_sort() -> nn.Module:
    from rankdet.models import FasterRCNN

    return FasterRCNN(num_classes=CLASSES, backbone=_backbone())


def _faster_softmax() -> nn.Module:
    from rankdet.models import FasterRCNN, softmax_criterion

    return FasterRCNN(num_classes=CLASSES, backbone=_backbone(), criterion=softmax_criterion())


def _faster_torchvision() -> nn.Module:
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.models.detection.faster_rcnn import FasterRCNN
    from torchvision.ops import FrozenBatchNorm2d

    backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3
    )
    return FasterRCNN(backbone, num_classes=CLASSES + 1, min_size=SIDES[0], max_size=SIDES[1])


def _atss_rank_sort() -> nn.Module:
    from rankdet.models import ATSS

    return ATSS(num_classes=CLASSES, backbone=_backbone())


def _atss_focal() -> nn.Module:
    from rankdet.criteria import Centerness, ScoreCriterion
    from rankdet.losses.boxes import GIoULoss
    from rankdet.models import ATSS

    criterion = ScoreCriterion(box_loss=GIoULoss(weight=2.0), weighting=Centerness(), judged=Centerness())
    return ATSS(num_classes=CLASSES, backbone=_backbone(), criterion=criterion)


CASES: dict[str, dict[str, Callable[[], nn.Module]]] = {
    "FasterRCNN": {
        "torchvision fasterrcnn_resnet50_fpn": _faster_torchvision,
        "rankdet, softmax + L1, sampled": _faster_softmax,
        "rankdet, Rank & Sort, all samples": _faster_rank_sort,
    },
    "ATSS": {
        "rankdet, focal + GIoU + centerness": _atss_focal,
        "rankdet, Rank & Sort": _atss_rank_sort,
    },
}


def batch(images: int, height: int, width: int, device: str) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Random images with 7 objects each, the mean of COCO, of all sizes."""
    generator = torch.Generator().manual_seed(0)
    pixels, targets = [], []
    for _ in range(images):
        pixels.append(torch.rand(3, height, width, generator=generator).to(device))
        corners = torch.rand(7, 2, generator=generator) * torch.tensor([width * 0.6, height * 0.6])
        sides = torch.exp(torch.rand(7, 2, generator=generator) * 3) * 16
        boxes = torch.cat((corners, (corners + sides).minimum(torch.tensor([width - 1.0, height - 1.0]))), 1)
        labels = torch.randint(0, CLASSES, (7,), generator=generator)
        targets.append({"boxes": boxes.to(device), "labels": labels.to(device)})
    return pixels, targets


def measure(detector: str, case: str, options: argparse.Namespace) -> dict[str, float]:
    """Median seconds of a step and peak memory in GiB, in this process."""
    SIDES[:] = sorted((options.height, options.width))
    torch.manual_seed(0)
    model = CASES[detector][case]().to(options.device).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(parameters, lr=1e-4, momentum=0.9)
    images, targets = batch(options.images, options.height, options.width, options.device)
    on_gpu = options.device.startswith("cuda")
    seconds = []
    for _ in range(options.warmup + options.steps):
        start = time.perf_counter()
        sum(model(images, targets).values()).backward()
        optimiser.step()
        optimiser.zero_grad()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": statistics.median(seconds[options.warmup :]), "gib": peak / 2**30}


def in_a_process_of_its_own(detector: str, case: str, arguments: list[str]) -> dict[str, float]:
    """Run one case and read what it prints."""
    command = [sys.executable, __file__, *arguments, "--case", detector, case]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def machine(device: str) -> str:
    """What the numbers were measured on."""
    name = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor() or platform.machine()
    return (
        f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )


def table(detector: str, runs: dict[str, list[dict[str, float]]]) -> list[str]:
    """Markdown rows of one detector; the ratios are medians over rounds of ratios within a round."""
    reference = next(iter(runs.values()))
    lines = [f"| {detector} | seconds a step | ratio | peak GiB | ratio |", "|---|---:|---:|---:|---:|"]
    for case, rounds in runs.items():
        times = statistics.median(r["seconds"] for r in rounds)
        slower = statistics.median(r["seconds"] / f["seconds"] for r, f in zip(rounds, reference, strict=True))
        memory = statistics.median(r["gib"] for r in rounds)
        larger = statistics.median(r["gib"] / f["gib"] for r, f in zip(rounds, reference, strict=True))
        lines.append(f"| {case} | {times:.2f} | {slower:.2f} | {memory:.2f} | {larger:.2f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2, help="images in a batch")
    parser.add_argument("--height", type=int, default=800, help="pixels")
    parser.add_argument("--width", type=int, default=1333, help="pixels")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--warmup", type=int, default=1, help="steps before the measured ones")
    parser.add_argument("--steps", type=int, default=3, help="measured steps in each process")
    parser.add_argument("--rounds", type=int, default=3, help="how often all cases are run in turn")
    parser.add_argument("--only", choices=sorted(CASES), help="one detector")
    parser.add_argument("--output", type=Path, help="write the table to this file as well")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(*options.case, options)))
        return
    arguments = [
        a
        for k in ("images", "height", "width", "device", "warmup", "steps")
        for a in (f"--{k}", str(getattr(options, k)))
    ]
    lines = [
        f"{options.images} images of {options.height} x {options.width}, {CLASSES} classes, {options.device}; "
        f"{options.rounds} rounds of {options.steps} steps; {machine(options.device)}"
    ]
    for detector in [options.only] if options.only else CASES:
        runs: dict[str, list[dict[str, float]]] = {case: [] for case in CASES[detector]}
        for number in range(options.rounds):
            for case, results in runs.items():
                results.append(in_a_process_of_its_own(detector, case, arguments))
                print(f"round {number + 1}: {case}: {results[-1]}", file=sys.stderr, flush=True)
        lines += ["", *table(detector, runs)]
    print("\n".join(lines))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text("# Training steps\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
