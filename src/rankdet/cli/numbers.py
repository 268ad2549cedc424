"""Prints the numbers of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rankdet.eval.undefined import as_text

if TYPE_CHECKING:
    from rich.table import Table

    from rankdet.eval import Detections, Evaluation

_NOTABLE_AP, _WORST = 0.0005, 5
_FREQUENCIES = ["r", "c", "f"]


def show(evaluation: Evaluation, *, threshold: float | None = None) -> None:
    """The table, the numbers of COCO or LVIS below it, how scores tell IoUs, and LRP at a score threshold."""
    from rankdet.eval import score_iou_correlation
    from rankdet.train.display import Display

    display = Display()
    display.print(evaluation.table())
    display.print("\n".join(lines_of(evaluation.metrics)))
    for table in property_tables(evaluation):
        display.print(table)
    if math.isnan(evaluation.metrics["AP"]):
        display.print("The ground truth has no object that counts, so AP and oLRP are undefined (–)")
    assert evaluation.details is not None, "what has just been evaluated has details"
    correlation = score_iou_correlation(evaluation.details.matches)
    numbers = f"Pearson {as_text(correlation.pearson)}  Spearman {as_text(correlation.spearman)}"
    display.print(f"correlation of score and IoU of the true positives  {numbers}")
    if threshold is not None:
        display.print("\n".join(_at_threshold(evaluation, threshold)))


def lines_of(metrics: Mapping[str, float]) -> list[str]:
    """Those of the numbers that the table does not have: by size and frequency, and recall."""
    recalls = [name[3:] for name in metrics if name.startswith("AR_") and "=" not in name]
    limits, sizes = ([name for name in recalls if name.isdecimal() == count] for count in (True, False))
    groups = [("AP", sizes), ("AP", _FREQUENCIES), ("AR", limits), ("AR", sizes), ("oLRP", sizes)]
    lines = [[f"{kind}_{name}" for name in names] for kind, names in (*groups, ("oLRP", _FREQUENCIES))]
    present = [[name for name in line if name in metrics] for line in lines]
    return ["  ".join(f"{name} {as_text(metrics[name])}" for name in line) for line in present if line]


def property_tables(evaluation: Evaluation) -> Iterator[Table]:
    """One for each property by which objects are grouped, a row for each value."""
    from rich import box
    from rich.table import Table

    assert evaluation.details is not None, "what has just been evaluated has details"
    matches = evaluation.details.matches
    objects = dict(zip(matches.groups, matches.num_objects.sum(axis=0).tolist(), strict=True))
    for each in matches.ground_truth.properties:
        table = Table(box=box.SIMPLE_HEAD, padding=0)
        table.add_column(each.name, overflow="fold", min_width=10)
        for title in ("objects", "AP", "AR", "oLRP"):
            table.add_column(title, justify="right", no_wrap=True)
        for value, group in zip(each.values, each.groups, strict=True):
            numbers = (as_text(evaluation.metrics[f"{name}_{group}"]) for name in ("AP", "AR", "oLRP"))
            table.add_row(value, str(objects[group]), *numbers)
        yield table


def _at_threshold(evaluation: Evaluation, threshold: float) -> list[str]:
    """LRP with one score threshold for all classes: its mean over the classes with objects, and the worst of them."""
    import numpy as np

    from rankdet.eval import lrp_at
    from rankdet.eval.undefined import mean_of_defined

    assert evaluation.details is not None, "what has just been evaluated has details"
    found = lrp_at(evaluation.details.matches, threshold)
    columns = {
        "LRP": found.value,
        "Loc": found.localisation,
        "FP rate": found.false_positive,
        "FN rate": found.false_negative,
    }
    overall = "  ".join(f"{name} {as_text(mean_of_defined(column[:, 0]))}" for name, column in columns.items())
    values = found.value[:, 0]
    worst = sorted(np.flatnonzero(~np.isnan(values)).tolist(), key=lambda place: -values[place])[:_WORST]
    names = ", ".join(f"{evaluation.per_class[place].name} {values[place]:.3f}" for place in worst)
    return [f"with the score threshold {threshold:g}: {overall}"] + ([f"  worst LRP: {names}"] if names else [])


def tell_cost(everything: Evaluation, kept: Evaluation, threshold: float) -> None:
    """What the score threshold of a configuration costs."""
    lost = everything.metrics["AP"] - kept.metrics["AP"]
    if math.isnan(lost):
        return
    remedy = "; without it: --model.init_args.postprocess.init_args.score_threshold null" if lost > _NOTABLE_AP else ""
    print(f"The configuration states a score threshold of {threshold:g}, which costs {max(lost, 0):.3f} AP{remedy}")


def tell_voc(truth: dict[str, Any], detections: Detections) -> None:
    """VOC's own numbers, if the data are VOC's: they say which objects are difficult."""
    from rankdet.eval import area_under_curve, eleven_points
    from rankdet.eval.voc import evaluate_voc_detections, read_voc_truth

    if any("difficult" in annotation for annotation in truth["annotations"]):
        area, eleven = (
            evaluate_voc_detections(read_voc_truth(truth), detections, interpolation=curve).mean_average_precision
            for curve in (area_under_curve, eleven_points)
        )
        print(f"VOC's mAP at IoU 0.5: {as_text(area)}, at 11 points as in VOC 2007: {as_text(eleven)}")
