"""The mixtures of PAA against scikit-learn, and its choice of positives against a loop over objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rankdet
from rankdet.assign import BACKGROUND, Assignment, GroundTruth, MaxIoU, PAAAssigner
from rankdet.assign.mixture import TwoGaussians, fit_two_gaussians
from rankdet.assign.paa import choose_lower
from rankdet.ops import Priors
from tests.assign.test_assigners import grid, random_boxes, truth_of
from tests.pretend_device import DEVICE, Pretend, brought_there, needs_pretence
from tests.reference.assigners import fitted_mixture, max_iou, paa_choice


def random_pools(seed: int, *, sets: int = 12, most: int = 45) -> tuple[np.ndarray, np.ndarray]:
    """Costs as a detector gives them: clear valleys, none at all, few values, nearly equal ones."""
    rng = np.random.default_rng(seed)
    values, valid = np.zeros((sets, most)), np.zeros((sets, most), dtype=bool)
    for row in range(sets):
        count = int(rng.integers(2, most + 1))
        low, spread = rng.uniform(0.1, 3), 10 ** rng.uniform(-4, 0)
        some = low + spread * rng.standard_normal(count) + rng.choice([0, 0.1, 2.0]) * (rng.random(count) < 0.5)
        values[row, :count], valid[row, :count] = np.sort(some), True
    return values, valid


@pytest.mark.parametrize("reg_covar", [1e-5, 1e-6])
@pytest.mark.parametrize("seed", range(4))
def test_mixtures_equal_those_of_scikit_learn(seed: int, reg_covar: float):
    values, valid = random_pools(seed)
    fitted = fit_two_gaussians(torch.from_numpy(values), torch.from_numpy(valid), reg_covar=reg_covar)
    joint = fitted.log_joint(torch.from_numpy(values))
    for row in range(len(values)):
        own = values[row][valid[row]][:, None]
        expected = fitted_mixture(own, reg_covar=reg_covar)
        for ours, theirs in zip(
            (fitted.weights, fitted.means, fitted.variances),
            (expected.weights_, expected.means_[:, 0], expected.covariances_[:, 0]),
            strict=True,
        ):
            np.testing.assert_allclose(ours[:, row], theirs, rtol=1e-6, atol=1e-6)
        likelihood = torch.logaddexp(*joint[:, row, valid[row]])
        np.testing.assert_allclose(likelihood, expected.score_samples(own), rtol=1e-6, atol=1e-6)


def test_a_set_is_fitted_alike_alone_and_beside_others():
    """Sets converge after different numbers of steps; one that has does not move on."""
    values, valid = (torch.from_numpy(part) for part in random_pools(9))
    together = fit_two_gaussians(values, valid)
    for row in range(len(values)):
        one = slice(row, row + 1)
        alone = fit_two_gaussians(values[one], valid[one])
        assert all(torch.equal(a[:, 0], t[:, row]) for a, t in zip(alone, together, strict=True))


def test_steps_are_limited():
    values = torch.tensor([[0.0, 0.1, 1.0, 3.0]], dtype=torch.float64)
    start = fit_two_gaussians(values, values >= 0, max_iterations=0)
    assert [part.flatten().tolist() for part in start] == [[0.5, 0.5], [0.0, 3.0], [1.0, 1.0]]
    assert isinstance(start, TwoGaussians)


def test_degenerate_sets():
    """Equal costs, one cost, no cost at all: finite, and decided as published."""
    costs = torch.tensor([[2.0, 2.0, 2.0], [1.0, torch.inf, torch.inf], [torch.inf] * 3], dtype=torch.float64)
    chosen = choose_lower(costs, costs.isfinite(), reg_covar=1e-5)
    assert chosen.tolist() == [[True, False, False], [False] * 3, [False] * 3]


@settings(max_examples=40)
@given(seed=st.integers(0, 100_000), topk=st.sampled_from([1, 3, 9]))
def test_paa_equals_the_loop(seed: int, topk: int):
    generator = torch.Generator().manual_seed(seed)
    priors, sizes = grid((8, 16, 32), 64)
    objects = [random_boxes(int(torch.randint(0, 5, (1,), generator=generator)), generator, side=50) for _ in range(2)]
    objects = [o + torch.rand(o.shape, generator=generator) * 0.3 for o in objects]
    batch = Priors((priors, priors), (torch.ones(len(priors), dtype=torch.bool),) * 2, sizes)
    truth = truth_of(*objects)
    assigner = PAAAssigner(topk=topk)
    candidates = assigner(batch, truth)
    expected = []
    for o, start in zip(objects, truth.offsets, strict=True):
        found = max_iou(priors, o, positive=0.1, negative=0.1, low_quality=0.0)
        expected += [m + start if m >= 0 else m for m in found]
    assert candidates.labels.tolist() == expected
    # Costs that a float32 network gives: far enough apart, and not evenly, that no rounding decides.
    number = len(candidates.positive_index)
    costs = (torch.randperm(number, generator=generator) + 0.4 * torch.rand(number, generator=generator)) / 40
    final = assigner.choose(candidates, costs, priors=batch, truth=truth)
    levels = torch.bucketize(candidates.positive_index % len(priors), torch.tensor(sizes).cumsum(0), right=True)
    stays = torch.tensor(
        paa_choice(
            candidates.matched_index.tolist(),
            levels.tolist(),
            costs.double().tolist(),
            topk=topk,
            reg_covar=assigner.reg_covar,
        ),
        dtype=torch.bool,
    )
    assert final.positive_index.tolist() == candidates.positive_index[stays].tolist()
    assert final.matched_boxes.tolist() == candidates.matched_boxes[stays].tolist()
    assert final.labels[candidates.positive_index[~stays]].tolist() == [BACKGROUND] * int((~stays).sum())
    check_consistent(final)


def check_consistent(assignment: Assignment) -> None:
    """The invariant of `Assignment`."""
    assert (assignment.labels >= 0).nonzero().squeeze(1).tolist() == assignment.positive_index.tolist()
    assert assignment.labels[assignment.positive_index].tolist() == assignment.matched_index.tolist()


def test_a_clear_valley_is_found():
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(12, 1)
    truth = truth_of(torch.tensor([[0.0, 0, 10, 10]]))
    priors, assigner = Priors.proposals([boxes]), PAAAssigner(topk=12)
    costs = torch.tensor([0.5, 3.0, 0.52, 3.1, 0.54, 2.9, 0.51, 3.05, 0.53, 2.95, 3.0, 0.9])
    kept = assigner.choose(assigner(priors, truth), costs, priors=priors, truth=truth).positive_index.tolist()
    assert set(kept) <= {0, 2, 4, 6, 8}
    assert kept, "somebody is cheap"


@needs_pretence
def test_the_choice_is_the_same_where_there_is_no_float64(monkeypatch: pytest.MonkeyPatch):
    generator = torch.Generator().manual_seed(0)
    priors, objects = random_boxes(300, generator), random_boxes(8, generator)
    truth, grid_priors = truth_of(objects), Priors.proposals([priors])
    assigner = PAAAssigner()
    candidates = assigner(grid_priors, truth)
    cost = torch.rand(len(candidates.positive_index), generator=generator) + 10
    expected = assigner.choose(candidates, cost, priors=grid_priors, truth=truth)
    monkeypatch.setattr("rankdet.assign.paa.has_float64", lambda device: device != DEVICE)
    with Pretend(root=Path(rankdet.__file__).parent, float64=False):
        there = brought_there(candidates)
        chosen = assigner.choose(there, cost.to(DEVICE), priors=grid_priors, truth=truth)
        assert chosen.labels.device == DEVICE
        assert chosen.labels.tolist() == expected.labels.tolist()


def test_no_candidates_and_diverged_costs():
    priors = Priors.proposals([torch.tensor([[0.0, 0, 4, 4], [0.0, 0, 4, 5]])])
    assigner = PAAAssigner()
    nobody = truth_of(torch.zeros(0, 4))
    assert assigner.choose(assigner(priors, nobody), torch.zeros(0), priors=priors, truth=nobody).labels.max() < 0
    truth = truth_of(torch.tensor([[0.0, 0, 4, 4]]))
    lost = assigner.choose(assigner(priors, truth), torch.full((2,), torch.nan), priors=priors, truth=truth)
    assert lost.labels.tolist() == [BACKGROUND, BACKGROUND]


def test_the_first_step_can_be_another():
    priors = Priors.proposals([torch.tensor([[0.0, 0, 4, 4], [0.0, 0, 4, 2], [20.0, 20, 24, 24]])])
    truth = GroundTruth((torch.tensor([[0.0, 0, 4, 4]]),), (torch.tensor([0]),), (torch.zeros(0, 4),))
    strict = PAAAssigner(candidates=MaxIoU(positive_iou=0.6, negative_iou=0.6))
    assert strict(priors, truth).labels.tolist() == [0, BACKGROUND, BACKGROUND]


@pytest.mark.parametrize("arguments", [{"topk": 0}, {"reg_covar": 0.0}])
def test_wrong_arguments(arguments: dict):
    with pytest.raises(ValueError, match="topk must be at least 1"):
        PAAAssigner(**arguments)
