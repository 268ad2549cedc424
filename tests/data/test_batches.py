from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rankdet.data import DetectionBatches, InOrder, Shuffled
from rankdet.data.batches import Order, group_by_orientation


class Repeating(Order):
    """An order as repeat factors make it: index 0 three times."""

    def __len__(self) -> int:
        return 6

    def indices(self, generator: torch.Generator) -> torch.Tensor:
        return torch.tensor([0, 0, 0, 1, 2, 3])


def indices(batches) -> list[list[int]]:
    return [[draw.place for draw in batch] for batch in batches]


CASES = {
    "groups": st.lists(st.integers(0, 2), min_size=1, max_size=60),
    "batch_size": st.integers(1, 7),
    "world_size": st.integers(1, 4),
    "seed": st.integers(0, 2**40),
    "epoch": st.integers(0, 5),
}


@given(**CASES)
def test_every_index_comes_and_all_processes_make_the_same_steps(groups, batch_size, world_size, seed, epoch):
    count = len(groups)
    ranks = []
    for rank in range(world_size):
        batches = DetectionBatches(
            Shuffled(count), batch_size=batch_size, seed=seed, groups=groups, rank=rank, world_size=world_size
        )
        batches.set_epoch(epoch)
        ranks.append(list(batches))
        assert len(ranks[-1]) == len(batches) == math.ceil(math.ceil(count / batch_size) / world_size)
    seen = Counter(index for own in ranks for batch in indices(own) for index in batch)
    assert set(seen) == set(range(count))
    if world_size == 1:
        assert set(seen.values()) == {1}
    assert sum(seen.values()) <= count + (world_size - 1) * batch_size


@given(**CASES)
def test_batches_hold_one_group_but_for_the_remainders(groups, batch_size, world_size, seed, epoch):
    del world_size
    batches = DetectionBatches(Shuffled(len(groups)), batch_size=batch_size, seed=seed, groups=groups)
    found = indices(batches.epoch_batches(epoch))
    mixed = sum(len({groups[index] for index in batch}) > 1 for batch in found)
    remainders = sum(count % batch_size for count in Counter(groups).values())
    assert mixed <= math.ceil(remainders / batch_size)
    assert all(len(batch) == batch_size for batch in found[:-1])
    assert 1 <= len(found[-1]) <= batch_size


@given(**CASES)
def test_without_the_short_batch(groups, batch_size, world_size, seed, epoch):
    del world_size
    batches = DetectionBatches(Shuffled(len(groups)), batch_size=batch_size, seed=seed, groups=groups, drop_last=True)
    found = batches.epoch_batches(epoch)
    assert len(found) == len(batches) == max(len(groups) // batch_size, 1)
    if len(groups) >= batch_size:
        assert all(len(batch) == batch_size for batch in found)


def test_epochs_differ_and_repeat_by_number():
    def batches(**arguments):
        return DetectionBatches(Shuffled(20), batch_size=4, **arguments)

    walking = batches(seed=3)
    first, second = list(walking), list(walking)
    assert indices(first) != indices(second)
    assert [draw.seed for batch in first for draw in batch] != [draw.seed for batch in second for draw in batch]
    again = batches(seed=3)
    again.set_epoch(1)
    assert list(again) == second
    assert indices(batches(seed=4)) != indices(first)


def test_an_epoch_can_be_entered_in_the_middle():
    batches = DetectionBatches(Shuffled(20), batch_size=4, seed=1, rank=1, world_size=2)
    batches.set_epoch(2)
    whole = list(batches)
    batches.set_epoch(2, start=2)
    assert list(batches) == whole[2:]
    next_epoch = list(batches)
    assert len(next_epoch) == len(batches) == 3, "the epoch after it is whole"


def test_the_processes_share_the_batches_of_one_process():
    one = DetectionBatches(Shuffled(24), batch_size=4, seed=1)
    two = [DetectionBatches(Shuffled(24), batch_size=4, seed=1, rank=rank, world_size=2) for rank in range(2)]
    dealt = [list(batches) for batches in two]
    assert list(one) == [batch for pair in zip(*dealt, strict=True) for batch in pair]


def test_in_order_without_groups_is_the_order_of_the_dataset():
    assert indices(DetectionBatches(InOrder(5), batch_size=2)) == [[0, 1], [2, 3], [4]]


def test_repeated_draws_get_seeds_of_their_own():
    draws = [draw for batch in DetectionBatches(Repeating(), batch_size=2) for draw in batch]
    assert [draw.place for draw in draws] == [0, 0, 0, 1, 2, 3]
    assert len({draw.seed for draw in draws}) == 6


def test_orientation():
    assert group_by_orientation([(10, 9), (9, 10), (9, 9)]) == [0, 1, 1]


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"rank": 2, "world_size": 2}, {"rank": -1}, {"seed": -1}])
def test_arguments_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DetectionBatches(InOrder(3), **{"batch_size": 1, **wrong})
