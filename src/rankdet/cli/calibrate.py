"""``rankdet calibrate``: scores that mean something, of a checkpoint or of results from any tool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankdet.cli.calibrate_results import calibrate_results
from rankdet.cli.calibrating import METHODS, draw_diagram, fitted, fitting_of, summary_of, tell_errors, tell_fitted
from rankdet.cli.calibrating import OPTIONS as FITTING
from rankdet.cli.errors import CommandError
from rankdet.cli.options import (
    CONFIG,
    DEVICE,
    HELP,
    RUN_CHECKPOINT,
    TRUST,
    Given,
    Option,
    describe_options,
    read_options,
)
from rankdet.cli.results import CONVERT, describe_conversions
from rankdet.cli.values import target_file

if TYPE_CHECKING:
    from torch import Tensor

    from rankdet.cli.inference import Validation
    from rankdet.eval import Detections, Rules
    from rankdet.eval.columns import IouType
    from rankdet.eval.score_calibration import FittedScores
    from rankdet.eval.score_mapping import ScoreMapping
    from rankdet.predictor import Predictor
    from rankdet.train.display import Display

OPTIONS = {
    "checkpoint": RUN_CHECKPOINT,
    "results": Option("FILE", "instead of a checkpoint: results from any tool (COCO's JSON, or a folder of txt files)"),
    "output": Option(
        "FILE", "the calibrated checkpoint or results to write, with a reliability diagram next to it, as .svg"
    ),
    **FITTING,
    "annotations": Option("DATA", "with --results: the ground truth, as for rankdet eval"),
    "mapping": Option("FILE", "with --results: apply this mapping, which a calibration of other results saved"),
    "iou-type": Option("TYPE", "with --results: bbox (default) or segm"),
    "convert": CONVERT,
    "config": CONFIG,
    "device": Option(DEVICE.value, f"with --checkpoint: {DEVICE.help}"),
    "trust": TRUST,
    "help": HELP,
}
USAGE = """\
usage: rankdet calibrate --checkpoint FILE --output FILE [--method METHOD] [--data.val DATA] [--KEY VALUE ...]
       rankdet calibrate --results FILE --annotations DATA --output FILE [--method METHOD]
       rankdet calibrate --results FILE --mapping FILE --output FILE [--annotations DATA]

Maps the scores of each class without changing their order. Do not use the images of the final test. Methods:

  shift        puts the score threshold where the LRP of a class is lowest at 0.5, for every class
  temperature  a factor on the logits, fitted to the IoU of the detections
  platt        a factor and a shift, fitted to the IoU
  isotonic     a table that never falls, fitted to the IoU

The first three go into the weights of the classifier; detectors whose scores are not sigmoids of it alone are refused.
A table is stored with the checkpoint, and works for any detector. Of results, the mapping is saved beside them.

examples:
  rankdet calibrate --checkpoint runs/demo/best.ckpt --output demo_calibrated.ckpt
  rankdet calibrate --checkpoint runs/demo/best.ckpt --method platt --output demo_platt.ckpt
  rankdet calibrate --results r.json --annotations gt.json --method isotonic --output calibrated.json
  rankdet calibrate --results more.json --mapping calibrated.mapping.json --output more_calibrated.json
"""
_TRAINING_STATE = ("optimizer_states", "lr_schedulers", "loops", "callbacks", "hparams_name", "rankdet_progress")
_OF_RESULTS = ("annotations", "mapping", "iou-type", "convert")
_OF_CHECKPOINTS = ("config", "device", "trust")


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0 when the calibrated checkpoint or results are written."""
    given = read_options(arguments, OPTIONS)
    if "help" in given.own:
        print(
            f"{USAGE}\noptions:\n{describe_options(OPTIONS)}\n\n{describe_conversions()}\n\n"
            "and keys of the configuration, such as --data.val"
        )
        return 0
    _check_options(given)
    target = target_file(given, "output")
    source = given.own.get("checkpoint") or given.own["results"]
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise CommandError(f"--output {target} is what is to be calibrated; give another name, it is never overwritten")
    (calibrate if "checkpoint" in given.own else calibrate_results)(source, target, given)
    return 0


def _check_options(given: Given) -> None:
    if ("checkpoint" in given.own) == ("results" in given.own):
        raise CommandError(
            f"one of --checkpoint FILE and --results FILE is needed: {OPTIONS['checkpoint'].help}, or results"
        )
    if "output" not in given.own:
        raise CommandError(f"--output FILE is needed: {OPTIONS['output'].help}")
    useless = _OF_RESULTS if "checkpoint" in given.own else _OF_CHECKPOINTS
    if wrong := [name for name in useless if name in given.own]:
        other = "results" if "checkpoint" in given.own else "checkpoint"
        raise CommandError(f"--{wrong[0]} goes with --{other}")
    if "results" in given.own and not {"annotations", "mapping"} & set(given.own):
        raise CommandError("--results needs --annotations, the ground truth to fit to, or --mapping, one to apply")
    if wrong := [name for name in FITTING if name in given.own and "mapping" in given.own]:
        raise CommandError(f"--{wrong[0]} does not go with --mapping, which is fitted already")


def calibrate(source: str, target: Path, given: Given) -> None:
    """Detect, fit, detect again with the calibrated model, and write."""
    from rankdet.cli.inference import check_categories, choose_device, open_predictor, open_validation
    from rankdet.eval import iou_types_of, read_rules
    from rankdet.eval.score_calibration import assess_scores, of_images
    from rankdet.train.display import Display

    trusted, display, fitting = given.take("trust"), Display(), fitting_of(given)
    validation, plan = open_validation(given.files, given.overrides, checkpoint=source, trusted=trusted)
    categories = validation.data.categories
    predictor = open_predictor(source, plan=plan, num_classes=len(categories), trusted=trusted)
    check_categories(predictor, categories, checkpoint=source)
    _check_model(predictor, source, folded=fitting.method != "isotonic")
    display.print(f"{source}: {type(predictor.model).__name__}\n{validation.data.report.summary()}")
    predictor.to(choose_device(given.take("device")))
    iou_type = iou_types_of(predictor.model)[0]
    rules = read_rules(validation.data.ground_truth(), iou_type=iou_type)

    found = detected(predictor, validation, rules, iou_type=iou_type, display=display)
    outcome, reported = fitted(rules, found, fitting)
    before = assess_scores(*of_images(rules, found, reported), outcome.before)
    changed = calibrate_predictor(predictor, outcome, fold=fitting.method != "isotonic")
    found = detected(predictor, validation, rules, iou_type=iou_type, display=display)
    after = assess_scores(*of_images(rules, found, reported), outcome.after)

    everything = rules.evaluate(replace(found, scores=found.rank_values, logits=None))
    summary = summary_of(fitting, before, after)
    write_calibrated(source, target, predictor, outcome.mapping, summary, metrics=everything.metrics)
    diagram = draw_diagram(target, before, after)
    tell_fitted(outcome, fitting, reported, display)
    tell_errors(before, after, display)
    difference = after.metrics["AP"] - before.metrics["AP"]
    if abs(difference) > 1e-4:
        display.print(f"AP changed by {difference:+.4f}: {changed}")
    display.print(f"The calibrated model is in {target}; {diagram}")


def calibrate_predictor(predictor: Predictor, outcome: FittedScores, *, fold: bool) -> str:
    """Put the mapping into the classifier of the model, or give it to the predictor; why AP may change by that."""
    import torch

    mapping = outcome.mapping.of_categories(predictor.categories.ids)
    if not fold:
        predictor.mapping = mapping
        return "a table gives several detections the same score, and their order is lost"
    lines = torch.tensor([(line.slope, line.bias) for line in mapping.classes], dtype=torch.float64)  # type: ignore[union-attr]
    predictor.model.rescale_logits(*lines.unbind(1))  # type: ignore[operator]
    return (
        "the order within each class is the same, but the limits on detections (max_detections, pre_nms) now choose "
        "between the classes by calibrated scores"
    )


def detected(
    predictor: Predictor, validation: Validation, rules: Rules, *, iou_type: IouType, display: Display
) -> Detections:
    """What the model finds, without a score threshold, with logits, which do not saturate as scores do."""
    import torch

    from rankdet.eval import read_results, to_results
    from rankdet.eval.inference import without_score_threshold
    from rankdet.eval.score_mapping import logits_of

    results: list[dict[str, Any]] = []
    logits: list[Tensor] = []
    with without_score_threshold(predictor.model):
        for number, found in validation.detections(predictor, masks=iou_type == "segm", display=display):
            if "mask_scores" in found:
                raise CommandError(
                    f"the masks of this {type(predictor.model).__name__} have scores of their own, which no logit "
                    "stands for; calibrate its results: rankdet eval --save-results, then calibrate --results"
                )
            results += to_results(found, image_id=number, categories=validation.data.categories)
            own = found.get("logits")
            scores = found["scores"].double().numpy()
            logits.append(torch.from_numpy(logits_of(scores)) if own is None else own.double())
    if not results:
        raise CommandError("the model detects nothing in the validation images, so there is nothing to calibrate")
    read = read_results(results, rules.truth, iou_type=iou_type)
    return rules.counted(replace(read, logits=torch.cat(logits).numpy()))


def write_calibrated(
    source: str,
    target: Path,
    predictor: Predictor,
    mapping: ScoreMapping,
    summary: dict[str, Any],
    *,
    metrics: dict[str, float],
) -> None:
    """A checkpoint with the weights or the table of the predictor, its new thresholds, and no state of a training."""
    import torch

    from rankdet.models import Detector
    from rankdet.ops.checkpoint import KEY, PREFIX, read_checkpoint
    from rankdet.ops.writing import replacing

    model = predictor.model
    content = {name: value for name, value in read_checkpoint(source).items() if name not in _TRAINING_STATE}
    weights = {PREFIX + name: value.cpu() for name, value in model.state_dict().items()}
    content["state_dict"] = content["state_dict"] | weights
    content[KEY] = content[KEY] | {
        "metrics": {name: float(value) for name, value in metrics.items()},
        "thresholds": dict(zip(map(str, mapping.category_ids), mapping.thresholds, strict=True)),
        "calibration": {**summary, "mapping": mapping.to_dict()},
    }
    if isinstance(model, Detector):
        content[KEY] |= {"model": model.plan()}
    if predictor.mapping is not None:
        content[KEY] |= {"score_mapping": predictor.mapping.to_dict()}
    with replacing(target) as partial:
        torch.save(content, partial)


def _check_model(predictor: Predictor, source: str, *, folded: bool) -> None:
    from rankdet.models import Detector
    from rankdet.models.shifting import check_shiftable

    model = predictor.model
    if predictor.mapping is not None:
        raise CommandError(f"{source} has a table of scores already; calibrate the checkpoint that it was made of")
    if not folded:
        return
    advice = f"; or take --method {METHODS[-1]}, a table that works for any detector"
    if not isinstance(model, Detector):
        raise CommandError(
            f"{type(model).__name__} does not say where its classifier is, as detectors of rankdet do (Detector."
            f"class_layers), so that its weights cannot be calibrated; deploy it with the thresholds in its checkpoint"
            f"{advice}"
        )
    try:
        check_shiftable(model)
    except ValueError as error:
        raise CommandError(f"{error}{advice}") from error
