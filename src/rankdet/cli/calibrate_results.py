"""``rankdet calibrate --results``: calibrates a file of results from any tool, or applies a saved mapping to one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankdet.cli.calibrating import (
    Fitting,
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
from rankdet.cli.judging import IouType, boxes_or_masks
from rankdet.cli.options import Given
from rankdet.cli.results import telling

if TYPE_CHECKING:
    from rankdet.eval import Detections, Rules


@dataclass(frozen=True)
class _Results:
    """Results that were read, and the file that the calibrated ones go into."""

    source: str
    target: Path
    iou_type: IouType
    convert: str
    rules: Rules
    detections: Detections

    def write(self, changed: Detections) -> None:
        """Write the results with the scores of others."""
        from rankdet.eval.rescoring import rescored

        with telling():
            entries = rescored(self.source, self.rules.truth, changed, iou_type=self.iou_type, convert=self.convert)
        _write(self.target, entries)


def calibrate_results(source: str, target: Path, given: Given) -> None:
    """Write results with calibrated scores, and beside them the mapping and the reliability diagram."""
    if "mapping" not in given.own:
        fitting = fitting_of(given)
        _calibrate(_read(source, target, given), fitting)
    elif "annotations" in given.own:
        _apply_and_assess(_read(source, target, given), given.own["mapping"])
    else:
        _apply(source, target, given)


def _apply(source: str, target: Path, given: Given) -> None:
    from rankdet.eval.rescoring import apply_mapping
    from rankdet.eval.score_mapping import ScoreMapping

    if "convert" in given.own:
        raise CommandError("--convert needs --annotations, which say what the ids and boxes mean")
    mapping, iou_type = ScoreMapping.load(given.own["mapping"]), boxes_or_masks(given) or "bbox"
    _write(target, apply_mapping(source, mapping, iou_type=iou_type))
    print(f"The calibrated results are in {target}; with --annotations they would also be assessed")


def _apply_and_assess(results: _Results, file: str) -> None:
    import numpy as np

    from rankdet.eval.score_calibration import assess_scores, map_scores
    from rankdet.eval.score_mapping import ScoreMapping, logits_of
    from rankdet.train.display import Display

    mapping = ScoreMapping.load(file).of_categories(results.rules.truth.category_ids.tolist())
    before = assess_scores(results.rules, results.detections, logits_of(np.array(mapping.thresholds_before)))
    changed = map_scores(results.detections, mapping)
    after = assess_scores(results.rules, changed, logits_of(np.array(mapping.thresholds)))
    results.write(changed)
    diagram = draw_diagram(results.target, before, after)
    tell_errors(before, after, Display())
    print(f"The calibrated results are in {results.target}; {diagram}")


def _calibrate(results: _Results, fitting: Fitting) -> None:
    from rankdet.eval.score_calibration import assess_scores, map_scores, of_images
    from rankdet.train.display import Display

    rules, detections, display = results.rules, results.detections, Display()
    outcome, reported = fitted(rules, detections, fitting)
    changed = map_scores(detections, outcome.mapping)
    before = assess_scores(*of_images(rules, detections, reported), outcome.before)
    after = assess_scores(*of_images(rules, changed, reported), outcome.after)
    results.write(changed)
    file = results.target.with_suffix(".mapping.json")
    _write(file, mapping_dict(outcome.mapping, summary_of(fitting, before, after)))
    diagram = draw_diagram(results.target, before, after)
    tell_fitted(outcome, fitting, reported, display)
    tell_errors(before, after, display)
    display.print(f"The calibrated results are in {results.target}, the mapping in {file}; {diagram}")


def _read(source: str, target: Path, given: Given) -> _Results:
    from rankdet.eval import read_results, read_rules
    from rankdet.eval.score_calibration import in_logits
    from rankdet.eval.suspicions import warn_of_suspicions

    iou_type, convert = boxes_or_masks(given) or "bbox", given.own.get("convert", "")
    truth = annotations_of(given, "results")
    with telling():
        rules = read_rules(truth, iou_type=iou_type)
        detections = read_results(source, rules.truth, iou_type=iou_type, convert=convert)
        if not len(detections):
            raise CommandError(f"{source} has no results, so there is nothing to calibrate")
        warn_of_suspicions(rules.truth, detections)
        return _Results(source, target, iou_type, convert, rules, in_logits(detections))


def _write(target: Path, content: Any) -> None:
    from rankdet.train.files import write_text

    write_text(target, json.dumps(content, allow_nan=False))
