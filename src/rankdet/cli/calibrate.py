"""``rankdet calibrate``: puts the best score threshold of every class at 0.5, by the biases of the classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankdet.cli.errors import CommandError
from rankdet.cli.options import CONFIG, HELP, RUN_CHECKPOINT, Given, Option, describe_options, read_options

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rankdet.cli.inference import Validation
    from rankdet.eval import Evaluation
    from rankdet.eval.calibration import Calibration
    from rankdet.eval.columns import IouType
    from rankdet.predictor import Predictor
    from rankdet.train.display import Display

OPTIONS = {
    "checkpoint": RUN_CHECKPOINT,
    "output": Option("FILE", "the calibrated checkpoint to write; its reliability diagram goes next to it, as .svg"),
    "config": CONFIG,
    "device": Option("DEVICE", "cpu, cuda, cuda:1 or mps; by default the best one available"),
    "trust": Option("PACKAGE", "also build classes of this package if the checkpoint names them"),
    "help": HELP,
}
USAGE = """\
usage: rankdet calibrate --checkpoint FILE --output FILE [--data.val DATA] [--KEY VALUE ...]

Finds the score threshold of each class at which its LRP is lowest, and shifts the classifier's biases so that it
becomes 0.5: one threshold for all classes, and the order of the detections of a class as it was. Do not use
the images of the final test. Detectors whose scores are not just sigmoids of their classifier are refused.

example:
  rankdet calibrate --checkpoint runs/demo/best.ckpt --output demo_calibrated.ckpt
"""
OPERATING_SCORE = 0.5
_TRAINING_STATE = ("optimizer_states", "lr_schedulers", "loops", "callbacks", "hparams_name", "rankdet_progress")


@dataclass(frozen=True)
class Judgement:
    """What a model gives on the validation data: its evaluation, with logits as scores, and its calibration errors.

    ``errors`` are those of all detections, ``deployed`` of those from the best threshold of their class on.
    """

    evaluation: Evaluation
    errors: Calibration
    deployed: Calibration


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0 when the calibrated checkpoint is written."""
    given = read_options(arguments, OPTIONS)
    if "help" in given.own:
        print(f"{USAGE}\noptions:\n{describe_options(OPTIONS)}\n\nand keys of the configuration, such as --data.val")
        return 0
    for needed in ("checkpoint", "output"):
        if needed not in given.own:
            raise CommandError(f"--{needed} {OPTIONS[needed].value} is needed: {OPTIONS[needed].help}")
    source, target = given.own["checkpoint"], Path(given.own["output"])
    _check_target(Path(source), target)
    calibrate(source, target, given)
    return 0


def calibrate(source: str, target: Path, given: Given) -> None:
    """Judge, shift, judge again, and write."""
    import torch

    from rankdet.cli.inference import check_categories, choose_device, open_predictor, open_validation
    from rankdet.eval import iou_types_of
    from rankdet.eval.calibration import shifts_to_zero
    from rankdet.eval.reliability import draw_reliability
    from rankdet.train.display import Display

    trusted, display = given.take("trust"), Display()
    validation, plan = open_validation(given.files, given.overrides, checkpoint=source, trusted=trusted)
    categories = validation.data.categories
    predictor = open_predictor(source, plan=plan, num_classes=len(categories), trusted=trusted)
    check_categories(predictor, categories, checkpoint=source)
    model = predictor.model
    _check_model(model)
    display.print(f"{source}: {type(model).__name__}\n{validation.data.report.summary()}")
    predictor.to(choose_device(given.take("device")))
    iou_type = iou_types_of(model)[0]

    before = judge(predictor, validation, iou_type=iou_type, display=display)
    by_category = shifts_to_zero(_matches(before))
    order = sorted(categories.ids)
    shifts = torch.tensor([by_category[order.index(number)] for number in categories.ids])
    model.shift_logits(shifts)  # type: ignore[operator]
    after = judge(predictor, validation, iou_type=iou_type, display=display)

    write_calibrated(source, target, model, after, shifts)
    draw_reliability({"before": before.deployed, "calibrated": after.deployed}, _picture(target))
    _tell(before, after, display)
    display.print(f"The calibrated model is in {target}, its reliability diagram in {_picture(target)}")


def judge(predictor: Predictor, validation: Validation, *, iou_type: IouType, display: Display) -> Judgement:
    """Evaluate by logits, which do not saturate as scores do, without a score threshold."""
    import torch

    from rankdet.eval import read_results, read_rules, to_results
    from rankdet.eval.calibration import calibration_error, shifts_to_zero
    from rankdet.eval.inference import without_score_threshold

    rules = read_rules(validation.data.ground_truth(), iou_type=iou_type)
    results: list[dict[str, Any]] = []
    logits: list[Tensor] = []
    with without_score_threshold(predictor.model):
        for number, found in validation.detections(predictor, masks=iou_type == "segm", display=display):
            results += to_results(found, image_id=number, categories=validation.data.categories)
            logits.append(found["logits"].double())
    if not results:
        raise CommandError("the model detects nothing in the validation images, so there is nothing to calibrate")
    read = read_results(results, rules.truth, iou_type=iou_type)
    detections = rules.counted(replace(read, logits=torch.cat(logits).numpy()))
    assert detections.logits is not None, "they have been given above"
    evaluation = rules.evaluate(replace(detections, scores=detections.logits))
    assert evaluation.details is not None, "evaluations have details"
    matches = evaluation.details.matches
    scored = replace(matches, scores=detections.scores[matches.chosen])
    kept = matches.scores >= -shifts_to_zero(matches)[matches.categories]
    return Judgement(evaluation, calibration_error(scored), calibration_error(scored, kept=kept))


def write_calibrated(source: str, target: Path, model: nn.Module, after: Judgement, shifts: Tensor) -> None:
    """A checkpoint with the weights of the model, 0.5 as the threshold of every class, and no state of a training."""
    import torch

    from rankdet.models import Detector
    from rankdet.ops.checkpoint import KEY, PREFIX, read_checkpoint

    assert isinstance(model, Detector), "other models have been refused"
    content = {name: value for name, value in read_checkpoint(source).items() if name not in _TRAINING_STATE}
    weights = {PREFIX + name: value.cpu() for name, value in model.state_dict().items()}
    content["state_dict"] = content["state_dict"] | weights
    content[KEY] = content[KEY] | {
        "model": model.plan(),
        "metrics": {name: float(value) for name, value in after.evaluation.metrics.items()},
        "thresholds": {str(number): OPERATING_SCORE for number in after.evaluation.thresholds},
        "calibration": {
            "shifts": shifts.tolist(),
            "d_ece": after.deployed.d_ece,
            "la_ece": after.deployed.la_ece,
        },
    }
    partial = target.with_name(f".{target.name}.partial")
    try:
        torch.save(content, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _tell(before: Judgement, after: Judgement, display: Display) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=0)
    for title in ("", "before", "calibrated"):
        table.add_column(title, justify="left" if not title else "right", min_width=11)
    for name in ("AP", "oLRP"):
        table.add_row(name, *(f"{judged.evaluation.metrics[name]:.4f}" for judged in (before, after)))
    for name, key in (("D-ECE", "d_ece"), ("LaECE", "la_ece")):
        for which, kind in (("deployed", "deployed"), ("all detections", "errors")):
            errors = [getattr(getattr(judged, kind), key) for judged in (before, after)]
            table.add_row(f"{name}, {which}", *(f"{value:.4f}" for value in errors))
    display.print(table)
    changed = after.evaluation.metrics["AP"] - before.evaluation.metrics["AP"]
    if abs(changed) > 1e-4:
        display.print(
            f"AP changed by {changed:+.4f}: the order within each class is the same, but the limits on detections "
            "(max_detections, pre_nms) now choose between the classes by calibrated scores"
        )


def _matches(judged: Judgement) -> Any:
    assert judged.evaluation.details is not None, "evaluations have details"
    return judged.evaluation.details.matches


def _check_model(model: nn.Module) -> None:
    from rankdet.models import Detector
    from rankdet.models.shifting import check_shiftable

    if not isinstance(model, Detector):
        raise CommandError(
            f"{type(model).__name__} does not say where its classifier is, as detectors of rankdet do (Detector."
            "class_layers), so that it cannot be calibrated; deploy it with the thresholds in its checkpoint"
        )
    check_shiftable(model)


def _check_target(source: Path, target: Path) -> None:
    if target.exists() and source.exists() and target.samefile(source):
        raise CommandError(f"--output {target} is the checkpoint itself, which is never overwritten; give another name")
    if target.is_dir() or not target.parent.is_dir():
        raise CommandError(f"--output {target} cannot be written; give a file in an existing folder")


def _picture(target: Path) -> Path:
    return target.with_suffix(".svg")
