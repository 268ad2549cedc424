"""How long a COCO file takes to be read for training, for the doctor and for evaluation, beside msgspec decoding it.

    python benchmarks/reading.py                        # the tables of benchmarks/results/reading.md
    python benchmarks/reading.py --objects 20000 --million 20000 --output /dev/stdout

The file is simulated: 7 objects an image, 80 classes, boxes or also polygons of about 24 points, the keys that COCO's
images have; the image files are empty, so that the folder is listed and nothing is decoded. The measure is what msgspec
takes to make plain Python objects of the file, with the search for garbage off, which would double it. The cases take
turns in one process. The tables have the medians of the rounds in CPU seconds, and their ratios to that measure, which
mean the same on a machine that is busy with other things.

The last table is a dataset of a million images: what it takes to be ready for training, and how much memory of its
own each of 8 loading processes has after it has looked at the objects of every seventh image.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

CLASSES, OBJECTS_PER_IMAGE, WORKERS = 80, 7, 8
HEIGHT, WIDTH = 480, 640
STEP = 7  # every seventh of a million images is looked at


# ---------------------------------------------------------------------------------------------------- the simulation


def simulate(folder: Path, *, objects: int, polygons: bool, one_file: bool = False, seed: int = 0) -> Path:
    """Write ``instances_train.json`` and its images; with `one_file` all images are the same file."""
    rng = np.random.default_rng(seed)
    images = max(1, objects // OBJECTS_PER_IMAGE)
    (folder / "images").mkdir(parents=True)
    for number in range(1 if one_file else images):
        (folder / "images" / f"{number:012d}.jpg").touch()
    file = folder / "instances_train.json"
    categories = [{"supercategory": "thing", "id": c + 1, "name": f"class {c}"} for c in range(CLASSES)]
    with file.open("w", encoding="utf-8") as out:
        out.write('{"info": {"year": 2017}, "images": [')
        out.writelines(separated(image(number, 0 if one_file else number) for number in range(images)))
        out.write('], "annotations": [')
        out.writelines(separated(annotations(rng, objects, images, polygons=polygons)))
        out.write(f'], "categories": {json.dumps(categories)}}}')
    return file


def separated(entries: Iterator[dict[str, Any]]) -> Iterator[str]:
    for number, entry in enumerate(entries):
        yield (", " if number else "") + json.dumps(entry)


def image(number: int, file: int) -> dict[str, Any]:
    return {
        "license": 4,
        "file_name": f"{file:012d}.jpg",
        "coco_url": f"http://images.cocodataset.org/train2017/{file:012d}.jpg",
        "height": HEIGHT,
        "width": WIDTH,
        "date_captured": "2013-11-14 17:02:52",
        "id": number + 1,
    }


def annotations(rng: np.random.Generator, objects: int, images: int, *, polygons: bool) -> Iterator[dict[str, Any]]:
    owners, classes = rng.integers(1, images + 1, objects).tolist(), rng.integers(1, CLASSES + 1, objects).tolist()
    sides = np.exp(rng.normal(4, 0.9, (objects, 2))).clip(4, 470).round(2)
    corners = (rng.random((objects, 2)) * ([WIDTH, HEIGHT] - sides)).clip(0).round(2)
    areas = (sides.prod(1) * 0.6).round(4).tolist()
    for number, box in enumerate(np.concatenate([corners, sides], axis=1).tolist()):
        crowd = int(number % 100 == 0)
        entry = {"area": areas[number], "iscrowd": crowd, "image_id": owners[number], "bbox": box}
        if polygons:
            entry["segmentation"] = runs(rng) if crowd else [points(rng)]
        yield {**entry, "category_id": classes[number], "id": number + 1}


def points(rng: np.random.Generator) -> list[float]:
    return (rng.random(2 * max(3, int(rng.exponential(24)))) * 400).round(2).tolist()


def runs(rng: np.random.Generator) -> dict[str, Any]:
    counts = rng.integers(1, 300, 40).tolist()
    return {"counts": [*counts, HEIGHT * WIDTH - sum(counts)], "size": [HEIGHT, WIDTH]}


# --------------------------------------------------------------------------------------------------------- the cases


def decode(file: Path) -> object:
    text = file.read_bytes()
    gc.disable()
    try:
        return msgspec.json.decode(text)
    finally:
        gc.enable()


def train(file: Path) -> object:
    from rankdet.data import CocoDetection

    return CocoDetection(file)


def train_with_masks(file: Path) -> object:
    from rankdet.data import CocoDetection

    return CocoDetection(file, masks=True)


def check(file: Path) -> object:
    from rankdet.doctor import Source, read_table

    return read_table(Source(str(file)))


def evaluate(file: Path) -> object:
    from rankdet.eval import read_ground_truth

    return read_ground_truth(file)


MEASURE = "msgspec decoding the file to Python objects"
CASES: dict[str, Callable[[Path], object]] = {
    MEASURE: decode,
    "training: `CocoDetection(file)`": train,
    "training: `CocoDetection(file, masks=True)`": train_with_masks,
    "doctor: `read_table(Source(file))`": check,
    "evaluation: `read_ground_truth(file)`": evaluate,
}


def race(file: Path, cases: list[str], rounds: int) -> list[str]:
    """A line of the table for each case."""
    times: dict[str, list[float]] = {case: [] for case in cases}
    for number in range(rounds + 1):
        for case in cases:
            start = time.process_time()
            result = CASES[case](file)
            seconds = time.process_time() - start
            del result
            if number:  # the first round imports
                times[case].append(seconds)
    medians = {case: statistics.median(found) for case, found in times.items()}
    return [f"| {case} | {median:.2f} s | {median / medians[MEASURE]:.2f} |" for case, median in medians.items()]


# -------------------------------------------------------------------------------------------------- a million images


def million(file: Path, method: str) -> dict[str, Any]:
    """In a process of its own: CPU seconds until the dataset is there, and megabytes of its own of each worker."""
    from rankdet.data import CocoDetection

    start = time.process_time()
    dataset = CocoDetection(file)
    seconds = time.process_time() - start
    context = multiprocessing.get_context(method)
    results: Any = context.Queue()
    done = context.Event()
    own = []
    for subject, number in ((None, 1), (dataset, WORKERS)):
        workers = [context.Process(target=look, args=(subject, results, done)) for _ in range(number)]
        for worker in workers:
            worker.start()
        own.append(statistics.median(results.get() for _ in workers))
        done.set()
        for worker in workers:
            worker.join()
        done.clear()
    columns = sum(value.nbytes for value in vars(dataset.annotations).values() if isinstance(value, np.ndarray))
    return {"seconds": seconds, "columns": columns / 2**20, "own": own[1] - own[0]}


def look(dataset: Any, results: Any, done: Any) -> None:
    """Look at objects, as a training does in an epoch, but for the pixels; or at nothing."""
    import rankdet.data.coco

    assert dataset is None or isinstance(dataset, rankdet.data.coco.CocoDetection)
    for index in range(0, len(dataset or ()), STEP):
        rows = dataset.annotations.usable_rows(index)
        dataset.annotations.boxes[rows].sum() + dataset.annotations.labels[rows].sum()
        dataset.image_path(index)
    results.put(own_memory())
    done.wait()


def own_memory() -> float:
    """Megabytes that this process shares with no other."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 2**10


def in_child(file: Path, method: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--run", method, "--file", str(file)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


# -------------------------------------------------------------------------------------------------------- the report


def report(options: argparse.Namespace) -> str:
    lines = [
        "# Reading COCO files",
        "",
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores (busy with other work), Python "
        f"{platform.python_version()}, numpy {np.__version__}, msgspec {msgspec.__version__}. "
        f"`python benchmarks/reading.py --rounds {options.rounds}`",
    ]
    for title, polygons in (("boxes", False), ("boxes and polygons of about 24 points", True)):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            file = simulate(Path(folder), objects=options.objects, polygons=polygons)
            size = file.stat().st_size / 2**20
            cases = [case for case in CASES if polygons or "masks" not in case]
            lines += ["", f"## {options.objects:,} annotations, {title} ({size:,.0f} MB of JSON)", ""]
            lines += ["| | CPU | ratio |", "|---|--:|--:|", *race(file, cases, options.rounds)]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        file = simulate(Path(folder), objects=OBJECTS_PER_IMAGE * options.million, polygons=False, one_file=True)
        size = file.stat().st_size / 2**20
        lines += ["", f"## {options.million:,} images, {size:,.0f} MB of JSON, {WORKERS} loading processes", ""]
        lines += [
            "| workers are | ready after (CPU) | annotations | own memory of a worker, above one without data |",
            "|---|--:|--:|--:|",
        ]
        for method in ("fork", "spawn"):
            found = in_child(file, method)
            lines.append(
                f"| {method}ed | {found['seconds']:.1f} s | {found['columns']:,.0f} MB | {found['own']:.0f} MB |"
            )
    return "\n".join(lines).replace("spawned", "started anew") + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=200_000)
    parser.add_argument("--million", type=int, default=1_000_000, help="images of the last table")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", help="where to put the data meanwhile")
    parser.add_argument("--output", default=str(Path(__file__).parent / "results" / "reading.md"))
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(million(options.file, options.run)))
        return
    Path(options.output).write_text(report(options), encoding="utf-8")


if __name__ == "__main__":
    main()
