"""What calibrating a checkpoint and calibrating results share: the method, the two parts of the images, the tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankdet.cli.errors import CommandError, near
from rankdet.cli.options import Given, Option
from rankdet.cli.values import whole_number
from rankdet.extras import MissingLibraryError

if TYPE_CHECKING:
    from rankdet.eval import Detections, Rules
    from rankdet.eval.score_calibration import FittedScores, ScoreAssessment
    from rankdet.eval.score_mapping import ScoreMapping
    from rankdet.eval.shapes import Bools
    from rankdet.train.display import Display

METHODS = ("shift", "temperature", "platt", "isotonic")
OPTIONS = {
    "method": Option("METHOD", f"one of {', '.join(METHODS)}; default shift"),
    "fit-share": Option(
        "SHARE", "share of the images to fit to; errors are those on the others; default 0.5, 1 for all"
    ),
    "seed": Option("NUMBER", "which images those are; default 0"),
}
_MOST_CLASSES = 30
_ROWS = (
    ("AP, all detections", "AP"),
    ("oLRP, all detections", "oLRP"),
    ("AP, deployed", "AP_deployed"),
    ("LRP, deployed", "LRP"),
    ("LRP_0, deployed", "LRP_0"),
    ("LaECE_0, deployed", "LaECE_0"),
    ("LaACE_0, deployed", "LaACE_0"),
    ("D-ECE pooled, deployed", "D_ECE"),
    ("D-ECE by class, deployed", "D_ECE_per_class"),
    ("LaECE_0, all detections", "LaECE_0_all"),
    ("LaACE_0, all detections", "LaACE_0_all"),
    ("D-ECE pooled, all detections", "D_ECE_all"),
    ("D-ECE by class, all detections", "D_ECE_per_class_all"),
)


@dataclass(frozen=True)
class Fitting:
    """What was asked for."""

    method: str
    share: float
    seed: int


def fitting_of(given: Given) -> Fitting:
    """The method and the part of the images; `CommandError` for what is none."""
    method = given.own.get("method", "shift")
    if method not in METHODS:
        raise CommandError(f"--method {method} is not known{near(method, METHODS)} (accepted: {', '.join(METHODS)})")
    text = given.own.get("fit-share", "0.5")
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise CommandError(f"--fit-share must be a number above 0 and at most 1, such as 0.5; got {text}")
    return Fitting(method, share, whole_number(given, "seed", default=0, least=0))


def fitted(rules: Rules, detections: Detections, fitting: Fitting) -> tuple[FittedScores, Bools]:
    """What comes out, and (N,) the images to report on."""
    from rankdet.eval.score_calibration import CALIBRATIONS, of_images, split_images

    chosen = split_images(len(rules.truth.image_ids), share=fitting.share, seed=fitting.seed)
    outcome = CALIBRATIONS[fitting.method](*of_images(rules, detections, chosen))
    return outcome, chosen if chosen.all() else ~chosen


def summary_of(fitting: Fitting, before: ScoreAssessment, after: ScoreAssessment) -> dict[str, Any]:
    """What a file says of the calibration, in plain data."""
    return {
        "method": fitting.method,
        "fit_share": fitting.share,
        "seed": fitting.seed,
        "before": _numbers_of(before),
        "after": _numbers_of(after),
    }


def _numbers_of(assessment: ScoreAssessment) -> dict[str, Any]:
    from rankdet.eval.undefined import numbers_as_json

    per_class = {str(number): numbers_as_json(row) for number, row in assessment.per_class.items()}
    return {**numbers_as_json(assessment.metrics), "per_class": per_class}


def mapping_dict(mapping: ScoreMapping, summary: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a file with a mapping, and what it did."""
    return {**mapping.to_dict(), "calibration": dict(summary)}


def tell_fitted(outcome: FittedScores, fitting: Fitting, reported: Bools, display: Display) -> None:
    """Say which images were taken, and what each class got."""
    from rich import box
    from rich.table import Table

    from rankdet.eval.score_mapping import Affine

    total, rest = len(reported), int(reported.sum())
    if fitting.share == 1:
        display.print(f"Fitted to all {total} images and reported on the same ones, which flatters the numbers")
    else:
        display.print(f"Fitted to {total - rest} images (seed {fitting.seed}), reported on the other {rest}")
    mapping = outcome.mapping
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    for title in ("class", "fitted to", "mapping", "threshold", "calibrated"):
        table.add_column(title, justify="left" if title in ("class", "mapping") else "right")
    columns = (
        mapping.category_names,
        outcome.seen,
        mapping.classes,
        mapping.thresholds_before,
        mapping.thresholds,
        outcome.notes,
    )
    for name, seen, of_class, before, after, note in list(zip(*columns, strict=True))[:_MOST_CLASSES]:
        told = (
            f"{of_class.slope:.3f} x logit {of_class.bias:+.3f}"
            if isinstance(of_class, Affine)
            else f"table of {len(of_class.logits)} points"
        )
        table.add_row(name, str(seen), note or told, f"{before:.3f}", f"{after:.3f}")
    if len(mapping.classes) > _MOST_CLASSES:
        table.add_row(f"… {len(mapping.classes) - _MOST_CLASSES} more", "", "", "", "")
    display.print(table)


def tell_errors(before: ScoreAssessment, after: ScoreAssessment, display: Display) -> None:
    """Say what changed."""
    from rich import box
    from rich.table import Table

    from rankdet.eval.undefined import as_text

    table = Table(box=box.SIMPLE_HEAD, padding=0)
    for title in ("", "before", "calibrated"):
        table.add_column(title, justify="left" if not title else "right", min_width=11)
    for title, name in _ROWS:
        table.add_row(title, *(as_text(judged.metrics[name], 4) for judged in (before, after)))
    display.print(table)


def draw_diagram(target: Path, before: ScoreAssessment, after: ScoreAssessment) -> str:
    """Draw the reliability diagram beside a file, and say where it is; or why there is none, without matplotlib."""
    from rankdet.eval.reliability import draw_reliability

    diagram = target.with_suffix(".svg")
    try:
        draw_reliability({"before": before.diagram, "calibrated": after.diagram}, diagram)
    except MissingLibraryError as error:
        return f"there is no diagram: {error}"
    return f"the reliability diagram is in {diagram}"
