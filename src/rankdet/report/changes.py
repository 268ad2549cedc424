"""What changed from other results: numbers for a section of the page, and the images that changed most."""

from __future__ import annotations

from typing import Any

import numpy as np

from rankdet.eval import Comparison
from rankdet.eval.comparison import MeasuredChange
from rankdet.eval.shapes import Floats
from rankdet.report.plain import defined
from rankdet.report.problem import Problem


def comparison_content(comparison: Comparison) -> dict[str, Any]:
    """Metrics that have an interval, all classes, and objects by who finds them; changes are this, other, low, high."""
    return {
        "metrics": {name: _numbers(change) for name, change in comparison.metrics.items() if change.low == change.low},
        "classes": [
            {
                "AP": _numbers(row.AP),
                "oLRP": _numbers(row.oLRP),
                "only_this": row.only_this,
                "only_other": row.only_other,
            }
            for row in comparison.per_class
        ],
        "found": comparison.found,
        "resamples": comparison.resamples,
    }


def changed_images(problem: Problem, comparison: Comparison) -> Floats:
    """(N,) by how much the errors of each image are more than those of the other results."""
    changes = np.zeros(len(problem.truth.image_ids))
    for image in comparison.per_image:
        changes[np.searchsorted(problem.truth.image_ids, image.image_id)] = image.this - image.other
    return changes


def _numbers(change: MeasuredChange) -> list[float | None]:
    return [defined(value) for value in (change.this, change.other, change.low, change.high)]
