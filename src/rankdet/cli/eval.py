"""``rankdet eval``: AP and oLRP of a checkpoint on validation images, or of a file of results of any tool."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rankdet.cli.comparing import OPTIONS as COMPARE
from rankdet.cli.comparing import check_options, compare_with, other_file, show_comparison
from rankdet.cli.errors import CommandError
from rankdet.cli.options import CONFIG, HELP, Given, Option, describe_options, read_options
from rankdet.cli.results import CONVERT, SIZES, describe_conversions, sizes_of, tell_of_ids, telling

if TYPE_CHECKING:
    from rankdet.eval import Detections, Evaluation
    from rankdet.eval.rules import Rules

IouType = Literal["bbox", "segm"]
KEYPOINTS = "keypoints"
OPTIONS = {
    "checkpoint": Option("FILE", "best.ckpt of a run; its config.yaml is used unless --config says otherwise"),
    "config": CONFIG,
    "results": Option("FILE", "instead of a checkpoint: detections of any tool, as COCO results"),
    "proposals": Option("FILE", "instead of a checkpoint: proposals as COCO results; their recall whatever the class"),
    "annotations": Option(
        "DATA", "with --results or --proposals: the ground truth, a COCO or LVIS file or a VOC folder"
    ),
    "threshold": Option("SCORE", "tell the LRP, too, of the detections with at least this score"),
    "convert": CONVERT,
    "sizes": SIZES,
    **COMPARE,
    "iou-type": Option(
        "TYPE",
        "bbox, segm, or with --results keypoints; by default segm with boxes beside for a model of masks, else bbox",
    ),
    "sigmas": Option("NUMBERS", "with --iou-type keypoints: of each keypoint, separated by commas; COCO's by default"),
    "fixed-ap": Option(None, "for LVIS: the 10,000 surest detections of each class count, and not 300 of each image"),
    "json": Option("FILE", "write all numbers there too"),
    "save-results": Option("FILE", "with --checkpoint: write its detections there, as COCO results"),
    "device": Option("DEVICE", "with --checkpoint: cpu, cuda, cuda:1, mps; by default the best there is"),
    "trust": Option("PACKAGE", "build the model from classes of this package, too, if the checkpoint names them"),
    "help": HELP,
}
_NOTABLE_AP, _WORST = 0.0005, 5
_FREQUENCIES = ["r", "c", "f"]
USAGE = """\
usage: rankdet eval --checkpoint FILE [--config FILE] [--data.val DATA] [--KEY VALUE ...]
       rankdet eval --results FILE --annotations FILE [--iou-type segm|keypoints] [--compare FILE] [--json FILE]
       rankdet eval --proposals FILE --annotations FILE [--iou-type segm] [--json FILE]

AP and AR as COCO defines them, and oLRP with its components and the optimal score threshold of each class. Annotations
in the format of LVIS are evaluated by its rules. Of proposals, the recall of the first 100, 300 and 1000 of each image.

examples:
  rankdet eval --checkpoint runs/demo/best.ckpt
  rankdet eval --checkpoint best.ckpt --data.val instances_val2017.json --data.batch_size 4
  rankdet eval --results detections.json --annotations instances_val2017.json --json metrics.json
  rankdet eval --results detections.json --annotations instances_val2017.json --compare before.json
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0 when there are numbers."""
    given = read_options(arguments, OPTIONS)
    if "help" in given.own:
        print(
            f"{USAGE}\noptions:\n{describe_options(OPTIONS)}\n\n{describe_conversions()}\n\n"
            "and the keys of a configuration: rankdet train --help"
        )
        return 0
    iou_type = _iou_type(given)
    if sum(subject in given.own for subject in ("checkpoint", "results", "proposals")) != 1:
        raise CommandError(
            "what is to be evaluated? Give one of --checkpoint FILE, or --results or --proposals with --annotations"
        )
    threshold = _threshold(given)
    target = _json_target(given)
    if "proposals" in given.own:
        show_proposals(given, iou_type or "bbox", target)
        return 0
    check_options(given)
    judged = (evaluate_file if "results" in given.own else evaluate_checkpoint)(given, iou_type)
    show(judged.evaluation, threshold=threshold)
    more = {}
    if "compare" in given.own:
        comparison = compare_with(given, judged.evaluation, judged.rules, judged.iou_type)
        show_comparison(comparison, str(other_file(given, judged.iou_type)))
        more = {"comparison": comparison.as_json()}
    if target is not None:
        judged.evaluation.save(target, more=more)
        print(f"All numbers are in {target}")
    return 0


@dataclass(frozen=True)
class Judged:
    """An evaluation, and what it was made by."""

    evaluation: Evaluation
    rules: Rules
    iou_type: IouType


def evaluate_file(given: Given, iou_type: IouType | None) -> Judged:
    """Numbers of a file or folder of results."""
    from rankdet.eval import read_results
    from rankdet.eval.suspicions import warn_of_suspicions

    truth, kind = _annotations(given, "results"), iou_type or "bbox"
    rules = _rules(truth, kind, given)
    if rules.name != "COCO":
        print(f"{given.own['annotations']} is evaluated by the rules of {rules.name}")
    convert = given.own.get("convert", "")
    with telling() as told:
        detections = read_results(given.own["results"], rules.truth, iou_type=kind, convert=convert)
        warn_of_suspicions(rules.truth, detections)
    if isinstance(truth, dict) and kind == "bbox" and not _are_keypoints(given):
        _tell_voc(truth, detections)
    evaluation = rules.evaluate(detections)
    if len(detections):
        tell_of_ids(rules.truth, evaluation, told)
    return Judged(evaluation, rules, kind)


def _rules(truth: Path | dict[str, Any], iou_type: IouType, given: Given) -> Rules:
    """The ground truth and its rules; those of keypoints where they are asked for."""
    from rankdet.eval import LVISRules, PerClass, read_rules
    from rankdet.eval.keypoints import read_keypoint_rules

    if _are_keypoints(given):
        return read_keypoint_rules(truth, sigmas=_sigmas(given))
    rules = read_rules(truth, iou_type=iou_type, area_ranges=sizes_of(given))
    if "fixed-ap" not in given.own:
        return rules
    if not isinstance(rules, LVISRules):
        raise CommandError(f"--fixed-ap is for LVIS, but {given.own['annotations']} is not in its format")
    return replace(rules, max_detections=PerClass(), name="LVIS, with Fixed AP")


def _are_keypoints(given: Given) -> bool:
    return given.own.get("iou-type") == KEYPOINTS


def _sigmas(given: Given) -> list[float] | None:
    text = given.own.get("sigmas")
    try:
        return None if text is None else [float(number) for number in text.split(",")]
    except ValueError:
        raise CommandError(f"--sigmas must be numbers separated by commas, one for each keypoint, got {text}") from None


def show_proposals(given: Given, iou_type: IouType, target: Path | None) -> None:
    """Print the recall of a file of proposals, and write it."""
    import json

    from rankdet.eval import evaluate_proposals
    from rankdet.eval.undefined import numbers_as_json
    from rankdet.train.files import write_text

    if "threshold" in given.own:
        raise CommandError("--threshold is about detections; proposals have none, leave it out")
    with telling():
        metrics = evaluate_proposals(
            _annotations(given, "proposals"),
            given.own["proposals"],
            iou_type=iou_type,
            convert=given.own.get("convert", ""),
        )
    print("\n".join(_lines(metrics)))
    if target is not None:
        write_text(target, json.dumps(numbers_as_json(metrics), indent=2, allow_nan=False))
        print(f"All numbers are in {target}")


def evaluate_checkpoint(given: Given, iou_type: IouType | None) -> Judged:
    """Numbers of a model on the validation images of its configuration, or on others."""
    from rankdet.cli.inference import check_categories, choose_device, open_model, open_validation
    from rankdet.eval import Evaluator, iou_types_of, read_results
    from rankdet.eval.inference import without_score_threshold
    from rankdet.eval.rules import too_few_detections
    from rankdet.train.display import Display

    if "annotations" in given.own:
        raise CommandError("--annotations goes with --results; other images for a checkpoint: --data.val DATA")
    if "convert" in given.own:
        raise CommandError("--convert goes with --results; the detections of a checkpoint are as they should be")
    trusted = given.take("trust")
    validation, model_plan = open_validation(
        given.files, given.overrides, checkpoint=given.own["checkpoint"], trusted=trusted
    )
    classes = len(validation.data.categories)
    model, record = open_model(given.own["checkpoint"], plan=model_plan, num_classes=classes, trusted=trusted)
    check_categories(record, validation.data.categories, checkpoint=given.own["checkpoint"])
    display = Display()
    display.print(f"{given.own['checkpoint']}: {type(model).__name__}\n{validation.data.report.summary()}")
    kinds = (iou_type,) if iou_type else iou_types_of(model)
    truth = validation.data.ground_truth()
    evaluate = Evaluator(truth, iou_types=kinds, area_ranges=sizes_of(given))
    if evaluate.rules.name != "COCO":
        display.print(f"The validation images are evaluated by the rules of {evaluate.rules.name}")
    if note := too_few_detections(model, evaluate.rules):
        display.print(note)
    with without_score_threshold(model) as threshold:
        results = validation.detect(
            model.to(choose_device(given.take("device"))), record, masks="segm" in kinds, display=display
        )
    kept = [row for row in results if row["score"] >= (threshold or 0.0)]
    if target := given.take("save-results"):
        _write_results(Path(target), kept)
    evaluation = evaluate(kept)
    if threshold:
        _tell_cost(evaluate(results), evaluation, threshold)
    if "bbox" in kinds:
        _tell_voc(truth, read_results(kept, evaluate.rules.truth))
    return Judged(evaluation, evaluate.rules, kinds[0])


def show(evaluation: Evaluation, *, threshold: float | None = None) -> None:
    """The table, the numbers of COCO or LVIS below it, how scores tell IoUs, and LRP at a score threshold."""
    from rankdet.eval import score_iou_correlation
    from rankdet.train.display import Display

    display = Display()
    display.print(evaluation.table())
    display.print("\n".join(_lines(evaluation.metrics)))
    if math.isnan(evaluation.metrics["AP"]):
        display.print("The ground truth has no object that counts, so AP and oLRP are undefined (–)")
    assert evaluation.details is not None, "what has just been evaluated has details"
    correlation = score_iou_correlation(evaluation.details.matches)
    numbers = f"Pearson {_number(correlation.pearson)}  Spearman {_number(correlation.spearman)}"
    display.print(f"correlation of score and IoU of the true positives  {numbers}")
    if threshold is not None:
        display.print("\n".join(_at_threshold(evaluation, threshold)))


def _lines(metrics: Mapping[str, float]) -> list[str]:
    """Those of the numbers that the table does not have: by size and frequency, and recall."""
    recalls = [name[3:] for name in metrics if name.startswith("AR_")]
    limits, sizes = ([name for name in recalls if name.isdecimal() == count] for count in (True, False))
    groups = [("AP", sizes), ("AP", _FREQUENCIES), ("AR", limits), ("AR", sizes), ("oLRP", sizes)]
    lines = [[f"{kind}_{name}" for name in names] for kind, names in (*groups, ("oLRP", _FREQUENCIES))]
    present = [[name for name in line if name in metrics] for line in lines]
    return ["  ".join(f"{name} {_number(metrics[name])}" for name in line) for line in present if line]


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
    overall = "  ".join(f"{name} {_number(mean_of_defined(column[:, 0]))}" for name, column in columns.items())
    values = found.value[:, 0]
    worst = sorted(np.flatnonzero(~np.isnan(values)).tolist(), key=lambda place: -values[place])[:_WORST]
    names = ", ".join(f"{evaluation.per_class[place].name} {values[place]:.3f}" for place in worst)
    return [f"with the score threshold {threshold:g}: {overall}"] + ([f"  worst LRP: {names}"] if names else [])


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _tell_cost(everything: Evaluation, kept: Evaluation, threshold: float) -> None:
    lost = everything.metrics["AP"] - kept.metrics["AP"]
    if math.isnan(lost):
        return
    remedy = "; without it: --model.init_args.postprocess.init_args.score_threshold null" if lost > _NOTABLE_AP else ""
    print(f"The configuration states a score threshold of {threshold:g}, which costs {max(lost, 0):.3f} AP{remedy}")


def _tell_voc(truth: dict[str, Any], detections: Detections) -> None:
    """VOC's own numbers, if the data are VOC's: they say which objects are difficult."""
    from rankdet.eval import area_under_curve, eleven_points
    from rankdet.eval.voc import evaluate_voc_detections, read_voc_truth

    if any("difficult" in annotation for annotation in truth["annotations"]):
        area, eleven = (
            evaluate_voc_detections(read_voc_truth(truth), detections, interpolation=curve).mean_average_precision
            for curve in (area_under_curve, eleven_points)
        )
        print(f"VOC's mAP at IoU 0.5: {_number(area)}, at 11 points as in VOC 2007: {_number(eleven)}")


def _write_results(target: Path, results: list[dict[str, object]]) -> None:
    import json

    from rankdet.train.files import write_text

    write_text(target, json.dumps(results))
    print(f"The detections are in {target}")


def _annotations(given: Given, subject: str) -> Path | dict[str, Any]:
    """The ground truth, a COCO or LVIS file or the content of a VOC folder."""
    from rankdet.data.files import coco_file

    if "annotations" not in given.own:
        raise CommandError(f"--{subject} needs --annotations, the ground truth: a COCO or LVIS file, or a VOC folder")
    if given.files or given.overrides:
        raise CommandError(f"--{subject} is evaluated as it is; leave --config and the keys of a configuration out")
    if "save-results" in given.own:
        raise CommandError("--save-results goes with --checkpoint; the detections are in a file already")
    place = Path(given.own["annotations"])
    if file := place if place.is_file() else coco_file(place):
        return file
    from rankdet.data import VOCDetection, open_dataset

    dataset = open_dataset(given.own["annotations"], shapes_seed=1)
    if isinstance(dataset, VOCDetection):
        print(f"In {given.own['annotations']} {dataset.ids_in_words()}")
    return dataset.ground_truth()


def _json_target(given: Given) -> Path | None:
    """Where the numbers go; `CommandError` before anything is computed if they cannot go there."""
    if "json" not in given.own:
        return None
    target = Path(given.own["json"])
    if target.is_dir() or not target.parent.is_dir():
        raise CommandError(f"--json {target} cannot be written: give a file in a folder that there is")
    return target


def _threshold(given: Given) -> float | None:
    text = given.take("threshold")
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        raise CommandError(f"--threshold must be a score, such as 0.5, got {text}") from None


def _iou_type(given: Given) -> IouType | None:
    text = given.take("iou-type")
    if text not in (None, "bbox", "segm", KEYPOINTS):
        raise CommandError(f"--iou-type must be bbox, segm or keypoints, got {text}")
    if text == KEYPOINTS and ("results" not in given.own or "sizes" in given.own):
        raise CommandError("--iou-type keypoints goes with --results, and has sizes of its own: leave --sizes out")
    if "sigmas" in given.own and text != KEYPOINTS:
        raise CommandError("--sigmas goes with --iou-type keypoints")
    return "segm" if text == "segm" else "bbox" if text == "bbox" else None
