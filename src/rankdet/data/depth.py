"""Pixels of more than eight bits as pixels of eight.

Cameras store 10, 12 or 14 bits in files of 16, and programs eight in files of 32; no file format says so reliably. The
values do: white is taken to be the largest value of the fewest bits that hold all values of the image.
"""

from __future__ import annotations

import numpy as np

_BITS = (8, 10, 12, 14, 16)
_UNIT_UP_TO = 2.0
"""Floating point values are meant to end at 1 up to here: resampling goes beyond it, and 2 of 255 is black."""


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Whole or floating point values of one image, of any shape, as uint8.

    - Values from 0 on are those of 8, 10, 12, 14 or 16 bits, the fewest that hold the largest of them; the upper eight
      bits are kept. So values in 0..255 stay as they are.
    - Floating point values in 0..1 are multiplied by 255.
    - Of others (below 0, above 65535) the least becomes 0 and the largest 255.
    - What is not finite becomes 0.

    >>> to_bytes(np.array([0, 17, 255])), to_bytes(np.array([0, 1023])), to_bytes(np.array([0.0, 0.5, 1.0, np.nan]))
    (array([  0,  17, 255], dtype=uint8), array([  0, 255], dtype=uint8), array([  0, 128, 255,   0], dtype=uint8))
    """
    if not values.size:
        return values.astype(np.uint8)
    is_real = values.dtype.kind == "f"
    if is_real:
        values = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    least, most = values.min(), values.max()
    if is_real and least >= 0 and most <= _UNIT_UP_TO:
        return np.round(values.clip(max=1) * 255).astype(np.uint8)
    bits = next((bits for bits in _BITS if most < 2**bits), None)
    if least < 0 or bits is None:
        return _stretched(values, float(least), float(most))
    return (values // 2 ** (bits - _BITS[0])).astype(np.uint8)


def _stretched(values: np.ndarray, least: float, most: float) -> np.ndarray:
    scale = 255 / (most - least) if most > least else 0.0
    return np.round((values - np.float64(least)) * scale).clip(0, 255).astype(np.uint8)
