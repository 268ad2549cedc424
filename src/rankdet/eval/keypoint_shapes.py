"""Keypoints as shapes, whose overlap is the object keypoint similarity (OKS) of COCO.

    OKS = mean over the labelled keypoints of exp(-d^2 / (2 s^2 (2 sigma)^2))

with the distance d of a keypoint, the area s^2 that the annotation states, and a sigma for each kind of keypoint, which
says how far people differ when they label it. Where no keypoint of an object is labelled, the distances are those from
its box, enlarged threefold, over all keypoints. The arithmetic is that of pycocotools.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rankdet.eval.columns import Columns
from rankdet.eval.shapes import Bools, Floats, Ints

_PAIRS_AT_ONCE = 50_000


@dataclass(frozen=True)
class Keypoints:
    """M shapes of K keypoints each.

    ``xy`` (M, K, 2) are their places, ``labelled`` (M, K) whether an annotation has them. ``xywh`` (M, 4) are boxes,
    ``areas`` (M,) what the annotations state, or the areas of the boxes of detections, which hold all keypoints.
    ``sigmas`` (K,) are those of the keypoints.
    """

    xy: Floats
    labelled: Bools
    xywh: Floats
    areas: Floats
    sigmas: Floats

    def __len__(self) -> int:
        return len(self.xy)

    def take(self, places: Ints) -> Keypoints:
        """The shapes at these places, in that order."""
        return replace(
            self,
            xy=self.xy[places],
            labelled=self.labelled[places],
            xywh=self.xywh[places],
            areas=self.areas[places],
        )

    def boxes(self, places: Ints) -> Floats:
        """(len(places), 4) the boxes, xywh."""
        return self.xywh[places]

    def overlaps(self, places: Ints, others: Keypoints, other_places: Ints, crowd: Bools, at_least: float) -> Floats:
        """(P,) OKS of pairs, as in `Shapes`; crowds make no difference."""
        del crowd, at_least
        starts = range(0, len(places), _PAIRS_AT_ONCE)
        slices = [slice(start, start + _PAIRS_AT_ONCE) for start in starts]
        parts = [self._similarity(places[part], others, other_places[part]) for part in slices]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _similarity(self, places: Ints, others: Keypoints, other_places: Ints) -> Floats:
        labelled = others.labelled[other_places]
        unlabelled = np.logical_not(labelled.any(axis=1))
        away = self.xy[places] - others.xy[other_places]
        away[unlabelled] = _beyond(self.xy[places[unlabelled]], others.xywh[other_places[unlabelled]])
        spread = (others.sigmas * 2) ** 2
        area = others.areas[other_places, None] + np.spacing(1)
        error = (away[..., 0] ** 2 + away[..., 1] ** 2) / spread / area / 2
        counted = labelled | unlabelled[:, None]
        return np.where(counted, np.exp(-error), 0.0).sum(axis=1) / counted.sum(axis=1)


def detected_keypoints(columns: Columns, truth: Keypoints) -> Keypoints:
    """The keypoints of results, as many as those of the ground truth."""
    table = keypoint_table(columns, len(truth.sigmas))
    xy = table[..., :2]
    low = xy.min(axis=1, initial=np.inf)
    sides = xy.max(axis=1, initial=-np.inf) - low
    return Keypoints(
        xy=xy,
        labelled=np.ones(xy.shape[:2], np.bool_),
        xywh=np.concatenate([low, sides], axis=1),
        areas=sides[:, 0] * sides[:, 1],
        sigmas=truth.sigmas,
    )


def keypoint_table(columns: Columns, count: int) -> Floats:
    """(M, K, 3) x, y and visibility of ``count`` keypoints K."""
    values = columns.values("keypoints")
    for place, value in enumerate(values):
        if not isinstance(value, list | tuple | np.ndarray) or len(value) != 3 * count:
            found = f"{len(value)} numbers" if isinstance(value, list | tuple) else repr(value)[:60]
            columns.fail(place, f"'keypoints' has {found}; accepted are x, y and visibility of {count} keypoints")
    table = _numbers(values, columns).reshape(-1, count, 3)
    if not np.isfinite(table).all():
        columns.fail(int(np.argmin(np.isfinite(table).all(axis=(1, 2)))), "'keypoints' has what is no finite number")
    return table


def _numbers(values: list[Any], columns: Columns) -> Floats:
    try:
        return np.array(values, np.float64)
    except (TypeError, ValueError):
        wrong = [place for place, value in enumerate(values) if not all(isinstance(x, int | float) for x in value)]
        columns.fail(wrong[0], "'keypoints' has what is no number")


def _beyond(xy: Floats, boxes: Floats) -> Floats:
    """(M, K, 2) how far points lie outside of boxes (M, 4) that are enlarged threefold about their middle."""
    low, high = boxes[:, :2] - boxes[:, 2:], boxes[:, :2] + boxes[:, 2:] * 2
    return np.maximum(0, low[:, None] - xy) + np.maximum(0, xy - high[:, None])
