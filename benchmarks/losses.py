"""How long the ranking losses take, forward and backward, beside how they were computed before and beside focal loss.

    python benchmarks/losses.py                              # the table and the plot of benchmarks/results/losses.*
    python benchmarks/losses.py --threads 1 --largest 1e6 --output /tmp/losses
    python benchmarks/losses.py --device cuda

Compared are each loss of rankdet (from dense targets, and Rank & Sort also from a list of the positives, as detectors
call it), the loop over the positives and the bucketed algorithm as published (tests/reference), torchvision's sigmoid
focal loss and binary cross entropy. All methods take turns, so that whatever else the machine does meets them alike; a
cell is the median over the turns of the ratio to the focal loss of the same turn. With one thread time is CPU time of
the process, which other processes disturb less; otherwise, and on a GPU, it is wall-clock time. Where a loop over the
positives would take too long, twelve of them are timed and the rest is extrapolated ("~").

Logits are simulated: "untrained" ones are normal around -4.6, the bias of a prior of 0.01, with deviation 0.5,
positives and negatives alike, so that nearly every negative is within reach of the positives; "trained" negatives are
normal around -7 with deviation 1.5 and positives around 1 with deviation 1, so that few negatives reach any.

Memory is the most that was in use beyond the inputs, as a multiple of the logits: of the resident set on Linux, of the
allocator on a GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import itertools
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))

from rankdet.losses import ALRPLoss, AveragePrecisionLoss, BucketedRankSortLoss, NDCGLoss, RankSortLoss
from tests.reference.bucketed import bucketed_rank_sort
from tests.reference.ranking_loop import rank_sort as loop_over_positives

SIZES = ((100, 20_000), (300, 320_000), (1000, 1_000_000), (2000, 4_800_000), (2000, 21_000_000))
AT_FIXED_P = (300, (80_000, 320_000, 1_300_000, 5_200_000, 21_000_000))
FOCAL = "focal loss (torchvision)"


@dataclass(frozen=True)
class Problem:
    """One batch: logits (N,) with a gradient, qualities as dense targets and as a list, labels 0 and 1."""

    logits: Tensor
    targets: Tensor
    labels: Tensor
    index: Tensor
    quality: Tensor


def simulate(positives: int, number: int, *, trained: bool, dtype: torch.dtype, device: str) -> Problem:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(number, generator=generator)
    logits = logits.mul_(1.5).sub_(7) if trained else logits.mul_(0.5).sub_(4.6)
    index = torch.randperm(number, generator=generator)[:positives].sort().values
    if trained:
        logits[index] = torch.randn(positives, generator=generator) + 1
    quality = torch.rand(positives, generator=generator) * 0.99 + 0.01
    targets, labels = torch.zeros(number), torch.zeros(number)
    targets[index], labels[index] = quality, 1
    logits, targets, labels, quality = (x.to(device, dtype) for x in (logits, targets, labels, quality))
    return Problem(logits.requires_grad_(), targets, labels, index.to(device), quality)


Method = Callable[[Problem], object]


def dense(loss: Callable[[Tensor, Tensor], Tensor]) -> Method:
    return lambda problem: loss(problem.logits, problem.targets).backward()


def listed(problem: Problem) -> None:
    sum(RankSortLoss().terms_at(problem.logits, problem.index, problem.quality).values()).backward()


def focal(problem: Problem) -> None:
    torchvision.ops.sigmoid_focal_loss(problem.logits, problem.labels, reduction="sum").backward()


def cross_entropy(problem: Problem) -> None:
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    loss(problem.logits, problem.labels, reduction="sum").backward()


def bucketed(problem: Problem) -> None:
    bucketed_rank_sort(problem.logits.detach(), problem.targets)


def loop(problem: Problem, positives: int | None = None) -> None:
    loop_over_positives(problem.logits.detach(), problem.targets, positives=positives)


METHODS: dict[str, Method] = {
    FOCAL: focal,
    "binary cross entropy": cross_entropy,
    "Rank & Sort": dense(RankSortLoss()),
    "Rank & Sort, listed positives": listed,
    "AP": dense(AveragePrecisionLoss()),
    "aLRP": dense(ALRPLoss()),
    "NDCG": dense(NDCGLoss()),
    "bucketed RS (rankdet)": dense(BucketedRankSortLoss()),
    "bucketed RS (published)": bucketed,
    "RS, loop over positives": loop,
}


class Stopwatch:
    """Times one call: wall clock on a GPU or with several threads, else CPU time."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter

    def __call__(self, method: Method, problem: Problem) -> float:
        problem.logits.grad = None
        self._synchronise()
        start = self.clock()
        method(problem)
        self._synchronise()
        return self.clock() - start

    def _synchronise(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()


def timed_loop(watch: Stopwatch, problem: Problem) -> float:
    """From 2 and from 12 positives to all of them."""
    few = watch(lambda p: loop(p, 2), problem)
    some = watch(lambda p: loop(p, 12), problem)
    return few + (some - few) / 10 * (problem.index.numel() - 2)


def memory(method: Method, problem: Problem) -> float:
    """The most in use during a call, beyond what was before, over the size of the logits; nan where unknown."""
    problem.logits.grad = None
    gc.collect()
    size = problem.logits.numel() * problem.logits.element_size()
    if problem.logits.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        method(problem)
        return (torch.cuda.max_memory_allocated() - before) / size
    if platform.system() != "Linux":
        return float("nan")
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = resident("VmRSS")
    method(problem)
    return (resident("VmHWM") - before) / size


def resident(entry: str) -> int:
    """Bytes of an entry of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(entry + ":"))


def measure(problem: Problem, device: str, seconds: float) -> dict[str, dict[str, float]]:
    """Per method: median time in ms, median ratio to focal, memory, and whether it was extrapolated."""
    watch = Stopwatch(device)
    extrapolated = problem.index.numel() * problem.logits.numel() > 2e8
    methods = {name: method for name, method in METHODS.items() if method is not loop or not extrapolated}
    times: dict[str, list[float]] = {name: [] for name in METHODS}
    for method in methods.values():
        watch(method, problem)  # warm up
    start = time.perf_counter()
    while len(times[FOCAL]) < 5 or (time.perf_counter() - start < seconds and len(times[FOCAL]) < 200):
        for name, method in METHODS.items():
            alone = name not in methods
            times[name].append(timed_loop(watch, problem) if alone else watch(method, problem))
    return {
        name: {
            "ms": 1e3 * statistics.median(turns),
            "ratio": statistics.median(t / f for t, f in zip(turns, times[FOCAL], strict=True)),
            "memory": memory(METHODS[name] if name in methods else lambda p: loop(p, 2), problem),
            "extrapolated": float(name not in methods),
        }
        for name, turns in times.items()
    }


def run(*, device: str, dtypes: list[torch.dtype], largest: float, seconds: float) -> list[dict]:
    positives, numbers = AT_FIXED_P
    sizes = [(p, n, "sizes") for p, n in SIZES] + [(positives, n, "fixed P") for n in numbers]
    results = []
    for dtype in dtypes:
        for p, n, series in sizes:
            for state in ("untrained", "trained"):
                if n <= largest:
                    problem = simulate(p, n, trained=state == "trained", dtype=dtype, device=device)
                    cells = measure(problem, device, seconds)
                    results.append(
                        {
                            "positives": p,
                            "logits": n,
                            "state": state,
                            "series": series,
                            "dtype": str(dtype)[6:],
                            "methods": cells,
                        }
                    )
                    print(f"{results[-1]['dtype']} P={p} N={n} {state}: RS {cells['Rank & Sort']['ratio']:.2f} x focal")
    return results


# ----------------------------------------------------------------------------------------------------------- reporting


def machine(device: str) -> str:
    if device != "cpu":
        return torch.cuda.get_device_name()
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    threads = torch.get_num_threads()
    clock = "CPU time" if threads == 1 else "wall-clock time"
    return f"{names[0]}, {len(names)} cores, {threads} thread{'s' * (threads > 1)}, {clock}"


def cell(result: dict[str, float], key: str) -> str:
    about = "~" if result["extrapolated"] and key != "memory" else ""
    value = result[key]
    return about + (f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}")


def table(results: list[dict], key: str) -> str:
    head = ["", *(f"{r['positives']}, {r['logits']:,}" for r in results)]
    rows = [[name, *(cell(r["methods"][name], key) for r in results)] for name in METHODS]
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---", *["---:"] * len(results)], *rows]]
    return "\n".join(lines)


def slope(results: list[dict]) -> str:
    """ns per logit between neighbouring sizes at the same P."""
    names = [FOCAL, "Rank & Sort", "Rank & Sort, listed positives", "AP", "aLRP", "NDCG"]
    pairs = list(itertools.pairwise(results))
    head = ["", *(f"{a['logits']:,} to {b['logits']:,}" for a, b in pairs)]

    def between(name: str, a: dict, b: dict) -> str:
        return f"{1e6 * (b['methods'][name]['ms'] - a['methods'][name]['ms']) / (b['logits'] - a['logits']):.1f}"

    rows = [[name, *(between(name, a, b) for a, b in pairs)] for name in names]
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---", *["---:"] * len(pairs)], *rows]]
    return "\n".join(lines)


def report(data: dict) -> str:
    parts = [
        "# The losses beside one another",
        f"{data['machine']}; torch {data['torch']}, torchvision {data['torchvision']}.",
        "Forward and backward; columns are P positives, N logits. `benchmarks/losses.py` says how this is measured.",
    ]
    for dtype in sorted({r["dtype"] for r in data["results"]}, reverse=True):
        for state in ("trained", "untrained"):
            chosen = [r for r in data["results"] if (r["dtype"], r["state"]) == (dtype, state)]
            sizes = [r for r in chosen if r["series"] == "sizes"]
            fixed = [r for r in chosen if r["series"] == "fixed P"]
            parts += [
                f"## {state.capitalize()} logits, {dtype}",
                "Time as a multiple of focal loss:",
                table(sizes, "ratio"),
            ]
            parts += ["Time in ms:", table(sizes, "ms")]
            parts += ["Peak extra memory as a multiple of the logits:", table(sizes, "memory")]
            if len(fixed) > 1:
                parts += [f"Nanoseconds for one more logit, P = {AT_FIXED_P[0]} throughout:", slope(fixed)]
    return "\n\n".join(parts) + "\n"


def plot(data: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    matplotlib.rcParams.update({"svg.hashsalt": "rankdet", "font.size": 9})
    styles = {
        FOCAL: ("black", "--"),
        "binary cross entropy": ("grey", "--"),
        "Rank & Sort": ("C3", "-"),
        "AP": ("C0", "-"),
    }
    styles |= {"aLRP": ("C2", "-"), "NDCG": ("C4", "-")}
    styles |= {"bucketed RS (published)": ("C1", ":"), "RS, loop over positives": ("C5", ":")}
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for axis, state in zip(axes, ("trained", "untrained"), strict=True):
        chosen = [
            r for r in data["results"] if r["state"] == state and r["series"] == "fixed P" and r["dtype"] == "float32"
        ]
        for name, (colour, line) in styles.items():
            times = [r["methods"][name]["ms"] for r in chosen]
            axis.loglog([r["logits"] for r in chosen], times, line, color=colour, marker=".", label=name)
        axis.set(title=f"{state} logits", xlabel=f"N logits, {AT_FIXED_P[0]} of them positive")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("forward and backward, ms")
    figure.legend(loc="outside right center", frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--largest", type=float, default=21e6, help="leave out larger numbers of logits")
    parser.add_argument("--seconds", type=float, default=4, help="for each size, at least five turns")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "losses")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dtypes = [torch.float32] if arguments.device == "cpu" else [torch.float32, torch.bfloat16]
    data = {
        "machine": machine(arguments.device),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "results": run(device=arguments.device, dtypes=dtypes, largest=arguments.largest, seconds=arguments.seconds),
    }
    arguments.output.with_suffix(".json").write_text(json.dumps(data, indent=1))
    arguments.output.with_suffix(".md").write_text(report(data))
    plot(data, arguments.output.with_suffix(".svg"))
    print(report(data))


if __name__ == "__main__":
    main()
