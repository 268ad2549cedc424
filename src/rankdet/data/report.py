"""What a dataset holds and what was wrong with it, counted, with a few examples by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

EXAMPLES = 5
"""How many examples a fault keeps and a message names."""


@dataclass(frozen=True)
class Fault:
    """One kind of defect.

    Args:
        kind: a short name, such as ``"degenerate box"``.
        count: how many there are.
        action: what was done about them, such as ``"left out"``.
        examples: the first few, by annotation id, image id or file.
    """

    kind: str
    count: int
    action: str
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = ", ".join(self.examples) + (", ..." if self.count > len(self.examples) else "")
        return f"{self.count} x {self.kind}, {self.action}" + (f" ({shown})" if self.examples else "")


@dataclass(frozen=True)
class DatasetReport:
    """Counts of a dataset as it is used, and its faults.

    Args:
        source: the annotation file or folder, or what made the data.
        images: images in use.
        objects: objects in use, crowd regions not counted; None where counting would cost too much.
        crowd: regions that are ignored (crowd, difficult).
        images_without_objects: images with neither objects nor crowd regions.
        faults: what was mended or left out; empty for a clean dataset.

    Example:
        >>> fault = Fault(kind="degenerate box", count=1, action="left out", examples=("annotation 7",))
        >>> print(DatasetReport(source="a.json", images=2, objects=5, faults=(fault,)).summary())
        a.json: 2 images, 5 objects
          1 x degenerate box, left out (annotation 7)
    """

    source: str
    images: int
    objects: int | None
    crowd: int = 0
    images_without_objects: int = 0
    faults: tuple[Fault, ...] = field(default=())

    def count(self, kind: str) -> int:
        """How often a kind of fault occurred; 0 when it did not."""
        return sum(fault.count for fault in self.faults if fault.kind == kind)

    def summary(self) -> str:
        """A line for people, and one more for each kind of fault."""
        parts = [f"{self.images} images"]
        if self.objects is not None:
            parts.append(f"{self.objects} objects")
        if self.crowd:
            parts.append(f"{self.crowd} regions to ignore")
        if self.images_without_objects:
            parts.append(f"{self.images_without_objects} images without objects")
        return "\n  ".join([f"{self.source}: " + ", ".join(parts), *map(str, self.faults)])


def merge_reports(source: str, reports: Sequence[DatasetReport]) -> DatasetReport:
    """The report of several datasets used as one: counts add up, faults of one kind are combined."""
    kinds: dict[tuple[str, str], Fault] = {}
    for fault in (fault for report in reports for fault in report.faults):
        before = kinds.get((fault.kind, fault.action), Fault(fault.kind, 0, fault.action))
        examples = (before.examples + fault.examples)[:EXAMPLES]
        kinds[fault.kind, fault.action] = Fault(fault.kind, before.count + fault.count, fault.action, examples)
    return DatasetReport(
        source=source,
        images=sum(report.images for report in reports),
        objects=_total([report.objects for report in reports]),
        crowd=sum(report.crowd for report in reports),
        images_without_objects=sum(report.images_without_objects for report in reports),
        faults=tuple(kinds.values()),
    )


def _total(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
