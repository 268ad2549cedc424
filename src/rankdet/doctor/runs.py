"""The extents of masks given as run lengths, many at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as codec

from rankdet.data.rle import MalformedMaskError, compressed, pixel_counts

_A_CALL = 60  # pycocotools counts the boxes of one call in 8 bits under numpy 2


def run_bounds(
    segmentations: Sequence[Mapping[str, Any]], sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(M, 4) x1, y1, x2, y2 around each mask, (M,) whether it is well-formed, (M,) whether it has its image's size.

    Args:
        segmentations: dicts with 'size' and 'counts', as far as anyone knows.
        sizes: (M, 2) height and width of the image of each; infinite where unknown.

    NaN where malformed, or without a pixel.

    >>> masks = [{"size": [4, 4], "counts": "031O1O5"}, {"size": [4, 4], "counts": "!"}]
    >>> bounds, sound, fitting = run_bounds(masks, np.full((2, 2), 4.0))
    >>> bounds[0].tolist(), sound.tolist(), fitting.tolist()
    ([0.0, 0.0, 3.0, 3.0], [True, False], [True, True])
    """
    texts, own_sizes = _compressed(segmentations)
    sound = np.array([text is not None for text in texts], dtype=bool)
    rows = np.flatnonzero(sound)
    malformed = _malformed([texts[row] or "" for row in rows], own_sizes[rows])
    sound[rows[malformed]] = False
    rows = np.delete(rows, malformed)
    bounds = np.full((len(texts), 4), np.nan)
    bounds[rows] = _boxes([{"size": own_sizes[row].tolist(), "counts": texts[row]} for row in rows])
    fitting = ~sound | np.isinf(sizes).any(1) | (own_sizes == sizes).all(1)
    return bounds, sound, fitting


def _compressed(segmentations: Sequence[Mapping[str, Any]]) -> tuple[list[str | None], np.ndarray]:
    """Compressed run lengths, None for what is none, and sizes (M, 2)."""
    texts: list[str | None] = []
    sizes = np.zeros((len(segmentations), 2), dtype=np.int64)
    for row, segmentation in enumerate(segmentations):
        try:
            text, sizes[row] = compressed(segmentation, 0, 0)
            texts.append(text)
        except (ValueError, OverflowError):
            texts.append(None)
    return texts, sizes


def _malformed(texts: Sequence[str], sizes: np.ndarray) -> list[int]:
    """The places of the strings that do not decode, or do not fill their size."""
    places, start = [], 0
    while start < len(texts):
        try:
            pixel_counts(texts[start:], sizes[start:])
            break
        except MalformedMaskError as error:
            places.append(start + error.place)
            start = places[-1] + 1
    return places


def _boxes(masks: list[dict[str, Any]]) -> np.ndarray:
    """(M, 4) corners; NaN for masks without a pixel."""
    parts = [codec.toBbox(masks[start : start + _A_CALL]) for start in range(0, len(masks), _A_CALL)]
    xywh = np.concatenate([np.zeros((0, 4)), *parts])
    corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    return np.where((xywh[:, 2:] > 0).all(1, keepdims=True), corners, np.nan)
