"""By which rules ``eval`` judges: boxes, masks, their boundaries, or keypoints, of COCO or LVIS."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rankdet.cli.errors import CommandError
from rankdet.cli.options import Given, Option
from rankdet.cli.results import BY, SIZES, properties_of, sizes_of

if TYPE_CHECKING:
    from rankdet.eval import Evaluation
    from rankdet.eval.rules import Rules

IouType = Literal["bbox", "segm"]
KINDS = ("bbox", "segm", "boundary", "keypoints")
OPTIONS = {
    "iou-type": Option(
        "TYPE",
        "bbox or segm; with --results also boundary (of masks) or keypoints; by default bbox, or both of the first two "
        "for a model that predicts masks",
    ),
    "sizes": SIZES,
    "by": BY,
    "fixed-ap": Option(None, "with --results, for LVIS: count 10,000 detections per class instead of 300 per image"),
    "dilation": Option("SHARE", "with --iou-type boundary: its width as a share of the image's diagonal; default 0.02"),
    "sigmas": Option("NUMBERS", "with --iou-type keypoints: one per keypoint, separated by commas; default COCO's"),
}
_ONLY_WITH = {"dilation": "boundary", "sigmas": "keypoints"}


@dataclass(frozen=True)
class Judged:
    """An evaluation, and what it was made by."""

    evaluation: Evaluation
    rules: Rules
    iou_type: IouType


def kind_of(given: Given) -> str | None:
    """What is to be compared, None for what suits the model; `CommandError` for options that do not go together."""
    kind = given.own.get("iou-type")
    if kind not in (None, *KINDS):
        raise CommandError(f"--iou-type must be one of {', '.join(KINDS)}, got {kind}")
    for name, wanted in _ONLY_WITH.items():
        if name in given.own and kind != wanted:
            raise CommandError(f"--{name} goes with --iou-type {wanted}")
    if "results" not in given.own and (kind in _ONLY_WITH.values() or "fixed-ap" in given.own):
        raise CommandError(f"{'--fixed-ap' if 'fixed-ap' in given.own else f'--iou-type {kind}'} goes with --results")
    if "results" not in given.own and "by" in given.own:
        raise CommandError(
            "--by goes with --results; write the detections of a checkpoint to a file with --save-results first"
        )
    if kind == "keypoints" and {"sizes", "by", "fixed-ap"} & set(given.own):
        raise CommandError("keypoints have their own sizes and limits; leave out --sizes, --by and --fixed-ap")
    return kind


def boxes_or_masks(given: Given) -> IouType | None:
    """What ``--iou-type`` says where boxes and masks can be compared; None where it says nothing."""
    kind = given.own.get("iou-type")
    if kind not in (None, "bbox", "segm"):
        raise CommandError(f"--iou-type must be bbox or segm, got {kind}")
    return shapes_of(kind)


def shapes_of(kind: str | None) -> IouType | None:
    """Which shapes of the results are read for it."""
    return "segm" if kind in ("segm", "boundary") else "bbox" if kind is not None else None


def rules_for(truth: Path | dict[str, Any], kind: str, given: Given) -> Rules:
    """The ground truth, and the rules that were asked for."""
    from rankdet.eval import BoundaryRules, LVISRules, PerClass, read_rules
    from rankdet.eval.keypoints import read_keypoint_rules

    sigmas, dilation = _numbers(given, "sigmas"), _numbers(given, "dilation")
    if kind == "keypoints":
        return read_keypoint_rules(truth, sigmas=sigmas)
    rules = read_rules(
        truth,
        iou_type="bbox" if kind == "bbox" else "segm",
        area_ranges=sizes_of(given),
        properties=properties_of(given),
    )
    if "fixed-ap" in given.own:
        if not isinstance(rules, LVISRules):
            raise CommandError(f"--fixed-ap is for LVIS, but {given.own['annotations']} is not in its format")
        rules = replace(rules, max_detections=PerClass(), name="LVIS, with Fixed AP")
    return BoundaryRules(rules, *(dilation or [])[:1]) if kind == "boundary" else rules


def _numbers(given: Given, name: str) -> list[float] | None:
    text = given.own.get(name)
    try:
        return None if text is None else [float(number) for number in text.split(",")]
    except ValueError:
        raise CommandError(f"--{name} must be numbers, got {text}") from None
