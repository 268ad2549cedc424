"""What ``eval`` and ``report`` share: results, and what is said about them, in the words of the command line."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rankdet.cli.errors import CommandError
from rankdet.cli.options import Given, Option
from rankdet.cli.wording import in_options

if TYPE_CHECKING:
    from rankdet.eval import Evaluation, GroundTruth
    from rankdet.eval.sizes import AreaRanges

SIZES = Option("SIZES", "size classes instead of COCO's, each with the side of a square: tiny:16,small:32,large")
BY = Option(
    "NAMES", "with results: also by these properties of objects or images in the ground truth: occluded,weather"
)
CONVERT = Option("NAMES", "with results: how they differ from COCO's format, as in xyxy,category+1 (see below)")
_WARNING, _EXAMPLES = "warning: ", 3


def sizes_of(given: Given) -> AreaRanges:
    """The size classes that were asked for; `CommandError` for what are none."""
    from rankdet.eval.sizes import COCO_AREA_RANGES, parse_sizes

    try:
        return parse_sizes(given.own["sizes"]) if "sizes" in given.own else COCO_AREA_RANGES
    except ValueError as error:
        raise CommandError(f"--sizes: {error}") from None


def properties_of(given: Given) -> list[str]:
    """The properties by which objects are grouped."""
    return [name.strip() for name in given.own["by"].split(",")] if "by" in given.own else []


def describe_conversions() -> str:
    """One line for each conversion, for a help text."""
    from rankdet.eval.convert import CONVERSIONS

    lines = "\n".join(f"  {name:<16} {text}" for name, text in CONVERSIONS.items())
    return f"conversions (--convert), separated by commas:\n{lines}"


@contextmanager
def telling() -> Iterator[list[str]]:
    """Prints notes and warnings about results that come in the block; its errors name the option that would help.

    Gives the list that has what was printed after the block.
    """
    from rankdet.eval import ResultsError

    told: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield told
        except ResultsError as error:
            raise CommandError(error.complaint + _option(error.convert)) from error
        finally:
            told += dict.fromkeys(map(_in_words, caught))
            for message in told:
                print(in_options(message), file=sys.stderr)


def tell_of_ids(truth: GroundTruth, evaluation: Evaluation, told: Sequence[str]) -> None:
    """Where nothing is found and no warning was ``told``, what ids were taken for: they may mean something else."""
    if evaluation.metrics["AP"] == 0 and not any(message.startswith(_WARNING) for message in told):
        images = _meanings(truth.image_ids.tolist(), truth.image_names)
        classes = _meanings(truth.category_ids.tolist(), truth.category_names)
        meant = "; ".join(filter(None, [images and f"image {images}", classes and f"category {classes}"]))
        print(f"note: AP is 0. Check that the results have these ids: {meant}", file=sys.stderr)


def _meanings(ids: list[int], names: Sequence[str]) -> str:
    shown = [f"{number} is {name}" for number, name in zip(ids, names, strict=False) if name][:_EXAMPLES]
    return ", ".join([*shown, "..."] if len(ids) > len(shown) > 0 else shown)


def _in_words(caught: warnings.WarningMessage) -> str:
    from rankdet.eval import ResultsNote, ResultsWarning

    if isinstance(caught.message, ResultsNote):
        return f"note: {caught.message}"
    if isinstance(caught.message, ResultsWarning):
        return f"{_WARNING}{caught.message.suspicion}{_option(caught.message.convert)}"
    return f"{_WARNING}{caught.message}"


def _option(convert: str) -> str:
    return f" Then add: --convert {convert}" if convert else ""
