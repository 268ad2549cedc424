"""The result of an evaluation: named numbers, one row for each category, a table for people and JSON for programs."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankdet.eval.average_precision import RecallPrecision
from rankdet.eval.lrp import LRP
from rankdet.eval.matching import Matches
from rankdet.eval.undefined import UNDEFINED, as_text, numbers_as_json, numbers_of_json

if TYPE_CHECKING:
    from rich.table import Table

BESIDE = {"bbox": "box", "segm": "mask"}
"""What the names of metrics begin with that are not those of the headline."""


@dataclass(frozen=True)
class CategoryResult:
    """The numbers of one category, in [0, 1] and NaN where undefined; errors (LRP) are better when lower.

    ``threshold`` is the score at which the category's LRP is lowest: the score to deploy it with. ``objects`` counts
    the objects, without crowd regions.
    """

    category_id: int
    name: str
    AP: float
    AP50: float
    AP75: float
    oLRP: float  # noqa: N815
    oLRP_Loc: float  # noqa: N815
    oLRP_FP: float  # noqa: N815
    oLRP_FN: float  # noqa: N815
    threshold: float
    objects: int


@dataclass(frozen=True)
class Details:
    """What the numbers were computed from, for reports and curves."""

    matches: Matches
    recall_precision: RecallPrecision
    lrp: LRP


@dataclass(frozen=True)
class Evaluation:
    """``metrics`` by name, in [0, 1] and NaN where undefined; ``per_class`` in the order of the category ids.

    Without an object that counts, AP and all other metrics are undefined: there is nothing to compare or to choose by.
    If several kinds of shapes are evaluated, the metrics of all but the first are called ``box_AP``, and so on.
    ``details`` has the matches, curves and arrays behind the numbers; None after `from_json`.
    """

    metrics: dict[str, float]
    per_class: tuple[CategoryResult, ...]
    details: Details | None = field(default=None, repr=False, compare=False)

    @property
    def thresholds(self) -> dict[int, float]:
        """LRP-optimal score threshold by category id; a category of which nothing was found has none."""
        return {row.category_id: row.threshold for row in self.per_class if not math.isnan(row.threshold)}

    def table(self, *, max_classes: int = 100) -> Table:
        """One `rich` table: all classes together, then each; beyond ``max_classes`` those with the most objects.

        Thresholds are rounded down, so that the number shown keeps the detection at the threshold.
        """
        from rich import box
        from rich.table import Table

        shown = sorted(sorted(self.per_class, key=lambda row: -row.objects)[:max_classes], key=self.per_class.index)
        table = Table(box=box.SIMPLE_HEAD, padding=0, caption=_CAPTION)
        table.add_column("class", overflow="fold", min_width=10)
        for title in ("objects", "AP", "AP50", "AP75", "oLRP", "Loc", "FP rate", "FN rate", "threshold"):
            table.add_column(title, justify="right", no_wrap=True)
        objects = str(sum(row.objects for row in self.per_class))
        for title, prefix in self._overall_rows():
            overall = [self.metrics.get(f"{prefix}{name}", UNDEFINED) for name in _SHOWN]
            table.add_row(title, objects, *map(as_text, overall), "")
        table.add_section()
        for row in shown:
            values = [as_text(getattr(row, name)) for name in _SHOWN]
            table.add_row(row.name, str(row.objects), *values, _rounded_down(row.threshold))
        if len(shown) < len(self.per_class):
            table.add_row(f"… {len(self.per_class) - len(shown)} more", *[""] * 9)
        return table

    def _overall_rows(self) -> list[tuple[str, str]]:
        """Title, and beginning of the names of the metrics, of each row for all classes."""
        beside = [kind for kind in BESIDE.values() if f"{kind}_AP" in self.metrics]
        return [("all", ""), *((f"all, by {kind}", f"{kind}_") for kind in beside)]

    def to_json(self, *, more: Mapping[str, Any] | None = None) -> str:
        """Flat JSON: the metrics by name, and ``per_class`` below them, by class name; null where undefined.

        A name that several classes share is followed by the category id. ``more`` is written last, and not read again.
        """
        names = [row.name for row in self.per_class]
        rows = {
            row.name if names.count(row.name) == 1 else f"{row.name} ({row.category_id})": numbers_as_json(asdict(row))
            for row in self.per_class
        }
        content = {**numbers_as_json(self.metrics), "per_class": rows, **(more or {})}
        return json.dumps(content, indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """The evaluation that `to_json` wrote, without its details; ValueError when ``text`` is something else."""
        content = json.loads(text)
        if not isinstance(content, dict) or not isinstance(content.get("per_class"), dict):
            raise ValueError("not the JSON of an evaluation: accepted is what Evaluation.to_json wrote")
        rows = content.pop("per_class").values()
        names = {item.name for item in fields(CategoryResult)}
        if any(not isinstance(row, dict) or set(row) != names for row in rows):
            raise ValueError(f"not the JSON of an evaluation: each entry of 'per_class' needs {sorted(names)}")
        metrics = {name: value for name, value in content.items() if value is None or isinstance(value, float | int)}
        per_class = tuple(CategoryResult(**numbers_of_json(row)) for row in rows)
        return cls(metrics=numbers_of_json(metrics), per_class=per_class)

    def save(self, path: str | os.PathLike[str], *, more: Mapping[str, Any] | None = None) -> Path:
        """Writes `to_json` to a file, completely or not at all."""
        target = Path(path)
        partial = target.with_name(target.name + ".partial")
        try:
            partial.write_text(self.to_json(more=more), encoding="utf-8")
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return target


_CAPTION = """\
AP: higher is better; oLRP and its parts (Loc, FP rate, FN rate): lower
Loc: mean 1 - IoU; FP rate: 1 - precision; FN rate: 1 - recall
threshold: the score where LRP is lowest, at which the parts are taken"""
_SHOWN = ("AP", "AP50", "AP75", "oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN")


def _rounded_down(threshold: float) -> str:
    return "–" if math.isnan(threshold) else f"{math.floor(threshold * 1000) / 1000:.3f}"
