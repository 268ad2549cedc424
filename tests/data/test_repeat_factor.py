from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rankdet.data import EachOnce, KeepSize, RepeatFactor, RepeatRare, RoundAtRandom, RoundUp, Shapes, Shuffled
from rankdet.data.module import DetectionData
from rankdet.data.repeat_factor import repeat_factors, repeat_factors_of

LABELS = st.lists(st.lists(st.integers(0, 6), max_size=5), min_size=1, max_size=40)
FACTORS = st.lists(st.floats(1, 5), min_size=1, max_size=30)


def factors_by_the_paper(labels: list[list[int]], threshold: float) -> list[float]:
    """The definition, class by class and image by image."""
    of_class = {}
    for label in {label for own in labels for label in own}:
        fraction = sum(label in own for own in labels) / len(labels)
        of_class[label] = max(1.0, math.sqrt(threshold / fraction))
    return [max([1.0, *(of_class[label] for label in own)]) for own in labels]


@given(LABELS, st.floats(0, 1))
def test_factors_are_those_of_the_paper(labels, threshold):
    found = repeat_factors([np.array(own, np.int64) for own in labels], num_classes=7, threshold=threshold)
    np.testing.assert_allclose(found, factors_by_the_paper(labels, threshold), rtol=1e-12)


def test_the_example_of_a_thousand_images():
    """f = 1/1000, t = 1/100: sqrt(10); a class in every image is not repeated."""
    labels = [np.array([0])] * 999 + [np.array([0, 1])]
    found = repeat_factors(labels, num_classes=2, threshold=0.01)
    assert found[:999].tolist() == [1.0] * 999
    assert found[999] == pytest.approx(math.sqrt(10))


@given(FACTORS, st.sampled_from([RoundUp(), RoundAtRandom()]), st.integers(0, 1000))
def test_epochs_are_equally_long_and_miss_no_image(factors, rounding, seed):
    order = RepeatFactor(factors, rounding=rounding)
    drawn = order.indices(torch.Generator().manual_seed(seed))
    counts = Counter(drawn.tolist())
    assert len(drawn) == len(order)
    assert all(counts[index] >= math.floor(factor) for index, factor in enumerate(factors))
    above = [counts[index] - math.ceil(factor) for index, factor in enumerate(factors)]
    assert sum(count > 0 for count in above) <= 1
    assert max(above) <= (0 if isinstance(rounding, RoundUp) else 1)


def test_rounding_up_is_that_of_the_published_experiments():
    order = RepeatFactor([1.0, 1.0001, 2.0, 3.16])
    assert sorted(order.indices(torch.Generator()).tolist()) == [0, 1, 1, 2, 2, 3, 3, 3, 3]


def test_rounding_at_random_is_right_on_average():
    factors = np.random.default_rng(0).uniform(1, 3, 50)
    order = RepeatFactor(factors, rounding=RoundAtRandom())
    counts = torch.zeros(50)
    for epoch in range(2000):
        counts += torch.bincount(order.indices(torch.Generator().manual_seed(epoch)), minlength=50)
    extra = (len(order) - factors.sum()) / 50
    # A count has a standard deviation of at most 1/2.
    np.testing.assert_allclose(counts / 2000, factors + extra, atol=4 * 0.5 / math.sqrt(2000))


def test_whole_factors_are_kept_whatever_the_rounding():
    for rounding in (RoundUp(), RoundAtRandom()):
        order = RepeatFactor([1, 3, 2], rounding=rounding)
        assert sorted(order.indices(torch.Generator().manual_seed(3)).tolist()) == [0, 1, 1, 1, 2, 2]


def test_the_order_is_shuffled_and_follows_from_the_seed():
    order = RepeatFactor([1.5] * 30, rounding=RoundAtRandom())
    first, again, other = (order.indices(torch.Generator().manual_seed(seed)).tolist() for seed in (0, 0, 1))
    assert first == again != other
    assert first != sorted(first)


@pytest.mark.parametrize("factors", [[], [0.5], [1.0, math.nan], [math.inf]])
def test_wrong_factors_are_refused(factors):
    with pytest.raises(ValueError, match="repeat factors must be"):
        RepeatFactor(factors)


@pytest.mark.parametrize("threshold", [-0.1, 1.5])
def test_wrong_thresholds_are_refused(threshold):
    with pytest.raises(ValueError, match="threshold is a fraction"):
        RepeatRare(threshold=threshold)
    with pytest.raises(ValueError, match="threshold is a fraction"):
        repeat_factors([np.array([0])], num_classes=1, threshold=threshold)


def test_rare_classes_come_more_often_in_a_training():
    train = Shapes(length=60, seed=0, image_size=32, num_classes=4, imbalance=200, objects=(1, 2))
    fractions = np.array([np.mean([label in train.labels(i) for i in range(60)]) for label in range(4)])
    rare = int(np.argmin(np.where(fractions > 0, fractions, 2)))
    shares = []
    for sampling in (None, RepeatRare(threshold=0.5)):
        data = DetectionData(
            train=train,
            val=Shapes(length=2, seed=1, image_size=32, num_classes=4),
            batch_size=4,
            workers=0,
            resize=KeepSize(),
            sampling=sampling,
        )
        loader = data.train_loader(seed=0)
        seen = [target["labels"].tolist() for _, targets in loader for target in targets]
        assert len(loader) == math.ceil(len(seen) / 4)
        shares.append(np.mean([rare in labels for labels in seen]))
    assert shares[1] > 1.5 * shares[0]
    expected = np.ceil(repeat_factors_of(train, threshold=0.5)).sum()
    assert len(seen) == expected


def test_without_a_choice_every_image_comes_once():
    order = EachOnce().order(Shapes(length=7, seed=0))
    assert isinstance(order, Shuffled)
    assert len(order) == 7
