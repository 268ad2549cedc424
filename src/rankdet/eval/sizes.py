"""Size classes of objects, by the area that annotations state."""

from __future__ import annotations

from collections.abc import Mapping

AreaRanges = Mapping[str, tuple[float, float]]
"""The lowest and the highest area, in square pixels, of each size class; both belong to it. The first is "all"."""
LARGEST = 1e10
COCO_AREA_RANGES: AreaRanges = {
    "all": (0.0, LARGEST),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, LARGEST),
}


def parse_sizes(text: str) -> AreaRanges:
    """Size classes from their names, each with the side in pixels of the square that it reaches up to.

    The last one has no bound, and needs no side.

    >>> parse_sizes("tiny:16,small:32,rest")
    {'all': (0.0, 10000000000.0), 'tiny': (0.0, 256.0), 'small': (256.0, 1024.0), 'rest': (1024.0, 10000000000.0)}

    Raises:
        ValueError: for a side that is no number above those before it, for no name or a name that is there already.
    """
    ranges, lowest = {"all": (0.0, LARGEST)}, 0.0
    *bounded, last = text.split(",")
    for part in bounded:
        name, _, side = part.partition(":")
        highest = _area(side, part)
        if highest <= lowest:
            raise ValueError(f"sizes must rise, but {part.strip()} is not above the one before it")
        _add(ranges, name, (lowest, highest))
        lowest = highest
    _add(ranges, last, (lowest, LARGEST))
    return ranges


def describe_sizes(area_ranges: AreaRanges) -> dict[str, str]:
    """What each size class is called in a table for people; not the first, which has them all.

    >>> describe_sizes(COCO_AREA_RANGES)["medium"]
    'Medium, 32² to 96² pixels'
    """
    return {name: f"{name.capitalize()}, {_between(*limits)}" for name, limits in list(area_ranges.items())[1:]}


def _between(low: float, high: float) -> str:
    if low <= 0:
        return f"below {high**0.5:g}² pixels"
    return f"above {low**0.5:g}² pixels" if high >= LARGEST else f"{low**0.5:g}² to {high**0.5:g}² pixels"


def _area(side: str, part: str) -> float:
    try:
        return float(side) ** 2
    except ValueError:
        raise ValueError(
            f"a size is its name and the side of a square, such as small:32, but one is {part.strip()!r}"
        ) from None


def _add(ranges: dict[str, tuple[float, float]], name: str, limits: tuple[float, float]) -> None:
    name = name.strip()
    if not name.isidentifier() or name in (*ranges, "r", "c", "f"):
        raise ValueError(f"the name of a size must be a word that no other has, got {name!r}")
    ranges[name] = limits
