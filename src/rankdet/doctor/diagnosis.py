"""Everything that can be said of a dataset, or of a pair of training and validation data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rankdet.doctor.boxes import check_boxes
from rankdet.doctor.census import Census, take_census
from rankdet.doctor.classes import check_abundance, check_contents, check_coverage, check_names
from rankdet.doctor.federated import check_federation
from rankdet.doctor.finding import Finding, Severity
from rankdet.doctor.ids import check_ids
from rankdet.doctor.locate import check_files, check_unlisted
from rankdet.doctor.masks import check_masks
from rankdet.doctor.pictures import check_pictures, check_sizes
from rankdet.doctor.read import Source, read_table
from rankdet.doctor.scan import Headers, Look, Scan, Track, scan_images
from rankdet.doctor.splits import check_splits
from rankdet.doctor.table import Table

Check = Callable[[Table], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (
    check_contents,
    check_ids,
    check_files,
    check_sizes,
    check_boxes,
    check_masks,
    check_names,
    check_federation,
)
"""The checks of every dataset; further ones take a `Table` and yield `Finding` objects, too."""
TRAINING_CHECKS: tuple[Check, ...] = (*CHECKS, check_abundance)
VALIDATION_CHECKS: tuple[Check, ...] = (*CHECKS, check_coverage)

_ORDER = tuple(Severity)


@dataclass(frozen=True)
class Examination:
    """What was found in one dataset; `table` and `census` are None when it cannot be read.

    ``looks`` has what was seen of the image files, by row of the table.
    """

    source: Source
    findings: tuple[Finding, ...]
    table: Table | None = None
    census: Census | None = None
    looks: Mapping[int, Look] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {
            "source": self.source.path,
            "format": self.table.format if self.table else None,
            "images_looked_at": len(self.looks),
            "census": self.census.to_dict() if self.census else None,
            "findings": [finding.to_dict() for finding in self.findings],
        }


@dataclass(frozen=True)
class Diagnosis:
    """What was found in training data, in validation data if there are any, and between both.

    Args:
        train: the training data, or the only data.
        val: the validation data.
        between: what the two should not share, or should.
    """

    train: Examination
    val: Examination | None = None
    between: tuple[Finding, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All of them."""
        return self.train.findings + (self.val.findings if self.val else ()) + self.between

    def count(self, severity: Severity) -> int:
        """How many kinds of faults of a severity were found."""
        return sum(finding.severity is severity for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {
            "version": 1,
            **{severity.value + "s": self.count(severity) for severity in Severity},
            "train": self.train.to_dict(),
            "val": self.val.to_dict() if self.val else None,
            "between": [finding.to_dict() for finding in self.between],
        }


def untracked(items: Sequence[int]) -> Iterable[int]:
    """Shows no progress."""
    return items


def diagnose(
    train: Source,
    val: Source | None = None,
    *,
    scan: Scan | None = None,
    workers: int = 4,
    track: Track[int] = untracked,
) -> Diagnosis:
    """Examine a dataset, or training and validation data together.

    Never raises for faults in the data: findings report them.

    Args:
        train: the training data, or the only data.
        val: the validation data.
        scan: how the image files are read; None for ``Headers()``.
        workers: threads that look at image files.
        track: shows the progress of that.

    Example:
        >>> from rankdet.data import Shapes
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Shapes(length=40, seed=0, image_size=64).export(folder + "/shapes")
        ...     diagnosis = diagnose(Source(str(file)))
        >>> diagnosis.count(Severity.ERROR), diagnosis.train.census.images
        (0, 40)
    """
    scan = scan or Headers()
    if val is None:
        return Diagnosis(_examine(train, (*TRAINING_CHECKS, check_unlisted), scan=scan, workers=workers, track=track))
    first = _examine(train, TRAINING_CHECKS, scan=scan, workers=workers, track=track)
    second = _examine(val, VALIDATION_CHECKS, scan=scan, workers=workers, track=track)
    if first.table is None or second.table is None:
        return Diagnosis(first, second)
    between = check_splits(first.table, second.table, train_looks=first.looks, val_looks=second.looks)
    return Diagnosis(first, second, by_severity([*between, *check_unlisted(first.table, second.table)]))


def by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first, then warnings, then notes."""
    return tuple(sorted(findings, key=lambda finding: _ORDER.index(finding.severity)))


def _examine(source: Source, checks: Sequence[Check], *, scan: Scan, workers: int, track: Track[int]) -> Examination:
    table, findings = read_table(source)
    if table is None:
        return Examination(source, tuple(findings))
    for check in checks:
        findings += check(table)
    looks = scan_images(table, scan, workers=workers, track=track)
    findings += check_pictures(table, looks)
    return Examination(source, by_severity(findings), table, take_census(table), looks)
