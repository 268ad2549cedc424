"""Metric learning: embeddings by which each picture finds those of its class, trained by average precision.

    python -m examples.metric_learning

Each example of a batch queries all others. The rows of the table of similarities are ranked alone, in one pass
(`scope="group"`), which takes no memory for pairs of pairs; the diagonal is ignored. Classes that are tested are none
of those that were trained on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn

from examples.ranking_measures import RecallAtKLoss, blackbox_average_precision, by_row, smooth_average_precision
from rankdet.losses import AveragePrecisionLoss

Loss = Callable[[Tensor, Tensor], Tensor]
CLASSES, EACH, SCALE = 12, 8, 16.0


def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Features (96, 40) of new classes, which differ in the first four alone, and their labels."""
    labels = torch.arange(CLASSES).repeat_interleave(EACH)
    features = torch.randn(len(labels), 40, generator=generator)
    features[:, :4] = 0.5 * features[:, :4] + torch.randn(CLASSES, 4, generator=generator)[labels]
    return features, labels


def similarities(embeddings: Tensor) -> Tensor:
    """Cosines of all pairs, scaled to be logits."""
    directions = nn.functional.normalize(embeddings, dim=1)
    return SCALE * directions @ directions.T


def same_class(labels: Tensor) -> Tensor:
    """1 for pairs of one class, 0 for others, -1 for each with itself."""
    return (labels[:, None] == labels).float().fill_diagonal_(-1)


def average_precision(scores: Tensor, targets: Tensor) -> float:
    """The mean over the queries."""
    order = scores.masked_fill(targets < 0, -torch.inf).argsort(1, descending=True)
    hits = targets.gather(1, order).clamp(min=0)
    precision = hits.cumsum(1) / torch.arange(1, hits.shape[1] + 1)
    return float(((precision * hits).sum(1) / hits.sum(1)).mean())


def train(loss: Loss | None, *, steps: int) -> float:
    """Mean average precision among classes not seen; without a loss, of an embedding that learnt nothing."""
    torch.manual_seed(0)
    network = nn.Linear(40, 8, bias=False)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps if loss is not None else 0):
        features, labels = batch(generator)
        optimiser.zero_grad()
        loss(similarities(network(features)), same_class(labels)).backward()
        optimiser.step()
    with torch.no_grad():
        tests = [batch(generator) for _ in range(10)]
        found = [average_precision(similarities(network(x)), same_class(labels)) for x, labels in tests]
    return sum(found) / len(found)


LOSSES: dict[str, Loss | None] = {
    "nothing learnt": None,
    "AP Loss": by_row(AveragePrecisionLoss(scope="group")),
    "Recall@5": by_row(RecallAtKLoss(k=5)),
    "Smooth-AP": lambda scores, targets: smooth_average_precision(scores / SCALE, targets, temperature=0.05),
    "blackbox AP": lambda scores, targets: blackbox_average_precision(scores / SCALE, targets),
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100, help="batches of 96 examples")
    steps = parser.parse_args().steps
    for name, loss in LOSSES.items():
        print(f"{name}: mean average precision {train(loss, steps=steps):.3f}")
