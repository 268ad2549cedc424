"""What comes out of each loss at equal budget: small detectors from scratch, several seeds, mean and spread.

    python benchmarks/compare.py run --output runs/compare                     # the built-in long-tailed dataset
    python benchmarks/compare.py run --output runs/compare --bccd FOLDER       # and the blood cells in FOLDER
    python benchmarks/compare.py table --output runs/compare

Only the criterion differs between the rows of a detector: the network, its anchors, the images, their order, the
optimiser, the schedule and the number of steps are the same. Each run leaves a JSON file in the output folder and is
not repeated when it is there, so the command can be interrupted; seeds are the outer loop, so that an unfinished table
has fewer seeds, not fewer rows. The numbers are too small to compare with anybody else's, only with one another.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rankdet.criteria import (
    Centerness,
    Criterion,
    PerSample,
    RankingCriterion,
    ScoreCriterion,
    alrp_criterion,
    average_precision_criterion,
)
from rankdet.data import DetectionData, KeepSize, ResizeShorter, Shapes
from rankdet.eval import DetectionMetric, Evaluation
from rankdet.losses.boxes import GIoULoss
from rankdet.losses.classification import BinaryCrossEntropyLoss, FocalLoss, QualityFocalLoss
from rankdet.models import (
    ATSS,
    RPN,
    YOLACT,
    AnchorSettings,
    FasterRCNN,
    MaskRCNN,
    ProposalSelection,
    RegionSettings,
    SOLOv2Light,
    softmax_criterion,
)
from rankdet.nn import DenseHead, GroupNorm, octave_scales
from rankdet.train import AdamW, Cosine, Schedule, end_epoch

HEAD = partial(DenseHead, stacked=1, norm=GroupNorm(), scaled_boxes=True)
SMALL = {"backbone": "test_resnet", "channels": 64}
REGIONS = {"backbone": "test_resnet", "channels": 32, "settings": RegionSettings(proposals=ProposalSelection(keep=32))}
METRICS = {
    "AP": "AP",
    "AP50": "AP50",
    "AP75": "AP75",
    "oLRP": "oLRP",
    "oLRP_Loc": "Loc",
    "oLRP_FP": "FP rate",
    "oLRP_FN": "FN rate",
}
"""What the columns of the metrics are called."""


@dataclass(frozen=True)
class Dataset:
    """Data, how they are shown to the network, and how often: half as often to detectors other than ATSS."""

    open: Callable[[], DetectionData]
    epochs: int


def built_in(*, train: int, val: int, epochs: int, **settings: Any) -> Dataset:
    """So many images of 5 classes, the first twenty times as frequent as the last."""

    def make(length: int, seed: int) -> Shapes:
        return Shapes(length=length, seed=seed, num_classes=5, noise=0.06, imbalance=20, **settings)

    return Dataset(
        lambda: DetectionData(train=make(train, 0), val=make(val, 1), batch_size=8, workers=0, resize=KeepSize()),
        epochs=epochs,
    )


def shapes(*, masks: bool) -> Dataset:
    """Few and large objects."""
    settings = {"image_size": 64, "sizes": (0.3, 0.7), "objects": (1, 3), "clutter": 1, "masks": masks}
    return built_in(train=1000, val=300, epochs=8, **settings)


def bccd(folder: Path) -> Dataset:
    """Blood cells, 3 classes, as COCO files."""
    return Dataset(
        lambda: DetectionData(
            train=str(folder / "instances_train.json"),
            val=str(folder / "instances_val.json"),
            batch_size=8,
            workers=0,
            resize=ResizeShorter(short=128, long=214),
        ),
        epochs=8,
    )


def atss(criterion: Criterion, classes: int) -> nn.Module:
    return ATSS(
        num_classes=classes, criterion=criterion, anchors=AnchorSettings(scales=octave_scales(2, 3)), head=HEAD, **SMALL
    )


def faster(criterion: Criterion, classes: int) -> nn.Module:
    return FasterRCNN(num_classes=classes, criterion=criterion, **REGIONS)


def _alrp_faster(classes: int) -> nn.Module:
    return FasterRCNN(
        num_classes=classes,
        criterion=alrp_criterion(),
        rpn=partial(RPN, criterion=alrp_criterion(tau=0.7, loss_weight=0.2)),
        **REGIONS,
    )


def focal_with_centerness() -> ScoreCriterion:
    return ScoreCriterion(
        classification=FocalLoss(), box_loss=GIoULoss(weight=2.0), weighting=Centerness(), judged=Centerness()
    )


def quality_focal() -> ScoreCriterion:
    return ScoreCriterion(classification=QualityFocalLoss(), box_loss=GIoULoss(weight=2.0))


def _cross_entropy() -> ScoreCriterion:
    return ScoreCriterion(classification=BinaryCrossEntropyLoss(), box_loss=GIoULoss(weight=2.0))


def _region(classification: nn.Module) -> ScoreCriterion:
    return ScoreCriterion(classification=classification, box_loss=GIoULoss(weight=2.0), normaliser=PerSample())


Make = Callable[[int], nn.Module]
Rows = Mapping[str, Iterable[str]]
DETECTORS: dict[str, dict[str, Make]] = {
    "ATSS": {
        "focal, centerness": lambda k: atss(focal_with_centerness(), k),
        "QFL": lambda k: atss(quality_focal(), k),
        "CE (sigmoid)": lambda k: atss(_cross_entropy(), k),
        "AP": lambda k: atss(average_precision_criterion(), k),
        "aLRP": lambda k: atss(alrp_criterion(), k),
        "RS": lambda k: atss(RankingCriterion(), k),
    },
    "Faster R-CNN": {
        "focal": lambda k: faster(ScoreCriterion(classification=FocalLoss(), box_loss=GIoULoss(weight=2.0)), k),
        "QFL": lambda k: faster(quality_focal(), k),
        "CE (softmax), L1": lambda k: faster(softmax_criterion(), k),
        "AP": lambda k: faster(average_precision_criterion(), k),
        "aLRP": _alrp_faster,
        "RS": lambda k: faster(RankingCriterion(), k),
    },
}
MASKED: dict[str, dict[str, Make]] = {
    "Mask R-CNN": {"RS": lambda k: MaskRCNN(num_classes=k, **REGIONS)},
    "YOLACT": {"RS": lambda k: YOLACT(num_classes=k, image_size=64, **SMALL)},
    "SOLOv2 light": {"RS": lambda k: SOLOv2Light(num_classes=k, **SMALL)},
}


@dataclass(frozen=True)
class Case:
    """One run."""

    dataset: str
    detector: str
    criterion: str
    seed: int
    make: Make
    masks: bool = False

    def file(self, folder: Path) -> Path:
        """Where its result is kept."""
        name = f"{self.dataset}-{self.detector}-{self.criterion}-{self.seed}"
        return folder / ("".join(letter if letter.isalnum() or letter == "-" else "_" for letter in name) + ".json")


def all_cases(datasets: tuple[str, ...], seeds: int) -> Iterator[Case]:
    """Everything, a whole table for each seed."""
    for seed in range(seeds):
        for dataset in datasets:
            for detector, criteria in DETECTORS.items():
                for criterion, make in criteria.items():
                    yield Case(dataset, detector, criterion, seed, make)
            for detector, criteria in MASKED.items() if dataset == "shapes" else ():
                for criterion, make in criteria.items():
                    yield Case(dataset, detector, criterion, seed, make, masks=True)


def run(case: Case, dataset: Dataset, *, lr: float) -> dict[str, object]:
    """Train and evaluate; metrics of boxes and, where there are any, of masks."""
    torch.manual_seed(case.seed)
    data = dataset.open()
    model = case.make(data.num_classes)
    began = time.process_time()
    train(model, data, epochs=dataset.epochs // (1 if case.detector == "ATSS" else 2), lr=lr, seed=case.seed)
    spent = time.process_time() - began
    return {
        "dataset": case.dataset,
        "detector": case.detector,
        "criterion": case.criterion,
        "seed": case.seed,
        "lr": lr,
        "cpu_seconds": round(spent, 1),
        **{kind: found.metrics for kind, found in evaluate(model, data, masks=case.masks).items()},
    }


def train(model: nn.Module, data: DetectionData, *, epochs: int, lr: float, seed: int) -> None:
    """AdamW with a cosine over `epochs` epochs, 50 steps of warm-up, gradients clipped at norm 10."""
    loader = data.train_loader(seed=seed)
    schedule = Schedule(epochs=epochs, warmup_iterations=50, decay=Cosine())
    optimiser = AdamW(lr=lr).build(model, lr=lr)
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: schedule.factor(step, steps_per_epoch=len(loader))
    )
    model.train()
    for _ in range(epochs):
        for images, targets in loader:
            losses: dict[str, Tensor] = model(images, targets)
            optimiser.zero_grad()
            sum(losses.values(), start=torch.zeros(())).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimiser.step()
            rates.step()
        end_epoch(model)


@torch.no_grad()
def evaluate(model: nn.Module, data: DetectionData, *, masks: bool) -> dict[str, Evaluation]:
    """Of the validation images at the size the network sees."""
    model.eval()
    metrics = {
        kind: DetectionMetric(categories=data.categories, iou_type=kind) for kind in ("bbox", "segm")[: 1 + masks]
    }
    for images, targets in data.val_loader():
        found = model(images)
        for metric in metrics.values():
            metric.update(found, targets)
    return {kind: metric.compute() for kind, metric in metrics.items()}


def table(folder: Path) -> str:
    """Markdown: mean and, after ±, standard deviation over the seeds, in percent."""
    kinds = (("boxes", "bbox", DETECTORS), ("boxes of detectors with masks", "bbox", MASKED), ("masks", "segm", MASKED))
    return _tables(folder, kinds)


def table_of(folder: Path, known: Rows) -> str:
    """The same of boxes alone, with other rows: by detector, the names of the criteria."""
    return _tables(folder, [("boxes", "bbox", known)])


def _tables(folder: Path, kinds: Sequence[tuple[str, str, Rows]]) -> str:
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    lines: list[str] = []
    for dataset in sorted({run["dataset"] for run in runs}, reverse=True):
        for what, kind, known in kinds:
            rows = [
                _row(detector, criterion, [run[kind] for run in found], found)
                for detector, criteria in known.items()
                for criterion in criteria
                if (found := _of(runs, dataset, detector, criterion))
            ]
            if rows:
                head = ("detector", "criterion", *METRICS.values(), "seeds", "CPU s")
                rule = ("---", "---", *("---:" for _ in head[2:]))
                lines += ["", f"{dataset}, {what}:", "", _line(head), _line(rule), *rows]
    return "\n".join(lines).strip() + "\n"


def _of(runs: list[dict], dataset: str, detector: str, criterion: str) -> list[dict]:
    wanted = (dataset, detector, criterion)
    return [run for run in runs if (run["dataset"], run["detector"], run["criterion"]) == wanted]


def _row(detector: str, criterion: str, metrics: list[dict[str, float]], runs: list[dict]) -> str:
    cells = [mean_and_spread([100 * each[name] for each in metrics]) for name in METRICS]
    seconds = statistics.mean(run["cpu_seconds"] for run in runs)
    return _line([detector, criterion, *cells, str(len(metrics)), f"{seconds:.0f}"])


def mean_and_spread(values: list[float]) -> str:
    """Over the seeds; the standard deviation where there are several."""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def _line(cells: object) -> str:
    return "| " + " | ".join(cells) + " |"  # type: ignore[call-overload]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "table"), help="train what is missing, or print what is there")
    parser.add_argument("--output", type=Path, required=True, help="folder of the results, one JSON file a run")
    parser.add_argument("--bccd", type=Path, help="folder with instances_train.json and instances_val.json")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each row")
    parser.add_argument("--lr", type=float, default=2e-3, help="highest learning rate, the same for all")
    parser.add_argument("--only", default="", help="run only what contains this, such as 'shapes-ATSS'")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    if options.action == "table":
        print(table(options.output))
        return
    datasets = ("shapes", "bccd") if options.bccd else ("shapes",)
    cases = [case for case in all_cases(datasets, options.seeds) if options.only in case.file(Path()).name]
    for number, case in enumerate(cases, start=1):
        path = case.file(options.output)
        if path.exists():
            continue
        dataset = bccd(options.bccd) if case.dataset == "bccd" else shapes(masks=case.masks)
        result = run(case, dataset, lr=options.lr)
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(result, indent=1), encoding="utf-8")
        partial.rename(path)
        print(
            f"{number}/{len(cases)} {path.stem}: AP {result['bbox']['AP']:.3f}, {result['cpu_seconds']} s", flush=True
        )


if __name__ == "__main__":
    main()
