"""How a training step, a ranking and an evaluation scale over processes, and what crosses the network.

    python benchmarks/scaling.py                        # benchmarks/results/scaling.md, in some minutes

1, 2 and 4 processes of this machine talk by gloo. *Strong* scaling keeps the work and shares it out; *weak* scaling
gives each process as much as one had. Seconds are medians; a machine with fewer cores than processes cannot get
quicker, and shows the cost of talking alone. Bytes are counted where they are handed over to torch.distributed, on the
first process: gradients in the buckets of DDP, what a gathered criterion asks the others, and the results of an
evaluation. The estimate for many GPUs is a formula, not a measurement: see `estimate`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pickle
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

# Imported once, by a server that the processes are forked from, instead of by each of them.
multiprocessing.set_forkserver_preload(["torch.distributed", "rankdet.criteria", "rankdet.data", "rankdet.models"])

PROCESSES = (1, 2, 4)
IMAGES, SIZE, CLASSES = 4, 128, 8
LOGITS, POSITIVES = 200_000, 300
EVALUATED = 8

# Published, per GPU and direction, in bytes a second: NVLink 4 within a machine of 8 (450 GB/s), InfiniBand NDR between
# machines (400 Gbit/s). Seconds that one message takes between machines: a few microseconds.
WITHIN, BETWEEN, LATENCY, PER_MACHINE = 450e9, 50e9, 5e-6, 8


class Bytes:
    """Counts what this process hands over to the others, by kind."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add(self, kind: str, number: int) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + number

    @contextmanager
    def of_criterion(self) -> Iterator[None]:
        """Counts the gathers and sums in the block, which are those of a criterion."""
        kept = dist.all_gather, dist.all_reduce

        def all_gather(parts: list[Tensor], own: Tensor, **more: Any) -> Any:
            self.add("criterion", own.numel() * own.element_size())
            return kept[0](parts, own, **more)

        def all_reduce(value: Tensor, **more: Any) -> Any:
            self.add("criterion", value.numel() * value.element_size())
            return kept[1](value, **more)

        dist.all_gather, dist.all_reduce = all_gather, all_reduce
        try:
            yield
        finally:
            dist.all_gather, dist.all_reduce = kept

    def of_gradients(self, model: DistributedDataParallel) -> None:
        def hook(group: Any, bucket: Any) -> Any:
            self.add("gradients", bucket.buffer().numel() * bucket.buffer().element_size())
            return allreduce_hook(group, bucket)

        # DDP looks at the annotations, which are texts here.
        hook.__annotations__ = {"bucket": dist.GradBucket, "return": torch.futures.Future[Tensor]}
        model.register_comm_hook(None, hook)


def detector() -> nn.Module:
    from rankdet.criteria import RankingCriterion
    from rankdet.losses import RankSortLoss
    from rankdet.models import ATSS

    criterion = RankingCriterion(ranking=RankSortLoss(gather_across_devices=True))
    return ATSS(num_classes=CLASSES, backbone="test_resnet", channels=64, criterion=criterion)


def step_of(images: int, steps: int, rank: int, size: int) -> dict[str, float]:
    """Median seconds and bytes of training steps of so many images on this process."""
    from rankdet.data import Shapes

    torch.manual_seed(0)
    counted, model = Bytes(), detector().train()
    trained: nn.Module = DistributedDataParallel(model) if size > 1 else model
    if isinstance(trained, DistributedDataParallel):
        counted.of_gradients(trained)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.001)
    shapes = Shapes(length=images * size, seed=0, image_size=SIZE, num_classes=CLASSES)
    batch, targets = zip(*(shapes[rank * images + number] for number in range(images)), strict=True)

    def step() -> None:
        optimiser.zero_grad()
        with counted.of_criterion():
            losses = trained([image.float() / 255 for image in batch], list(targets))
        sum(losses.values()).backward()
        optimiser.step()

    seconds = timed(step, steps)
    return {"seconds": seconds, **{kind: count / (steps + 1) for kind, count in counted.counts.items()}}


def loss_of(logits: int, steps: int, rank: int, size: int) -> dict[str, float]:
    """Median seconds and bytes of Rank & Sort Loss, forward and backward, over all processes."""
    from rankdet.losses import RankSortLoss

    generator = torch.Generator().manual_seed(rank)
    values = torch.randn(logits, generator=generator).requires_grad_()
    positives = max(1, POSITIVES * logits // LOGITS)
    targets = torch.zeros(logits)
    targets[:positives] = torch.rand(positives, generator=generator)
    loss, counted = RankSortLoss(gather_across_devices=size > 1), Bytes()

    def step() -> None:
        with counted.of_criterion():
            loss(values, targets).backward()

    seconds = timed(step, steps)
    return {"seconds": seconds, **{kind: count / (steps + 1) for kind, count in counted.counts.items()}}


def evaluation_of(images: int, steps: int, rank: int, size: int) -> dict[str, float]:
    """Median seconds of detecting in so many images on this process and evaluating them all, and bytes of results."""
    from rankdet.data import Shapes
    from rankdet.eval import DetectionMetric

    torch.manual_seed(0)
    model, sent = detector().eval(), Bytes()
    shapes = Shapes(length=images * size, seed=1, image_size=SIZE, num_classes=CLASSES)
    own = [shapes[rank * images + number] for number in range(images)]

    @torch.no_grad()
    def evaluate() -> None:
        metric = DetectionMetric()
        for image, target in own:
            metric.update(model([image.float() / 255]), [target])
        sent.add("results", len(pickle.dumps(metric._images)) if size > 1 else 0)
        metric.compute()

    seconds = timed(evaluate, steps)
    return {"seconds": seconds, "results": sent.counts["results"] / (steps + 1)}


def timed(work: Callable[[], None], times: int) -> float:
    """The median of so many times, after once to warm up; all processes begin together."""
    work()
    seconds = []
    for _ in range(times):
        if dist.is_initialized():
            dist.barrier()
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


WORK: dict[str, tuple[Callable[..., dict[str, float]], int]] = {
    "training step": (step_of, IMAGES),
    "Rank & Sort Loss": (loss_of, LOGITS),
    "evaluation": (evaluation_of, EVALUATED),
}


def run(size: int, what: str, amount: int, steps: int) -> dict[str, float]:
    """What the first of so many processes measures."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        mp.start_processes(
            _process, args=(size, port, folder, what, amount, steps), nprocs=size, start_method="forkserver"
        )
        return torch.load(Path(folder) / "0.pt", weights_only=True)


def _process(rank: int, size: int, port: int, folder: str, what: str, amount: int, steps: int) -> None:
    torch.set_num_threads(1)
    if size > 1:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    torch.save(WORK[what][0](amount, steps, rank, size), f"{folder}/{rank}.pt")
    if size > 1:
        dist.destroy_process_group()


def measured(steps: int) -> Iterator[str]:
    """The tables of what was measured."""
    for what, (_, amount) in WORK.items():
        unit = {"training step": "images", "Rank & Sort Loss": "logits", "evaluation": "images"}[what]
        yield f"\n| {what} | {unit} of a process | seconds | of one process | kB handed over by a process |"
        yield "|---|---:|---:|---:|---|"
        alone = run(1, what, amount, steps)
        yield f"| 1 process | {amount} | {alone['seconds']:.3g} | 1.00 | |"
        for kind in ("strong", "weak"):
            for size in PROCESSES[1:]:
                share = amount // size if kind == "strong" else amount
                found = run(size, what, share, steps)
                sent = ", ".join(f"{name} {found[name] / 1e3:,.1f}" for name in found if name != "seconds")
                ratio = found["seconds"] / alone["seconds"]
                yield f"| {size} processes, {kind} | {share} | {found['seconds']:.3g} | {ratio:.2f} | {sent} |"


def estimate(gradients: float, gathered: float, *, step: float, devices: int) -> tuple[float, float]:
    """Seconds that a step talks on so many GPUs, in a ring, and its share of a step that computes for `step` seconds.

    Gradients: 2 (n - 1) / n times their bytes over the slowest link, and 2 (n - 1) messages. What a criterion gathers,
    bytes of each device: (n - 1) times these, which everyone receives. Nothing is taken to overlap, though gradients
    do.
    """
    link = WITHIN if devices <= PER_MACHINE else BETWEEN
    ring = (devices - 1) / devices
    talk = 2 * ring * gradients / link + 2 * (devices - 1) * LATENCY
    talk += (devices - 1) * gathered / link + 2 * (devices - 1) * LATENCY
    return talk, talk / (talk + step)


def estimated(gathered: float, *, step: float) -> Iterator[str]:
    """The table of the estimate, for ATSS with ResNet-50."""
    from rankdet.models import ATSS
    from rankdet.nn import TimmBackbone

    model = ATSS(num_classes=80, backbone=TimmBackbone("resnet50"))
    gradients = 4.0 * sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    yield (
        f"\nATSS, ResNet-50, 80 classes: {gradients / 1e6:.0f} MB of gradients; {gathered / 1e3:.1f} kB gathered by "
        f"each device, as measured above with {IMAGES} images; a step is taken to compute for {step:g} s."
    )
    yield "\n| GPUs | link | talking, ms | share of a step |\n|---:|---|---:|---:|"
    for devices in (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024):
        talk, share = estimate(gradients, gathered, step=step, devices=devices)
        link = "450 GB/s" if devices <= PER_MACHINE else "50 GB/s"
        yield f"| {devices} | {link} | {1e3 * talk:.1f} | {share:.1%} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--step", type=float, default=0.25, help="seconds that a GPU computes in a step, assumed")
    parser.add_argument("--output", default="benchmarks/results/scaling.md")
    given = parser.parse_args()
    from rankdet.environment import facts

    known = dict(facts())
    lines = [
        "# Scaling over processes",
        "",
        f"`python benchmarks/scaling.py --steps {given.steps}` on {known['processor']}; rankdet {known['rankdet']}, "
        f"torch {known['torch']}, Python {known['python']}. Load of the machine at the beginning: "
        f"{os.getloadavg()[0]:.0f}.",
        "",
        "Seconds are those of a clock: where other jobs ran as well, the bytes are exact and the ratios are not.",
        "",
        f"ATSS with timm's test_resnet, images of {SIZE} pixels, a Rank & Sort criterion that gathers over processes.",
    ]
    for line in measured(given.steps):
        lines.append(line)
        print(line, flush=True)
    gathered = run(2, "training step", IMAGES, 2)["criterion"]
    lines += ["", "## An estimate for many GPUs", *estimated(gathered, step=given.step), ""]
    Path(given.output).write_text("\n".join(lines))
    print("\n".join(lines), file=sys.stderr)


if __name__ == "__main__":
    main()
