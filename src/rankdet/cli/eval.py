"""``rankdet eval``: AP and oLRP of a checkpoint on validation images, or of a file of results of any tool."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rankdet.cli.errors import CommandError
from rankdet.cli.options import CONFIG, HELP, Given, Option, describe_options, read_options

if TYPE_CHECKING:
    from rankdet.eval import Evaluation

IouType = Literal["bbox", "segm"]
OPTIONS = {
    "checkpoint": Option("FILE", "best.ckpt of a run; its config.yaml is used unless --config says otherwise"),
    "config": CONFIG,
    "results": Option("FILE", "instead of a checkpoint: detections of any tool, as COCO results"),
    "annotations": Option("FILE", "with --results: the ground truth, in COCO's format"),
    "iou-type": Option(
        "TYPE", "bbox or segm; by default segm with boxes beside for a model that draws masks, else bbox"
    ),
    "json": Option("FILE", "write all numbers there too"),
    "save-results": Option("FILE", "with --checkpoint: write its detections there, as COCO results"),
    "device": Option("DEVICE", "with --checkpoint: cpu, cuda, cuda:1, mps; by default the best there is"),
    "trust": Option("PACKAGE", "build the model from classes of this package, too, if the checkpoint names them"),
    "help": HELP,
}
_MORE = (
    ("AP_small", "AP_medium", "AP_large"),
    ("AR_1", "AR_10", "AR_100"),
    ("oLRP_small", "oLRP_medium", "oLRP_large"),
)
_NOTABLE_AP = 0.0005
USAGE = """\
usage: rankdet eval --checkpoint FILE [--config FILE] [--data.val DATA] [--KEY VALUE ...]
       rankdet eval --results FILE --annotations FILE [--iou-type segm] [--json FILE]

AP and AR as COCO defines them, and oLRP with its components and the optimal score threshold of each class.

examples:
  rankdet eval --checkpoint runs/demo/best.ckpt
  rankdet eval --checkpoint best.ckpt --data.val instances_val2017.json --data.batch_size 4
  rankdet eval --results detections.json --annotations instances_val2017.json --json metrics.json
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0 when there are numbers."""
    given = read_options(arguments, OPTIONS)
    if "help" in given.own:
        print(
            f"{USAGE}\noptions:\n{describe_options(OPTIONS)}\n\nand the keys of a configuration: rankdet train --help"
        )
        return 0
    iou_type = _iou_type(given)
    if (given.take("results") is None) == (given.take("checkpoint") is None):
        raise CommandError("what is to be evaluated? Give either --checkpoint FILE, or --results with --annotations")
    evaluation = (evaluate_file if given.take("results") else evaluate_checkpoint)(given, iou_type)
    show(evaluation)
    if target := given.take("json"):
        evaluation.save(target)
        print(f"All numbers are in {target}")
    return 0


def evaluate_file(given: Given, iou_type: IouType | None) -> Evaluation:
    """Numbers of a results file."""
    from rankdet.eval import evaluate

    annotations = given.take("annotations")
    if annotations is None:
        raise CommandError("--results needs --annotations, the ground truth in COCO's format")
    if given.files or given.overrides:
        raise CommandError("--results is evaluated as it is; leave --config and the keys of a configuration out")
    return evaluate(annotations, given.own["results"], iou_type=iou_type or "bbox")


def evaluate_checkpoint(given: Given, iou_type: IouType | None) -> Evaluation:
    """Numbers of a model on the validation images of its configuration, or on others."""
    from rankdet.cli.inference import check_categories, choose_device, open_model, open_validation
    from rankdet.eval import Evaluator, iou_types_of
    from rankdet.eval.inference import without_score_threshold
    from rankdet.train.display import Display

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
    evaluate = Evaluator(validation.data.ground_truth(), iou_types=kinds)
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
    return evaluation


def show(evaluation: Evaluation) -> None:
    """The table, and the numbers of COCO below it."""
    from rankdet.train.display import Display

    display, metrics = Display(), evaluation.metrics
    display.print(evaluation.table())
    for names in _MORE:
        display.print("  ".join(f"{name} {metrics[name]:.3f}" if metrics[name] >= 0 else f"{name} –" for name in names))


def _tell_cost(everything: Evaluation, kept: Evaluation, threshold: float) -> None:
    lost = everything.metrics["AP"] - kept.metrics["AP"]
    remedy = "; without it: --model.init_args.postprocess.init_args.score_threshold null" if lost > _NOTABLE_AP else ""
    print(f"The configuration states a score threshold of {threshold:g}, which costs {max(lost, 0):.3f} AP{remedy}")


def _write_results(target: Path, results: list[dict[str, object]]) -> None:
    import json

    from rankdet.train.files import write_text

    write_text(target, json.dumps(results))
    print(f"The detections are in {target}")


def _iou_type(given: Given) -> IouType | None:
    text = given.take("iou-type")
    if text not in (None, "bbox", "segm"):
        raise CommandError(f"--iou-type must be bbox or segm, got {text}")
    return "segm" if text == "segm" else "bbox" if text == "bbox" else None
