"""Fits of score mappings against scipy's optimiser and scikit-learn's isotonic regression; and what always holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rankdet.eval.score_fitting import LEAST_SLOPE, fit_isotonic, fit_platt, fit_temperature
from rankdet.eval.score_mapping import logits_of, scores_of


def problem(seed: int, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and targets of which a third are 0, that rise with the logits on the whole."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-3, 2, 80)
    targets = np.where(rng.random(80) < 0.3, 0.0, scores_of(0.5 * logits + 2 + rng.normal(0, 1, 80)))
    return (logits.round(0) if ties else logits), targets


def cross_entropy(parameters: np.ndarray, logits: np.ndarray, targets: np.ndarray) -> float:
    mapped = abs(parameters[0]) * logits + (parameters[1] if len(parameters) > 1 else 0.0)
    scores = np.clip(scores_of(mapped), 1e-15, 1 - 1e-15)
    return float(-(targets * np.log(scores) + (1 - targets) * np.log(1 - scores)).mean())


@pytest.mark.parametrize("seed", range(4))
def test_platt_and_temperature_are_the_minima_that_scipy_finds(seed):
    optimize = pytest.importorskip("scipy.optimize")
    logits, targets = problem(seed)
    for start, fit in ((np.array([1.0, 0.0]), fit_platt), (np.array([1.0]), fit_temperature)):
        slow = optimize.minimize(cross_entropy, start, (logits, targets), method="L-BFGS-B", tol=1e-14)
        found = fit(logits, targets)
        parameters = np.array([found.slope, found.bias])[: len(start)]
        assert cross_entropy(parameters, logits, targets) <= slow.fun + 1e-12
        np.testing.assert_allclose(parameters, [abs(slow.x[0]), *slow.x[1:]], atol=1e-4)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_isotonic_is_that_of_scikit_learn(seed, ties):
    isotonic = pytest.importorskip("sklearn.isotonic")
    logits, targets = problem(seed, ties=ties)
    oracle = isotonic.IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(logits, targets)
    everywhere = np.concatenate([logits, np.linspace(-15, 9, 100)])
    mapped = scores_of(fit_isotonic(logits, targets)(everywhere))
    np.testing.assert_allclose(mapped, np.clip(oracle.predict(everywhere), 1e-6, 1 - 1e-6), atol=1e-9)


ROUNDED_UP = [
    (1.0, 0.0),
    (1.0, 0.107),
    (2.2250738585072014e-308, 0.984375),
    (-1.0, 0.161903986760795),
    (-2.561209710797464e-217, 0.087890625),
]
"""Logits so close that the line between two of them ends above the second one."""
pairs = st.lists(st.tuples(st.floats(-40, 40), st.floats(0, 1)), min_size=1, max_size=12)


@settings(max_examples=50)
@given(pairs=pairs)
@example(pairs=ROUNDED_UP)
def test_the_order_stays_and_scores_are_probabilities(pairs):
    logits, targets = np.array(pairs).T
    places = np.sort(np.concatenate([logits, [-50.0, 0.0, 50.0]]))
    for fit in (fit_platt, fit_temperature, fit_isotonic):
        mapped = fit(logits, targets)(places)
        assert np.isfinite(mapped).all()
        assert (np.diff(mapped) >= 0).all()
        if fit is not fit_isotonic:
            assert (np.diff(mapped)[np.diff(places) > 1e-6] > 0).all()


@settings(max_examples=50)
@given(pairs=pairs)
def test_isotonic_means_are_those_of_the_targets(pairs):
    logits, targets = np.array(pairs).T
    mapped = scores_of(fit_isotonic(logits, targets)(logits))
    assert mapped.mean() == pytest.approx(targets.mean(), abs=2e-6)


def test_scores_against_the_overlap_keep_their_order():
    logits = np.linspace(-4, 4, 50)
    found = fit_platt(logits, scores_of(-logits))
    assert found.slope == LEAST_SLOPE
    assert scores_of(found(logits)).mean() == pytest.approx(0.5, abs=1e-6)
    assert fit_temperature(logits, scores_of(-logits)).slope == LEAST_SLOPE


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_targets_that_are_all_the_same_have_a_finite_fit(target):
    logits = np.linspace(-2, 2, 20)
    found = fit_platt(logits, np.full(20, target))
    np.testing.assert_allclose(scores_of(found(logits)), target, atol=1e-4)
    np.testing.assert_allclose(scores_of(fit_isotonic(logits, np.full(20, target))(logits)), target, atol=2e-6)


def test_one_logit_for_all_gets_the_mean():
    found = fit_platt(np.full(4, -2.0), np.array([0.0, 0.4, 0.8, 0.8]))
    assert scores_of(found(np.array([-2.0])))[0] == pytest.approx(0.5)
    assert found.slope == 1


@pytest.mark.parametrize(
    ("logits", "targets", "words"),
    [
        ([0.0], [0.5, 0.5], "shapes"),
        ([], [], "at least one"),
        ([np.inf], [0.5], "finite"),
        ([0.0], [1.5], "reach from 1.5"),
        ([0.0], [np.nan], "targets"),
    ],
)
@pytest.mark.parametrize("fit", [fit_platt, fit_temperature, fit_isotonic])
def test_wrong_input_is_named(fit, logits, targets, words):
    with pytest.raises(ValueError, match=words):
        fit(np.array(logits), np.array(targets))


@given(scores=st.lists(st.floats(0, 1), min_size=1))
def test_logits_and_scores_are_inverse(scores):
    scores = np.array(scores)
    logits = logits_of(scores)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(scores_of(logits), scores, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("count", [1, 7, 30, 1000])
@pytest.mark.parametrize("logit", [-2.1972245773362196, 0.1, 30.0])
def test_equal_logits_get_the_mean_of_their_targets(count: int, logit: float):
    """The spread of equal numbers is not 0, but rounding."""
    fitted = fit_platt(np.full(count, logit), np.full(count, 0.8))
    assert fitted.slope == 1
    assert scores_of(fitted(np.array([logit]))) == pytest.approx([0.8])
