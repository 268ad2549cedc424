"""How long evaluation takes: rankdet beside pycocotools, faster-coco-eval and hotcoco, on a simulated COCO val2017.

    python benchmarks/evaluation.py                      # the table of benchmarks/results/evaluation.md
    python benchmarks/evaluation.py --images 200 --output /dev/stdout

Each evaluation runs in a process of its own, from the two JSON files to the numbers, some times in turn with the
others; the table has the least wall-clock and CPU time, and the largest resident memory. rankdet computes AP *and* oLRP
with components, class thresholds and a row for each class; the others AP alone. faster-coco-eval and hotcoco are not
dependencies: install them to include them. The data are simulated (5,000 images, 80 classes with a long tail, 36,000
objects of which 1 % are crowds, 100 detections an image, masks of about 85 runs), since the real ones are not at hand
everywhere; the seed is fixed.

The second table counts in how many small random problems, full of ties, crowds, empty images and areas on the edge, one
of the 12 numbers differs from pycocotools'; also when annotation ids begin at 0 and when annotations have no area, with
the numbers of the same problem written as pycocotools needs it for reference.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import json
import math
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from simulation import simulate

NAMES = "AP AP50 AP75 AP_small AP_medium AP_large AR_1 AR_10 AR_100 AR_small AR_medium AR_large".split()


# ---------------------------------------------------------------------------------------------------- the contestants


def with_rankdet(truth: str, results: str, iou_type: str) -> dict[str, float]:
    from rankdet.eval import evaluate

    metrics = evaluate(truth, results, iou_type=iou_type).metrics
    return {name: -1.0 if math.isnan(value) else value for name, value in metrics.items()}  # as the others have it


def with_pycocotools(truth: str, results: str, iou_type: str) -> dict[str, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return _as_coco(COCO, COCOeval, truth, results, iou_type)


def with_faster_coco_eval(truth: str, results: str, iou_type: str) -> dict[str, float]:
    from faster_coco_eval import COCO
    from faster_coco_eval import COCOeval_faster as COCOeval

    return _as_coco(COCO, COCOeval, truth, results, iou_type)


def with_hotcoco(truth: str, results: str, iou_type: str) -> dict[str, float]:
    from hotcoco import COCO, COCOeval

    return _as_coco(COCO, COCOeval, truth, results, iou_type)


def _as_coco(coco: Callable, coco_eval: Callable, truth: str, results: str, iou_type: str) -> dict[str, float]:
    reference = coco(truth)
    evaluation = coco_eval(reference, reference.loadRes(results), iou_type)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return dict(zip(NAMES, map(float, evaluation.stats), strict=False))


CONTESTANTS = {
    "pycocotools": with_pycocotools,
    "faster-coco-eval": with_faster_coco_eval,
    "hotcoco": with_hotcoco,
    "rankdet": with_rankdet,
}


def run_here(name: str, folder: Path, iou_type: str) -> None:
    """One measurement, printed as one line of JSON: what a child process does."""
    results = str(folder / ("boxes.json" if iou_type == "bbox" else "masks.json"))
    wall, cpu = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        numbers = CONTESTANTS[name](str(folder / "truth.json"), results, iou_type)
    run = {
        "seconds": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "gigabytes": peak_gigabytes(),
        "numbers": numbers,
    }
    sys.__stdout__.write("\n" + json.dumps(run) + "\n")


def peak_gigabytes() -> float:
    """The most memory that this process had; its `ru_maxrss` begins with that of the process that started it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    peak = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) / 1024**2


def run_in_child(arguments: list[str]) -> dict:
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def race(names: list[str], folder: Path, iou_type: str, repeats: int) -> dict[str, dict]:
    """The best of several runs of each, in turn, so that nobody runs only while the machine is busy."""
    runs: dict[str, list[dict]] = {name: [] for name in names}
    for _ in range(repeats):
        for name in names:
            runs[name].append(run_in_child(["--child", name, "--folder", str(folder), "--iou-type", iou_type]))
            print(
                iou_type, name, f"{runs[name][-1]['seconds']:.2f} s, {runs[name][-1]['cpu']:.2f} s CPU", file=sys.stderr
            )
    return {
        name: {
            "numbers": own[0]["numbers"],
            "seconds": min(run["seconds"] for run in own),
            "cpu": min(run["cpu"] for run in own),
            "gigabytes": max(run["gigabytes"] for run in own),
        }
        for name, own in runs.items()
    }


# ------------------------------------------------------------------------------------------------------ the agreement


def as_it_is(truth: dict) -> dict:
    return truth


def with_ids_from_0(truth: dict) -> dict:
    return {**truth, "annotations": [{**entry, "id": entry["id"] - 1} for entry in truth["annotations"]]}


def without_areas(truth: dict) -> dict:
    kept = [{key: value for key, value in entry.items() if key != "area"} for entry in truth["annotations"]]
    return {**truth, "annotations": kept}


def with_areas_of_boxes(truth: dict) -> dict:
    return {
        **truth,
        "annotations": [{**entry, "area": entry["bbox"][2] * entry["bbox"][3]} for entry in truth["annotations"]],
    }


PROBLEMS = {
    "boxes": ("bbox", as_it_is, as_it_is),
    "masks": ("segm", as_it_is, as_it_is),
    "boxes, ids from 0": ("bbox", with_ids_from_0, as_it_is),
    "boxes, no areas": ("bbox", without_areas, with_areas_of_boxes),
}


def agreement_here(name: str, problem: str, count: int) -> None:
    """In how many of ``count`` problems a contestant differs from pycocotools or fails: what a child process does."""
    from tests.reference.coco_sets import random_problem, with_masks

    iou_type, as_given, for_reference = PROBLEMS[problem]
    rng = np.random.default_rng(0)
    different = failed = 0
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        files = [str(Path(folder) / file) for file in ("truth.json", "results.json")]
        for _ in range(count):
            truth, results = random_problem(rng)
            if iou_type == "segm":
                truth, results = with_masks(truth, results, rng)
            numbers = []
            for contestant, content in (("pycocotools", for_reference(truth)), (name, as_given(truth))):
                for file, data in zip(files, (content, results), strict=True):
                    Path(file).write_text(json.dumps(data), encoding="utf-8")
                try:
                    numbers.append(CONTESTANTS[contestant](*files, iou_type))
                except Exception:
                    failed += 1
            different += len(numbers) == 2 and any(abs(numbers[0][key] - numbers[1][key]) > 1e-12 for key in NAMES)
    sys.__stdout__.write("\n" + json.dumps({"different": different, "failed": failed}) + "\n")


def agreement_table(names: list[str], count: int) -> list[str]:
    lines = [f"| of {count} problems | " + " | ".join(PROBLEMS) + " |", "|---|" + "---:|" * len(PROBLEMS)]
    for name in names:
        cells = []
        for problem in PROBLEMS:
            outcome = run_in_child(["--child", name, "--problem", problem, "--problems", str(count)])
            cells.append(f"{outcome['different']} differ" + f", {outcome['failed']} fail" * bool(outcome["failed"]))
        lines.append(f"| {name} {version_of(name)} | " + " | ".join(cells) + " |")
    return lines


# ---------------------------------------------------------------------------------------------------- the table


def table_of(runs: dict[str, dict], iou_type: str) -> list[str]:
    reference = runs["pycocotools"]
    lines = [
        f"| {iou_type} | seconds | times as fast | CPU seconds | times as fast | memory, GB | largest difference |",
        "|---|" + "---:|" * 6,
    ]
    for name, run in runs.items():
        differences = [abs(run["numbers"][key] - reference["numbers"][key]) for key in NAMES]
        lines.append(
            f"| {name} {version_of(name)} | {run['seconds']:.2f} | {reference['seconds'] / run['seconds']:.1f} | "
            f"{run['cpu']:.2f} | {reference['cpu'] / run['cpu']:.1f} | "
            f"{run['gigabytes']:.2f} | {max(differences):.1e} |"
        )
    return lines


def version_of(name: str) -> str:
    return importlib.metadata.version(name)


def is_installed(name: str) -> bool:
    try:
        version_of(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def machine() -> str:
    cpu = next((line.split(":")[1].strip() for line in cpu_lines() if line.startswith("model name")), "unknown CPU")
    return (
        f"{cpu}, {os.cpu_count()} cores, {platform.system()}; Python {platform.python_version()}, "
        f"numpy {version_of('numpy')}"
    )


def cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--problems", type=int, default=1000, help="small random ones, for the second table")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "evaluation.md")
    parser.add_argument("--note", default="", help="a line about the circumstances, for the report")
    parser.add_argument("--folder", type=Path, help="where the simulated files are; a temporary folder by default")
    parser.add_argument("--iou-type", choices=["bbox", "segm"])
    parser.add_argument("--child", choices=list(CONTESTANTS), help=argparse.SUPPRESS)
    parser.add_argument("--problem", choices=list(PROBLEMS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent.parent))
    if arguments.problem:
        agreement_here(arguments.child, arguments.problem, arguments.problems)
    elif arguments.child:
        run_here(arguments.child, arguments.folder, arguments.iou_type)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            write_report(arguments, arguments.folder or Path(temporary))


def write_report(arguments: argparse.Namespace, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "masks.json").exists():
        simulate(folder, images=arguments.images)
    names = list(filter(is_installed, CONTESTANTS))
    lines = [
        "# Evaluation, from JSON files to numbers",
        "",
        f"{machine()}.",
        f"{arguments.images} images, simulated. {arguments.note}".rstrip(),
        "",
    ]
    for iou_type in [arguments.iou_type] if arguments.iou_type else ["bbox", "segm"]:
        lines += [*table_of(race(names, folder, iou_type, arguments.repeats), iou_type), ""]
    lines += ["# Agreement with pycocotools", "", *agreement_table(names, arguments.problems), ""]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
