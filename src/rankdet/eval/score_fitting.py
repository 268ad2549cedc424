"""Fits a mapping of scores to what detections are worth: temperature, Platt scaling, isotonic regression.

As in Kuzucu et al., "On Calibration of Object Detectors" (ECCV 2024), the target of a detection is its IoU with the
object that it found, 0 of a false one. Platt scaling and temperature minimise the mean cross entropy with these soft
targets, which is convex, here by Newton's method; isotonic regression minimises the mean square by pooling adjacent
violators. The oracles of the tests are scipy's optimiser and scikit-learn.
"""

from __future__ import annotations

import numpy as np

from rankdet.eval.score_mapping import Affine, Table, logits_of, scores_of
from rankdet.eval.shapes import Floats, Ints

LEAST_SLOPE = 0.01
"""Of a class whose scores say nothing of the overlap, or the opposite: its order stays."""
_STEPS, _HALVINGS, _FLAT, _ALIKE = 100, 30, 1e-11, 1e-9
_FARTHEST = 36.04
"""Logits are cut here before a fit, as a score of 2.2e-16 is in the paper."""


def fit_temperature(logits: Floats, targets: Floats) -> Affine:
    """Temperature scaling: a slope alone (Guo et al., ICML 2017), from logits (D,) and targets (D,) in [0, 1].

    >>> fit_temperature(np.array([-2.0, 2.0]), np.array([0.2, 0.8])).slope.__round__(3)
    0.693
    """
    x, t = _checked(logits, targets)
    size = float(np.sqrt(np.square(x).mean())) or 1.0
    return Affine(max(float(_logistic((x / size)[:, None], t)[0]) / size, LEAST_SLOPE))


def fit_platt(logits: Floats, targets: Floats) -> Affine:
    """Platt scaling: a slope of at least `LEAST_SLOPE`, and a bias, from logits (D,) and targets (D,) in [0, 1].

    >>> fitted = fit_platt(np.array([-3.0, -1.0]), np.array([0.2, 0.8]))
    >>> scores_of(fitted(np.array([-3.0, -1.0]))).round(3)
    array([0.2, 0.8])
    """
    x, t = _checked(logits, targets)
    centre, spread = float(x.mean()), float(x.std())
    ones = np.ones((len(x), 1))
    if np.ptp(x) < _ALIKE:  # nothing tells them apart; their spread may be rounding
        return Affine(1.0, float(np.clip(logits_of(t.mean()), -_FARTHEST, _FARTHEST)) - centre)
    slope, level = _logistic(np.column_stack(((x - centre) / spread, ones)), t) / (spread, 1.0)
    if slope < LEAST_SLOPE:
        return Affine(LEAST_SLOPE, float(_logistic(ones, t, offset=LEAST_SLOPE * x)[0]))
    return Affine(float(slope), float(level - slope * centre))


def fit_isotonic(logits: Floats, targets: Floats) -> Table:
    """Isotonic regression of targets (D,) in [0, 1] on logits (D,), straight lines between its steps.

    >>> fit_isotonic(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 0.8, 0.4, 0.9]))
    Table(logits=(1.0, 2.0, 3.0, 4.0), scores=(0.0, 0.6000000000000001, 0.6000000000000001, 0.9))
    """
    _check(logits, targets)
    x, place, counts = np.unique(logits, return_inverse=True, return_counts=True)
    starts, means = _pooled(np.bincount(place, targets) / counts, counts)
    ends = [start - 1 for start in [*starts[1:], len(x)]]
    points = {at: mean for start, end, mean in zip(starts, ends, means, strict=True) for at in (start, end)}
    scores = np.maximum.accumulate(np.clip(list(points.values()), 0.0, 1.0))  # rounding may let them fall
    return Table(tuple(x[list(points)].tolist()), tuple(scores.tolist()))


def _pooled(values: Floats, weights: Ints) -> tuple[list[int], list[float]]:
    """Where the blocks of equal value of the closest sequence that never falls begin, and these values."""
    starts: list[int] = []
    sums: list[float] = []
    totals: list[float] = []
    for place, (value, weight) in enumerate(zip(values.tolist(), weights.tolist(), strict=True)):
        start, total, mass = place, value * weight, weight
        while sums and sums[-1] * mass >= total * totals[-1]:
            start, total, mass = starts.pop(), total + sums.pop(), mass + totals.pop()
        starts.append(start)
        sums.append(total)
        totals.append(mass)
    return starts, [total / mass for total, mass in zip(sums, totals, strict=True)]


def _logistic(design: Floats, targets: Floats, offset: Floats | float = 0.0) -> Floats:
    """(P,) what minimises the mean cross entropy of sigmoid(design (D, P) @ it + offset) and the targets."""
    found = np.zeros(design.shape[1])
    loss = _cross_entropy(design @ found + offset, targets)
    for _ in range(_STEPS):
        scores = scores_of(design @ found + offset)
        gradient = design.T @ (scores - targets) / len(targets)
        if np.abs(gradient).max() < _FLAT:
            break
        curvature = (design * (scores * (1 - scores))[:, None]).T @ design / len(targets)
        step = np.linalg.solve(curvature + 1e-13 * np.eye(len(found)), gradient)
        for halving in range(_HALVINGS):
            tried = found - step / 2**halving
            better = _cross_entropy(design @ tried + offset, targets)
            if better < loss:
                break
        else:
            break
        found, loss = tried, better
    return found


def _cross_entropy(logits: Floats, targets: Floats) -> float:
    return float((np.logaddexp(0.0, logits) - targets * logits).mean())


def _checked(logits: Floats, targets: Floats) -> tuple[Floats, Floats]:
    _check(logits, targets)
    return np.clip(logits, -_FARTHEST, _FARTHEST), targets


def _check(logits: Floats, targets: Floats) -> None:
    if logits.ndim != 1 or logits.shape != targets.shape or not len(logits):
        raise ValueError(
            f"logits and targets are (D,), one for each of at least one detection; got shapes {logits.shape} and "
            f"{targets.shape}"
        )
    if not np.isfinite(logits).all():
        raise ValueError("logits must be finite")
    if not ((targets >= 0) & (targets <= 1)).all():
        raise ValueError(f"targets must lie in [0, 1]; they reach from {targets.min()} to {targets.max()}")
