"""What ``--compare`` does in ``eval`` and ``report``: two results on the same images, and what changed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rankdet.cli.errors import CommandError
from rankdet.cli.options import Given, Option
from rankdet.cli.results import telling

if TYPE_CHECKING:
    from rankdet.eval import Comparison, Evaluation
    from rankdet.eval.columns import IouType
    from rankdet.eval.comparison import ClassChange
    from rankdet.eval.rules import Rules

OPTIONS = {
    "compare": Option("OTHER", "compare with other results on the same images, or with a run that has a report"),
    "convert-other": Option("NAMES", "with --compare: like --convert, for the other results"),
    "resamples": Option("N", "with --compare: number of bootstrap draws for the intervals (default: 1000)"),
}
RESULTS_OF_RUNS: dict[IouType, str] = {"bbox": "results.json", "segm": "results_masks.json"}
"""Where `rankdet report` keeps the detections of a run."""
_MOST, _RESAMPLES = 5, "1000"


def check_options(given: Given) -> None:
    """`CommandError`, before anything is computed, for options that cannot be followed."""
    if "compare" in given.own:
        place = Path(given.own["compare"])
        if not place.exists():
            raise CommandError(f"--compare {place}: no such file; give other results on the same images")
        _resamples(given)
    elif unused := {"resamples", "convert-other"} & set(given.own):
        raise CommandError(f"--{min(unused)} goes with --compare OTHER")


def compare_with(given: Given, evaluation: Evaluation, rules: Rules, iou_type: IouType) -> Comparison:
    """Evaluate the other results by the same rules, and compare."""
    from rankdet.eval import compare, read_results
    from rankdet.eval.suspicions import warn_of_suspicions
    from rankdet.train.display import Display

    display = Display()
    with telling():
        convert = given.own.get("convert-other", "")
        found = read_results(other_file(given, iou_type), rules.truth, iou_type=iou_type, convert=convert)
        warn_of_suspicions(rules.truth, found)
    return compare(
        evaluation,
        rules.evaluate(found),
        resamples=_resamples(given),
        track=lambda loop: display.track(loop, "comparing"),
    )


def show_comparison(comparison: Comparison, name: str) -> None:
    """Print what changed from the other results, which have a name."""
    from rankdet.train.display import Display

    display = Display()
    display.print(f"\nCompared with {name}")
    display.print(comparison.table())
    display.print("\n".join(_lines(comparison)))


def other_file(given: Given, iou_type: IouType) -> Path:
    """The other results; those that `rankdet report` keeps in a run, where one is given."""
    place = Path(given.own["compare"])
    kept = place / RESULTS_OF_RUNS[iou_type]
    if kept.is_file():
        return kept
    if place.is_dir() and not any(place.glob("*.txt")):
        raise CommandError(
            f"--compare {place} has no {kept.name}; make it with `rankdet report {place}`, or give a results file"
        )
    return place


def _resamples(given: Given) -> int:
    text = given.own.get("resamples", _RESAMPLES)
    if not text.isdecimal() or int(text) < 1:
        raise CommandError(f"--resamples must be a number from 1, such as 1000, got {text}")
    return int(text)


def _lines(comparison: Comparison) -> Iterator[str]:
    yield f"difference: this - other; interval: the middle 95 % in {comparison.resamples} draws of as many images"
    yield "* the interval excludes 0: the difference is not due to the choice of images alone"
    found = comparison.found
    yield (
        f"objects found at the best thresholds: {found['both']} by both, {found['this']} only by this, "
        f"{found['other']} only by the other, {found['neither']} by neither"
    )
    changed = [row for row in comparison.per_class if abs(row.AP.difference) > 0]
    if changed:
        yield "classes that changed most:"
        yield from map(_class_line, sorted(changed, key=lambda row: -abs(row.AP.difference))[:_MOST])
    if comparison.per_image:
        yield "images that changed most, with the errors (missed, false, badly located) of this and the other:"
        for image in comparison.per_image[:_MOST]:
            yield f"  {image.name or image.image_id}  {image.this:.1f}  {image.other:.1f}"


def _class_line(row: ClassChange) -> str:
    changes = ", ".join(
        f"{name} {change.difference:+.3f}"
        + ("" if math.isnan(change.low) else f" ({change.low:+.3f} to {change.high:+.3f})")
        for name, change in (("AP", row.AP), ("oLRP", row.oLRP))
    )
    return f"  {row.name}: {changes}; {row.only_this} objects found only by this, {row.only_other} only by the other"
