"""What calibration does to scores: a function of the logit for each class that never falls, and the thresholds.

A straight line (`Affine`) can be folded into a classifier; a `Table` is looked up by whoever uses the detections.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rankdet.eval.shapes import Floats, Ints

KEY = "rankdet_score_mapping"
"""Of the version in a file."""
VERSION = 1
_LEAST, _MOST = 5e-324, 1 - 2.0**-53
_EDGE = 1e-6
"""Scores of a table stay so far from 0 and 1, so that their logits are finite."""


class MappingError(ValueError):
    """A mapping that cannot be used; the message names the file and the class."""


@dataclass(frozen=True)
class Affine:
    """``slope`` times the logit plus ``bias``; the slope is above 0, so that the order stays.

    >>> Affine(0.5, 1.0)(np.array([-2.0, 4.0]))
    array([0., 3.])
    """

    slope: float = 1.0
    bias: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite([self.slope, self.bias]).all() and self.slope > 0):
            raise ValueError(
                f"slope and bias must be finite numbers, the slope above 0; got {self.slope} and {self.bias}"
            )

    def __call__(self, logits: Floats) -> Floats:
        """Logits (D,) -> calibrated logits (D,)."""
        return self.slope * logits + self.bias

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"slope": self.slope, "bias": self.bias}


@dataclass(frozen=True)
class Table:
    """``scores`` (M,) at the ``logits`` (M,): straight lines between them, the first and the last score beyond.

    The logits rise strictly, the scores never fall and lie in [0, 1].

    >>> table = Table((0.0, 2.0), (0.25, 0.75))
    >>> scores_of(table(np.array([-9.0, 1.0, 9.0])))
    array([0.25, 0.5 , 0.75])
    """

    logits: tuple[float, ...]
    scores: tuple[float, ...]

    def __post_init__(self) -> None:
        x, y = np.array(self.logits, np.float64), np.array(self.scores, np.float64)
        if x.ndim != 1 or x.shape != y.shape or not len(x):
            raise ValueError(f"a table has as many scores as logits, at least one; got {len(y)} and {len(x)}")
        if not np.isfinite(x).all() or (np.diff(x) <= 0).any():
            raise ValueError("the logits of a table are finite and rise strictly")
        if not ((y >= 0) & (y <= 1)).all() or (np.diff(y) < 0).any():
            raise ValueError("the scores of a table lie in 0..1 and never fall")

    def __call__(self, logits: Floats) -> Floats:
        """Logits (D,) -> calibrated logits (D,). Rounding does not lift a score above that of the next logit here."""
        following = np.searchsorted(self.logits[:-1], logits)
        scores = np.minimum(np.interp(logits, self.logits, self.scores), np.array(self.scores)[following])
        return logits_of(np.clip(scores, _EDGE, 1 - _EDGE))

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"logits": list(self.logits), "scores": list(self.scores)}


ClassMapping = Affine | Table


@dataclass(frozen=True)
class ScoreMapping:
    """The mapping of each of K classes, and their score thresholds before it and after it.

    ``method`` says how it was found, for people.

    >>> mapping = ScoreMapping("platt", (3,), ("cat",), (Affine(1.0, 2.0),), (0.1,), (0.4,))
    >>> mapping(np.array([-2.0]), np.array([0])).tolist(), ScoreMapping.from_dict(mapping.to_dict()) == mapping
    ([0.0], True)
    """

    method: str
    category_ids: tuple[int, ...]
    category_names: tuple[str, ...]
    classes: tuple[ClassMapping, ...]
    thresholds_before: tuple[float, ...]
    thresholds: tuple[float, ...]

    def __call__(self, logits: Floats, categories: Ints) -> Floats:
        """Logits (D,) of detections whose ``categories`` (D,) index into the K -> calibrated logits (D,)."""
        mapped = np.array(logits, np.float64)
        for category in np.unique(categories).tolist():
            rows = categories == category
            mapped[rows] = self.classes[category](mapped[rows])
        return mapped

    def of_categories(self, category_ids: Sequence[int]) -> ScoreMapping:
        """The mapping of these categories, in their order; `MappingError` for one that it does not have."""
        places = {number: place for place, number in enumerate(self.category_ids)}
        if missing := [number for number in category_ids if number not in places]:
            raise MappingError(
                f"the mapping has no category {missing[0]}, only {_some(self.category_ids)}; calibrate with data that "
                "have it"
            )
        chosen = [places[number] for number in category_ids]
        return ScoreMapping(
            method=self.method,
            category_ids=tuple(category_ids),
            category_names=tuple(self.category_names[place] for place in chosen),
            classes=tuple(self.classes[place] for place in chosen),
            thresholds_before=tuple(self.thresholds_before[place] for place in chosen),
            thresholds=tuple(self.thresholds[place] for place in chosen),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON and checkpoints take them."""
        columns = (self.category_ids, self.category_names, self.thresholds_before, self.thresholds, self.classes)
        rows = [
            {"id": number, "name": name, "threshold_before": before, "threshold": after, **of_class.to_dict()}
            for number, name, before, after, of_class in zip(*columns, strict=True)
        ]
        return {KEY: VERSION, "method": self.method, "classes": rows}

    @classmethod
    def from_dict(cls, content: Any, *, source: str = "the mapping") -> ScoreMapping:
        """What `to_dict` gave; `MappingError` naming ``source`` for anything else."""
        rows = content.get("classes") if isinstance(content, Mapping) else None
        if not isinstance(rows, Sequence) or content.get(KEY) != VERSION:
            raise MappingError(
                f"{source} is no mapping of scores (no {KEY!r}: {VERSION}); give what rankdet calibrate wrote"
            )
        classes = [_class_of(row, source) for row in rows]
        ids = tuple(row["id"] for row in rows)
        if list(ids) != sorted(set(ids)):
            raise MappingError(f"{source}: the category ids must ascend, each once; got {_some(ids)}")
        return cls(
            method=str(content.get("method")),
            category_ids=ids,
            category_names=tuple(str(row.get("name", "")) for row in rows),
            classes=tuple(classes),
            thresholds_before=tuple(float(row["threshold_before"]) for row in rows),
            thresholds=tuple(float(row["threshold"]) for row in rows),
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ScoreMapping:
        """From a JSON file that ``rankdet calibrate`` wrote; `MappingError` for any other."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else f"it is no JSON ({error})"
            raise MappingError(f"{path} cannot be read as a mapping of scores: {reason}") from error
        return cls.from_dict(content, source=str(path))


def scores_of(logits: Floats) -> Floats:
    """The sigmoid in double precision, exact in the tails.

    >>> scores_of(np.array([0.0, -50.0]))
    array([5.00000000e-01, 1.92874985e-22])
    """
    scores: Floats = np.exp(-np.logaddexp(0.0, -logits))
    return scores


def logits_of(scores: Floats) -> Floats:
    """The inverse of `scores_of`; scores of 0 and 1 become the nearest numbers that have a logit.

    >>> logits_of(np.array([0.5, 1.0])).round(2)
    array([ 0.  , 36.74])
    """
    inside = np.clip(scores, _LEAST, _MOST)
    logits: Floats = np.log(inside) - np.log1p(-inside)
    return logits


def _class_of(row: Any, source: str) -> ClassMapping:
    numbers = ("threshold_before", "threshold")
    if not isinstance(row, Mapping) or not _is_whole(row.get("id")) or not all(_is_number(row.get(n)) for n in numbers):
        raise MappingError(
            f"{source}: a class needs a whole id and the numbers {' and '.join(numbers)}; got {row!r:.80}"
        )
    try:
        if "slope" in row:
            return Affine(float(row["slope"]), float(row["bias"]))
        return Table(tuple(map(float, row["logits"])), tuple(map(float, row["scores"])))
    except (KeyError, TypeError, ValueError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise MappingError(f"{source}, category {row['id']}: {reason}") from error


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _some(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
