"""Learning curves: paired gains, their intervals, and what is said about them."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from rankdet.eval.learning_curve import LearningCurve, TrainedOn


def curve(steps: dict[int, list[float]]) -> LearningCurve:
    """One training for each number of images and seed, with these APs; oLRP is 1 - AP."""
    return LearningCurve([TrainedOn(n, seed, ap, 1 - ap) for n, own in steps.items() for seed, ap in enumerate(own)])


def test_gains_are_paired_by_seed():
    stats = pytest.importorskip("scipy.stats")
    before, after = np.array([0.30, 0.35, 0.28, 0.40]), np.array([0.33, 0.37, 0.32, 0.42])
    [gain] = curve({10: before.tolist(), 20: after.tolist()}).gains
    expected = stats.ttest_rel(after, before).confidence_interval(0.95)
    assert (gain.images_before, gain.images) == (10, 20)
    assert (gain.AP.low, gain.AP.high) == pytest.approx(tuple(expected), abs=1e-4)
    assert (gain.oLRP.low, gain.oLRP.high) == pytest.approx((-gain.AP.high, -gain.AP.low))


def test_seeds_that_only_one_size_has_do_not_count():
    [gain] = LearningCurve([TrainedOn(*each, 0.5) for each in ((10, 0, 0.2), (20, 0, 0.3), (20, 1, 0.9))]).gains
    assert (gain.AP.other, gain.AP.this) == (0.2, 0.3)
    assert math.isnan(gain.AP.low)


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ([0.50, 0.51, 0.52], "AP +0.100 from 10 to 20 images (95 % interval +0.100 to +0.100): more images still help"),
        ([0.401, 0.411, 0.421], "oLRP -0.001 from 10 to 20 images (95 % interval -0.001 to -0.001): more images still"),
        (
            [0.402, 0.408, 0.422],
            "AP +0.001 from 10 to 20 images (95 % interval -0.005 to +0.006): more images hardly h",
        ),
        ([0.39, 0.41, 0.47], "to +0.093): more seeds are needed to say whether more images help"),
        ([0.45], "AP +0.050 from 10 to 20 images; several seeds would tell how certain that is"),
        ([math.nan], "AP is undefined: the validation images have no objects"),
    ],
)
def test_the_verdict_is_about_the_last_step(last: list[float], said: str):
    assert said in curve({5: [0.1], 10: [0.40, 0.41, 0.42][: len(last)], 20: last}).verdict()


def test_a_curve_is_plain_data_a_table_and_a_picture(tmp_path: Path):
    found = curve({10: [0.4, 0.5], 20: [0.45, math.nan]})
    content = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert content["trainings"][0] == {"images": 10, "seed": 0, "AP": 0.4, "oLRP": 0.6}
    assert content["gains"][0]["AP"] == {"before": 0.45, "after": None, "gain": None, "low": None, "high": None}
    assert found.table().row_count == 2
    found.draw(tmp_path / "study.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["study.svg"]
    assert "<svg" in (tmp_path / "study.svg").read_text()


def test_what_is_no_curve():
    for trainings in ([], [TrainedOn(*each, 0.5, 0.5) for each in product([10], [0, 0])]):
        with pytest.raises(ValueError, match="one training for each number of images and seed"):
            LearningCurve(trainings)
