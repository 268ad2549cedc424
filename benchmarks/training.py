"""Time and memory of a training step of every method, by its two presets: as published, and by ranking.

    python benchmarks/training.py                      # 2 images of 800 x 1333, 80 classes
    python benchmarks/training.py --height 320 --width 320 --steps 5 --only FasterRCNN

Every case runs in a process of its own (so that peak memory is its own), cases in turn and the whole round repeated, so
that a drift of the machine's speed meets all of them; printed are medians, and ratios to the first case of the
detector. Time on a CPU is that of the processor, with one thread: what else runs on the machine counts little. The
same random images and objects for all, at the size of a method that has but one; SGD included; weights are random, and
what a preset freezes is frozen. "outside" is the share of a step that is spent neither in convolutions nor in matrix
products: assignment, targets, losses, proposals and NMS, and the elementwise layers of the networks. The result of the
last run is committed as ``benchmarks/results/training.md``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import move_data_to_device
from torch import nn

from rankdet.cli.experiment import Experiment
from rankdet.nn import without_pretrained_weights
from rankdet.train import random_batch
from rankdet.train.memory import peak_memory

CLASSES = 80
OURS, BY_RANKING = "as published", "by ranking"


@dataclass(frozen=True)
class Method:
    """A detector: its two presets, the side of its square images if only one will do, and torchvision's counterpart."""

    published: str
    ranking: str
    side: int | None = None
    torchvision: tuple[str, str] | None = None

    @property
    def cases(self) -> list[str]:
        """What is measured; the first is what ratios refer to."""
        return [*(["torchvision's"] if self.torchvision else []), OURS, BY_RANKING]

    def build(self, case: str, *, height: int, width: int) -> nn.Module:
        """With random weights."""
        if case not in (OURS, BY_RANKING):
            return self._torchvision(height, width)
        preset = self.published if case == OURS else self.ranking
        with without_pretrained_weights():
            return Experiment(files=[preset], overrides=[], complete=False).build_without_data(num_classes=CLASSES)[0]

    def _torchvision(self, height: int, width: int) -> nn.Module:
        """On ResNet-50 with the same stage frozen."""
        assert self.torchvision is not None, "a case only if it is there"
        module, name = self.torchvision
        make = getattr(importlib.import_module(f"torchvision.models.detection.{module}"), name)
        sides = {"min_size": min(height, width), "max_size": max(height, width)}
        return make(weights=None, weights_backbone=None, num_classes=CLASSES + 1, trainable_backbone_layers=3, **sides)


def _r50(family: str, published: str, **more: Any) -> Method:
    return Method(f"{family}/{published}_r50_1x_coco", f"{family}/rank_sort_r50_1x_coco", **more)


METHODS: dict[str, Method] = {
    "ATSS": _r50("atss", "focal"),
    "RetinaNet": _r50("retinanet", "focal", torchvision=("retinanet", "retinanet_resnet50_fpn")),
    "RetinaNet-GHM": Method("retinanet/ghm_r50_1x_coco", "retinanet/rank_sort_ghm_r50_1x_coco"),
    "PAA": _r50("paa", "focal"),
    "FCOS": _r50("fcos", "focal"),
    "FSAF": _r50("fsaf", "focal"),
    "FSAF-RetinaNet": Method("fsaf/retinanet_focal_r50_1x_coco", "fsaf/retinanet_rank_sort_r50_1x_coco"),
    "GA-RetinaNet": Method(
        "guided_anchoring/retinanet_focal_r50_1x_coco", "guided_anchoring/retinanet_rank_sort_r50_1x_coco"
    ),
    "SSD300": Method("ssd/softmax_vgg16_300_120e_coco", "ssd/rank_sort_vgg16_300_120e_coco", side=300),
    "SSD512": Method("ssd/softmax_vgg16_512_120e_coco", "ssd/rank_sort_vgg16_512_120e_coco", side=512),
    "M2Det": Method("m2det/softmax_vgg16_320_160e_coco", "m2det/rank_sort_vgg16_320_160e_coco", side=320),
    "ScratchDet": Method(
        "scratch_det/softmax_root_resnet34_300_260e_coco",
        "scratch_det/rank_sort_root_resnet34_300_260e_coco",
        side=300,
    ),
    "FasterRCNN": _r50("faster_rcnn", "softmax", torchvision=("faster_rcnn", "fasterrcnn_resnet50_fpn")),
    "CascadeRCNN": _r50("cascade_rcnn", "softmax"),
    "DoubleHead": _r50("double_head", "softmax"),
    "DynamicRCNN": _r50("dynamic_rcnn", "softmax"),
    "LibraRCNN": _r50("libra", "softmax"),
    "GridRCNN": Method("grid_rcnn/softmax_r50_2x_coco", "grid_rcnn/rank_sort_r50_2x_coco"),
    "GA-FasterRCNN": Method(
        "guided_anchoring/faster_rcnn_softmax_r50_1x_coco", "guided_anchoring/faster_rcnn_rank_sort_r50_1x_coco"
    ),
    "TridentNet": _r50("trident", "softmax"),
    "R-FCN": Method("rfcn/softmax_r101_1x_coco", "rfcn/rank_sort_r101_1x_coco"),
    "MaskRCNN": _r50("mask_rcnn", "softmax", torchvision=("mask_rcnn", "maskrcnn_resnet50_fpn")),
    "MaskScoring": _r50("mask_scoring", "softmax"),
    "CascadeMaskRCNN": _r50("cascade_mask_rcnn", "softmax"),
    "HTC": _r50("htc", "softmax"),
    "YOLACT": Method("yolact/softmax_r50_55e_coco", "yolact/rank_sort_r50_55e_coco", side=550),
    "SOLOv2": Method("solov2/focal_r101_3x_coco", "solov2/rank_sort_r101_3x_coco"),
    "DeformableDETR": Method("deformable_detr/focal_r50_50e_coco", "deformable_detr/rank_sort_r50_12e_coco"),
    "RT-DETRv2": Method("rt_detr/varifocal_r18_120e_coco", "rt_detr/rank_sort_r18_120e_coco", side=640),
    "D-FINE": Method("d_fine/varifocal_n_160e_coco", "d_fine/rank_sort_n_160e_coco", side=640),
    "RF-DETR": Method("rf_detr/ia_bce_nano_100e_coco", "rf_detr/rank_sort_nano_100e_coco", side=384),
}
PRODUCTS = ("convolution", "addmm", "aten::mm", "aten::bmm", "deform_conv")


def measure(detector: str, case: str, options: argparse.Namespace) -> dict[str, float]:
    """Median seconds of a step, peak memory in GiB and the share outside convolutions, in this process."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    side = METHODS[detector].side
    height, width = (side, side) if side else (options.height, options.width)
    model = METHODS[detector].build(case, height=height, width=width).to(options.device).train()
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4, momentum=0.9)
    batch = random_batch(options.images, height=height, width=width, num_classes=CLASSES)
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
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
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
    side = METHODS[detector].side
    what = f"{detector}, {side} x {side}" if side else detector
    lines = [f"| {what} | seconds a step | ratio | peak GiB | ratio | outside |", "|---|---:|---:|---:|---:|---:|"]
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
    parser.add_argument("--only", choices=sorted(METHODS), nargs="+", help="some of the detectors")
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
    for detector in options.only or METHODS:
        runs: dict[str, list[dict[str, float]]] = {case: [] for case in METHODS[detector].cases}
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
