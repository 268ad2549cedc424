"""``rankdet calibrate --results``: calibrates a file of results from any tool, or applies a saved mapping to one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankdet.cli.calibrating import (
    draw_diagram,
    fitted,
    fitting_of,
    mapping_dict,
    summary_of,
    tell_errors,
    tell_fitted,
)
from rankdet.cli.errors import CommandError
from rankdet.cli.eval import annotations_of
from rankdet.cli.judging import IouType
from rankdet.cli.options import Given
from rankdet.cli.results import telling

if TYPE_CHECKING:
    from rankdet.eval import Detections, Rules


def calibrate_results(source: str, target: Path, given: Given) -> None:
    """Write results with calibrated scores, and beside them the mapping and the reliability diagram."""
    iou_type = _iou_type(given)
    if "mapping" in given.own and "annotations" not in given.own:
        _apply(source, target, given, iou_type)
        return
    rules, detections = _read(source, given, iou_type)
    if "mapping" in given.own:
        _apply_and_assess(source, target, given, rules, detections, iou_type)
        return
    _calibrate(source, target, given, rules, detections, iou_type)


def _apply(source: str, target: Path, given: Given, iou_type: IouType) -> None:
    from rankdet.eval.rescoring import apply_mapping
    from rankdet.eval.score_mapping import ScoreMapping

    if "convert" in given.own:
        raise CommandError("--convert needs --annotations, which say what the ids and boxes mean")
    _write(target, apply_mapping(source, ScoreMapping.load(given.own["mapping"]), iou_type=iou_type))
    print(f"The calibrated results are in {target}; with --annotations they would be assessed, too")


def _apply_and_assess(
    source: str, target: Path, given: Given, rules: Rules, detections: Detections, iou_type: IouType
) -> None:
    import numpy as np

    from rankdet.eval.score_calibration import assess_scores, in_logits, map_scores
    from rankdet.eval.score_mapping import ScoreMapping, logits_of
    from rankdet.train.display import Display

    read = ScoreMapping.load(given.own["mapping"])
    mapping = read.of_categories(rules.truth.category_ids.tolist())
    before = assess_scores(rules, in_logits(detections), logits_of(np.array(mapping.thresholds_before)))
    changed = map_scores(detections, mapping)
    after = assess_scores(rules, changed, logits_of(np.array(mapping.thresholds)))
    _write_rescored(source, target, given, rules, changed, iou_type)
    diagram = draw_diagram(target, before, after)
    tell_errors(before, after, Display())
    print(f"The calibrated results are in {target}; {diagram}")


def _calibrate(
    source: str, target: Path, given: Given, rules: Rules, detections: Detections, iou_type: IouType
) -> None:
    from rankdet.eval.score_calibration import assess_scores, map_scores, of_images
    from rankdet.train.display import Display

    fitting, display = fitting_of(given), Display()
    outcome, reported = fitted(rules, detections, fitting)
    changed = map_scores(detections, outcome.mapping)
    before = assess_scores(*of_images(rules, detections, reported), outcome.before)
    after = assess_scores(*of_images(rules, changed, reported), outcome.after)
    _write_rescored(source, target, given, rules, changed, iou_type)
    _write(mapping_file(target), mapping_dict(outcome.mapping, summary_of(fitting, before, after)))
    diagram = draw_diagram(target, before, after)
    tell_fitted(outcome, fitting, reported, display)
    tell_errors(before, after, display)
    display.print(f"The calibrated results are in {target}, the mapping in {mapping_file(target)}; {diagram}")


def mapping_file(target: Path) -> Path:
    """Beside the results."""
    return target.with_suffix(".mapping.json")


def _read(source: str, given: Given, iou_type: IouType) -> tuple[Rules, Detections]:
    from rankdet.eval import read_results, read_rules
    from rankdet.eval.score_calibration import in_logits
    from rankdet.eval.suspicions import warn_of_suspicions

    truth = annotations_of(given, "results")
    with telling():
        rules = read_rules(truth, iou_type=iou_type)
        detections = read_results(source, rules.truth, iou_type=iou_type, convert=given.own.get("convert", ""))
        if not len(detections):
            raise CommandError(f"{source} has no results, so there is nothing to calibrate")
        warn_of_suspicions(rules.truth, detections)
        return rules, in_logits(detections)


def _write_rescored(
    source: str, target: Path, given: Given, rules: Rules, detections: Detections, iou_type: IouType
) -> None:
    from rankdet.eval.rescoring import rescored

    with telling():
        entries = rescored(source, rules.truth, detections, iou_type=iou_type, convert=given.own.get("convert", ""))
    _write(target, entries)


def _write(target: Path, content: Any) -> None:
    from rankdet.train.files import write_text

    write_text(target, json.dumps(content, allow_nan=False))


def _iou_type(given: Given) -> IouType:
    kind = given.own.get("iou-type", "bbox")
    if kind not in ("bbox", "segm"):
        raise CommandError(f"--iou-type must be bbox or segm, got {kind}")
    return "segm" if kind == "segm" else "bbox"
