"""`gather_across_devices`: several processes rank as one that holds the whole batch."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.distributed as dist

from rankdet.losses import RankingLoss, RankSortLoss
from tests.losses.problems import CLASSES, random_problem
from tests.processes import run

ROWS, WIDTH = 40, 6
GATHERING = [cls for cls in CLASSES if not cls.__name__.startswith("Bucketed")]


def batch(size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, targets and images of all processes; the second has no positive, the first ignores some rows."""
    logits, targets = random_problem(25, size * ROWS * WIDTH - 25)
    logits, targets = logits.detach().view(size, ROWS, WIDTH), targets.view(size, ROWS, WIDTH)
    targets[1] = 0
    targets[0, :3] = -1
    image = torch.arange(ROWS) // 10 + torch.arange(size)[:, None] * 4
    return logits, targets, image


def rows_of(scope: str, image: torch.Tensor) -> dict[str, torch.Tensor]:
    """The argument that a scope asks for; groups, unlike images, are spread over the processes."""
    return {"image": {"image_index": image}, "group": {"group": image % 3}}.get(scope, {})


SCOPES = ("batch", "image", "class", "group")


def losses_of(rank: int, size: int) -> dict:
    """Losses and gradients of one process, averaged over the processes as DistributedDataParallel does."""
    logits, targets, image = (part[rank] for part in batch(size))
    found = {}
    for cls in GATHERING:
        for scope in SCOPES:
            weight = torch.ones((), dtype=torch.float64, requires_grad=True)  # a parameter all processes share
            x = logits.clone().requires_grad_()
            loss = cls(scope=scope, gather_across_devices=True)
            rows = rows_of(scope, image)
            value = loss(x * weight, targets, **rows)
            value.backward()
            shared = weight.grad.clone()
            dist.all_reduce(shared)
            index = (targets > 0).view(-1).nonzero().squeeze(1)
            ranked = loss.ranked_at(x, index, targets.view(-1)[index], ignored=(targets < 0).all(1), **rows)
            found[cls.__name__, scope] = (
                value.detach(),
                x.grad / size,
                shared / size,
                ranked.rank,
                ranked.soft_sampling,
            )
    pair = dist.new_group([0, 1])
    if rank < 2:
        loss = copy.deepcopy(RankSortLoss(gather_across_devices=True))
        loss.process_group = pair
        x = logits.clone().requires_grad_()
        value = copy.deepcopy(loss)(x, targets)
        value.backward()
        found["pair"] = value.detach(), x.grad / 2
    no_positive = CLASSES[0](gather_across_devices=True)(x, torch.zeros_like(targets))
    found["no positive"] = no_positive.item()
    return found


@pytest.fixture(scope="module", params=[2, 3], ids=["2 processes", "3 processes"])
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, list[dict]]:
    return request.param, run(request.param, losses_of, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("cls", GATHERING)
def test_equals_one_process_with_the_whole_batch(results: tuple[int, list[dict]], cls: type[RankingLoss], scope: str):
    size, found = results
    logits, targets, image = (part.flatten(0, 1) for part in batch(size))
    rows = rows_of(scope, image)
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    logits.requires_grad_()
    value = cls(scope=scope)(logits * weight, targets, **rows)
    value.backward()
    index = (targets > 0).view(-1).nonzero().squeeze(1)
    ranked = cls(scope=scope).ranked_at(logits, index, targets.view(-1)[index], ignored=(targets < 0).all(1), **rows)
    mine = [process[cls.__name__, scope] for process in found]
    for one, of_weight in ((process[0], process[2]) for process in mine):
        torch.testing.assert_close(one, value.detach(), rtol=1e-12, atol=0)
        torch.testing.assert_close(of_weight, weight.grad, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(torch.cat([process[1] for process in mine]), logits.grad, rtol=1e-11, atol=1e-15)
    torch.testing.assert_close(torch.cat([process[3] for process in mine]), ranked.rank, rtol=1e-12, atol=0)
    weights = torch.cat([process[4] for process in mine])
    torch.testing.assert_close(weights, ranked.soft_sampling, rtol=1e-12, atol=0)


def test_a_group_of_processes(results: tuple[int, list[dict]]):
    size, found = results
    logits, targets, _ = (part[:2].flatten(0, 1) for part in batch(size))
    logits.requires_grad_()
    value = RankSortLoss()(logits, targets)
    value.backward()
    for process in found[:2]:
        torch.testing.assert_close(process["pair"][0], value.detach())
    torch.testing.assert_close(torch.cat([process["pair"][1] for process in found[:2]]), logits.grad)
    assert "pair" not in found[-1] or size == 2


def test_no_positive_anywhere_is_zero(results: tuple[int, list[dict]]):
    assert all(process["no positive"] == 0 for process in results[1])


def test_a_process_by_itself_needs_no_group():
    logits, targets = random_problem(10, 100)
    alone = CLASSES[0](gather_across_devices=True)(logits, targets)
    assert alone == CLASSES[0]()(logits, targets)


def test_a_process_group_is_no_data():
    assert pickle.loads(pickle.dumps(RankSortLoss())).process_group is None
