"""What calibration does to the scores of a detector trained by focal loss and by Rank & Sort Loss.

    python benchmarks/calibration.py --output runs/calibration          # benchmarks/results/calibration.md

Two very small ATSS (configs/demo.yaml with a smaller network and images, a CPU minute each) detect in 400 other images
of the built-in dataset. Each method is fitted to 200 of them and reported on the other 200, by `rankdet calibrate
--results`. A training that is there already is not repeated.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rankdet.cli import main as rankdet
from rankdet.cli.calibrating import METHODS
from rankdet.data import Shapes
from rankdet.environment import facts

DATA = {"image_size": 96, "num_classes": 3, "sizes": (0.2, 0.6), "objects": (1, 3), "clutter": 0}
CRITERIA = {"focal loss": "ScoreCriterion", "Rank & Sort Loss": "RankingCriterion"}
SHAPES = "{class_path: Shapes, init_args: {length: %d, seed: %d, image_size: 96, num_classes: 3, sizes: [0.2, 0.6], \
objects: [1, 3], clutter: 0}}"
OPTIONS = {
    "model.init_args.backbone": "test_resnet",
    "model.init_args.channels": "32",
    "data.train": SHAPES % (800, 0),
    "data.val": SHAPES % (20, 1),
    "data.workers": "0",
    "schedule.epochs": "4",
    "schedule.least_steps": "0",
    "schedule.warmup_iterations": "20",
    "trainer.pictures": "0",
    "trainer.evaluate_every": "4",
}
COLUMNS = {
    "AP": "AP_deployed",
    "LRP": "LRP",
    "LaECE_0": "LaECE_0",
    "LaACE_0": "LaACE_0",
    "D-ECE pooled": "D_ECE",
    "D-ECE by class": "D_ECE_per_class",
    "LaECE_0, all": "LaECE_0_all",
}


def command(*arguments: object) -> None:
    """A command of rankdet that must not fail."""
    if code := rankdet([str(argument) for argument in arguments]):
        raise SystemExit(f"rankdet {arguments[0]} ended with {code}")


def _options() -> list[str]:
    return [text for name, value in OPTIONS.items() for text in (f"--{name}", value)]


def detections_of(criterion: str, folder: Path, data: Path) -> Path:
    """Train, and detect in the images of the calibration."""
    run = folder / criterion
    if not (run / "best.ckpt").is_file():
        command("train", "--config", "demo", "--model.init_args.criterion", criterion, *_options(), "--output", run)
    results = folder / f"{criterion}.json"
    given = ("--data.val", data, "--data.workers", "0", "--save-results", results)
    command("eval", "--checkpoint", run / "best.ckpt", *given)
    return results


def rows_of(results: Path, data: Path) -> list[tuple[str, dict[str, float], list[float]]]:
    """Method, numbers and thresholds of each."""
    annotations = next(data.glob("*.json"))
    rows = []
    for method in METHODS:
        target = results.with_name(f"{results.stem}_{method}.json")
        given = ("--annotations", annotations, "--method", method, "--output", target)
        command("calibrate", "--results", results, *given)
        mapping = json.loads(target.with_suffix(".mapping.json").read_text(encoding="utf-8"))
        before, after = mapping["calibration"]["before"], mapping["calibration"]["after"]
        if not rows:
            rows.append(("as trained", before, [row["threshold_before"] for row in mapping["classes"]]))
        rows.append((method, after, [row["threshold"] for row in mapping["classes"]]))
    return rows


def table(found: dict[str, list[tuple[str, dict[str, float], list[float]]]]) -> str:
    """The page of results."""
    known = dict(facts())
    lines = [
        "# Calibration on the built-in dataset\n",
        f"On {known['processor']}; rankdet {known['rankdet'].split()[0]}, torch {known['torch']}.\n",
        "Detections from the threshold of their class on, but for the last column; 200 images.\n",
        f"| trained by | method | thresholds | {' | '.join(COLUMNS)} |",
        f"|---|---|---|{'---|' * len(COLUMNS)}",
    ]
    for name, rows in found.items():
        for method, numbers, thresholds in rows:
            cells = " | ".join(f"{numbers[key]:.3f}" for key in COLUMNS.values())
            lines.append(f"| {name} | {method} | {min(thresholds):.2f} to {max(thresholds):.2f} | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/calibration"))
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    if not data.is_dir():
        Shapes(length=400, seed=5, **DATA).export(data)
    found = {name: rows_of(detections_of(criterion, folder, data), data) for name, criterion in CRITERIA.items()}
    (Path(__file__).parent / "results" / "calibration.md").write_text(table(found), encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
