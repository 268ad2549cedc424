"""``rankdet eval``: AP and oLRP of a checkpoint on validation images, or of results from any tool."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rankdet.cli.comparing import OPTIONS as COMPARE
from rankdet.cli.comparing import check_options, compare_with, other_file, show_comparison
from rankdet.cli.errors import CommandError
from rankdet.cli.judging import OPTIONS as JUDGING
from rankdet.cli.judging import IouType, Judged, kind_of, rules_for, shapes_of
from rankdet.cli.looking import OPTIONS as LOOKS
from rankdet.cli.looking import check_looks, looking
from rankdet.cli.numbers import lines_of, show, tell_cost, tell_voc
from rankdet.cli.options import (
    CONFIG,
    DEVICES,
    HELP,
    RUN_CHECKPOINT,
    TRUST,
    Given,
    Option,
    describe_options,
    read_options,
)
from rankdet.cli.results import CONVERT, describe_conversions, sizes_of, tell_of_ids, telling
from rankdet.cli.values import json_target

OPTIONS = {
    "checkpoint": RUN_CHECKPOINT,
    "config": CONFIG,
    "results": Option("FILE", "instead of a checkpoint: results from any tool (COCO's JSON, or a folder of txt files)"),
    "proposals": Option("FILE", "instead of a checkpoint: proposals as COCO results; prints their recall"),
    "panoptic": Option(
        "FILE", "instead of a checkpoint: panoptic results in COCO's format, with a folder of PNG files next to it"
    ),
    "annotations": Option(
        "DATA", "with --results or --proposals: the ground truth, a COCO or LVIS file, a VOC folder or a YOLO file"
    ),
    "threshold": Option("SCORE", "also print the LRP of the detections with at least this score"),
    "convert": CONVERT,
    **COMPARE,
    **JUDGING,
    "json": Option("FILE", "also write all metrics to this file"),
    "save-results": Option("FILE", "with --checkpoint: write its detections to this file, as COCO results"),
    **LOOKS,
    "device": Option(DEVICES.value, f"with --checkpoint: {DEVICES.help}"),
    "trust": TRUST,
    "help": HELP,
}
USAGE = """\
usage: rankdet eval --checkpoint FILE [--config FILE] [--data.val DATA] [--KEY VALUE ...]
       rankdet eval --results FILE --annotations FILE [--iou-type segm|keypoints] [--compare FILE] [--json FILE]
       rankdet eval --proposals FILE --annotations FILE [--iou-type segm] [--json FILE]
       rankdet eval --panoptic FILE --annotations FILE [--json FILE]

Prints AP and AR as COCO defines them, and oLRP with its parts and the best score threshold of each class. A ground
truth in LVIS' format is evaluated by the rules of LVIS. For proposals, prints the recall of the first 100, 300 and 1000
of each image, whatever their class; for panoptic results, PQ and LRP.

examples:
  rankdet eval --checkpoint runs/demo/best.ckpt
  rankdet eval --checkpoint best.ckpt --data.val instances_val2017.json --data.batch_size 4
  rankdet eval --checkpoint best.ckpt --data.val aerial.json --tiles 800
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
    kind = kind_of(given)
    if sum(subject in given.own for subject in ("checkpoint", "results", "proposals", "panoptic")) != 1:
        raise CommandError(
            "give one thing to evaluate: --checkpoint FILE, or --results, --proposals or --panoptic FILE with "
            "--annotations FILE"
        )
    threshold = _threshold(given)
    target = json_target(given)
    if "proposals" in given.own:
        show_proposals(given, shapes_of(kind) or "bbox", target)
        return 0
    if "panoptic" in given.own:
        show_panoptic(given, target)
        return 0
    check_options(given)
    if "results" in given.own:
        if useless := set(LOOKS) & set(given.own):
            raise CommandError(f"--{min(useless)} goes with --checkpoint; these detections are made already")
        judged = evaluate_file(given, kind or "bbox")
    else:
        judged = evaluate_checkpoint(given, shapes_of(kind))
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


def evaluate_file(given: Given, kind: str) -> Judged:
    """Numbers of a file or folder of results."""
    from rankdet.eval import read_results
    from rankdet.eval.suspicions import warn_of_suspicions

    truth, iou_type = annotations_of(given, "results"), shapes_of(kind) or "bbox"
    with telling():
        rules = rules_for(truth, kind, given)
    if rules.name != "COCO":
        print(f"{given.own['annotations']} is evaluated by the rules of {rules.name}")
    convert = given.own.get("convert", "")
    with telling() as told:
        detections = read_results(given.own["results"], rules.truth, iou_type=iou_type, convert=convert)
        warn_of_suspicions(rules.truth, detections)
    if isinstance(truth, dict) and kind == "bbox":
        tell_voc(truth, detections)
    evaluation = rules.evaluate(detections)
    if len(detections):
        tell_of_ids(rules.truth, evaluation, told)
    return Judged(evaluation, rules, iou_type)


def show_proposals(given: Given, iou_type: IouType, target: Path | None) -> None:
    """Print the recall of a file of proposals, and write it."""
    import json

    from rankdet.eval import evaluate_proposals
    from rankdet.eval.undefined import numbers_as_json
    from rankdet.train.files import write_text

    if "threshold" in given.own:
        raise CommandError("--threshold does not go with --proposals; leave it out")
    with telling():
        metrics = evaluate_proposals(
            annotations_of(given, "proposals"),
            given.own["proposals"],
            iou_type=iou_type,
            convert=given.own.get("convert", ""),
        )
    print("\n".join(lines_of(metrics)))
    if target is not None:
        write_text(target, json.dumps(numbers_as_json(metrics), indent=2, allow_nan=False))
        print(f"All numbers are in {target}")


def show_panoptic(given: Given, target: Path | None) -> None:
    """Print the quality of panoptic results, and write it."""
    from rankdet.eval import evaluate_panoptic
    from rankdet.train.display import Display
    from rankdet.train.files import write_text

    if useless := set(given.own) - {"panoptic", "annotations", "json"}:
        raise CommandError(f"--{min(useless)} does not go with --panoptic")
    truth = annotations_of(given, "panoptic")
    if isinstance(truth, dict):
        raise CommandError("--panoptic needs a panoptic file of COCO's format as --annotations")
    with telling():
        evaluation = evaluate_panoptic(truth, given.own["panoptic"])
    Display().print(evaluation.table())
    if target is not None:
        write_text(target, evaluation.to_json())
        print(f"All numbers are in {target}")


def evaluate_checkpoint(given: Given, iou_type: IouType | None) -> Judged:
    """Numbers of a model on the validation images of its configuration, or on others."""
    from rankdet.cli.inference import check_categories, on_devices, open_predictor, open_validation
    from rankdet.eval import Evaluator, iou_types_of, read_results
    from rankdet.eval.inference import without_score_threshold
    from rankdet.eval.rules import too_few_detections
    from rankdet.train.display import Display

    if "annotations" in given.own:
        raise CommandError("--annotations goes with --results; other images for a checkpoint: --data.val DATA")
    if "convert" in given.own:
        raise CommandError("--convert goes with --results; the detections of a checkpoint need no conversion")
    check_looks(given)
    trusted = given.take("trust")
    validation, model_plan = open_validation(
        given.files, given.overrides, checkpoint=given.own["checkpoint"], trusted=trusted
    )
    classes = len(validation.data.categories)
    predictor = open_predictor(given.own["checkpoint"], plan=model_plan, num_classes=classes, trusted=trusted)
    check_categories(predictor, validation.data.categories, checkpoint=given.own["checkpoint"])
    model = predictor.model
    display = Display()
    display.print(f"{given.own['checkpoint']}: {type(model).__name__}\n{validation.data.report.summary()}")
    kinds = (iou_type,) if iou_type else iou_types_of(model)
    truth = validation.data.ground_truth()
    evaluate = Evaluator(truth, iou_types=kinds, area_ranges=sizes_of(given))
    if evaluate.rules.name != "COCO":
        display.print(f"The validation images are evaluated by the rules of {evaluate.rules.name}")
    if note := too_few_detections(model, evaluate.rules):
        display.print(note)
    if "tiles" in given.own:  # it is these that are resized
        predictor.resize, validation.resize = validation.resize or predictor.resize, None
    predictor = looking(predictor, given)
    with without_score_threshold(model) as threshold:
        on_devices(predictor, given.take("device"))
        results = validation.detect(predictor, masks="segm" in kinds, display=display)
    kept = [row for row in results if row["score"] >= (threshold or 0.0)]
    if target := given.take("save-results"):
        _write_results(Path(target), kept)
    evaluation = evaluate(kept)
    if threshold:
        tell_cost(evaluate(results), evaluation, threshold)
    if "bbox" in kinds:
        tell_voc(truth, read_results(kept, evaluate.rules.truth))
    return Judged(evaluation, evaluate.rules, kinds[0])


def _write_results(target: Path, results: list[dict[str, object]]) -> None:
    import json

    from rankdet.train.files import write_text

    write_text(target, json.dumps(results))
    print(f"The detections are in {target}")


def annotations_of(given: Given, subject: str) -> Path | dict[str, Any]:
    """The ground truth, a COCO or LVIS file or the content of another dataset."""
    from rankdet.data.files import coco_file
    from rankdet.data.yolo_folder import of_split

    if "annotations" not in given.own:
        raise CommandError(
            f"--{subject} needs --annotations, the ground truth: a COCO or LVIS file, a VOC folder or a YOLO file"
        )
    if given.files or given.overrides:
        raise CommandError(f"--{subject} needs no configuration; leave out --config and the keys of a configuration")
    if "save-results" in given.own:
        raise CommandError("--save-results goes with --checkpoint; these detections are in a file already")
    source = str(of_split(given.own["annotations"], "val"))
    place = Path(source)
    if file := place if place.is_file() else coco_file(place):
        return file  # which is no YAML file: those have a split by now
    from rankdet.data import VOCDetection, open_dataset

    dataset = open_dataset(source, masks=_wants_masks(given, source), shapes_seed=1)
    if isinstance(dataset, VOCDetection):
        print(f"In {given.own['annotations']} {dataset.ids_in_words()}")
    return dataset.ground_truth()


def _wants_masks(given: Given, source: str) -> bool:
    """Whether the masks of a YOLO dataset are to be read."""
    from rankdet.data.files import split_off
    from rankdet.data.yolo_folder import yolo_file

    return given.take("iou-type") == "segm" and yolo_file(split_off(source)[0]) is not None


def _threshold(given: Given) -> float | None:
    text = given.take("threshold")
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        raise CommandError(f"--threshold must be a score, such as 0.5, got {text}") from None
