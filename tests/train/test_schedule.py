from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rankdet.train import Cosine, FlatCosine, Schedule, Steps

ONE_X = Schedule(
    epochs=12, warmup_iterations=500, warmup_ratio=0.001, decay=Steps(milestones=(8, 11)), base_batch_size=16
)


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0, 0.001),
        (1, 1 - (1 - 1 / 500) * 0.999),
        (499, 1 - (1 - 499 / 500) * 0.999),
        (500, 1.0),
        (8 * 7330 - 1, 1.0),
        (8 * 7330, 0.1),
        (11 * 7330 - 1, 0.1),
        (11 * 7330, 0.01),
        (12 * 7330 - 1, 0.01),
    ],
)
def test_one_x_is_the_published_schedule(step: int, factor: float):
    assert ONE_X.factor(step, steps_per_epoch=7330) == pytest.approx(factor, rel=1e-12)


def test_warm_up_can_grow_with_a_power_of_the_step():
    schedule = Schedule(epochs=1, warmup_iterations=2000, warmup_ratio=0.0, warmup_power=2.0)
    rates = [schedule.factor(step, steps_per_epoch=4000) for step in (0, 500, 1000, 2000, 3000)]
    assert rates == [0, 1 / 16, 1 / 4, 1, 1]
    assert "by the power 2 of the step" in schedule.describe()
    with pytest.raises(ValueError, match="warmup_power must be > 0, got 0"):
        Schedule(epochs=1, warmup_power=0)


def test_warm_up_multiplies_the_rate_of_the_moment():
    schedule = Schedule(epochs=3, warmup_iterations=20, warmup_ratio=0.5, decay=Steps(milestones=(1,)))
    assert schedule.factor(10, steps_per_epoch=10) == pytest.approx(0.1 * 0.75)


@given(st.integers(1, 30), st.integers(1, 50), st.floats(0, 1))
def test_cosine_falls_from_one_to_its_end(epochs: int, steps: int, final: float):
    schedule = Schedule(epochs=epochs, decay=Cosine(final=final))
    factors = [schedule.factor(step, steps_per_epoch=steps) for step in range(epochs * steps + 1)]
    assert factors[0] == pytest.approx(1)
    assert factors[-1] == pytest.approx(final, abs=1e-12)
    assert all(before >= after - 1e-12 for before, after in itertools.pairwise(factors))


def test_cosine_is_that_of_torch():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=20, eta_min=0.2)
    ours = Schedule(epochs=4, decay=Cosine(final=0.2))
    for step in range(20):
        assert ours.factor(step, steps_per_epoch=5) == pytest.approx(theirs.get_last_lr()[0])
        optimiser.step()
        theirs.step()


def test_flat_cosine_is_flat_falls_and_stays():
    """DEIM's schedule of DEIMv2-S: the full rate to epoch 64, half of it from epoch 120 of 132."""
    schedule = Schedule(epochs=132, decay=FlatCosine(flat_epochs=64, closing_epochs=12))
    rates = [schedule.factor(epoch * 10, steps_per_epoch=10) for epoch in (0, 64, 92, 120, 131)]
    assert rates == pytest.approx([1, 1, 0.75, 0.5, 0.5])
    falling = [schedule.factor(step, steps_per_epoch=10) for step in range(640, 1200)]
    assert all(before > after for before, after in itertools.pairwise(falling))
    assert "constant for 64 epochs, then cosine decay to 0.5 of the rate at epoch 120" in schedule.describe()
    short = Schedule(epochs=2, decay=FlatCosine(flat_epochs=4, closing_epochs=2))
    assert [short.factor(step, steps_per_epoch=5) for step in range(10)] == [1.0] * 10
    assert "is not reached" in short.describe()


def test_the_rate_is_scaled_where_its_batch_is_known():
    """A preset for 16 images that is trained with 4 would diverge, or learn too slowly with 64; the header says so."""
    assert ONE_X.full_rate(0.008, 4) == pytest.approx(0.002)
    assert ONE_X.full_rate(0.008, 32) == pytest.approx(0.016)
    assert ONE_X.describe_rate(0.008, 16) == "0.008"
    said = ONE_X.describe_rate(0.008, 4)
    assert said == "0.002 = 0.008 x 4 / 16 (the stated rate is for a batch of 16; schedule.scale_lr false keeps it)"
    kept = Schedule(epochs=12, base_batch_size=16, scale_lr=False)
    assert kept.full_rate(0.008, 4) == 0.008
    assert "0.008 as stated (the stated rate is for a batch of 16; schedule.scale_lr true would make it 0.002)" in (
        kept.describe_rate(0.008, 4)
    )
    assert Schedule(epochs=12).full_rate(0.008, 4) == 0.008
    assert Schedule(epochs=12).describe_rate(0.008, 4) == "0.008"


def test_the_warm_up_may_be_a_share_of_the_steps():
    share, steps = Schedule(epochs=4, warmup_share=0.25), Schedule(epochs=4, warmup_iterations=10)
    for step in range(40):
        assert share.factor(step, steps_per_epoch=10) == steps.factor(step, steps_per_epoch=10)
    assert share.describe() == "4 epochs, warm-up 25% of the steps from 0.001 of the rate, constant"


def test_what_looks_wrong_with_the_rate_is_said():
    def said(schedule: Schedule, steps_per_epoch: int = 52) -> str:
        return " ".join(schedule.warnings(batch_size=4, steps_per_epoch=steps_per_epoch))

    assert "takes 500 steps, and the whole training has 624" in said(ONE_X)
    assert "schedule.warmup_share 0.05" in said(ONE_X)
    assert said(ONE_X, steps_per_epoch=500) == ""
    unscaled = Schedule(epochs=12, base_batch_size=16, scale_lr=False)
    assert said(unscaled) == (
        "the stated rate is for steps of 16 images, and a step has 4; set schedule.scale_lr true, or a rate for this "
        "batch"
    )
    assert unscaled.warnings(batch_size=16, steps_per_epoch=52) == []
    assert said(Schedule(epochs=12, base_batch_size=16)) == ""


def test_a_milestone_beyond_the_end_is_named():
    assert "11 is not reached" in Schedule(epochs=9, decay=Steps(milestones=(8, 11))).describe()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number >= 1, got 0"),
        ({"epochs": 1.5}, "epochs must be a whole number"),
        ({"warmup_iterations": -1}, "warmup_iterations"),
        ({"warmup_share": 1.0}, "warmup_share must be >= 0 and < 1, got 1.0"),
        ({"warmup_share": 0.1, "warmup_iterations": 5}, "two ways to say"),
        ({"warmup_ratio": 2.0}, "warmup_ratio must be >= 0 and <= 1, got 2.0"),
        ({"base_batch_size": 0}, "base_batch_size"),
    ],
)
def test_impossible_schedules_are_refused(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Schedule(**{"epochs": 12, **arguments})


@pytest.mark.parametrize(
    "arguments", [{"milestones": (3, 2)}, {"milestones": (0,)}, {"milestones": (1,), "gamma": 0.0}]
)
def test_impossible_steps_are_refused(arguments: dict):
    with pytest.raises(ValueError, match=r"milestones|gamma"):
        Steps(**arguments)
