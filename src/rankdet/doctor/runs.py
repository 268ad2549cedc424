"""The extents of masks given as run lengths, many at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as codec

from rankdet.data.rle import MalformedMaskError, compressed, pixel_counts
from rankdet.data.segmentation import RunLengths

_AT_ONCE = 500  # masks decoded at once, so that a wrong one has only few of them decoded again
_A_CALL = 60  # pycocotools counts the boxes of one call in 8 bits under numpy 2


def run_bounds(masks: Sequence[Any], sizes: np.ndarray) -> tuple[np.ndarray, dict[int, str], np.ndarray]:
    """(M, 4) x1, y1, x2, y2 around each mask, what is wrong with some by place, (M,) whether it has its image's size.

    Args:
        masks: run lengths in COCO's form.
        sizes: (M, 2) height and width of the image of each; infinite where unknown.

    NaN where malformed, or without a pixel.

    >>> masks = [{"size": [4, 4], "counts": "031O1O5"}, {"size": [4, 4], "counts": "!"}]
    >>> bounds, wrong, fitting = run_bounds(masks, np.full((2, 2), 4.0))
    >>> bounds[0].tolist(), wrong, fitting.tolist()
    ([0.0, 0.0, 3.0, 3.0], {1: "'!' is no character of compressed run lengths"}, [True, True])
    """
    texts, own_sizes, wrong = _decodable(masks)
    bounds = np.full((len(masks), 4), np.nan)
    rows = [row for row in range(len(masks)) if row not in wrong]
    bounds[rows] = _boxes([{"size": own_sizes[row].tolist(), "counts": texts[row]} for row in rows])
    fitting = np.isinf(sizes).any(1) | (own_sizes == sizes).all(1)
    fitting[list(wrong)] = True
    return bounds, wrong, fitting


def _decodable(masks: Sequence[Any]) -> tuple[list[str], np.ndarray, dict[int, str]]:
    """Compressed run lengths and sizes (M, 2), and what is wrong with those that are none, by place."""
    texts, sizes, wrong = [""] * len(masks), np.zeros((len(masks), 2), dtype=np.int64), {}
    for row, mask in enumerate(masks):
        try:
            texts[row], sizes[row] = compressed(mask.as_dict() if isinstance(mask, RunLengths) else mask, 0, 0)
        except (ValueError, OverflowError) as error:
            wrong[row] = str(error)
    rows = [row for row in range(len(masks)) if row not in wrong]
    for start in range(0, len(rows), _AT_ONCE):
        wrong |= _undecodable(texts, sizes, rows[start : start + _AT_ONCE])
    return texts, sizes, wrong


def _undecodable(texts: Sequence[str], sizes: np.ndarray, rows: Sequence[int]) -> dict[int, str]:
    """What is wrong with those of some rows that do not decode, or do not fill their size."""
    wrong: dict[int, str] = {}
    while len(rows):
        try:
            pixel_counts([texts[row] for row in rows], sizes[rows])
            break
        except MalformedMaskError as error:
            wrong[rows[error.place]] = str(error)
            rows = rows[error.place + 1 :]
    return wrong


def _boxes(masks: list[dict[str, Any]]) -> np.ndarray:
    """(M, 4) corners; NaN for masks without a pixel."""
    parts = [codec.toBbox(masks[start : start + _A_CALL]) for start in range(0, len(masks), _A_CALL)]
    xywh = np.concatenate([np.zeros((0, 4)), *parts])
    corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    return np.where((xywh[:, 2:] > 0).all(1, keepdims=True), corners, np.nan)
