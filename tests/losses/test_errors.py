"""What is not accepted, and what the errors say about it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rankdet.losses import ALRPLoss, PositiveError, Ranking, RankingError, RankingLoss, RankSortLoss
from rankdet.losses.functional import alrp_loss
from tests.losses.problems import CLASSES

every_loss = pytest.mark.parametrize("cls", CLASSES)


@every_loss
@pytest.mark.parametrize(
    ("logits", "targets", "arguments", "message"),
    [
        (torch.tensor([1.0, math.nan]), torch.tensor([1.0, 0.0]), {}, "logits contain NaN"),
        (torch.zeros(3), torch.zeros(4), {}, r"targets have shape \(4,\), logits \(3,\)"),
        (torch.zeros(3), torch.tensor([0.0, 1.5, 0.0]), {}, "target is 1.5; accepted are a quality of at most 1"),
        (torch.zeros(3), torch.tensor([0.0, math.nan, 0.0]), {}, "target is nan"),
        (torch.zeros(3), torch.zeros(3), {"positives": torch.zeros(3)}, "boolean mask"),
        (torch.zeros(3), torch.zeros(3), {"positives": torch.zeros(2, dtype=torch.bool)}, "boolean mask"),
        (torch.zeros(3), torch.zeros(3, device="meta"), {}, "targets are on meta, logits are on cpu"),
        (torch.zeros(3), torch.zeros(3), {"weight": torch.zeros(3, device="meta")}, "weight is on meta, logits are on"),
        (torch.zeros(3), torch.zeros(3), {"image_index": torch.arange(3)}, 'image_index is given but scope is "batch"'),
    ],
)
def test_wrong_input_is_explained(
    cls: type[RankingLoss], logits: torch.Tensor, targets: torch.Tensor, arguments: dict, message: str
):
    with pytest.raises(ValueError, match=message):
        cls()(logits, targets, **arguments)


@every_loss
@pytest.mark.parametrize("logits", [[1.0, 2.0], np.zeros(2)])
def test_only_tensors_are_logits(cls: type[RankingLoss], logits: object):
    with pytest.raises(TypeError, match=f"logits are a {type(logits).__name__}; give a tensor"):
        cls()(logits, torch.zeros(2))
    with pytest.raises(TypeError, match=f"targets are a {type(logits).__name__}; give a tensor"):
        cls()(torch.zeros(2), logits)
    with pytest.raises(TypeError, match="logits are a"):
        cls().per_positive(logits, torch.zeros(2))


def test_wrong_lists_of_positives_are_explained():
    logits = torch.zeros(4, 2)
    with pytest.raises(ValueError, match=r"positive_index is torch.int64 of shape \(2,\), quality has shape \(1,\)"):
        RankSortLoss().terms_at(logits, torch.tensor([0, 1]), torch.tensor([0.5]))
    with pytest.raises(ValueError, match=r"quality is on meta, logits are on cpu; move them to the same device"):
        RankSortLoss().terms_at(logits, torch.tensor([0]), torch.tensor([0.5], device="meta"))
    with pytest.raises(ValueError, match=r"ignored has shape \(2,\), the logits \(4, 2\)"):
        RankSortLoss().terms_at(
            logits, torch.tensor([0]), torch.tensor([0.5]), ignored=torch.zeros(2, dtype=torch.bool)
        )
    with pytest.raises(ValueError, match=r"ignored is torch\.float32; accepted is a boolean mask"):
        RankSortLoss().terms_at(logits, torch.tensor([0]), torch.tensor([0.5]), ignored=torch.zeros(4))
    with pytest.raises(ValueError, match="image_index is missing"):
        RankSortLoss(scope="image").terms_at(logits, torch.tensor([0]), torch.tensor([0.5]))
    with pytest.raises(TypeError, match=r"logits are torch\.int64"):
        RankSortLoss().terms_at(logits.long(), torch.tensor([0]), torch.tensor([0.5]))
    with pytest.raises(ValueError, match=r"image_index is torch\.float32; accepted is int64"):
        RankSortLoss(scope="image").terms_at(logits, torch.tensor([0]), torch.tensor([0.5]), image_index=torch.zeros(4))


@pytest.mark.parametrize(
    ("index", "quality", "message"),
    [
        ([0, 8], [0.5, 0.5], "positive_index holds 0 to 8, but the flattened logits are 8; accepted are 0 to 7"),
        ([3, -1], [0.5, 0.5], "positive_index holds -1 to 3"),
        ([3, 1, 3], [0.5, 0.5, 0.1], "positive_index holds 3 more than once"),
        ([3, 1], [0.5, math.nan], "a quality is nan"),
        ([3, 1], [0.5, 1.5], "a quality is 1.5; accepted is at most 1"),
    ],
)
def test_wrong_entries_of_lists_of_positives_are_explained(index: list[int], quality: list[float], message: str):
    with pytest.raises(ValueError, match=message):
        RankSortLoss().terms_at(torch.zeros(4, 2), torch.tensor(index), torch.tensor(quality))


def test_a_quality_above_1_by_rounding_is_1():
    """As the IoU of a box with itself may be."""
    logits, index = torch.tensor([0.3, 0.1, 0.2]), torch.tensor([0, 1])
    rounded, exact = torch.tensor([0.4, 1 + 1e-6]), torch.tensor([0.4, 1.0])
    assert RankSortLoss().terms_at(logits, index, rounded) == RankSortLoss().terms_at(logits, index, exact)
    dense = torch.cat([rounded, torch.zeros(1)])
    assert RankSortLoss()(logits, dense) == RankSortLoss()(logits, dense.clamp(max=1))


def test_wrong_constructor_arguments_are_explained():
    with pytest.raises(ValueError, match="delta is -1"):
        RankSortLoss(delta=-1)
    with pytest.raises(ValueError, match="scope is 'images'; accepted are 'batch' and 'image'"):
        RankSortLoss(scope="images")
    with pytest.raises(ValueError, match="tau is 1"):
        ALRPLoss(tau=1)


def test_localisation_errors_must_be_as_many_as_positives():
    logits, targets = torch.zeros(3), torch.tensor([0.5, 0.0, 1.0])
    with pytest.raises(ValueError, match=r"localisation_errors have shape \(0,\), but there are 2 positives"):
        alrp_loss(logits, targets, torch.zeros(0))
    with pytest.raises(ValueError, match="but there are 2 positives"):
        ALRPLoss()(logits, targets, torch.zeros(3))


@pytest.mark.parametrize("error", [-0.1, math.nan])
def test_localisation_errors_are_at_least_0(error: float):
    logits, targets = torch.zeros(3), torch.tensor([0.5, 0.0, 1.0])
    with pytest.raises(ValueError, match="a localisation error is NaN or below 0"):
        alrp_loss(logits, targets, torch.tensor([0.2, error]))
    with pytest.raises(ValueError, match="a localisation error is NaN or below 0"):
        ALRPLoss()(logits, targets, torch.tensor([0.2, error]))


class OwnLoss(RankingLoss):
    """Returns what it is told to."""

    def __init__(self, errors: object) -> None:
        super().__init__(delta=0.5)
        self.result = errors

    def errors(self, ranking: Ranking) -> object:
        return self.result


@pytest.mark.parametrize(
    ("errors", "kind", "message"),
    [
        (
            RankingError(1.0),
            ValueError,
            r"OwnLoss.errors\(\) returns RankingError; accepted is a dict",
        ),
        ({"mine": RankingError(1.0)}, ValueError, r"returns \('mine',\); accepted is"),
        (
            {"ranking": torch.ones(2)},
            TypeError,
            r"errors\(\)\['ranking'\] is a Tensor; accepted are RankingError",
        ),
        ({"ranking": RankingError(torch.ones(()))}, ValueError, r"tensor of shape \(\); accepted is .* \(2,\)"),
        ({"ranking": RankingError(1.0, value=torch.ones(1))}, ValueError, r"shape \(1,\)"),
        ({"ranking": RankingError(1.0, target=torch.ones(3))}, ValueError, r"shape \(3,\)"),
        ({"ranking": PositiveError(1.0, torch.ones(()))}, ValueError, r"shape \(\)"),
    ],
)
def test_what_an_author_got_wrong_is_explained(errors: object, kind: type[Exception], message: str):
    with pytest.raises(kind, match=message):
        OwnLoss(errors)(torch.tensor([0.0, 0.2, 0.1]), torch.tensor([0.5, 0.0, 1.0]))


@pytest.mark.parametrize("two", [torch.tensor([2, 2]), torch.tensor([2.0, 2.0]), 2, 2.0])
def test_authors_may_state_any_dtype_or_one_number(two: torch.Tensor | float):
    logits = torch.tensor([0.0, 3.0, 0.1], requires_grad=True)
    loss = OwnLoss({"ranking": RankingError(two, target=torch.tensor([False, True]))})
    value = loss(logits, torch.tensor([0.5, 0.0, 1.0]))
    assert value == 1.5  # the mean of 2 - 0 and 2 - 1
    assert torch.autograd.grad(value, logits)[0].tolist() == [-1.0, 1.5, -0.5]
    assert OwnLoss({"ranking": PositiveError(two, two)})(logits, torch.tensor([0.5, 0.0, 1.0])) == 2
