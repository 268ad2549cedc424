"""How long the ranking losses take, forward and backward, beside how they were computed before and beside focal loss.

    python benchmarks/losses.py                              # benchmarks/results/losses.*, docs/images/losses-time.svg
    python benchmarks/losses.py --threads 1 --largest 1e6 --output /tmp/losses --plot /tmp/losses.svg
    python benchmarks/losses.py --device cuda

Compared are each loss of rankdet (from dense targets, and Rank & Sort also from a list of the positives, as detectors
call it), the loop over the positives and the bucketed algorithm as published (tests/reference), torchvision's sigmoid
focal loss and binary cross entropy. Each method takes turns with focal loss, so that whatever else the machine does
meets both alike; a cell is the median over the turns (five at least, one of a call that takes more than two seconds) of
the ratio to the focal loss of the same turn. With one thread time is CPU time of the process, which other processes
disturb less; otherwise, and on a GPU, it is wall-clock time. A loop over the positives that would take more than 20
seconds (judged by its first twelve) is left out. Results are written after every size, and an interrupted run is
continued if it is started again.

Logits are simulated: "untrained" ones are normal around -4.6, the bias of a prior of 0.01, with deviation 0.5,
positives and negatives alike, so that nearly every negative is within reach of the positives; "trained" negatives are
normal around -7 with deviation 1.5 and positives around 1 with deviation 1, so that few negatives reach any.

Memory is the most that torch had allocated beyond the inputs, as a multiple of the logits; the gradient is in it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).parent.parent))

from rankdet.losses import ALRPLoss, AveragePrecisionLoss, BucketedRankSortLoss, NDCGLoss, RankSortLoss
from tests.reference.bucketed import bucketed_rank_sort
from tests.reference.ranking_loop import rank_sort as loop_over_positives

ROOT = Path(__file__).parent.parent
SIZES = ((100, 20_000), (300, 320_000), (1000, 1_000_000), (2000, 4_800_000), (2000, 21_000_000))
AT_FIXED_P = (300, (20_000, 80_000, 320_000, 1_300_000, 5_200_000))
FOCAL = "focal loss (torchvision)"
LONG = 2.0  # seconds of a call from which on one turn is enough
LONGEST = 20.0  # seconds that one loop over the positives may take


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


OURS = ("Rank & Sort", "Rank & Sort, listed positives", "AP", "aLRP", "NDCG")


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


def would_take(watch: Stopwatch, problem: Problem) -> float:
    """Seconds of a loop over all positives, judged by 2 and by 12 of them."""
    few = watch(lambda p: loop(p, 2), problem)
    some = watch(lambda p: loop(p, 12), problem)
    return few + (some - few) / 10 * (problem.index.numel() - 2)


def memory(method: Method, problem: Problem) -> float:
    """The most that torch allocates during a call, over the size of the logits."""
    problem.logits.grad = None
    size = problem.logits.numel() * problem.logits.element_size()
    if problem.logits.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        method(problem)
        return (torch.cuda.max_memory_allocated() - before) / size
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        method(problem)
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    in_use = itertools.accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns()))
    return max(in_use) / size


def measure(problem: Problem, device: str, seconds: float) -> dict[str, dict[str, float]]:
    """Per method that is not left out: median time in ms, median ratio to focal, memory, and the number of turns."""
    watch = Stopwatch(device)
    methods = {n: m for n, m in METHODS.items() if m is not loop or would_take(watch, problem) <= LONGEST}
    return {name: beside_focal(watch, method, problem, seconds) for name, method in methods.items()}


def beside_focal(watch: Stopwatch, method: Method, problem: Problem, seconds: float) -> dict[str, float]:
    """One method, in turns with focal loss and nothing else."""
    turns = [(watch(focal, problem), watch(method, problem))]
    if turns[0][1] <= LONG:
        turns.clear()  # that was the warm-up
        while len(turns) < 5 or (sum(map(sum, turns)) < seconds and len(turns) < 100):
            turns.append((watch(focal, problem), watch(method, problem)))
    return {
        "ms": 1e3 * statistics.median(taken for _, taken in turns),
        "ratio": statistics.median(taken / of_focal for of_focal, taken in turns),
        "memory": memory((lambda p: loop(p, 2)) if method is loop else method, problem),
        "turns": len(turns),
    }


def run(data: dict, *, device: str, dtypes: list[torch.dtype], largest: float, seconds: float) -> Iterator[dict]:
    """The results of every size that data has none of, from the smallest on."""
    positives, numbers = AT_FIXED_P
    sizes = sorted({*SIZES, *((positives, n) for n in numbers)}, key=lambda size: size[1])
    for dtype, (p, n), state in itertools.product(dtypes, sizes, ("untrained", "trained")):
        case = {"positives": p, "logits": n, "state": state, "dtype": str(dtype)[6:]}
        if n <= largest and not any(case.items() <= result.items() for result in data["results"]):
            problem = simulate(p, n, trained=state == "trained", dtype=dtype, device=device)
            yield {**case, "methods": measure(problem, device, seconds), "load": os.getloadavg()[0]}


# ----------------------------------------------------------------------------------------------------------- reporting


def machine(device: str) -> str:
    if device != "cpu":
        return torch.cuda.get_device_name()
    cores = len(
        [
            line
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("processor")
        ]
    )
    threads = torch.get_num_threads()
    clock = "CPU time" if threads == 1 else "wall-clock time"
    return f"{cores} cores {platform.machine()}, of which {threads} used, {clock}"


def cell(result: dict[str, float] | None, key: str) -> str:
    if result is None:
        return "left out"
    value = result[key]
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(results: list[dict], key: str) -> str:
    head = ["", *(f"{r['positives']}, {r['logits']:,}" for r in results)]
    rows = [[name, *(cell(r["methods"].get(name), key) for r in results)] for name in METHODS]
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---", *["---:"] * len(results)], *rows]]
    return "\n".join(lines)


def slope(results: list[dict]) -> str:
    """ns per logit between neighbouring sizes at the same P."""
    names = [FOCAL, *OURS]
    pairs = list(itertools.pairwise(results))
    head = ["", *(f"{a['logits']:,} to {b['logits']:,}" for a, b in pairs)]

    def between(name: str, a: dict, b: dict) -> str:
        return f"{1e6 * (b['methods'][name]['ms'] - a['methods'][name]['ms']) / (b['logits'] - a['logits']):.1f}"

    rows = [[name, *(between(name, a, b) for a, b in pairs)] for name in names]
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---", *["---:"] * len(pairs)], *rows]]
    return "\n".join(lines)


def goal(kind: str, state: str, *, gpu: bool) -> float:
    return 6.0 if kind == "memory" else 1.0 if gpu or state == "trained" else 2.0


def goals(data: dict) -> str:
    """Which goals are missed, and by how much."""
    lines = []
    for r, kind in itertools.product(data["results"], ("ratio", "memory")):
        most = goal(kind, r["state"], gpu=data["gpu"])
        missed = sorted((r["methods"][name][kind], name) for name in OURS if r["methods"][name][kind] > most)
        if missed:
            worst, case = missed[-1], f"P = {r['positives']}, N = {r['logits']:,}, {r['state']}, {r['dtype']}"
            what = "time of focal loss" if kind == "ratio" else "memory of the logits"
            lines.append(
                f"- {case}: up to {worst[0]:.2f} x the {what} ({worst[1]}) where the goal is {most:g}; "
                f"{len(missed)} of {len(OURS)} miss it"
            )
    return "\n".join(["Goals missed:", "", *lines]) if lines else "All goals are met."


def at_fixed_p(results: list[dict]) -> list[dict]:
    positives, numbers = AT_FIXED_P
    found = [r for r in results if r["positives"] == positives and r["logits"] in numbers]
    return sorted(found, key=lambda r: r["logits"])


def report(data: dict) -> str:
    loads = [r["load"] for r in data["results"]]
    absent = [
        f"P = {p}, N = {n:,}, {state}"
        for (p, n), state in itertools.product(SIZES, ("trained", "untrained"))
        if not any((r["positives"], r["logits"], r["state"]) == (p, n, state) for r in data["results"])
    ]
    parts = [
        "# The losses beside one another",
        f"{data['machine']}; torch {data['torch']}, torchvision {data['torchvision']}.",
        "Forward and backward; columns are P positives, N logits. `benchmarks/losses.py` says how this is measured.",
        "The goals are at most 1 x the time of focal loss with trained logits and 2 x with untrained ones (on a GPU "
        "1 x always), and memory of at most 6 x the logits.",
        goals(data),
        f"Other work on the machine: load averages of {min(loads):.1f} to {max(loads):.1f}, this being 1 of it.",
        *([f"Not measured: {', '.join(absent)}."] if absent else []),
    ]
    for dtype in sorted({r["dtype"] for r in data["results"]}, reverse=True):
        for state in ("trained", "untrained"):
            chosen = [r for r in data["results"] if (r["dtype"], r["state"]) == (dtype, state)]
            sizes = [r for r in chosen if (r["positives"], r["logits"]) in SIZES]
            fixed = at_fixed_p(chosen)
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
    """Time over N at a fixed P, in colours that can be read on white and on black."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    grey = "#7d8590"
    plain = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), grey)
    matplotlib.rcParams.update({"svg.hashsalt": "rankdet", "font.size": 10, **plain})
    styles = {
        "RS, loop over positives": ("#b45309", ":"),
        "bucketed RS (published)": ("#d99a00", ":"),
        FOCAL: (grey, "--"),
        "Rank & Sort": ("#e5484d", "-"),
        "AP": ("#3b82f6", "-"),
        "aLRP": ("#16a34a", "-"),
        "NDCG": ("#a855f7", "-"),
        "binary cross entropy": (grey, ":"),
    }
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
    for axis, state in zip(axes, ("trained", "untrained"), strict=True):
        chosen = at_fixed_p([r for r in data["results"] if (r["state"], r["dtype"]) == (state, "float32")])
        for name, (colour, line) in styles.items():
            points = [(r["logits"], r["methods"][name]["ms"]) for r in chosen if name in r["methods"]]
            axis.loglog(*zip(*points, strict=True), line, color=colour, marker=".", label=name)
        axis.set(title=f"{state} logits", xlabel=f"N logits, {AT_FIXED_P[0]} of them positive")
        axis.grid(color=grey, alpha=0.25)
        axis.set_facecolor("none")
    axes[0].set_ylabel("forward and backward, ms")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.savefig(path, metadata={"Date": None}, transparent=True)
    plt.close(figure)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--largest", type=float, default=21e6, help="leave out larger numbers of logits")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each method and size")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "losses")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "images" / "losses-time.svg")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    dtypes = [torch.float32] if arguments.device == "cpu" else [torch.float32, torch.bfloat16]
    data = {
        "machine": machine(arguments.device),
        "gpu": arguments.device != "cpu",
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "seconds": arguments.seconds,
    }
    file = arguments.output.with_suffix(".json")
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"results": []}
    results = before.pop("results")
    data["results"] = results if before == data else []  # of the same machine and versions
    run_all = run(data, device=arguments.device, dtypes=dtypes, largest=arguments.largest, seconds=arguments.seconds)
    for result in run_all:
        data["results"].append(result)
        file.write_text(json.dumps(data, indent=1), encoding="utf-8")
        print({k: v for k, v in result.items() if k != "methods"}, flush=True)
    arguments.output.with_suffix(".md").write_text(report(data), encoding="utf-8")
    plot(data, arguments.plot)
    print(report(data))


if __name__ == "__main__":
    main()
