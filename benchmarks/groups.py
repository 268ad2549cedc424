"""How long it takes to rank groups by themselves, beside one ranking of everything and beside tables of all pairs.

    python benchmarks/groups.py                    # benchmarks/results/groups.md
    python benchmarks/groups.py --seconds 2 --output /tmp/groups.md

Each row of a table of logits is a group with its own positives: a query and a gallery, a class and a batch, a list of
documents. Compared are Rank & Sort and AP Loss of rankdet, over the whole table (`scope="batch"`) and over its rows
(`scope="group"`), a Python loop that calls the loss for each row, and the same sums from a table of all pairs of each
row, which is what Smooth-AP and its relatives do. The methods take turns on one thread; times are medians of the CPU
time of the process, ratios are medians of the ratios to the whole table in the same turn.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from rankdet.losses import AveragePrecisionLoss, RankingLoss, RankSortLoss

ROOT = Path(__file__).parent.parent
SIZES = ((128, 128, 4), (1024, 128, 4), (256, 1203, 8), (1203, 256, 8), (64, 20_000, 50))
TABLE = "AP from a table of pairs"
PAIRS = 2**28  # the largest table of pairs that is tried


def problem(rows: int, columns: int, positives: int) -> tuple[Tensor, Tensor]:
    """Logits with a gradient and targets, (rows, columns), with so many positives in each row."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, columns, generator=generator)
    place = torch.rand(rows, columns, generator=generator).topk(positives).indices
    quality = torch.rand(rows, positives, generator=generator) * 0.99 + 0.01
    return logits.requires_grad_(), torch.zeros(rows, columns).scatter_(1, place, quality)


def from_pairs(logits: Tensor, targets: Tensor) -> Tensor:
    """1 - smooth average precision, the mean over rows, each with the same number of positives."""
    number = int((targets[0] > 0).sum())
    place = targets.topk(number, 1).indices
    own = logits.gather(1, place)
    steps = ((logits[:, None] - own[:, :, None]) + 0.5).clamp(0, 1)
    steps = steps.scatter(2, place[:, :, None], 1.0)
    among = steps.gather(2, place[:, None].expand(-1, number, -1)).sum(2)
    return (1 - among / steps.sum(2)).mean()


def methods(rows: int, columns: int, positives: int) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """By name; the whole tables first."""
    group = torch.arange(rows)
    found: dict[str, Callable[[Tensor, Tensor], Tensor]] = {}
    losses: dict[str, Callable[..., RankingLoss]] = {"Rank & Sort": RankSortLoss, "AP": AveragePrecisionLoss}
    for name, make in losses.items():
        found[f"{name}, all at once"] = make()
        grouped, alone = make(scope="group"), make()
        found[f"{name}, in groups"] = lambda x, y, loss=grouped: loss(x, y, group=group)
        found[f"{name}, a loop over the rows"] = lambda x, y, loss=alone: torch.stack(
            [loss(row, of_row) for row, of_row in zip(x, y, strict=True)]
        ).mean()
    if rows * positives * columns <= PAIRS:
        found[TABLE] = from_pairs
    return found


def measure(size: tuple[int, int, int], seconds: float) -> dict[str, tuple[float, float]]:
    """Per method, median time in ms and median ratio to the whole table by the same loss (by AP for the pairs)."""
    logits, targets = problem(*size)
    named = methods(*size)
    turns: list[dict[str, float]] = []
    end = time.perf_counter() + seconds * len(named)
    while len(turns) < 3 or time.perf_counter() < end:
        turns.append({name: taken(method, logits, targets) for name, method in named.items()})
    turns = turns[1:]  # the first was the warm-up
    return {
        name: (
            1e3 * statistics.median(turn[name] for turn in turns),
            statistics.median(turn[name] / turn[beside(name)] for turn in turns),
        )
        for name in named
    }


def beside(name: str) -> str:
    """What a method is compared with."""
    return f"{'AP' if name == TABLE else name.split(',')[0]}, all at once"


def taken(method: Callable[[Tensor, Tensor], Tensor], logits: Tensor, targets: Tensor) -> float:
    """Seconds of CPU time, forward and backward."""
    logits.grad = None
    start = time.process_time()
    method(logits, targets).backward()
    return time.process_time() - start


def report(results: dict[tuple[int, int, int], dict[str, tuple[float, float]]]) -> str:
    """The page."""
    names = list(dict.fromkeys(name for result in results.values() for name in result))
    head = ["", *(f"{rows:,} x {columns:,}, {positives}" for rows, columns, positives in results)]
    table = [[name, *(cell(result.get(name)) for result in results.values())] for name in names]
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---", *["---:"] * len(results)], *table]]
    machine = f"One thread of {platform.machine()}, CPU time; torch {torch.__version__}."
    return "\n".join(
        [
            "# Groups beside one ranking",
            "",
            machine,
            "",
            "Forward and backward of a table of so many rows and columns, with so many positives in each row:",
            "milliseconds, and as a multiple of the same loss over the whole table at once.",
            "`benchmarks/groups.py` says how this is measured.",
            "",
            *lines,
            "",
        ]
    )


def cell(result: tuple[float, float] | None) -> str:
    """Time and ratio."""
    return "left out" if result is None else f"{result[0]:,.1f} ({result[1]:.2f})"


def main(argv: list[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each method and size")
    parser.add_argument("--largest", type=float, default=2e6, help="leave out tables of more logits")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "groups.md")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    sizes = [size for size in SIZES if size[0] * size[1] <= arguments.largest]
    page = report({size: measure(size, arguments.seconds) for size in sizes})
    arguments.output.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
