"""What ``eval`` and ``report`` share: results, and what is said about them, in the words of the command line."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from rankdet.cli.errors import CommandError
from rankdet.cli.options import Option

CONVERT = Option("NAMES", "with results: how they differ from COCO's format, such as xyxy,category+1; see below")


def describe_conversions() -> str:
    """One line for each conversion, for a help text."""
    from rankdet.eval.convert import CONVERSIONS

    lines = "\n".join(f"  {name:<16} {text}" for name, text in CONVERSIONS.items())
    return f"conversions, separated by commas:\n{lines}"


@contextmanager
def telling() -> Iterator[None]:
    """In the block, notes and warnings about results are printed, and errors name the option that would help."""
    from rankdet.eval import ResultsError

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        except ResultsError as error:
            raise CommandError(error.complaint + _option(error.convert)) from error
        finally:
            for message in dict.fromkeys(map(_in_words, caught)):
                print(message, file=sys.stderr)


def _in_words(caught: warnings.WarningMessage) -> str:
    from rankdet.eval import ResultsNote, ResultsWarning

    if isinstance(caught.message, ResultsNote):
        return f"note: {caught.message}"
    if isinstance(caught.message, ResultsWarning):
        return f"warning: {caught.message.suspicion}{_option(caught.message.convert)}"
    return f"warning: {caught.message}"


def _option(convert: str) -> str:
    return f" Then add: --convert {convert}" if convert else ""
