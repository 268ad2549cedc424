"""The self-balance of aLRP: the published rule, and state that survives a checkpoint."""

from __future__ import annotations

import pytest
import torch

from rankdet.losses import SelfBalance
from tests.losses.problems import WORKED

EXAMPLE = WORKED["self_balance_example"]


def run(balance: SelfBalance, steps: list[tuple[float, float]]) -> list[float]:
    """The factor that each step was given."""
    return [float(balance(torch.tensor(c), torch.tensor(loc)) / loc) for c, loc in steps]


def test_ratio_of_the_means_of_an_epoch():
    steps = list(zip(EXAMPLE["cls_history"], EXAMPLE["reg_history"], strict=True))
    balance = SelfBalance()
    assert run(balance, steps) == pytest.approx([50, 50, 50])
    balance.end_epoch()
    assert run(balance, steps[:1]) == pytest.approx([EXAMPLE["weight_official_ratio_of_means"]])


def test_counted_steps_end_an_epoch_with_the_last_of_them():
    """As in the published code, the last step of a period already has the new weight."""
    steps = list(zip(EXAMPLE["cls_history"], EXAMPLE["reg_history"], strict=True))
    weight = EXAMPLE["weight_official_ratio_of_means"]
    assert run(SelfBalance(steps=3), [*steps, (0.5, 0.5)]) == pytest.approx([50, 50, weight, weight])


def test_steps_without_positives_do_not_count():
    balance = SelfBalance(steps=2)
    balance(torch.tensor(0.8), torch.tensor(0.2))
    for _ in range(5):
        assert balance(torch.tensor(0.0), torch.tensor(0.0)) == 0
    assert balance.weight == 50
    balance.end_epoch()
    assert balance.weight == pytest.approx(5.0)


def test_an_empty_epoch_keeps_the_weight():
    balance = SelfBalance(initial=7)
    balance.end_epoch()
    assert balance.weight == 7


def test_state_survives_a_checkpoint_in_the_middle_of_an_epoch():
    steps = [(0.9, 0.1), (0.7, 0.3), (0.6, 0.2), (0.5, 0.4)]
    whole, first, second = SelfBalance(steps=4), SelfBalance(steps=4), SelfBalance(steps=4)
    expected = run(whole, steps + steps)
    got = run(first, steps[:3])
    second.load_state_dict(first.state_dict())
    assert got + run(second, steps[3:] + steps) == expected


def test_evaluation_changes_nothing():
    balance = SelfBalance().eval()
    balance(torch.tensor(0.8), torch.tensor(0.2))
    assert balance.count == 0


def test_gradient_reaches_the_localisation_part_alone():
    classification, localisation = torch.tensor(0.8, requires_grad=True), torch.tensor(0.2, requires_grad=True)
    SelfBalance()(classification, localisation).backward()
    assert classification.grad is None
    assert localisation.grad == 50


@pytest.mark.parametrize(("arguments", "message"), [({"initial": 0}, "initial is 0"), ({"steps": 0}, "steps is 0")])
def test_wrong_arguments_are_explained(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        SelfBalance(**arguments)
