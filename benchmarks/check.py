"""How long the dataset doctor takes: a simulated COCO file of 100,000 images and a million objects.

    python benchmarks/check.py                          # the table of benchmarks/results/check.md
    python benchmarks/check.py --images 5000 --output /dev/stdout

Each case runs in a process of its own, some times in turn with the others; the table has the least wall-clock and CPU
time, and the largest resident memory, beside those of parsing the JSON file alone. The image files are hard links to a
few JPEGs of the annotated size, so that the doctor lists a real folder and reads real headers; they lie in the page
cache. A few faults of each kind are strewn in, so that findings are made. Decoding is timed on fewer images. The seed
is fixed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = ((480, 640), (640, 480), (427, 640), (612, 612))
OBJECTS_PER_IMAGE, CLASSES = 10, 80
LINKS_A_FILE = 20_000  # file systems limit the number


# ---------------------------------------------------------------------------------------------------- the simulation


def simulate(folder: Path, *, images: int, polygons: bool, seed: int = 0) -> Path:
    """Write ``instances_train.json`` and the images beside it."""
    rng = np.random.default_rng(seed)
    (folder / "train").mkdir(parents=True)
    sizes = [SIZES[number % len(SIZES)] for number in range(images)]
    link_images(folder / "train", sizes, rng)
    content = {
        "images": [
            {"id": number, "file_name": name_of(number), "height": height, "width": width}
            for number, (height, width) in enumerate(sizes, start=1)
        ],
        "annotations": annotations(rng, np.array(sizes), polygons=polygons),
        "categories": [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)],
    }
    file = folder / "instances_train.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def annotations(rng: np.random.Generator, sizes: np.ndarray, *, polygons: bool) -> list[dict]:
    """Objects of a long tail of classes, some degenerate, repeated, beyond their image or pointing nowhere."""
    count = OBJECTS_PER_IMAGE * len(sizes)
    frequency = 1 / np.arange(1, CLASSES + 1) ** 1.2
    owners = rng.integers(0, len(sizes), count)
    classes = rng.choice(CLASSES, count, p=frequency / frequency.sum()) + 1
    limits = sizes[owners][:, ::-1]
    sides = np.exp(rng.uniform(np.log(8), np.log(400), (count, 2))).clip(max=limits)
    xywh = np.concatenate([rng.random((count, 2)) * (limits - sides), sides], axis=1).round(2)
    xywh[::50_000, 2:] = 0
    xywh[1::50_000, 0] += 300
    xywh[3::50_000] = xywh[2::50_000][: len(xywh[3::50_000])]
    image_ids = owners + 1
    image_ids[4::50_000] = 10**9
    found = [
        {"id": i + 1, "image_id": image, "category_id": label, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for i, (image, label, box) in enumerate(zip(image_ids.tolist(), classes.tolist(), xywh.tolist(), strict=True))
    ]
    if polygons:
        for item in found:
            item["segmentation"] = [ellipse(item["bbox"])]
    return found


ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1) / 2 + 0.5


def ellipse(box: list[float]) -> list[float]:
    """A polygon of 24 points in a box."""
    return (CIRCLE * box[2:] + box[:2]).round(2).ravel().tolist()


def link_images(folder: Path, sizes: list[tuple[int, int]], rng: np.random.Generator) -> None:
    """A file for each image; many names for the same few files."""
    sources: dict[tuple[int, int, int], Path] = {}
    seen = dict.fromkeys(SIZES, 0)
    for number, size in enumerate(sizes, start=1):
        seen[size] += 1
        key, path = (*size, seen[size] // LINKS_A_FILE), folder / name_of(number)
        if key in sources:
            os.link(sources[key], path)
        else:
            save_image(path, size, rng)
            sources[key] = path


def save_image(path: Path, size: tuple[int, int], rng: np.random.Generator) -> None:
    coarse = rng.integers(0, 256, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC).save(path, quality=90)


def name_of(number: int) -> str:
    return f"{number:012d}.jpg"


# --------------------------------------------------------------------------------------------------------- the cases


def parse(file: Path) -> str:
    content = json.loads(file.read_bytes())
    return f"{len(content['annotations']):,} annotations"


def check(file: Path) -> str:
    from rankdet.doctor import Source, diagnose

    diagnosis = diagnose(Source(str(file)))
    return f"{len(diagnosis.findings)} findings"


def check_images(file: Path) -> str:
    from rankdet.doctor import Pixels, Source, diagnose

    diagnosis = diagnose(Source(str(file)), scan=Pixels(), workers=os.cpu_count() or 1)
    return f"{len(diagnosis.train.looks):,} images decoded"


def read(file: Path) -> str:
    from rankdet.doctor import Source
    from rankdet.doctor.read import read_table

    table, _ = read_table(Source(str(file)))
    assert table is not None
    return f"{len(table.objects):,} rows"


CASES: dict[str, Callable[[Path], str]] = {
    "parsing the JSON alone (`json.loads`)": parse,
    "reading it into the table": read,
    "`diagnose`: all checks, 2,000 headers": check,
    "`diagnose(scan=Pixels())`: all images decoded": check_images,
}


def run_here(case: str, file: Path) -> None:
    start, cpu = time.perf_counter(), time.process_time()
    said = CASES[case](file)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpu": cpu, "memory": peak_memory(), "said": said}))


def peak_memory() -> float:
    """Gigabytes of this process; ``getrusage`` would give those of the parent, if larger."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 2**20


def run_in_child(case: str, file: Path) -> dict:
    command = [sys.executable, __file__, "--run", case, "--file", str(file)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


def race(cases: list[str], file: Path, repeats: int) -> list[str]:
    """A line of the table for each case."""
    runs: dict[str, list[dict]] = {case: [] for case in cases}
    for _ in range(repeats):
        for case in cases:
            runs[case].append(run_in_child(case, file))
    return [
        f"| {case} | {min(run['seconds'] for run in done):.1f} s | {min(run['cpu'] for run in done):.1f} s | "
        f"{max(run['memory'] for run in done):.2f} GB | {done[0]['said']} |"
        for case, done in runs.items()
    ]


def report(options: argparse.Namespace) -> str:
    everything, decoding = list(CASES)[:3], list(CASES)[3:]
    command = f"python benchmarks/check.py --repeats {options.repeats}"
    lines = [
        "# The dataset doctor's time",
        "",
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, numpy {np.__version__}. `{command}`",
    ]
    for title, images, polygons, cases in (
        ("boxes", options.images, False, everything),
        ("boxes and polygons of 24 points", options.images, True, everything),
        ("decoding", options.decoded, False, decoding),
    ):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            file = simulate(Path(folder) / "data", images=images, polygons=polygons)
            size = file.stat().st_size / 2**20
            lines += [
                "",
                f"## {images:,} images, {OBJECTS_PER_IMAGE * images:,} objects, {title} ({size:,.0f} MB of JSON)",
                "",
                "| | time | CPU | memory | |",
                "|---|--:|--:|--:|---|",
                *race(cases, file, options.repeats),
            ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--decoded", type=int, default=2_000, help="images of the case that decodes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", help="where the simulated data are put meanwhile")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "check.md")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run_here(options.run, options.file)
        return
    text = report(options)
    options.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
