"""How long evaluation takes as data grow: boxes of rankdet (AP *and* oLRP) beside hotcoco (AP), which is the fastest.

    python benchmarks/evaluation_scale.py                 # the table of benchmarks/results/evaluation_scale.md
    python benchmarks/evaluation_scale.py --only val2017 --output /dev/stdout

The simulation is that of `evaluation.py` without masks: COCO's validation set, a million detections, and as many
images, classes and detections as LVIS has. Each run is a process of its own, from the JSON files to the numbers, in
turn with the other; the table has the least CPU time, medians of the ratios within a turn, and the largest resident
memory.
hotcoco is not a dependency: install it to compare, or name its folder by PYTHONPATH.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from evaluation import machine, run_in_child, version_of
from simulation import HEIGHT, WIDTH, random_boxes, simulate_detections

LINES = 100_000  # that are written at a time
OURS, THEIRS = "rankdet", "hotcoco"


@dataclass(frozen=True)
class Scale:
    """How much there is: images, classes, objects and detections in an image."""

    images: int
    classes: int
    objects: float
    detections: int


SCALES = {
    "val2017": Scale(5_000, 80, 7.2, 100),
    "a million": Scale(10_000, 80, 7.2, 100),
    "LVIS": Scale(20_000, 1203, 12.5, 300),
}


def simulate(folder: Path, scale: Scale, *, seed: int = 0) -> None:
    """Writes truth.json and boxes.json."""
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(1, scale.classes + 1) ** 0.9
    objects = int(scale.objects * scale.images)
    image = np.sort(rng.integers(0, scale.images, objects))
    category = rng.choice(scale.classes, objects, p=frequency / frequency.sum())
    box, crowd = random_boxes(rng, objects), rng.random(objects) < 0.01
    annotations = [
        {
            "id": i + 1,
            "image_id": int(image[i]) + 1,
            "category_id": int(category[i]) + 1,
            "bbox": box[i].tolist(),
            "area": float(box[i, 2] * box[i, 3]),
            "iscrowd": int(crowd[i]),
        }
        for i in range(objects)
    ]
    truth = {
        "images": [{"id": i + 1, "height": HEIGHT, "width": WIDTH} for i in range(scale.images)],
        "categories": [{"id": c + 1, "name": f"class {c + 1}"} for c in range(scale.classes)],
        "annotations": annotations,
    }
    (folder / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    count = scale.images * scale.detections
    write_results(
        folder / "boxes.json",
        *simulate_detections(rng, scale.images, count, image, category, box, classes=scale.classes),
    )


def write_results(path: Path, image: np.ndarray, category: np.ndarray, box: np.ndarray, score: np.ndarray) -> None:
    """As json.dump does, without an object for each."""
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, len(image), LINES):
            part = slice(start, start + LINES)
            columns = (image[part] + 1, category[part] + 1, np.round(box[part], 2), score[part])
            lines = [
                f'{{"image_id": {i}, "category_id": {c}, "score": {s!r}, "bbox": {b}}}'
                for i, c, b, s in zip(*(column.tolist() for column in columns), strict=True)
            ]
            file.write(("[" if start == 0 else ", ") + ", ".join(lines))
        file.write("]")


def row(title: str, scale: Scale, folder: Path, repeats: int) -> str:
    """Of the table."""
    simulate(folder, scale)
    runs: dict[str, list[dict]] = {THEIRS: [], OURS: []}
    for _ in range(repeats):
        for name, own in runs.items():
            own.append(run_in_child(["--child", name, "--folder", str(folder), "--iou-type", "bbox"]))
            print(title, name, f"{own[-1]['cpu']:.2f} s CPU, {own[-1]['gigabytes']:.2f} GB", file=sys.stderr)
    differences = [abs(value - runs[OURS][0]["numbers"][name]) for name, value in runs[THEIRS][0]["numbers"].items()]
    cells = [
        title,
        f"{scale.images:,} x {scale.detections}, {scale.classes:,} classes",
        *(f"{min(run['cpu'] for run in own):.2f}" for own in runs.values()),
        f"{statistics.median(our['cpu'] / their['cpu'] for their, our in zip(*runs.values(), strict=True)):.2f}",
        *(f"{max(run['gigabytes'] for run in own):.2f}" for own in runs.values()),
        f"{max(differences):.0e}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(SCALES), nargs="+", default=list(SCALES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--note", default="", help="a line about the circumstances, for the report")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "evaluation_scale.md")
    arguments = parser.parse_args()
    lines = [
        "# Evaluation of boxes, as data grow",
        "",
        f"{machine()}; {THEIRS} {version_of(THEIRS)} (AP), {OURS} {version_of(OURS)} (AP and oLRP).",
        f"CPU seconds from JSON files to numbers, least of {arguments.repeats}. {arguments.note}".rstrip(),
        "",
        f"|  | images x detections | {THEIRS}, s | {OURS}, s | ratio | {THEIRS}, GB | {OURS}, GB | difference |",
        "|---|---|" + "---:|" * 6,
    ]
    for title in arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            lines.append(row(title, SCALES[title], Path(folder), arguments.repeats))
        print(lines[-1], file=sys.stderr, flush=True)
    arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
