"""Numbers as JSON has them: rounded, and null for what is not defined."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rankdet.eval.shapes import Floats


def rounded(values: Floats | Iterable[float], digits: int) -> list[float | None]:
    """Rounded numbers; None for NaN.

    >>> rounded([0.12345, float("nan"), 1.0], 3)
    [0.123, None, 1.0]
    """
    return [None if math.isnan(value) else round(value, digits) for value in map(float, values)]


def defined(value: float, digits: int = 9) -> float | None:
    """A number of an evaluation; None where it is undefined.

    The page shows three digits: rounding to four before would make 0.881 of 0.88153, and other tables say 0.882.

    >>> defined(float("nan")), defined(0.12345678949)
    (None, 0.123456789)
    """
    return None if math.isnan(value) else round(float(value), digits)
