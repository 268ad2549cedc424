"""All that a page shows, as plain data fit for JSON."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from rankdet.eval import Comparison, score_iou_correlation
from rankdet.eval.calibration import calibration_error
from rankdet.eval.sizes import describe_sizes
from rankdet.report.changes import comparison_content
from rankdet.report.confusion import confusion
from rankdet.report.curves import precision_curves, threshold_curves
from rankdet.report.images import Limits, OpenImage, describe_images, no_images
from rankdet.report.plain import defined, rounded
from rankdet.report.problem import Problem
from rankdet.report.training import training_curves

_MOST_DOTS = 3000


def report_content(
    problem: Problem,
    *,
    title: str,
    facts: dict[str, str] | None = None,
    open_image: OpenImage = no_images,
    metrics_file: Path | None = None,
    comparison: Comparison | None = None,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
) -> dict[str, Any]:
    """The content of a report.

    Args:
        problem: ground truth, detections and their evaluation.
        title: of the page.
        facts: named texts below it, such as the checkpoint.
        open_image: where pictures come from.
        metrics_file: of a training, whose curves are also shown.
        comparison: with other results, which gets a section of its own.
        limits: how many images and boxes the page may hold.
    """
    return {
        "title": title,
        "facts": {**(facts or {}), **_counts(problem), "Made": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"},
        "masks": problem.iou_type == "segm",
        "metrics": {name: defined(value) for name, value in problem.evaluation.metrics.items()},
        "groups": _groups(problem),
        "classes": _classes(problem),
        "precision": precision_curves(problem),
        "thresholds": threshold_curves(problem),
        "confusion": confusion(problem),
        "scatter": _scatter(problem),
        "reliability": _reliability(problem),
        "comparison": comparison_content(comparison) if comparison is not None else None,
        "images": describe_images(problem, open_image, limits=limits, comparison=comparison),
        "training": training_curves(metrics_file) if metrics_file is not None else [],
    }


def _groups(problem: Problem) -> dict[str, str]:
    """How size classes and groups by properties are called, by what their metrics end in."""
    sizes = describe_sizes(problem.matches.area_ranges)
    return {name: sizes.get(name, name.replace("=", ": ", 1)) for name in problem.matches.groups[1:]}


def _counts(problem: Problem) -> dict[str, str]:
    truth, counted = problem.truth, int(problem.counted.sum())
    parts = [f"{len(truth.image_ids):,} images", f"{counted:,} objects", f"{truth.num_categories:,} classes"]
    if counted < len(truth):
        ignored = len(truth) - counted
        parts.append(f"{ignored:,} region{'s' * (ignored > 1)} to ignore")
    return {
        "Ground truth": ", ".join(parts),
        "Detections": f"{len(problem.detections):,} {'masks' if problem.iou_type == 'segm' else 'boxes'}",
    }


def _classes(problem: Problem) -> dict[str, list[Any]]:
    """Columns with one entry for each class."""
    rows = problem.evaluation.per_class
    columns: dict[str, list[Any]] = {
        "id": [row.category_id for row in rows],
        "name": [row.name for row in rows],
        "objects": [row.objects for row in rows],
        "deployed": [round(value, 6) for value in problem.thresholds.tolist()],
    }
    for name in ("AP", "AP50", "AP75", "oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN"):
        columns[name] = [defined(getattr(row, name)) for row in rows]
    columns["threshold"] = [defined(row.threshold, 6) for row in rows]
    return columns


def _scatter(problem: Problem) -> dict[str, Any]:
    """Score and IoU of true positives, at most 3,000 chosen evenly over the classes and scores."""
    outcomes, correlation = problem.outcomes, score_iou_correlation(problem.matches)
    hits = np.flatnonzero(outcomes.true_positive)
    chosen = (
        hits[np.unique(np.linspace(0, len(hits) - 1, min(len(hits), _MOST_DOTS)).astype(int))] if len(hits) else hits
    )
    return {
        "total": len(hits),
        "class": outcomes.categories[chosen].tolist(),
        "score": rounded(outcomes.scores[chosen], 4),
        "iou": rounded(outcomes.overlaps[chosen], 3),
        "pearson": {"all": rounded([correlation.pearson], 3)[0], "classes": rounded(correlation.pearson_per_class, 3)},
        "spearman": {
            "all": rounded([correlation.spearman], 3)[0],
            "classes": rounded(correlation.spearman_per_class, 3),
        },
    }


def _reliability(problem: Problem) -> dict[str, Any]:
    """Bins of the deployed detections, and the errors of those and of all detections."""
    errors = calibration_error(problem.matches, kept=problem.deployed)
    everything = calibration_error(problem.matches)
    return {
        "counts": errors.counts.tolist(),
        "confidence": rounded(errors.confidence, 4),
        "precision": rounded(errors.precision, 4),
        "worth": rounded(errors.worth, 4),
        "d_ece": rounded([errors.d_ece, everything.d_ece], 9),
        "la_ece": rounded([errors.la_ece, everything.la_ece], 9),
    }
