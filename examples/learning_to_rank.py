"""Learning to rank: lists of documents with grades from 0 to 4, one list to a query.

    python -m examples.learning_to_rank

All lists of a batch follow one another, whatever their lengths, and `group` says which document belongs to which
query. Rank & Sort Loss asks for documents of any grade above those of none, and for higher grades above lower ones;
graded NDCG counts the top of the list most. ListNet, a cross entropy over a list, stands for losses of scores.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn

from examples.ranking_measures import GradedNDCGLoss, discount
from rankdet.losses import RankSortLoss

MOST = 4
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def lists(queries: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Features (D, 12) of 20 to 60 documents per query, their grades (D,) and their queries (D,); most grades are 0."""
    lengths = torch.randint(20, 61, (queries,), generator=generator)
    query = torch.arange(queries).repeat_interleave(lengths)
    features = torch.randn(len(query), 12, generator=generator)
    worth = features[:, 0] + features[:, 1] * features[:, 2] + 0.3 * torch.randn(len(query), generator=generator)
    grades = (2 * (worth - 0.5)).clamp(0, MOST).floor()
    features[:, 3:] += torch.randn(queries, 9, generator=generator)[query]  # of the query, and no help
    return features, grades, query


def list_net(scores: Tensor, grades: Tensor, query: Tensor) -> Tensor:
    """Cross entropy of the softmax of scores against that of grades (Cao et al., ICML 2007), the mean over queries."""
    found = [nn.functional.cross_entropy(scores[query == of], grades[query == of].softmax(0)) for of in query.unique()]
    return torch.stack(found).mean()


def ndcg(scores: Tensor, grades: Tensor, query: Tensor, *, k: int = 10) -> float:
    """NDCG at k, the mean over the queries that have a grade above 0."""
    found = []
    for of in query.unique():
        gains = 2 ** grades[query == of] - 1
        discounts = discount(torch.arange(1, min(k, len(gains)) + 1))
        ranked, best = (
            gains[order[:k]] for order in (scores[query == of].argsort(descending=True), gains.argsort(descending=True))
        )
        if best.any():
            found.append(float((ranked * discounts).sum() / (best * discounts).sum()))
    return sum(found) / len(found)


def train(loss: Loss, *, steps: int) -> float:
    """NDCG at 10 of queries not seen, after some steps of a small network."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 1))
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        features, grades, query = lists(16, generator)
        optimiser.zero_grad()
        loss(network(features)[:, 0], grades, query).backward()
        optimiser.step()
    features, grades, query = lists(200, torch.Generator().manual_seed(2))
    return ndcg(network(features)[:, 0].detach(), grades, query)


RANK_SORT, NDCG = RankSortLoss(scope="group"), GradedNDCGLoss(most=MOST)
LOSSES: dict[str, Loss] = {
    "Rank & Sort Loss": lambda scores, grades, query: RANK_SORT(scores, grades / MOST, group=query),
    "graded NDCG": lambda scores, grades, query: NDCG(scores, grades / MOST, group=query),
    "ListNet": list_net,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="batches of 16 lists")
    steps = parser.parse_args().steps
    for name, loss in LOSSES.items():
        print(f"{name}: NDCG@10 {train(loss, steps=steps):.3f}")
