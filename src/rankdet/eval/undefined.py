"""What there is nothing to average or to divide for: without an object there is no AP. It is NaN, and null in JSON.

So it spreads through sums, loses every comparison, and cannot be taken for a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from rankdet.eval.shapes import Floats

UNDEFINED = math.nan
_UNDEFINED_BEFORE = -1.0
"""What files of earlier versions have for it."""


def mean_of_defined(values: Floats) -> float:
    """The mean of the values that are defined; UNDEFINED if none is.

    >>> mean_of_defined(np.array([0.25, np.nan, 0.75]))
    0.5
    """
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else UNDEFINED


def same_if_undefined(value: float) -> float:
    """The value, or UNDEFINED for any NaN: being one object, it makes evaluations equal that are undefined alike."""
    return UNDEFINED if math.isnan(value) else value


def as_text(value: float, digits: int = 3) -> str:
    """A number for people, with a dash for what is undefined.

    >>> as_text(0.25), as_text(UNDEFINED), as_text(0.25, 4)
    ('0.250', '–', '0.2500')
    """
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def numbers_as_json(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with null for what is undefined; JSON has no NaN.

    >>> numbers_as_json({"name": "cat", "AP": UNDEFINED})
    {'name': 'cat', 'AP': None}
    """
    return {name: None if value != value else value for name, value in content.items()}


def numbers_of_json(content: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse; files of earlier versions have -1.0 for null."""
    return {
        name: UNDEFINED if value is None or (isinstance(value, float) and value == _UNDEFINED_BEFORE) else value
        for name, value in content.items()
    }
