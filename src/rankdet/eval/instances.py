"""Objects and detections as columns: what every metric of this floor works on.

G objects, D detections, N images, K categories; boxes here are ``xywh`` in pixels, as in COCO's files. `reading` fills
the columns from COCO's formats; anything else that fills them is evaluated by the same code.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from rankdet.eval.properties import Property
from rankdet.eval.shapes import Bools, ComparedShapes, Floats, Ints


def _no_keys() -> Ints:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class GroundTruth:
    """The objects of a dataset.

    ``image_ids`` (N,) and ``category_ids`` (K,) ascend strictly; ``images`` and ``categories`` (G,) index into them.
    ``image_sizes`` (N, 2) are heights and widths, 0 where unknown. ``shapes`` are G boxes or masks; ``areas`` (G,) are
    as the annotations state them. ``crowd`` (G,) marks regions that any number of detections may match and that count
    for nothing; ``uncounted`` (G,), or None, objects that count for nothing either but are matched once.
    ``not_exhaustive`` holds the keys ``image * K + category`` where not all objects are annotated, so that an unmatched
    detection counts for nothing (LVIS; empty in COCO). ``image_names`` are N file names, empty where unknown, or none
    at all. Each of the ``properties`` groups the objects, beside their sizes. ``source`` names the file in messages.
    """

    image_ids: Ints
    image_sizes: Ints
    category_ids: Ints
    category_names: tuple[str, ...]
    images: Ints
    categories: Ints
    shapes: ComparedShapes
    areas: Floats
    crowd: Bools
    annotation_ids: Ints
    not_exhaustive: Ints = field(default_factory=_no_keys)
    uncounted: Bools | None = None
    image_names: tuple[str, ...] = ()
    properties: tuple[Property, ...] = ()
    source: str = "ground truth"

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_categories(self) -> int:
        """K."""
        return len(self.category_ids)

    @property
    def ignored(self) -> Bools:
        """(G,) what counts for nothing."""
        return self.crowd if self.uncounted is None else self.crowd | self.uncounted

    def take(self, chosen: Ints | Bools) -> GroundTruth:
        """The same images with the chosen objects alone: by position, in that order, or where a (G,) mask is true."""
        places = _places(chosen)
        return replace(
            self,
            images=self.images[places],
            categories=self.categories[places],
            shapes=self.shapes.take(places),
            areas=self.areas[places],
            crowd=self.crowd[places],
            annotation_ids=self.annotation_ids[places],
            uncounted=None if self.uncounted is None else self.uncounted[places],
            properties=tuple(each.take(places) for each in self.properties),
        )


@dataclass(frozen=True)
class Detections:
    """What a detector found: D rows, with ``images`` and ``categories`` (D,) indexing as in `GroundTruth`.

    Detections are ordered by ``logits`` where there are any, else by ``scores``: logits do not saturate.
    """

    images: Ints
    categories: Ints
    shapes: ComparedShapes
    scores: Floats
    logits: Floats | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def rank_values(self) -> Floats:
        """(D,) the values that order the detections, highest first."""
        return self.scores if self.logits is None else self.logits

    def take(self, chosen: Ints | Bools) -> Detections:
        """The chosen detections: by position, in that order, or where a (D,) mask is true."""
        places = _places(chosen)
        return Detections(
            images=self.images[places],
            categories=self.categories[places],
            shapes=self.shapes.take(places),
            scores=self.scores[places],
            logits=None if self.logits is None else self.logits[places],
        )


def _places(chosen: Ints | Bools) -> Ints:
    return np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen.astype(np.int64, copy=False)
