"""What the values of the preset for data of one's own should be: tried on blood cells and on the built-in dataset.

    python benchmarks/finetune.py run --bccd FOLDER --output runs/finetune
    python benchmarks/finetune.py table --output runs/finetune          # benchmarks/results/finetune.md

All trainings begin at the weights of one small ATSS that has learnt three other classes of the built-in dataset, as
nothing is downloaded here, and go through the command line's configurations: a row is a preset with some keys changed.
Images have 128 pixels, so that a training takes a minute. Each run leaves a JSON file and is not repeated when it is
there; seeds are the outer loop.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import torch
from compare import mean_and_spread

from rankdet.cli.experiment import Experiment
from rankdet.environment import facts
from rankdet.train import fit

ONE_X = ["atss/rank_sort_r50_1x_coco"]
SMALL = {
    "model.init_args.backbone": "test_resnet",
    "model.init_args.channels": "64",
    "model.init_args.head": "{class_path: DenseHead, init_args: {stacked: 1, norm: GroupNorm, scaled_boxes: true}}",
    "data.resize": "{class_path: ResizeShorter, init_args: {short: 128, long: 192}}",
    "data.train_transforms": "null",
    "data.workers": "0",
    "trainer.evaluate_every": "1000",
    "trainer.pictures": "0",
}
FINETUNE = [*ONE_X, "finetune"]
STRONG = [*FINETUNE, "strong"]
NO_CUT = {"model.init_args.postprocess.init_args.score_threshold": "null"}
PRETRAINING = {
    "data.train": "{class_path: Shapes, init_args: {length: 800, seed: 0, image_size: 128, num_classes: 3}}",
    "data.val": "{class_path: Shapes, init_args: {length: 50, seed: 1, image_size: 128, num_classes: 3}}",
    "optimiser": "{class_path: AdamW, init_args: {lr: 0.002}}",
    "schedule": "{epochs: 2, warmup_iterations: 50, decay: Cosine}",
    "trainer.gradient_clip": "10",
}
SHORT = {**NO_CUT, "schedule.epochs": "8", "schedule.least_steps": "0"}
LONG = {**NO_CUT, "schedule.epochs": "36", "schedule.least_steps": "0"}
ROWS: dict[str, tuple[list[str], dict[str, str]]] = {
    "the preset for COCO": (ONE_X, {}),
    "finetune, 8 epochs": (FINETUNE, SHORT),
    "8 epochs, twice the rate": (FINETUNE, {**SHORT, "optimiser.init_args.lr": "0.01"}),
    "8 epochs, four times the rate": (FINETUNE, {**SHORT, "optimiser.init_args.lr": "0.02"}),
    "8 epochs, AdamW at 0.0005": (FINETUNE, {**SHORT, "optimiser": "AdamW", "optimiser.init_args.lr": "0.0005"}),
    "8 epochs, no EMA": (FINETUNE, {**SHORT, "trainer.ema": "null"}),
    "finetune, 12 epochs": (FINETUNE, {**NO_CUT, "schedule.least_steps": "0"}),
    "finetune": (FINETUNE, NO_CUT),
    "finetune, 36 epochs": (FINETUNE, LONG),
    "finetune and strong, 36 epochs": (STRONG, LONG),
}
DATASETS = ("blood cells", "shapes")
METRICS = ("AP", "AP50", "oLRP")


def data_of(name: str, bccd: Path) -> dict[str, str]:
    if name == "blood cells":
        return {"data.train": str(bccd / "instances_train.json"), "data.val": str(bccd / "instances_val.json")}
    shape = "image_size: 128, num_classes: 8, objects: [1, 4]"
    return {
        "data.train": f"{{class_path: Shapes, init_args: {{length: 200, seed: 7, {shape}}}}}",
        "data.val": f"{{class_path: Shapes, init_args: {{length: 100, seed: 8, {shape}}}}}",
    }


def train(
    files: list[str], changed: dict[str, str], folder: Path, *, start_from: Path | None, seed: int = 0
) -> dict[str, float]:
    given = {**SMALL, **changed, "data.batch_size": "4", "seed": str(seed)}
    experiment = Experiment(files=files, overrides=list(given.items()))
    torch.manual_seed(experiment.seed)
    parts = experiment.build(start_from=str(start_from) if start_from else None)
    began = time.process_time()
    run = fit(
        model=parts.model,
        data=parts.data,
        optimiser=parts.optimiser,
        schedule=parts.schedule,
        trainer=parts.trainer,
        output=folder,
        start_from=start_from,
        seed=experiment.seed,
    )
    steps = torch.load(run.last_checkpoint, weights_only=True)["global_step"]
    numbers = {name: run.metrics[name] for name in METRICS}
    return {**numbers, "steps": steps, "CPU s": time.process_time() - began}


def run_all(given: argparse.Namespace) -> None:
    given.output.mkdir(parents=True, exist_ok=True)
    begin = given.output / "pretrained.ckpt"
    if not begin.exists():
        with tempfile.TemporaryDirectory() as folder:
            train(ONE_X, PRETRAINING, Path(folder) / "run", start_from=None)
            os.replace(Path(folder) / "run" / "best.ckpt", begin)
    for seed, dataset, title in product(range(given.seeds), DATASETS, ROWS):
        target = given.output / f"{dataset}-{title}-{seed}.json".replace(" ", "_").replace(",", "")
        if target.exists() or given.only not in title:
            continue
        files, changed = ROWS[title]
        with tempfile.TemporaryDirectory() as folder:
            changed = {**data_of(dataset, given.bccd), **changed}
            result = train(files, changed, Path(folder) / "run", start_from=begin, seed=seed)
        found = {"dataset": dataset, "title": title, "seed": seed, **result}
        target.write_text(json.dumps(found), encoding="utf-8")
        print(json.dumps(found), file=sys.stderr, flush=True)


def table(given: argparse.Namespace) -> None:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in given.output.glob("*.json")]
    known = dict(facts())
    print(
        "# Values for data of one's own\n\n`python benchmarks/finetune.py run --bccd FOLDER` on",
        known["processor"] + ";",
    )
    print(f"rankdet {known['rankdet']}, torch {known['torch']}, Python {known['python']}.")
    for dataset in DATASETS:
        print(f"\n| {dataset} | steps | AP | AP50 | oLRP | seeds | CPU s |\n|---|---:|---:|---:|---:|---:|---:|")
        for title in ROWS:
            if runs := [run for run in found if (run["dataset"], run["title"]) == (dataset, title)]:
                numbers = " | ".join(mean_and_spread([100 * run[name] for run in runs]) for name in METRICS)
                seconds = statistics.mean(run["CPU s"] for run in runs)
                print(f"| {title} | {runs[0]['steps']} | {numbers} | {len(runs)} | {seconds:.0f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--output", type=Path, default=Path("runs/finetune"))
    parser.add_argument("--bccd", type=Path, default=Path("bccd"))
    parser.add_argument("--seeds", type=int, default=3, help="runs of each row")
    parser.add_argument("--only", default="", help="rows whose title has this")
    given = parser.parse_args()
    {"run": run_all, "table": table}[given.what](given)
