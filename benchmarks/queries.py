"""What comes out of each loss in a transformer at equal budget: RT-DETRv2 tiny from scratch, several seeds.

    python benchmarks/queries.py run --output runs/queries                     # built-in shapes; can be interrupted
    python benchmarks/queries.py run --output runs/queries --bccd FOLDER       # and the blood cells in FOLDER
    python benchmarks/queries.py run --output runs/queries --rows losses       # the three losses without the variations
    python benchmarks/queries.py table --output runs/queries

The losses are RT-DETRv2's own (varifocal), DEIM's (MAL) and Rank & Sort. The variations of the latter tell what its row
owes to: denoising queries that learn by score, boxes without weights (as BRS-DETR has them), a matching that trusts
classes more, and a balance without a floor. Everything else is the same: images and their order, network, optimiser,
schedule and number of steps. Seeds are the outer loop; each run leaves a JSON file and is not repeated. An epoch is 125
steps on the built-in shapes and took 34 s of CPU time on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from compare import Dataset, bccd, evaluate, shapes, table_of, train
from torch import nn

from rankdet.assign import HungarianMatcher
from rankdet.criteria import RankingCriterion, Uniform, ValueBalance
from rankdet.models import (
    QueryStage,
    RTDETRv2,
    deim_criterion,
    query_ranking_criterion,
    rt_detr_criterion,
)
from rankdet.models.queries.recipe import detr_box_losses

TINY: dict[str, Any] = {
    "d_model": 64,
    "encoder_hidden_dim": 64,
    "encoder_ffn_dim": 64,
    "hidden_expansion": 0.5,
    "decoder_in_channels": [64] * 3,
    "decoder_ffn_dim": 64,
    "decoder_layers": 3,
    "num_denoising": 20,
}
EPOCHS, LR = 12, 1e-3


def tiny(classes: int, **settings: Any) -> nn.Module:
    """The detector that all rows share."""
    return RTDETRv2(num_classes=classes, backbone="test_resnet", queries=50, options=TINY, **settings)


def _ranking(**settings: Any) -> RankingCriterion:
    return RankingCriterion(box_loss=detr_box_losses(), **{"balance": ValueBalance(least=1.0), **settings})


def _stage(**settings: Any) -> Mapping[str, Any]:
    return {"criterion": query_ranking_criterion(), "stage": partial(QueryStage, **settings)}


Row = Callable[[], Mapping[str, Any]]
LOSSES: dict[str, Row] = {
    "varifocal": lambda: {"criterion": rt_detr_criterion()},
    "MAL": lambda: {"criterion": deim_criterion()},
    "RS": lambda: {"criterion": query_ranking_criterion()},
}
VARIATIONS: dict[str, Row] = {
    "RS, denoising by varifocal": lambda: _stage(denoising=rt_detr_criterion()),
    "RS, boxes not weighted": lambda: {"criterion": _ranking(weighting=Uniform())},
    "RS, class cost 4": lambda: _stage(matcher=HungarianMatcher(class_cost=4.0)),
    "RS, balance without a floor": lambda: {"criterion": _ranking(balance=ValueBalance())},
}
ROWS = {"losses": LOSSES, "all": {**LOSSES, **VARIATIONS}}


def run(row: Row, dataset: Dataset, *, seed: int, epochs: int) -> dict[str, Any]:
    """Train and evaluate."""
    torch.manual_seed(seed)
    data = dataset.open()
    model = tiny(data.num_classes, **row())
    began = time.process_time()
    train(model, data, epochs=epochs, lr=LR, seed=seed)
    spent = time.process_time() - began
    return {"seed": seed, "epochs": epochs, "lr": LR, "cpu_seconds": round(spent, 1), **_metrics(model, data)}


def _metrics(model: nn.Module, data: Any) -> dict[str, dict[str, float]]:
    return {kind: found.metrics for kind, found in evaluate(model, data, masks=False).items()}


def file_of(folder: Path, dataset: str, row: str, *, epochs: int, seed: int) -> Path:
    """Where a result is kept."""
    name = f"{dataset}-{row}-{epochs}-{seed}"
    return folder / ("".join(letter if letter.isalnum() or letter == "-" else "_" for letter in name) + ".json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "table"), help="train what is missing, or print what is there")
    parser.add_argument("--output", type=Path, required=True, help="folder of the results, one JSON file a run")
    parser.add_argument("--bccd", type=Path, help="folder with instances_train.json and instances_val.json")
    parser.add_argument("--rows", choices=ROWS, default="all", help="which rows to run")
    parser.add_argument("--only", default="", help="run only rows whose names contain this, such as MAL")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each row")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes over the training images")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    detector = f"RT-DETRv2, {options.epochs} epochs"
    datasets = {"shapes": shapes(masks=False)} | ({"bccd": bccd(options.bccd)} if options.bccd else {})
    wanted = [
        (dataset, row, seed)
        for seed in range(options.seeds)
        for dataset in datasets
        for row in ROWS[options.rows]
        if options.only in row
    ]
    for dataset, row, seed in wanted if options.action == "run" else ():
        path = file_of(options.output, dataset, row, epochs=options.epochs, seed=seed)
        if path.exists():
            continue
        found = run(ROWS["all"][row], datasets[dataset], seed=seed, epochs=options.epochs)
        result = {"dataset": dataset, "detector": detector, "criterion": row, **found}
        part = path.with_suffix(".part")
        part.write_text(json.dumps(result, indent=1), encoding="utf-8")
        part.rename(path)
        print(f"{path.stem}: AP {result['bbox']['AP']:.3f}, {result['cpu_seconds']} s", flush=True)
    print(table_of(options.output, {detector: ROWS["all"]}))


if __name__ == "__main__":
    main()
