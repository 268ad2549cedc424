"""Parts of the training images: which they are, and how long an epoch with them is."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from rankdet.data import DetectionData, KeepSize, PartOfImages, RepeatRare, Shapes
from rankdet.data.part import stratified_order

SHARES = (0.05, 0.125, 0.5, 1.0)
IMAGES = Shapes(length=80, seed=0, image_size=64, num_classes=4, imbalance=20, empty=0.2)


def labels_of(dataset) -> list[np.ndarray]:
    return [dataset.labels(index) for index in range(len(dataset))]


def test_parts_of_a_seed_lie_within_one_another():
    parts = [set(PartOfImages(share=share, seed=3).choose(IMAGES).image_ids) for share in SHARES]
    assert [len(part) for part in parts] == [4, 10, 40, 80]
    assert all(small < large for small, large in pairwise(parts))
    assert parts[2] != set(PartOfImages(share=0.5, seed=4).choose(IMAGES).image_ids)
    assert PartOfImages(share=1.0).choose(IMAGES).image_ids == IMAGES.image_ids
    assert len(PartOfImages(share=0.001).choose(IMAGES)) == 1


@pytest.mark.parametrize("seed", range(3))
def test_every_beginning_of_the_order_has_its_share_of_each_group(seed: int):
    labels = labels_of(IMAGES)
    images_of = [sum(label in own for own in labels) for label in range(4)]
    groups = [min(set(own.tolist()), key=lambda label: images_of[label], default=-1) for own in labels]
    order = stratified_order(labels, np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(80))
    for length in (10, 25, 40):
        for group in set(groups):
            expected = groups.count(group) * length / 80
            # A group is off by less than one, and so are the others, which decide how far a beginning reaches.
            assert abs(sum(groups[place] == group for place in order[:length]) - expected) < 2.5


@pytest.mark.parametrize("sampling", [None, RepeatRare(threshold=0.5)])
def test_an_epoch_is_as_long_as_one_with_all_images(sampling):
    def places(chosen) -> list[int]:
        data = DetectionData(train=IMAGES, val=IMAGES, batch_size=4, workers=0, resize=KeepSize(), sampling=chosen)
        drawn = [draw.place for batch in data.train_loader(seed=0).batch_sampler for draw in batch]
        assert set(drawn) == set(range(len(data.train)))
        return drawn

    everything, few = places(sampling), places(PartOfImages(share=0.125, sampling=sampling))
    short = places(PartOfImages(share=0.125, repeat=False, sampling=sampling))
    assert len(few) == 8 * len(short)
    if sampling is None:
        assert (len(everything), len(few)) == (80, 80)
        assert np.bincount(few).tolist() == [8] * 10


@pytest.mark.parametrize(("share", "seed", "message"), [(0.0, 0, "above 0"), (1.5, 0, "at most 1"), (0.5, -1, "negat")])
def test_parts_that_are_none(share: float, seed: int, message: str):
    with pytest.raises(ValueError, match=message):
        PartOfImages(share=share, seed=seed)
