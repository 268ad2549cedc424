"""Metric learning and learning to rank: the losses here beside those of pytorch-metric-learning and allRank.

    pip install --no-deps --target theirs pytorch-metric-learning allrank
    PYTHONPATH=theirs python -m benchmarks.rank_libraries          # benchmarks/results/rank_libraries.md

The data are those of `examples/metric_learning.py` and `examples/learning_to_rank.py`. What a loss teaches is mean
average precision among new classes, or NDCG@10 of new queries, after the same number of steps of the same network from
the same seeds; each loss has the defaults of its library, and the rate of `RATES` that suits it best, chosen on another
seed.

Time is forward and backward of the loss alone, with its inputs in the layout that it wants: embeddings and labels, or
scores padded to a table for allRank. The methods take turns on one thread; times are medians of the CPU time of the
process, ratios are medians of the ratios to the first method in the same turn.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from examples import learning_to_rank, metric_learning
from examples.metric_learning import same_class, similarities
from examples.ranking_measures import GradedNDCGLoss, by_row, smooth_average_precision
from rankdet.losses import AveragePrecisionLoss, RankSortLoss

ROOT = Path(__file__).parent.parent
RATES, SEEDS, CHOSEN_BY = (0.003, 0.01, 0.03), (0, 1, 2), (10,)
PADDED = -1.0
Loss = Callable[..., Tensor]


def of_embeddings() -> dict[str, Loss]:
    """Losses of embeddings (B, D) and labels (B,)."""
    from pytorch_metric_learning import losses

    average_precision = by_row(AveragePrecisionLoss(scope="group"))
    return {
        "AP Loss (rankdet)": lambda x, labels: average_precision(similarities(x), same_class(labels)),
        "Smooth-AP (example here)": lambda x, labels: smooth_average_precision(
            similarities(x) / metric_learning.SCALE, same_class(labels), temperature=0.05
        ),
        "SmoothAPLoss": losses.SmoothAPLoss(),
        "FastAPLoss": losses.FastAPLoss(),
        "MultiSimilarityLoss": losses.MultiSimilarityLoss(),
        "NTXentLoss": losses.NTXentLoss(),
        "TripletMarginLoss": losses.TripletMarginLoss(),
    }


def of_lists() -> dict[str, Loss]:
    """Losses of scores (D,), grades (D,) and queries (D,); those of allRank are given tables (queries, longest)."""
    files = ModuleType(
        "allrank.utils.file_utils"
    )  # reads files of Google's cloud, by libraries that losses do not need
    for name in ("open_local_or_gs", "is_gs_path", "copy_file_to_local"):
        setattr(files, name, None)
    sys.modules.setdefault(files.__name__, files)
    from allrank.models import losses

    most = learning_to_rank.MOST
    rank_sort, ndcg = RankSortLoss(scope="group"), GradedNDCGLoss(most=most)
    theirs: dict[str, Loss] = {
        "approxNDCGLoss": losses.approxNDCGLoss,
        "lambdaLoss (ndcgLoss2PP)": lambda x, y: losses.lambdaLoss(x, y, weighing_scheme="ndcgLoss2PP_scheme"),
        "neuralNDCG": losses.neuralNDCG,
        "rankNet": losses.rankNet,
        "listNet": losses.listNet,
    }
    return {
        "Rank & Sort Loss (rankdet)": lambda scores, grades, query: rank_sort(scores, grades / most, group=query),
        "graded NDCG (example here)": lambda scores, grades, query: ndcg(scores, grades / most, group=query),
        **{name: padded(loss) for name, loss in theirs.items()},
    }


def padded(loss: Loss) -> Loss:
    """The loss of tables as one of lists that follow one another."""
    return lambda scores, grades, query: loss(table(scores, query), table(grades, query))


def table(values: Tensor, query: Tensor) -> Tensor:
    """(queries, longest), padded."""
    return nn.utils.rnn.pad_sequence(values.split(query.bincount().tolist()), batch_first=True, padding_value=PADDED)


def retrieval(loss: Loss, *, seed: int, rate: float, steps: int) -> float:
    """Mean average precision among classes that were not trained on."""
    torch.manual_seed(seed)
    network, generator = nn.Linear(40, 8, bias=False), torch.Generator().manual_seed(seed + 1)
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    for _ in range(steps):
        features, labels = metric_learning.batch(generator)
        optimiser.zero_grad()
        loss(network(features), labels).backward()
        optimiser.step()
    with torch.no_grad():
        tests = [metric_learning.batch(generator) for _ in range(10)]
        found = [metric_learning.average_precision(similarities(network(x)), same_class(y)) for x, y in tests]
    return statistics.fmean(found)


def ranking(loss: Loss, *, seed: int, rate: float, steps: int) -> float:
    """NDCG@10 of queries that were not trained on."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 1))
    generator = torch.Generator().manual_seed(seed + 1)
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    for _ in range(steps):
        features, grades, query = learning_to_rank.lists(16, generator)
        optimiser.zero_grad()
        loss(network(features)[:, 0], grades, query).backward()
        optimiser.step()
    features, grades, query = learning_to_rank.lists(200, torch.Generator().manual_seed(seed + 1000))
    with torch.no_grad():
        return learning_to_rank.ndcg(network(features)[:, 0], grades, query)


def taught(train: Callable[..., float], loss: Loss, steps: int) -> tuple[float, float, float]:
    """The mean over the seeds, their standard deviation, and the rate."""
    tried = {rate: [train(loss, seed=seed, rate=rate, steps=steps) for seed in CHOSEN_BY] for rate in RATES}
    rate = max(RATES, key=lambda rate: statistics.fmean(tried[rate]))
    found = [train(loss, seed=seed, rate=rate, steps=steps) for seed in SEEDS]
    return statistics.fmean(found), statistics.stdev(found), rate


def times(losses: dict[str, Loss], inputs: tuple[Tensor, ...], seconds: float) -> dict[str, tuple[float, float]]:
    """Median ms and median ratio to the first, by name; the first of the inputs has the gradient."""
    turns: list[dict[str, float]] = []
    end = time.perf_counter() + seconds * len(losses)
    while len(turns) < 4 or time.perf_counter() < end:
        turns.append({name: taken(loss, inputs) for name, loss in losses.items()})
    first, turns = next(iter(losses)), turns[1:]  # the first turn was the warm-up
    return {
        name: (
            1e3 * statistics.median(turn[name] for turn in turns),
            statistics.median(turn[name] / turn[first] for turn in turns),
        )
        for name in losses
    }


def taken(loss: Loss, inputs: tuple[Tensor, ...]) -> float:
    """Seconds of CPU time, forward and backward."""
    leaf = inputs[0].detach().requires_grad_()
    start = time.process_time()
    loss(leaf, *inputs[1:]).backward()
    return time.process_time() - start


def embeddings(number: int) -> tuple[Tensor, Tensor]:
    """Embeddings (B, 64) and labels, eight of each class."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(number, 64, generator=generator), torch.arange(number // 8).repeat_interleave(8)


def documents(queries: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, grades and queries of lists of equal length."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(queries * length, generator=generator)
    grades = (torch.randn(len(scores), generator=generator) * 1.5).clamp(0, learning_to_rank.MOST).floor()
    return scores, grades, torch.arange(queries).repeat_interleave(length)


def page(title: str, measure: str, learnt: dict, sizes: dict[str, dict[str, tuple[float, float]]]) -> list[str]:
    """A table with a row for each loss."""
    head = ["", f"{measure} (sd)", "rate", *sizes]
    rows = [
        [
            name,
            f"{mean:.3f} ({spread:.3f})",
            f"{rate:g}",
            *(f"{t[name][0]:,.1f} ({t[name][1]:.2f})" for t in sizes.values()),
        ]
        for name, (mean, spread, rate) in learnt.items()
    ]
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---", *["---:"] * (len(head) - 1)], *rows]]
    return [f"## {title}", "", *lines, ""]


def main(argv: list[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each loss and size")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "rank_libraries.md")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    metric, lists = of_embeddings(), of_lists()
    parts = [
        page(
            "Metric learning",
            "mAP",
            {name: taught(retrieval, loss, arguments.steps) for name, loss in metric.items()},
            {f"B = {number}": times(metric, embeddings(number), arguments.seconds) for number in (96, 256)},
        ),
        page(
            "Learning to rank",
            "NDCG@10",
            {name: taught(ranking, loss, arguments.steps) for name, loss in lists.items()},
            {f"{n} x {m}": times(lists, documents(n, m), arguments.seconds) for n, m in ((16, 40), (64, 240))},
        ),
    ]
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "pytorch-metric-learning", "allrank"))
    about = [
        "# Beside libraries for metric learning and learning to rank",
        "",
        f"One thread of {platform.machine()}, CPU time; {libraries}.",
        "",
        f"After {arguments.steps} steps: mean and standard deviation over {len(SEEDS)} seeds, at the best rate.",
        "Then milliseconds of the loss alone, forward and backward, and as a multiple of the first loss.",
        "`benchmarks/rank_libraries.py` says how this is measured.",
        "",
        f"Other work on the machine: a load average of {os.getloadavg()[0]:.1f}, this being 1 of it.",
        "",
    ]
    text = "\n".join([*about, *parts[0], *parts[1]])
    arguments.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
