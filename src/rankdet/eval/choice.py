"""COCO's greedy choice: each detection in its turn takes the best free object, for all IoU thresholds and area ranges.

What a detection takes at one threshold and in one area range has no bearing on the others, so the combinations of both
are the bits of one number, and one operation decides all of them. C detections, G objects, P pairs in reach, T IoU
thresholds, A areas.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rankdet.eval.shapes import Bools, Floats, Ints

NO_MATCH = -1
BITS = 64
Bits = NDArray[np.uint64]


def choose(
    of_detection: Ints,
    objects: Ints,
    overlaps: Floats,
    keys: Ints,
    precedence: Ints,
    ignored: Bools,
    crowd: Bools,
    thresholds: Floats,
) -> tuple[Ints, NDArray[np.int32], Ints]:
    """The detections with any match (C,), their pairs (C, T, A), and the order of the pairs, in which these are places.

    Pairs (P,) are a detection, an object and their overlap. Detections of equal ``keys`` choose one after the other,
    those of different ones have no object in common. The best object is a counted one (``ignored`` (G, A)), then that
    of highest overlap, then that of highest ``precedence`` (G,); objects of a ``crowd`` (G,) stay free.
    """
    reaching, of_candidate = np.unique(of_detection, return_inverse=True)
    order: Ints = np.lexsort((precedence[objects], overlaps, of_candidate))
    of_candidate, objects, overlaps = of_candidate[order], objects[order], overlaps[order]
    rounds = places_within_runs(keys[reaching])[of_candidate]
    falling = places_within_runs(of_candidate[::-1])[::-1]  # 0 for the best pair of each detection
    steps = _steps(rounds, falling)
    chosen = np.concatenate(
        [
            _taken(steps, of_candidate, objects, crowd, enough, counted)
            for enough, counted in _bits(overlaps, thresholds, ~ignored)
        ],
        axis=1,
    )[:, : len(thresholds) * ignored.shape[1]]
    pair = np.full((len(reaching), chosen.shape[1]), NO_MATCH, np.int32)
    place, column = np.nonzero(chosen)
    pair[of_candidate[place], column] = place
    matched = (pair != NO_MATCH).any(axis=1)
    return reaching[matched], pair[matched].reshape(-1, len(thresholds), ignored.shape[1]), order


def _steps(rounds: Ints, falling: Ints) -> list[list[Ints]]:
    """The places of the pairs of each round: those that are best, those that come second, ..."""
    order = np.lexsort((falling, rounds))
    changes = np.flatnonzero(np.diff(falling[order])) + 1  # a new round begins with the best again
    steps: list[list[Ints]] = []
    if not len(order):
        return steps
    for part in np.split(order, changes):
        if falling[part[0]] == 0:
            steps += [[piece] for piece in np.split(part, np.flatnonzero(np.diff(rounds[part])) + 1)]
        else:
            steps[-1].append(part)
    return steps


def _bits(overlaps: Floats, thresholds: Floats, counted: Bools) -> Iterator[tuple[Bits, Bits]]:
    """Where pairs overlap enough (P,) and objects count (G,), for as many combinations at a time as a number has bits.

    A combination of threshold t and area a has the number ``t * A + a``.
    """
    areas = counted.shape[1]
    for start in range(0, len(thresholds) * areas, BITS):
        enough, counts = np.zeros(len(overlaps), np.uint64), np.zeros(len(counted), np.uint64)
        for number in range(start, min(start + BITS, len(thresholds) * areas)):
            bit = np.uint64(1 << (number - start))
            enough |= (overlaps >= thresholds[number // areas]) * bit
            counts |= counted[:, number % areas] * bit
        yield enough, counts


def _taken(
    steps: list[list[Ints]], of_candidate: Ints, objects: Ints, crowd: Bools, enough: Bits, counted: Bits
) -> Bools:
    """(P, BITS) true where a pair is chosen."""
    free = np.full(len(crowd), ~np.uint64(0))
    wants = np.full(of_candidate[-1] + 1 if len(of_candidate) else 0, ~np.uint64(0))  # (C,) what is not matched yet
    chosen = np.zeros(len(objects), np.uint64)
    for of_round in steps:
        for kind in (counted, ~counted):
            for place in of_round:
                here, who = objects[place], of_candidate[place]
                takes = enough[place] & kind[here] & free[here] & wants[who]
                chosen[place] |= takes
                wants[who] &= ~takes
                free[here] &= np.where(crowd[here], ~np.uint64(0), ~takes)
    parts = chosen.astype("<u8").view(np.uint8).reshape(-1, 8)
    return np.unpackbits(parts, axis=1, count=BITS, bitorder="little").view(np.bool_)


def places_within_runs(*columns: Ints) -> Ints:
    """The place of each element in its run of elements that are equal in all columns.

    >>> places_within_runs(np.array([4, 4, 4, 7, 9, 9]))
    array([0, 1, 2, 0, 0, 1])
    """
    changes = np.ones(len(columns[0]), np.bool_)
    changes[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    starts = np.flatnonzero(changes)
    return np.arange(len(changes)) - np.repeat(starts, np.diff(starts, append=len(changes)))
