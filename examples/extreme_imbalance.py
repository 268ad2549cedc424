"""Ranking losses beyond detection: a classifier with one positive in two thousand, by average precision.

    python examples/extreme_imbalance.py

The positives are hard to tell from the negatives, and some of the labels are wrong. Nothing is sampled, weighted or
tuned: AP Loss looks at the order alone, in which the two thousand easy negatives of each positive play no part.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn

from rankdet.losses import AveragePrecisionLoss, RankingLoss

Loss = RankingLoss | nn.BCEWithLogitsLoss


def simulate(number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Features (number, 16) and labels, of which one in 2000 is 1; positives are shifted a little in two directions."""
    labels = torch.zeros(number)
    labels[::2000] = 1
    features = torch.randn(number, 16, generator=generator)
    features[:, :2] += 2 * labels[:, None]
    features[labels == 0, 2] *= 3  # a feature that tells nothing, and is large
    return features, labels


def average_precision(scores: Tensor, labels: Tensor) -> float:
    """Mean over the positives of the precision at their rank."""
    ranked = labels[scores.argsort(descending=True)]
    precision = ranked.cumsum(0) / torch.arange(1, len(ranked) + 1)
    return float((precision * ranked).sum() / ranked.sum())


def train(loss: Callable[[Tensor, Tensor], Tensor], *, steps: int, number: int = 40_000) -> float:
    """Average precision on data not seen, after some steps of a small network on batches drawn as they come."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    network = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(steps):
        features, labels = simulate(number, generator)
        optimiser.zero_grad()
        loss(network(features).squeeze(1), labels).backward()
        optimiser.step()
    features, labels = simulate(200_000, torch.Generator().manual_seed(2))
    return average_precision(network(features).squeeze(1).detach(), labels)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="batches of 40,000 examples, 20 of them positive")
    steps = parser.parse_args().steps
    for name, loss in (("AP Loss", AveragePrecisionLoss()), ("binary cross entropy", nn.BCEWithLogitsLoss())):
        print(f"{name}: average precision {train(loss, steps=steps):.3f}")
