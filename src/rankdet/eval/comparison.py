"""Two results on the same ground truth: what changed, and whether it is more than chance.

The interval of a difference comes from a paired bootstrap over images (Efron and Tibshirani, "An Introduction to the
Bootstrap", 1993): images are drawn with replacement, as many as there are, both results are evaluated on the same draw,
and the interval holds the middle 95 % of the differences. It says how much the difference owes to the choice of images,
and nothing of how it would vary from training to training: compare several seeds for that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rankdet.eval.deployment import Deployment, deploy
from rankdet.eval.evaluation import CategoryResult, Evaluation
from rankdet.eval.matching import Matches
from rankdet.eval.resampling import ResampledMetrics, Resampler
from rankdet.eval.shapes import Floats
from rankdet.eval.undefined import mean_of_defined

if TYPE_CHECKING:
    from rich.table import Table

_MIDDLE = (2.5, 97.5)
Track = Callable[[Iterable[int]], Iterable[int]]
"""Shows how far a loop has come."""


@dataclass(frozen=True)
class MeasuredChange:
    """A number of two results and the interval of their difference; NaN where undefined, or not computed."""

    this: float
    other: float
    low: float = math.nan
    high: float = math.nan

    @property
    def difference(self) -> float:
        """``this - other``."""
        return self.this - self.other

    @property
    def is_certain(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class ClassChange:
    """What changed of a class; ``only_this`` and ``only_other`` count objects that one result alone finds."""

    category_id: int
    name: str
    objects: int
    AP: MeasuredChange
    oLRP: MeasuredChange  # noqa: N815
    only_this: int
    only_other: int


@dataclass(frozen=True)
class ImageChange:
    """The errors of each result in an image: missed objects, false detections, bad location (`Deployment.errors`)."""

    image_id: int
    name: str
    this: float
    other: float


@dataclass(frozen=True)
class Comparison:
    """What changed from the ``other`` results to ``this``.

    ``metrics`` by name, as in `Evaluation`; ``per_class`` in the order of the category ids; ``per_image`` those with a
    change, the largest first. ``found`` says how many objects are found by "both", "this", "other" alone, or "neither".
    Classes, images and objects are compared at the LRP-optimal thresholds of each result.
    """

    metrics: dict[str, MeasuredChange]
    per_class: tuple[ClassChange, ...]
    per_image: tuple[ImageChange, ...]
    found: dict[str, int]
    resamples: int

    def as_json(self) -> dict[str, Any]:
        """Plain data, fit for JSON; None where undefined."""
        content: dict[str, Any] = _without_nan(asdict(self))
        return content

    def table(self) -> Table:
        """The metrics of both results as a `rich` table, with the intervals of their differences."""
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, padding=0)
        table.add_column("", min_width=11)
        for title in ("this", "other", "difference", "95 % interval", ""):
            table.add_column(title, justify="right", no_wrap=True, min_width=7 if title else 1)
        for name, change in self.metrics.items():
            if not math.isnan(change.low):
                numbers = (f"{change.this:.3f}", f"{change.other:.3f}", f"{change.difference:+.3f}")
                interval = f"{change.low:+.3f} to {change.high:+.3f}"
                table.add_row(name, *numbers, interval, "*" if change.is_certain else "")
        return table


def compare(
    this: Evaluation, other: Evaluation, *, resamples: int = 1000, seed: int = 0, track: Track = iter
) -> Comparison:
    """Compares two evaluations that have details and are of the same ground truth.

    ``seed`` decides which images are drawn; ``track`` wraps the loop over the resamples.

    >>> from rankdet.eval import evaluate
    >>> truth = {"images": [{"id": i} for i in range(9)], "categories": [{"id": 3, "name": "cat"}], "annotations": [
    ...     {"image_id": i, "category_id": 3, "bbox": [0, 0, 10, 10]} for i in range(9)]}
    >>> results = [{"image_id": i, "category_id": 3, "bbox": [0, 0, 10, 9], "score": 0.9} for i in range(9)]
    >>> comparison = compare(evaluate(truth, results), evaluate(truth, results[:5]))
    >>> change = comparison.metrics["AP"]
    >>> round(change.difference, 1), change.is_certain, comparison.found["this"]
    (0.4, True, 4)

    Raises:
        ValueError: if the ground truths differ.
    """
    parts = (_matches(this), _matches(other))
    _check_same_truth(*parts)
    named, of_classes = _differences(*parts, resamples=resamples, seed=seed, track=track)
    deployed = (deploy(this), deploy(other))
    return Comparison(
        metrics={
            name: MeasuredChange(value, other.metrics[name], *_interval(named.get(name)))
            for name, value in this.metrics.items()
            if name in other.metrics
        },
        per_class=_class_changes((this.per_class, other.per_class), *deployed, of_classes),
        per_image=_image_changes(*deployed),
        found=_found(*deployed),
        resamples=resamples,
    )


def _matches(evaluation: Evaluation) -> Matches:
    assert evaluation.details is not None, "an evaluation has details unless it was read from a file"
    return evaluation.details.matches


def _check_same_truth(this: Matches, other: Matches) -> None:
    mine, theirs = this.ground_truth, other.ground_truth
    same = all(
        np.array_equal(getattr(mine, name), getattr(theirs, name))
        for name in ("image_ids", "category_ids", "images", "categories", "crowd")
    )
    if not same:
        raise ValueError(
            f"the two results are of different ground truths, {mine.source} and {theirs.source}; evaluate both with one"
        )


def _differences(
    this: Matches, other: Matches, *, resamples: int, seed: int, track: Track
) -> tuple[dict[str, Floats], Floats]:
    """Differences in the resamples: of the metrics by name (B,), and of AP and oLRP of each class (B, 2, K)."""
    rng, resamplers = np.random.default_rng(seed), (Resampler(this), Resampler(other))
    total = len(this.ground_truth.image_ids)
    named: dict[str, list[float]] = {}
    of_classes = np.zeros((resamples, 2, this.num_categories))
    for number in track(range(resamples)):
        weights = np.bincount(rng.integers(0, total, total), minlength=total)
        mine, theirs = (resampler(weights) for resampler in resamplers)
        for name, value in _named(mine, this).items():
            named.setdefault(name, []).append(value)
        for name, value in _named(theirs, other).items():
            named[name][-1] -= value
        of_classes[number] = _by_class(mine) - _by_class(theirs)
    return {name: np.array(values) for name, values in named.items()}, of_classes


def _named(drawn: ResampledMetrics, matches: Matches) -> dict[str, float]:
    """The metrics that are resampled, by the names of `Evaluation.metrics`."""
    ap, lrp, areas = drawn.average_precision, drawn.optimal_lrp, list(enumerate(matches.groups))
    near = {iou: np.isclose(matches.iou_thresholds, iou) for iou in (0.5, 0.75)}
    return {
        "AP": mean_of_defined(ap[:, 0]),
        "AP50": mean_of_defined(ap[near[0.5], 0]),
        "AP75": mean_of_defined(ap[near[0.75], 0]),
        "oLRP": mean_of_defined(lrp[0]),
        **{f"AP_{name}": mean_of_defined(ap[:, area]) for area, name in areas[1:]},
        **{f"oLRP_{name}": mean_of_defined(lrp[area]) for area, name in areas[1:]},
    }


def _by_class(drawn: ResampledMetrics) -> Floats:
    """(2, K) AP and oLRP over all areas."""
    return np.stack([drawn.average_precision[:, 0].mean(axis=0), drawn.optimal_lrp[0]])


def _interval(differences: Floats | None) -> tuple[float, float]:
    """The middle 95 % of those that are defined."""
    defined = np.zeros(0) if differences is None else differences[~np.isnan(differences)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.percentile(defined, _MIDDLE).tolist()
    return low, high


def _class_changes(
    tables: tuple[Sequence[CategoryResult], Sequence[CategoryResult]],
    mine: Deployment,
    theirs: Deployment,
    differences: Floats,
) -> tuple[ClassChange, ...]:
    classes, count = mine.matches.object_categories, mine.matches.num_categories
    only_this, only_other = (
        np.bincount(classes[alone], minlength=count).tolist()
        for alone in (mine.found & ~theirs.found, theirs.found & ~mine.found)
    )
    return tuple(
        ClassChange(
            category_id=row.category_id,
            name=row.name,
            objects=row.objects,
            AP=MeasuredChange(row.AP, against.AP, *_interval(differences[:, 0, place])),
            oLRP=MeasuredChange(row.oLRP, against.oLRP, *_interval(differences[:, 1, place])),
            only_this=only_this[place],
            only_other=only_other[place],
        )
        for place, (row, against) in enumerate(zip(*tables, strict=True))
    )


def _image_changes(mine: Deployment, theirs: Deployment) -> tuple[ImageChange, ...]:
    truth, errors, before = mine.matches.ground_truth, mine.errors, theirs.errors
    names = truth.image_names or [""] * len(truth.image_ids)
    order = np.argsort(-np.abs(errors - before), kind="stable")
    changed = order[~np.isclose(errors, before)[order]].tolist()
    return tuple(
        ImageChange(int(truth.image_ids[place]), names[place], float(errors[place]), float(before[place]))
        for place in changed
    )


def _found(mine: Deployment, theirs: Deployment) -> dict[str, int]:
    counts = {
        "both": mine.found & theirs.found,
        "this": mine.found & ~theirs.found,
        "other": theirs.found & ~mine.found,
        "neither": mine.counted & ~mine.found & ~theirs.found,
    }
    return {name: int(np.count_nonzero(there)) for name, there in counts.items()}


def _without_nan(content: Any) -> Any:
    """Plain data without NaN, which JSON does not have."""
    if isinstance(content, dict):
        return {name: _without_nan(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content
