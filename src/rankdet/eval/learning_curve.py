"""What more training images are worth: AP and oLRP of trainings on ever larger parts of the same images.

Trainings of one seed are paired: the smaller part lies within the larger one. The interval of a gain is that of the
mean of the paired differences over the seeds, by Student's t distribution; with one seed there is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rankdet.eval.comparison import MeasuredChange
from rankdet.eval.undefined import as_text, numbers_as_json
from rankdet.extras import needed_for

if TYPE_CHECKING:
    from rich.table import Table

METRICS = ("AP", "oLRP")
_LOWER_IS_BETTER = "oLRP"
_T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Quantiles of Student's t distribution with 1 to 10 degrees of freedom; the last serves for more."""
_LITTLE = 0.01
"""A gain that is surely below it is hardly one."""


@dataclass(frozen=True)
class TrainedOn:
    """The metrics of one training, in [0, 1] and NaN where undefined."""

    images: int
    seed: int
    AP: float
    oLRP: float  # noqa: N815


@dataclass(frozen=True)
class Gain:
    """What a step from fewer to more images brought, averaged over the seeds that have both."""

    images_before: int
    images: int
    AP: MeasuredChange
    oLRP: MeasuredChange  # noqa: N815


class LearningCurve:
    """The trainings of a study.

    >>> curve = LearningCurve([TrainedOn(100, 0, 0.40, 0.70), TrainedOn(200, 0, 0.46, 0.66),
    ...                        TrainedOn(100, 1, 0.41, 0.69), TrainedOn(200, 1, 0.46, 0.65)])
    >>> gain = curve.gains[0].AP
    >>> round(gain.this, 3), round(gain.other, 3), round(gain.low, 3), round(gain.high, 3), gain.is_certain
    (0.46, 0.405, -0.009, 0.119, False)

    Raises:
        ValueError: if two trainings have the same number of images and seed, or if there is none.
    """

    def __init__(self, trainings: Sequence[TrainedOn]) -> None:
        keys = [(each.images, each.seed) for each in trainings]
        if not keys or len(set(keys)) < len(keys):
            raise ValueError(f"a curve needs one training for each number of images and seed, got {keys}")
        self.trainings = tuple(sorted(trainings, key=lambda each: (each.images, each.seed)))

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers of images, ascending."""
        return tuple(sorted({each.images for each in self.trainings}))

    @property
    def gains(self) -> tuple[Gain, ...]:
        """From each number of images to the next."""
        steps = zip(self.sizes, self.sizes[1:], strict=False)
        return tuple(Gain(few, many, *(self._gain(few, many, name) for name in METRICS)) for few, many in steps)

    def values(self, images: int, name: str) -> dict[int, float]:
        """A metric by seed."""
        return {each.seed: getattr(each, name) for each in self.trainings if each.images == images}

    def _gain(self, few: int, many: int, name: str) -> MeasuredChange:
        before, after = self.values(few, name), self.values(many, name)
        seeds = sorted(before.keys() & after.keys())
        pairs = np.array([(after[seed], before[seed]) for seed in seeds]).reshape(-1, 2)
        if not len(pairs):
            return MeasuredChange(math.nan, math.nan)
        this, other = pairs.mean(axis=0).tolist()
        if len(pairs) < 2:
            return MeasuredChange(this, other)
        reach = (
            _T_975[min(len(pairs) - 1, len(_T_975)) - 1] * float(np.std(pairs @ [1, -1], ddof=1)) / len(pairs) ** 0.5
        )
        return MeasuredChange(this, other, this - other - reach, this - other + reach)

    def verdict(self) -> str:
        """Whether more images still help, by the last step, in a sentence for each metric."""
        if not self.gains:
            return "One number of images says nothing about more of them"
        return "\n".join(_verdict(self.gains[-1], name) for name in METRICS)

    def table(self) -> Table:
        """A `rich` table, a row for each number of images."""
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, padding=0)
        for title in ("images", "seeds", *(text for name in METRICS for text in (name, "gain", "95 % interval"))):
            table.add_column(title, justify="right", no_wrap=True)
        gains = dict(zip(self.sizes[1:], self.gains, strict=True))
        for images in self.sizes:
            cells = [str(images), str(len(self.values(images, METRICS[0])))]
            for name in METRICS:
                cells += [as_text(_mean(self.values(images, name))), *_in_words(gains.get(images), name)]
            table.add_row(*cells)
        return table

    def as_json(self) -> dict[str, Any]:
        """Plain data, fit for JSON; None where undefined."""
        return {
            "trainings": [numbers_as_json(asdict(each)) for each in self.trainings],
            "gains": list(map(_gain_as_json, self.gains)),
            "verdict": self.verdict(),
        }

    def draw(self, path: Path) -> None:
        """AP and oLRP over the number of images: a dot for each training, a line through the means. SVG or PNG.

        Written completely or not at all.
        """
        with needed_for("the picture of a learning curve"):
            from matplotlib.figure import Figure

        figure = Figure(figsize=(4.2 * len(METRICS), 3.6), layout="constrained")
        for axis, name in zip(figure.subplots(1, len(METRICS)), METRICS, strict=True):
            values = [self.values(images, name) for images in self.sizes]
            axis.plot(self.sizes, list(map(_mean, values)), "-", color="#2457c5", lw=1.5)
            dots = [(images, value) for images, own in zip(self.sizes, values, strict=True) for value in own.values()]
            axis.plot(*zip(*dots, strict=True), "o", color="#2457c5", ms=4, alpha=0.6)
            axis.set_xscale("log")
            axis.set_xticks(self.sizes, list(map(str, self.sizes)))
            axis.minorticks_off()
            lower = " (lower is better)" if name == _LOWER_IS_BETTER else ""
            axis.set(xlabel="training images", title=f"{name}{lower}")
            axis.grid(alpha=0.3)
        partial = path.with_name(f".{path.name}.partial")
        figure.savefig(partial, dpi=130, format=path.suffix[1:])
        partial.replace(path)


def _gain_as_json(gain: Gain) -> dict[str, Any]:
    changes = {
        name: {
            "before": change.other,
            "after": change.this,
            "gain": change.difference,
            "low": change.low,
            "high": change.high,
        }
        for name, change in (("AP", gain.AP), ("oLRP", gain.oLRP))
    }
    numbers = {name: numbers_as_json(values) for name, values in changes.items()}
    return {"images_before": gain.images_before, "images": gain.images, **numbers}


def _mean(values: Mapping[int, float]) -> float:
    return float(np.mean(list(values.values())))


def _in_words(gain: Gain | None, name: str) -> tuple[str, str]:
    """The gain and its interval."""
    if gain is None or math.isnan((change := getattr(gain, name)).difference):
        return "", ""
    interval = "" if math.isnan(change.low) else f"{change.low:+.3f} to {change.high:+.3f}"
    return f"{change.difference:+.3f}", interval


def _verdict(gain: Gain, name: str) -> str:
    difference, interval = _in_words(gain, name)
    if not difference:
        return f"{name} is undefined: the validation images have no objects, or no seed has both trainings"
    step = f"{name} {difference} from {gain.images_before} to {gain.images} images"
    if not interval:
        return f"{step}; several seeds would tell how certain that is"
    change: MeasuredChange = getattr(gain, name)
    low, high = (change.low, change.high) if name != _LOWER_IS_BETTER else (-change.high, -change.low)
    if low > 0:
        found = "more images still help"
    else:
        found = "more images hardly help" if high < _LITTLE else "more seeds are needed to say whether more images help"
    return f"{step} (95 % interval {interval}): {found}"
