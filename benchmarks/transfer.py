"""What the weights of a detector of three classes are worth for four: blood cells, one class split in two.

    python benchmarks/transfer.py run --bccd FOLDER --output runs/transfer      # can be interrupted
    python benchmarks/transfer.py table --output runs/transfer                  # benchmarks/results/transfer.md

A small ATSS learns the three classes of one half of the training images. Then the red cells of a quarter of the area of
the others become a class of their own, and a detector of four classes learns from the other half: once from the weights
of the first, whose classes are matched by name (`rankdet train --start-from`), and once from random ones, by the same
steps, rate and seed. `benchmarks/finetune.py` says what the network and the images are like.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from finetune import METRICS, NO_CUT, ONE_X, PRETRAINING, train

from rankdet.environment import facts

SCHEDULE = {**NO_CUT, **{name: PRETRAINING[name] for name in ("optimiser", "trainer.gradient_clip")}}
FIRST = {**SCHEDULE, "schedule": "{epochs: 16, warmup_iterations: 50, decay: Cosine, scale_lr: false}"}
SECOND = {**SCHEDULE, "schedule": "{epochs: 6, warmup_iterations: 20, decay: Cosine, scale_lr: false}"}
SPLIT, NEW = "RBC", "small RBC"
FROM = {"the three classes": True, "scratch": False}
Content = dict[str, Any]


def halves(content: Content) -> tuple[Content, Content]:
    """Every other image, and the rest."""
    return tuple(  # type: ignore[return-value]
        {
            **content,
            "images": content["images"][start::2],
            "annotations": [
                entry
                for entry in content["annotations"]
                if entry["image_id"] in {image["id"] for image in content["images"][start::2]}
            ],
        }
        for start in (0, 1)
    )


def split(content: Content, *, below: float) -> Content:
    """With the objects of `SPLIT` that have less area as a class of their own."""
    number = next(category["id"] for category in content["categories"] if category["name"] == SPLIT)
    new = max(category["id"] for category in content["categories"]) + 1
    moved = [
        {**entry, "category_id": new} if entry["category_id"] == number and _area(entry) < below else entry
        for entry in content["annotations"]
    ]
    return {**content, "annotations": moved, "categories": [*content["categories"], {"id": new, "name": NEW}]}


def quarter(content: Content) -> float:
    """The area that a quarter of the objects of `SPLIT` are below."""
    number = next(category["id"] for category in content["categories"] if category["name"] == SPLIT)
    return statistics.quantiles((_area(e) for e in content["annotations"] if e["category_id"] == number), n=4)[0]


def _area(entry: Content) -> float:
    return float(entry["bbox"][2] * entry["bbox"][3])


def run_all(given: argparse.Namespace) -> None:
    given.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first, second = _write_data(given.bccd, folder)
        begin = given.output / "three.ckpt"
        if not begin.exists():
            print("three classes:", train(ONE_X, {**first, **FIRST}, folder / "first", start_from=None), flush=True)
            os.replace(folder / "first" / "best.ckpt", begin)
        for seed in range(given.seeds):
            for title, taken in FROM.items():
                target = given.output / f"{title.replace(' ', '_')}-{seed}.json"
                if target.exists():
                    continue
                run = folder / target.stem
                changed = {**second, **SECOND, "seed": str(seed)}
                result = train(ONE_X, changed, run, start_from=begin if taken else None)
                target.write_text(json.dumps({"from": title, "seed": seed, **result}), encoding="utf-8")
                print(target.read_text(encoding="utf-8"), flush=True)


def _write_data(bccd: Path, folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The settings of both datasets, which are written into the folder."""
    content = {
        part: json.loads((bccd / f"instances_{part}.json").read_text(encoding="utf-8")) for part in ("train", "val")
    }
    below = quarter(content["train"])
    old, new = halves(content["train"])
    files = {
        "three_train": old,
        "three_val": content["val"],
        "four_train": split(new, below=below),
        "four_val": split(content["val"], below=below),
    }
    for name, kept in files.items():
        for image in kept["images"]:
            image["file_name"] = str(_image(bccd, image["file_name"]))
        (folder / f"{name}.json").write_text(json.dumps(kept), encoding="utf-8")
    first, second = (
        {f"data.{part}": str(folder / f"{name}_{part}.json") for part in ("train", "val")} for name in ("three", "four")
    )
    return first, second


def _image(bccd: Path, name: str) -> Path:
    """Wherever below the folder it lies."""
    return next(path.resolve() for path in bccd.rglob(Path(name).name))


def table(given: argparse.Namespace) -> None:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(given.output.glob("*.json"))]
    known = dict(facts())
    seeds = len({row["seed"] for row in found})
    print(f"# Four classes from three\n\n`python benchmarks/transfer.py run`, {seeds} seeds, on {known['processor']};")
    print(f"rankdet {known['rankdet']}, torch {known['torch']}, Python {known['python']}.\n")
    print("| weights from | steps | AP | AP50 | oLRP |\n|---|---:|---:|---:|---:|")
    for title in FROM:
        rows = [row for row in found if row["from"] == title]
        numbers = ([100 * row[name] for row in rows] for name in METRICS)
        cells = (f"{statistics.mean(each):.1f} ± {statistics.stdev(each):.1f}" for each in numbers)
        print(f"| {title} | {rows[0]['steps']} | {' | '.join(cells)} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--output", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--bccd", type=Path, default=Path("bccd"))
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    {"run": run_all, "table": table}[given.what](given)
