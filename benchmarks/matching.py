"""What matching and comparing cost in a step of a transformer: ours by ranking and by score, beside the library's loss.

    python benchmarks/matching.py                    # benchmarks/results/matching.md
    python benchmarks/matching.py --turns 5 --output /tmp/matching.md

16 images with 7 objects each on average, 300 queries, 6 decoder layers and the proposals of the encoder, 80 classes:
everything from the outputs of a network to the gradients of these outputs. The library's loss is RT-DETRv2's in Hugging
Face's transformers. The methods take turns on the same outputs; ratios are medians of the ratios to the library's loss
in the same turn, by the clock and by the CPU time of the process.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import transformers
from torch import Tensor
from transformers.loss.loss_rt_detr import RTDetrForObjectDetectionLoss

from rankdet.assign import GroundTruth
from rankdet.models import LayerOutputs, QueryOutputs, QueryStage, query_ranking_criterion, rt_detr_criterion
from rankdet.models.queries.library import library_targets

ROOT = Path(__file__).parent.parent
IMAGES, QUERIES, LAYERS, CLASSES, SIDE = 16, 300, 6, 80, 640
LIBRARY = "transformers, varifocal"
Step = Callable[[Tensor, Tensor], Tensor]


def objects_of(images: int) -> GroundTruth:
    """1 to 13 objects for each image."""
    generator = torch.Generator().manual_seed(0)
    targets = []
    for number in torch.randint(1, 14, (images,), generator=generator).tolist():
        corners = torch.rand(number, 2, generator=generator) * SIDE * 0.7
        sizes = (0.05 + 0.25 * torch.rand(number, 2, generator=generator)) * SIDE
        labels = torch.randint(CLASSES, (number,), generator=generator)
        targets.append({"boxes": torch.cat((corners, corners + sizes), 1), "labels": labels})
    return GroundTruth.from_targets(targets, num_classes=CLASSES, device=torch.device("cpu"))


def outputs_of(images: int) -> tuple[Tensor, Tensor]:
    """Logits (L + 1, N, Q, K) and boxes (L + 1, N, Q, 4) of the decoder layers and of the proposals, the last."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(LAYERS + 1, images, QUERIES, CLASSES, generator=generator) - 4
    centres = 0.2 + 0.6 * torch.rand(LAYERS + 1, images, QUERIES, 2, generator=generator)
    sizes = 0.05 + 0.3 * torch.rand(LAYERS + 1, images, QUERIES, 2, generator=generator)
    return logits, torch.cat((centres, sizes), -1)


def methods(images: int) -> Mapping[str, Step]:
    """By name; the library's first."""
    truth = objects_of(images)
    frames = [torch.tensor([0.0, 0.0, SIDE, SIDE])] * images
    targets = library_targets(truth, frames)
    config = transformers.RTDetrV2Config(num_labels=CLASSES, num_queries=QUERIES, decoder_layers=LAYERS)

    def library(logits: Tensor, boxes: Tensor) -> Tensor:
        (*_, last), (*_, last_boxes) = logits[:-1], boxes[:-1]
        of_layers = logits[:-1].transpose(0, 1), boxes[:-1].transpose(0, 1)
        proposals = {"enc_topk_logits": logits[-1], "enc_topk_bboxes": boxes[-1], "denoising_meta_values": None}
        loss, *_ = RTDetrForObjectDetectionLoss(last, targets, "cpu", last_boxes, config, *of_layers, **proposals)
        return loss

    def ours(stage: QueryStage) -> Step:
        def step(logits: Tensor, boxes: Tensor) -> Tensor:
            *layers, proposals = (LayerOutputs(*layer) for layer in zip(logits, boxes, strict=True))
            return sum(stage.loss(QueryOutputs(frames, layers, encoder=proposals), truth).values())

        return step

    return {
        LIBRARY: library,
        "rankdet, varifocal": ours(QueryStage(criterion=rt_detr_criterion())),
        "rankdet, Rank & Sort": ours(QueryStage(criterion=query_ranking_criterion())),
    }


def taken(step: Step, outputs: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Seconds of a forward and a backward pass, by the clock and of the CPU."""
    leaves = [tensor.clone().requires_grad_() for tensor in outputs]
    began = time.perf_counter(), time.process_time()
    step(*leaves).backward()
    return time.perf_counter() - began[0], time.process_time() - began[1]


def measure(images: int, turns: int) -> dict[str, tuple[float, float, float]]:
    """Per method, median CPU time in ms, and the median ratios to the library's: by the clock, of the CPU."""
    named, outputs = methods(images), outputs_of(images)
    rows = [{name: taken(step, outputs) for name, step in named.items()} for _ in range(turns + 1)][1:]
    return {
        name: (
            1e3 * statistics.median(row[name][1] for row in rows),
            *(statistics.median(row[name][way] / row[LIBRARY][way] for row in rows) for way in (0, 1)),
        )
        for name in named
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=21, help="how often each method is timed")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "matching.md")
    options = parser.parse_args()
    lines = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for name, (cpu, clock_ratio, cpu_ratio) in measure(options.images, options.turns).items():
            lines.append(f"| {threads} | {name} | {cpu:,.0f} | {cpu_ratio:.2f} | {clock_ratio:.2f} |")
            print(lines[-1], flush=True)
    text = f"""# Matching and comparing in a step of a transformer

{platform.machine()}, other programs running beside; torch {torch.__version__}, transformers {transformers.__version__}.

{options.images} images, {QUERIES} queries, {LAYERS} decoder layers and the proposals, {CLASSES} classes: from outputs
to their gradients. CPU time in milliseconds, and as a multiple of the library's loss in the same turn, by CPU time and
by the clock; medians of {options.turns} turns. `benchmarks/matching.py` says how this is measured.

With two threads on a busy machine, each waits for the other in every parallel section. The CPU time tells how much:
where it is many times that of one thread, the rows of two threads say little.

| threads | loss | CPU ms | ratio, CPU | ratio, clock |
| ---: | --- | ---: | ---: | ---: |
"""
    options.output.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
