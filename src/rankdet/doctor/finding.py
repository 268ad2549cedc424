"""What the doctor finds: one kind of fault with its count, examples, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from rankdet.data.report import EXAMPLES

if TYPE_CHECKING:
    from rankdet.doctor.draft import Repair


class Severity(Enum):
    """How much a finding matters.

    An ``ERROR`` stops a training, or makes it learn what is not so. A ``WARNING`` costs accuracy, or is a mistake in
    all likelihood. A ``NOTE`` is worth knowing, and fine if it is meant.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One kind of fault in a dataset.

    Args:
        name: what it is called in reports for machines, such as ``"degenerate-box"``.
        severity: how much it matters.
        what: a sentence for people with the count, such as ``"2 boxes have no width or no height"``.
        count: how many images, boxes, ... have it.
        remedy: what to do about it.
        examples: the first few, by file and id.
        repair: how a repaired copy fixes it; None if a person must decide.
    """

    name: str
    severity: Severity
    what: str
    count: int
    remedy: str
    examples: tuple[str, ...] = ()
    repair: Repair | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {
            "name": self.name,
            "severity": self.severity.value,
            "what": self.what,
            "count": self.count,
            "examples": list(self.examples),
            "remedy": self.remedy,
            "repaired_by_fix": self.repair is not None,
        }


def find(
    name: str,
    severity: Severity,
    rows: np.ndarray,
    *,
    what: str,
    remedy: str,
    example: Callable[[int], str],
    repair: Repair | None = None,
) -> Iterator[Finding]:
    """The finding that some rows have in common; nothing when there are none.

    Args:
        name: see `Finding`.
        severity: see `Finding`.
        rows: (R,) the places that have it, or a mask.
        what: a sentence to go on after the count, see :func:`counted`; such as ``"{box lies/boxes lie} outside"``.
        remedy: see `Finding`.
        example: how one row is called.
        repair: see `Finding`.
    """
    rows = np.flatnonzero(rows) if rows.dtype == bool else rows
    if len(rows):
        examples = tuple(example(int(row)) for row in rows[:EXAMPLES])
        yield Finding(name, severity, counted(what, len(rows)), len(rows), remedy, examples, repair)


def counted(sentence: str, count: int) -> str:
    """A count and a sentence, in which ``{one/many}`` stands for the form that goes with it.

    >>> counted("{box lies/boxes lie} outside", 1), counted("{box lies/boxes lie} outside", 1200)
    ('1 box lies outside', '1,200 boxes lie outside')
    """
    parts = sentence.replace("}", "{").split("{")
    forms = (part.partition("/")[::2][count != 1] if place % 2 else part for place, part in enumerate(parts))
    return f"{count:,} {''.join(forms)}"
