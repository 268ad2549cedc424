"""What one GPU says about rankdet: losses, training steps, predictions, equality with the CPU, and a short training.

    python benchmarks/device.py                                   # benchmarks/results/device.md and device.json
    python benchmarks/device.py --bccd FOLDER                     # and a training on the blood cells in FOLDER
    python benchmarks/device.py --device cpu --small --output /tmp/device

Its sections have 340 seconds together, looked at behind every row; what no time is left for is named as left out. It
needs this repository, torch, torchvision and NumPy; the training on blood cells also wants the packages that rankdet is
installed with. Times are medians of wall-clock time, what is compared takes turns.

- losses: forward and backward, as a multiple of torchvision's focal loss in the same turn; memory beyond the inputs as
  a multiple of the logits; how often the host waits for the GPU, and kernels that are launched (on a CPU: operators).
- steps: forward, backward and SGD of detectors on ResNet-50 with random weights and frozen statistics.
- predictions: images a second, from images on the device to detections there.
- equality: a float32 step on the GPU beside the same on the CPU: the largest relative difference of any loss, and of
  the gradient of all parameters, by its norm.
- training: the same network, images, order and steps by focal loss, quality focal loss and Rank & Sort Loss.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FrozenBatchNorm2d

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import losses as of_losses
from rankdet.criteria import BoxIoU, Centerness, ScoreCriterion
from rankdet.losses.boxes import GIoULoss
from rankdet.losses.classification import QualityFocalLoss
from rankdet.models import ATSS, FasterRCNN, MaskRCNN, RetinaNet, SOLOv2, softmax_criterion, solo_criterion
from rankdet.train import random_batch

Row = dict[str, Any]
SECONDS = {"losses": 90, "steps": 110, "predictions": 40, "equality": 40, "training": 60}
CLASSES = 80


class Backbone(nn.Module):
    """torchvision's ResNet without pretrained weights: C2 to C5, statistics frozen, the stem and C2 as well."""

    channels: tuple[int, ...]
    strides = (4, 8, 16, 32)

    def __init__(self, *, small: bool) -> None:
        super().__init__()
        network = (torchvision.models.resnet18 if small else torchvision.models.resnet50)(norm_layer=FrozenBatchNorm2d)
        for part in (network.conv1, network.layer1):
            part.requires_grad_(False)
        self.channels = (64, 128, 256, 512) if small else (256, 512, 1024, 2048)
        self.network = IntermediateLayerGetter(network, {f"layer{stage}": str(stage) for stage in (1, 2, 3, 4)})

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return list(self.network(pixels).values())


def focal() -> ScoreCriterion:
    return ScoreCriterion(box_loss=GIoULoss(weight=2.0), weighting=Centerness(), judged=Centerness())


def quality_focal() -> ScoreCriterion:
    return ScoreCriterion(classification=QualityFocalLoss(), weighting=BoxIoU())


# The first criterion of each is what the others are compared with.
DETECTORS: dict[str, tuple[type[nn.Module], dict[str, Callable[[], Any]]]] = {
    "ATSS": (ATSS, {"focal": focal, "quality focal": quality_focal, "Rank & Sort": lambda: None}),
    "RetinaNet": (RetinaNet, {"focal": focal, "Rank & Sort": lambda: None}),
    "Faster R-CNN": (FasterRCNN, {"softmax": softmax_criterion, "Rank & Sort": lambda: None}),
    "Mask R-CNN": (MaskRCNN, {"softmax": softmax_criterion, "Rank & Sort": lambda: None}),
    "SOLOv2": (SOLOv2, {"focal": solo_criterion, "Rank & Sort": lambda: None}),
}
MODES = ("bfloat16", "float32", "TF32", "bfloat16, channels last", "bfloat16, compiled backbone")


class Device:
    """Where it runs, and what is measured there."""

    def __init__(self, name: str, *, small: bool) -> None:
        self.device = torch.device(name)
        self.small = small
        self.gpu = self.device.type == "cuda"
        self.warm_up = 1 if small else 2
        self.detectors = ["Mask R-CNN"] if small else list(DETECTORS)

    def synchronise(self) -> None:
        if self.gpu:
            torch.cuda.synchronize()

    def seconds(self, call: Callable[[], object]) -> float:
        self.synchronise()
        start = time.perf_counter()
        call()
        self.synchronise()
        return time.perf_counter() - start

    def peak_gib(self, call: Callable[[], object]) -> float | None:
        """The most that is allocated meanwhile, all in all; unknown on a CPU."""
        if not self.gpu:
            return None
        torch.cuda.reset_peak_memory_stats()
        self.seconds(call)
        return torch.cuda.max_memory_allocated() / 2**30

    def waits(self, call: Callable[[], object]) -> int | None:
        """How often the host waits for the GPU in a call."""
        if not self.gpu:
            return None
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                call()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return sum("synchroniz" in str(warning.message) for warning in caught)

    def launches(self, call: Callable[[], object]) -> int:
        """Kernels that are launched in a call; operators on a CPU."""
        with torch.profiler.profile() as profiler:
            call()
            self.synchronise()
        wanted = ("cudaLaunchKernel", "cuLaunchKernel", "cudaLaunchKernelExC") if self.gpu else ("aten::",)
        return sum(entry.count for entry in profiler.key_averages() if entry.key.startswith(wanted))

    def mode(self, name: str) -> AbstractContextManager[object]:
        """Sets the precision of products, and gives the autocast of a mode."""
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "TF32"
        if name.startswith("bfloat16"):
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()


def make(detector: str, criterion: str, *, small: bool, classes: int = CLASSES) -> nn.Module:
    torch.manual_seed(0)
    recipe, criteria = DETECTORS[detector]
    width = 32 if small else 256
    return recipe(num_classes=classes, backbone=Backbone(small=small), criterion=criteria[criterion](), channels=width)


def batch(number: int, height: int, width: int, device: torch.device) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Random images with seven objects of all sizes each."""
    images, targets = random_batch(number, height=height, width=width, num_classes=CLASSES)
    wanted = ("boxes", "labels", "masks")
    return [image.to(device) for image in images], [{key: t[key].to(device) for key in wanted} for t in targets]


def losses(on: Device) -> Iterator[Row]:
    """Each loss beside focal loss, smallest problems first."""
    names = [of_losses.FOCAL, "binary cross entropy", *of_losses.OURS]
    sizes = [(100, 2_000)] if on.small else [(100, 20_000), (300, 320_000), (2000, 4_800_000), (2000, 21_000_000)]
    cases = [(size, dtype, False) for size in sizes for dtype in (torch.float32, torch.bfloat16)]
    cases += [] if on.small else [(size, torch.float32, True) for size in sizes[1:3]]
    for (positives, number), dtype, compiled in cases:
        problem = of_losses.simulate(positives, number, trained=False, dtype=dtype, device=str(on.device))
        for name in names[::3] if compiled else names:
            method = of_losses.METHODS[name]
            method = torch.compile(method) if compiled else method
            yield {
                "loss": name,
                "positives": positives,
                "logits": number,
                "dtype": str(dtype)[6:],
                "compiled": compiled,
                **beside_focal(on, method, problem),
            }


def beside_focal(on: Device, method: of_losses.Method, problem: of_losses.Problem) -> Row:
    def run(which: of_losses.Method) -> float:
        problem.logits.grad = None
        return on.seconds(lambda: which(problem))

    turns = [(run(of_losses.focal), run(method)) for _ in range(2 if on.small else 12)][on.warm_up :]
    return {
        "ms": 1e3 * statistics.median(own for _, own in turns),
        "x focal": statistics.median(own / of_focal for of_focal, own in turns),
        "x logits": of_losses.memory(method, problem),
        "waits": on.waits(partial(method, problem)),
        "launches": on.launches(partial(method, problem)),
    }


def steps(on: Device) -> Iterator[Row]:
    """Training steps: every criterion in bfloat16, and ATSS by Rank & Sort in every mode."""
    cases = [(name, criterion, MODES[0]) for name in on.detectors for criterion in DETECTORS[name][1]]
    cases += [("ATSS", "Rank & Sort", mode) for mode in MODES[1:4] if not on.small]
    cases += [("ATSS", "Rank & Sort", MODES[4])] if not on.small else []
    first: dict[str, float] = {}
    for detector, criterion, mode in cases:
        row = {"detector": detector, "criterion": criterion, "mode": mode, **one_step(on, detector, criterion, mode)}
        yield {**row, "x first": row["ms"] / first.setdefault(detector, row["ms"])}


def one_step(on: Device, detector: str, criterion: str, mode: str) -> Row:
    model = make(detector, criterion, small=on.small).to(on.device).train()
    if "channels last" in mode:
        model.to(memory_format=torch.channels_last)
    if "compiled" in mode:
        model.backbone.compile()
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4, momentum=0.9)
    images, targets = batch(1, 64, 96, on.device) if on.small else batch(16, 800, 1333, on.device)

    def step() -> None:
        with on.mode(mode):
            found = model(images, targets)
        sum(found.values()).backward()
        optimiser.step()
        optimiser.zero_grad()

    return {
        "ms": 1e3 * median_seconds(on, step),
        "GiB": on.peak_gib(step),
        "waits": on.waits(step),
        "launches": on.launches(step),
    }


def median_seconds(on: Device, call: Callable[[], object]) -> float:
    """Of the calls behind the warm-up."""
    return statistics.median([on.seconds(call) for _ in range(2 if on.small else 5)][on.warm_up :])


@torch.inference_mode()
def predictions(on: Device) -> Iterator[Row]:
    """Images a second in bfloat16."""
    for detector in on.detectors:
        model = make(detector, "Rank & Sort", small=on.small).to(on.device).eval()
        images, _ = batch(1, 64, 96, on.device) if on.small else batch(16, 800, 1333, on.device)

        def predict(model: nn.Module = model, images: list[Tensor] = images) -> None:
            with on.mode(MODES[0]):
                model(images)

        speed = len(images) / median_seconds(on, predict)
        yield {"detector": detector, "images a second": speed, "waits": on.waits(predict), "GiB": on.peak_gib(predict)}


def equality(on: Device) -> Iterator[Row]:
    """A float32 step here and on the CPU."""
    for detector in on.detectors:
        model = make(detector, "Rank & Sort", small=True).train()
        with on.mode("float32"):
            (own, own_gradient), (expected, gradient) = (
                found(model, where) for where in (on.device, torch.device("cpu"))
            )
        apart = {name: abs(own[name] - loss) / max(abs(loss), 1e-6) for name, loss in expected.items()}
        yield {
            "detector": detector,
            "losses apart": max(apart.values()),
            "gradient apart": float((own_gradient - gradient).norm() / gradient.norm()),
        }


def found(model: nn.Module, where: torch.device) -> tuple[dict[str, float], Tensor]:
    """Losses of a step, and the gradient of all parameters."""
    copied = copy.deepcopy(model).to(where)
    losses = copied(*batch(2, 128, 160, where))
    sum(losses.values()).backward()
    gradients = [p.grad.flatten().cpu() for p in copied.parameters() if p.grad is not None]
    return {name: float(loss.detach()) for name, loss in losses.items()}, torch.cat(gradients)


def training(on: Device, folder: Path | None) -> Iterator[Row]:
    """AP on the blood cells in a folder with instances_train.json and instances_val.json, after equal steps."""
    if folder is None:
        return
    from rankdet.data import DetectionData, ResizeShorter
    from rankdet.eval import DetectionMetric

    files = {part: str(folder / f"instances_{part}.json") for part in ("train", "val")}
    size = (64, 96) if on.small else (480, 640)
    data = DetectionData(
        **files, batch_size=2 if on.small else 8, workers=0, resize=ResizeShorter(short=size[0], long=size[1])
    )
    for criterion in DETECTORS["ATSS"][1]:
        model = make("ATSS", criterion, small=on.small, classes=data.num_classes).to(on.device).train()
        optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
        start, steps = time.monotonic(), 2 if on.small else 150
        for images, targets in batches(data.train_loader(seed=0), steps):
            with on.mode(MODES[0]):
                loss = sum(model([image.to(on.device) for image in images], targets).values())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        metric = DetectionMetric(categories=data.categories)
        with torch.inference_mode(), on.mode(MODES[0]):
            for images, targets in data.val_loader():
                metric.update(model.eval()([image.to(on.device) for image in images]), targets)
        scores = metric.compute().metrics
        yield {
            "criterion": criterion,
            "steps": steps,
            "seconds": time.monotonic() - start,
            **{name: scores[name] for name in ("AP", "AP50", "oLRP")},
        }


def batches(loader: Any, steps: int) -> Iterator[Any]:
    """So many batches, epoch after epoch."""
    done = 0
    while done < steps:
        for found in loader:
            if done == steps:
                return
            yield found
            done += 1


def rows_in_time(section: Iterator[Row], seconds: float = math.inf) -> tuple[list[Row], str]:
    """Rows of a section until its time is over, and a note on what is missing."""
    rows: list[Row] = []
    end = time.monotonic() + seconds
    try:
        for row in section:
            rows.append(row)
            if time.monotonic() > end:
                return rows, "the rest was left out: no time"
    except (ImportError, RuntimeError) as error:  # no package; no memory, or a compiler that is missing
        return rows, f"the rest was left out: {type(error).__name__}: {str(error).splitlines()[0]}"
    return rows, ""


def table(rows: list[Row]) -> str:
    if not rows:
        return "Not measured."
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([shown(value) for value in row.values()] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return "" if value is None else str(value)


def machine(on: Device) -> str:
    name = torch.cuda.get_device_name() if on.gpu else f"CPU, {platform.machine()}, {torch.get_num_threads()} threads"
    return f"{name}; torch {torch.__version__}, torchvision {torchvision.__version__}, CUDA {torch.version.cuda}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda or cpu; cuda by default")
    parser.add_argument("--small", action="store_true", help="tiny problems, to see that it runs")
    parser.add_argument("--bccd", type=Path, help="folder of blood cells with instances_train.json, instances_val.json")
    parser.add_argument("--only", nargs="+", choices=SECONDS, default=list(SECONDS), help="some of the sections")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "device", help="two files")
    options = parser.parse_args(arguments)
    on = Device(options.device, small=options.small)
    sections = {
        "losses": losses,
        "steps": steps,
        "predictions": predictions,
        "equality": equality,
        "training": partial(training, folder=options.bccd),
    }
    data: dict[str, Any] = {"machine": machine(on), "small": options.small, "sections": {}}
    page = [f"# One device\n\n{data['machine']}."]
    for name in options.only:
        rows, note = rows_in_time(sections[name](on), *([] if on.small else [SECONDS[name]]))
        data["sections"][name] = {"rows": rows, "note": note}
        page.append(f"## {name.capitalize()}\n\n{table(rows)}" + (f"\n\n{note.capitalize()}." if note else ""))
        print(page[-1], flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    options.output.with_suffix(".md").write_text("\n\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
