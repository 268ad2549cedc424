"""Whether another way of reading results explains the objects better, which is what suspicions rest on.

Looked at are up to 200 images with objects, and of the detections in each the surest, as many as it has objects: among
a hundred boxes an image, chance alone finds many of the objects.

G objects of these images, D detections in all, S of them looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from rankdet.eval.instances import Detections, GroundTruth
from rankdet.eval.overlaps import pairs_in_reach
from rankdet.eval.results_file import ResultsWarning
from rankdet.eval.shapes import Boxes, Floats, Ints

Transform = Callable[[Floats, Floats], Floats]
"""Boxes (S, 4) xywh from boxes as they were read, and the heights and widths (S, 2) of their images."""

FEW = 3
_IMAGES, _IOU = 200, 0.5
_SURE_IOU = 0.75


def as_read(boxes: Floats, sizes: Floats) -> Floats:
    """The boxes themselves."""
    del sizes
    return boxes


@dataclass(frozen=True)
class Reading:
    """A way to read the detections: the places of their images and categories (D,), and their boxes."""

    images: Ints
    categories: Ints
    transform: Transform = as_read

    @property
    def is_complete(self) -> bool:
        """Whether all images and categories are known."""
        return bool(min(self.images.min(), self.categories.min()) >= 0)


@dataclass(frozen=True)
class Way:
    """What results may be, the conversion that would mend it or "", and how to read them then."""

    suspicion: str
    convert: str
    reading: Reading


@dataclass(frozen=True)
class Better:
    """A reading that explains the objects far better than the given one, and the warning of it."""

    warning: ResultsWarning
    reading: Reading


class Sample:
    """The objects that are looked at, as boxes, and the detections to compare them with."""

    def __init__(self, truth: GroundTruth, detections: Detections) -> None:
        counts = np.bincount(truth.images[~truth.ignored], minlength=len(truth.image_ids))
        there = np.flatnonzero(counts)
        chosen = there[np.linspace(0, len(there) - 1, min(len(there), _IMAGES)).astype(int)]
        self.most = np.zeros_like(counts)
        self.most[chosen] = counts[chosen]
        objects = truth.take((self.most[truth.images] > 0) & ~truth.ignored)
        self.objects = replace(objects, shapes=Boxes(objects.shapes.boxes(np.arange(len(objects)))))
        self.truth, self.detections = truth, detections

    def found(self, reading: Reading, *, by_category: bool = False) -> Floats:
        """(G,) the highest IoU of each object with a detection, of its category or of any; 0 below 0.5."""
        _, objects, overlaps = self.pairs(reading, by_category=by_category)
        best = np.zeros(len(self.objects))
        np.maximum.at(best, objects, overlaps)
        return best

    def pairs(self, reading: Reading, *, by_category: bool) -> tuple[Ints, Ints, Floats]:
        """Category of the detection, object, and IoU of each pair that is near enough."""
        chosen = self._surest(reading.images)
        images, categories = reading.images[chosen], reading.categories[chosen]
        boxes = self.detections.shapes.boxes(chosen).astype(np.float64)
        detection, objects, overlaps = pairs_in_reach(
            Detections(
                images=images,
                categories=categories,
                shapes=Boxes(reading.transform(boxes, self.truth.image_sizes[images].astype(np.float64))),
                scores=self.detections.scores[chosen],
            ),
            images * self.truth.num_categories + categories * by_category,
            self.objects,
            self.objects.images * self.truth.num_categories + self.objects.categories * by_category,
            order=np.arange(len(chosen)),
            at_least=_IOU,
        )
        return categories[detection], objects, overlaps

    def best(self, ways: Iterable[Way], given: Floats, *, by_category: bool, fewest: int) -> Better | None:
        """The way that finds most objects, if that is far better than what is ``given``."""
        found = [(way, self.found(way.reading, by_category=by_category)) for way in ways if way.reading.is_complete]
        way, better = max(found, key=lambda pair: np.count_nonzero(pair[1]), default=(None, given))
        if way is None or not _explains(better, given, fewest=fewest):
            return None
        counts = f"{np.count_nonzero(better)} of {len(given)} objects instead of {np.count_nonzero(given)}"
        evidence = f"read like that, the most confident detections find {counts}."
        return Better(ResultsWarning(f"{way.suspicion}: {evidence}", way.convert), way.reading)

    def _surest(self, images: Ints) -> Ints:
        """Places of the surest detections of each image."""
        inside = np.flatnonzero(self.most[images])
        order = inside[np.lexsort((-self.detections.rank_values[inside], images[inside]))]
        ranks = np.arange(len(order)) - np.searchsorted(images[order], images[order])
        return order[ranks < self.most[images[order]]]


def _explains(better: Floats, given: Floats, *, fewest: int) -> bool:
    """Whether finding the ``better`` objects instead of the ``given`` ones is more than chance."""
    hits, before = int(np.count_nonzero(better)), int(np.count_nonzero(given))
    gained, lost = np.count_nonzero((better > 0) & (given == 0)), np.count_nonzero((given > 0) & (better == 0))
    if hits < FEW:
        return fewest <= hits == len(better) and not before and float(better.min()) >= _SURE_IOU
    return hits >= max(fewest, len(better) / 4, 2 * before) and bool(gained >= 4 * lost)


def are_right(given: Floats) -> bool:
    """Whether so many objects are found that no other reading can find twice as many."""
    return 2 * int(np.count_nonzero(given)) > len(given)
