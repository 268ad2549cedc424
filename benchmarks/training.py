"""Time and memory of a training step, each detector with its ranking and its baseline criterion, beside torchvision's.

    python benchmarks/training.py                      # 2 images of 800 x 1333, 80 classes
    python benchmarks/training.py --height 320 --width 320 --steps 5 --only FasterRCNN

Every case runs in a process of its own (so that peak memory is its own), cases in turn and the whole round repeated, so
that a drift of the machine's speed meets all of them; printed are medians, and ratios to the first case of the
detector. Time on a CPU is that of the processor, with one thread: what else runs on the machine counts little. The
same random images and objects for all; SGD included; weights are random, the backbone is frozen and normalised as in
fine-tuning. "outside" is the share of a step that is spent neither in convolutions nor in matrix products:
assignment, targets, losses, proposals and NMS, and the elementwise layers of the networks. The result of the last run
is committed as ``benchmarks/results/training.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch.utilities import move_data_to_device
from torch import nn

from rankdet.train import random_batch
from rankdet.train.memory import peak_memory

CLASSES = 80
SIDES = [800, 1333]  # shorter and longer side, which torchvision resizes to; set by the options


def _frozen() -> nn.Module:
    from rankdet.nn import FrozenStatistics, TimmBackbone

    return TimmBackbone("resnet50", frozen_stages=1, norm=FrozenStatistics())


def _masks() -> object:
    """At most 200 masks in a step, as published."""
    from rankdet.models import MaskBranch, RoIStage

    return partial(RoIStage, branches=[partial(MaskBranch, limit=200)])


def _rankdet(name: str, **arguments: Callable[[], object]) -> Callable[[], nn.Module]:
    """A recipe on ResNet-50; arguments are made when it is."""

    def make() -> nn.Module:
        import rankdet.models

        recipe = getattr(rankdet.models, name)
        return recipe(num_classes=CLASSES, backbone=_frozen(), **{key: value() for key, value in arguments.items()})

    return make


def _torchvision(module: str, name: str) -> Callable[[], nn.Module]:
    """Its ResNet-50 counterpart with the same stage frozen."""

    def make() -> nn.Module:
        import importlib

        found = importlib.import_module(f"torchvision.models.detection.{module}")
        sides = {"min_size": SIDES[0], "max_size": SIDES[1]}
        build = getattr(found, name)
        return build(weights=None, weights_backbone=None, num_classes=CLASSES + 1, trainable_backbone_layers=3, **sides)

    return make


def _focal(**arguments: Callable[[], object]) -> object:
    from rankdet.criteria import ScoreCriterion

    return ScoreCriterion(**{key: value() for key, value in arguments.items()})


def _of(module: str, name: str, **arguments: object) -> Callable[[], object]:
    """What a function or class of rankdet gives, imported when called."""

    def make() -> object:
        import importlib

        return getattr(importlib.import_module(f"rankdet.{module}"), name)(**arguments)

    return make


_CENTERNESS = _of("criteria", "Centerness")
_GIOU = _of("losses.boxes", "GIoULoss", weight=2.0)
_RANKED = "rankdet, Rank & Sort"
_CAPPED = "rankdet, Rank & Sort, 200 masks a step"  # as in the preset of the paper's Mask R-CNN
CASES: dict[str, dict[str, Callable[[], nn.Module]]] = {
    "FasterRCNN": {
        "torchvision fasterrcnn_resnet50_fpn": _torchvision("faster_rcnn", "fasterrcnn_resnet50_fpn"),
        "rankdet, softmax + L1, sampled": _rankdet("FasterRCNN", criterion=_of("models", "softmax_criterion")),
        _RANKED: _rankdet("FasterRCNN"),
    },
    "ATSS": {
        "rankdet, focal + GIoU + centerness": _rankdet(
            "ATSS", criterion=lambda: _focal(box_loss=_GIOU, weighting=_CENTERNESS, judged=_CENTERNESS)
        ),
        _RANKED: _rankdet("ATSS"),
    },
    "RetinaNet": {
        "torchvision retinanet_resnet50_fpn": _torchvision("retinanet", "retinanet_resnet50_fpn"),
        "rankdet, focal + L1": _rankdet(
            "RetinaNet", criterion=lambda: _focal(box_loss=_of("losses.boxes", "SmoothL1Loss", beta=0.0))
        ),
        _RANKED: _rankdet("RetinaNet"),
    },
    "PAA": {
        "rankdet, focal + GIoU + IoU head": _rankdet("PAA", criterion=_of("models", "paa_criterion")),
        _RANKED: _rankdet("PAA"),
    },
    "FoveaBox": {
        "rankdet, focal + smooth L1": _rankdet("FoveaBox", criterion=_of("models", "fovea_criterion")),
        _RANKED: _rankdet("FoveaBox"),
    },
    "CascadeRCNN": {
        "rankdet, softmax + smooth L1, sampled": _rankdet(
            "CascadeRCNN", criterion=_of("models.cascade_rcnn", "smooth_softmax_criterion")
        ),
        _RANKED: _rankdet("CascadeRCNN"),
    },
    "MaskRCNN": {
        "torchvision maskrcnn_resnet50_fpn": _torchvision("mask_rcnn", "maskrcnn_resnet50_fpn"),
        "rankdet, softmax + L1 + BCE, sampled": _rankdet("MaskRCNN", criterion=_of("models", "softmax_criterion")),
        _RANKED: _rankdet("MaskRCNN"),
        _CAPPED: _rankdet("MaskRCNN", stage=_masks),
    },
    "CascadeMaskRCNN": {
        "rankdet, softmax + smooth L1 + BCE, sampled": _rankdet(
            "CascadeMaskRCNN", criterion=_of("models.cascade_rcnn", "smooth_softmax_criterion")
        ),
        _RANKED: _rankdet("CascadeMaskRCNN"),
        _CAPPED: _rankdet("CascadeMaskRCNN", stage=_masks),
    },
    "YOLACT": {
        "rankdet, OHEM + smooth L1 + BCE": _rankdet("YOLACT", criterion=_of("models.yolact", "yolact_criterion")),
        _RANKED: _rankdet("YOLACT"),
    },
    "SOLOv2": {
        "rankdet, focal + Dice": _rankdet("SOLOv2", criterion=_of("models.solov2", "solo_criterion")),
        _RANKED: _rankdet("SOLOv2"),
    },
}
PRODUCTS = ("convolution", "addmm", "aten::mm", "aten::bmm", "deform_conv")


def measure(detector: str, case: str, options: argparse.Namespace) -> dict[str, float]:
    """Median seconds of a step, peak memory in GiB and the share outside convolutions, in this process."""
    SIDES[:] = sorted((options.height, options.width))
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = CASES[detector][case]().to(options.device).train()
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4, momentum=0.9)
    batch = random_batch(options.images, height=options.height, width=options.width, num_classes=CLASSES)
    images, targets = move_data_to_device(batch, torch.device(options.device))
    on_gpu = options.device.startswith("cuda")

    def step() -> None:
        sum(model(images, targets).values()).backward()
        optimiser.step()
        optimiser.zero_grad()
        if on_gpu:
            torch.cuda.synchronize()

    clock = time.perf_counter if on_gpu else time.process_time
    seconds = []
    for _ in range(options.warmup + options.steps):
        start = clock()
        step()
        seconds.append(clock() - start)
    return {
        "seconds": statistics.median(seconds[options.warmup :]),
        "gib": (peak_memory(torch.device(options.device)) or 0) / 2**30,
        "outside": outside_products(step, on_gpu=on_gpu),
    }


def outside_products(step: Callable[[], None], *, on_gpu: bool) -> float:
    """Share of the operators' time in a step that are neither convolutions nor matrix products, both passes."""
    with torch.profiler.profile() as profiler:
        step()
    attribute = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    times = {entry.key: getattr(entry, attribute) for entry in profiler.key_averages()}
    products = sum(spent for key, spent in times.items() if any(name in key for name in PRODUCTS))
    return 1 - products / sum(times.values())


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
        f"{name}, {os.cpu_count()} cores, one thread used, torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )


def table(detector: str, runs: dict[str, list[dict[str, float]]]) -> list[str]:
    """Markdown rows of one detector; the ratios are medians over rounds of ratios within a round."""
    reference = next(iter(runs.values()))
    lines = [f"| {detector} | seconds a step | ratio | peak GiB | ratio | outside |", "|---|---:|---:|---:|---:|---:|"]
    for case, rounds in runs.items():
        times = statistics.median(r["seconds"] for r in rounds)
        slower = statistics.median(r["seconds"] / f["seconds"] for r, f in zip(rounds, reference, strict=True))
        memory = statistics.median(r["gib"] for r in rounds)
        larger = statistics.median(r["gib"] / f["gib"] for r, f in zip(rounds, reference, strict=True))
        outside = statistics.median(r["outside"] for r in rounds)
        lines.append(f"| {case} | {times:.2f} | {slower:.2f} | {memory:.2f} | {larger:.2f} | {outside:.0%} |")
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
    parser.add_argument("--only", choices=sorted(CASES), nargs="+", help="some of the detectors")
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
    for detector in options.only or CASES:
        runs: dict[str, list[dict[str, float]]] = {case: [] for case in CASES[detector]}
        for number in range(options.rounds):
            for case, results in runs.items():
                results.append(in_a_process_of_its_own(detector, case, arguments))
                print(f"round {number + 1}: {case}: {results[-1]}", file=sys.stderr, flush=True)
        lines += ["", *table(detector, runs)]
    print("\n".join(lines))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text("# Training steps\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
