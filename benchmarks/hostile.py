"""Hundreds of hostile inputs of each kind: datasets, results, images, configurations, checkpoints, weights.

    python benchmarks/hostile.py                        # the table of benchmarks/results/hostile.md
    python benchmarks/hostile.py --inputs 20 --kinds COCO,VOC --output /dev/stdout

Each input is a sound file with some places spoilt, made from its number (``tests/hostile``), and is read by all that
read such files: the commands and the functions in Python. A fault is a traceback, more than 30 s of work or 2 GB of
memory, code of the input that is run, a program or a connection that is started, or a file written outside of the
folder of the input. Its line names the number, and the input stays in the folder that is named at the end.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.hostile.kinds import KINDS
from tests.hostile.trial import faults, get_ready, guarded


def try_kind(name: str, first: int, inputs: int) -> None:
    """In a process of its own; prints what was found as JSON."""
    warnings.simplefilter("ignore")
    found: list[str] = []
    with guarded() as guard:
        get_ready(name, guard)
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        for seed in range(first, first + inputs):
            found += faults(name, seed, guard)
        seconds = time.process_time() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10
    place = str(guard.folder) if found else ""
    print(json.dumps({"faults": found, "seconds": seconds, "megabytes": grown, "folder": place}))


def in_child(name: str, first: int, inputs: int) -> dict[str, object]:
    command = [sys.executable, __file__, "--run", name, "--first", str(first), "--inputs", str(inputs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"faults": [f"{name}: the process ended with {done.returncode}: {done.stderr[-500:]}"], "seconds": 0}
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=300, help="of each kind")
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--output", default=str(Path(__file__).parent / "results" / "hostile.md"))
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        try_kind(options.run, options.first, options.inputs)
        return
    lines = [
        "# Hostile input",
        "",
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, Python {platform.python_version()}, torch "
        f"{torch.__version__}. `python benchmarks/hostile.py --inputs {options.inputs} --first {options.first}`",
        "",
        "| kind | inputs | faults | CPU | memory beyond that of the first input |",
        "|---|--:|--:|--:|--:|",
    ]
    details: list[str] = []
    for name in options.kinds.split(","):
        found = in_child(name, options.first, options.inputs)
        faults_found = found["faults"]
        assert isinstance(faults_found, list)
        details += [f"- {fault}" for fault in faults_found]
        lines.append(
            f"| {name} | {options.inputs} | {len(faults_found)} | {found['seconds']:.0f} s | "
            f"{found.get('megabytes', 0):.0f} MB |"
        )
    Path(options.output).write_text("\n".join([*lines, *([""] if details else []), *details]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
