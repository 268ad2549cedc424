"""All entries of the logits, and what is known of them: which take no part, in which group they rank, what they count.

What is known is the same for all entries of a row; a row is as long as the shapes allow, and may be a single entry.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rankdet.losses.ranking.numbers import on_cpu


@dataclass(frozen=True)
class Owners:
    """The group of every entry, by any number.

    Attributes:
        number: (rows,) int64, with this many rows of equally many entries; or of each column.
        by_column: whether the numbers are those of the columns, the last dimension of the logits.
    """

    number: Tensor
    by_column: bool = False

    def of(self, index: Tensor, entries: int) -> Tensor:
        """The groups (M,) of some of the flattened entries, of which there are this many."""
        rows = self.number.numel()
        return self.number.index_select(0, index % rows if self.by_column else index // (entries // rows))

    def among(self, present: Tensor, entries: int) -> tuple[Tensor, Tensor]:
        """Of each row, the place (rows,) int32 of its group among those present (G,), and whether it is absent."""
        place = torch.searchsorted(present, self.number).clamp_(max=present.numel() - 1)
        absent = present[place] != self.number
        if self.by_column:
            times = entries // self.number.numel()
            return place.int().repeat(times), absent.repeat(times)
        return place.int(), absent


@dataclass(frozen=True)
class Entries:
    """The logits to be put among the edges.

    Attributes:
        logits: (N,) flattened.
        places: which of them are positives.
        ignored: (rows,) bool, which rows take no part; None: all do.
        group: (rows,) int32, the group of each; None: there is one group.
        weight: (rows,), as how many entries each entry counts; None: as one.
    """

    logits: Tensor
    places: Tensor
    ignored: Tensor | None = None
    group: Tensor | None = None
    weight: Tensor | None = None

    @classmethod
    def of_rows(
        cls,
        logits: Tensor,
        places: Tensor,
        *,
        ignored: Tensor | None,
        absent: Tensor | None,
        group: Tensor | None,
        weight: Tensor | None,
    ) -> Entries:
        """From what may be known of rows of different lengths; whose group is absent takes no part."""
        known = [of.reshape(-1) for of in (ignored, absent, group, weight) if of is not None]
        rows = max((of.numel() for of in known), default=1)
        fine = iter([of.repeat_interleave(rows // of.numel()) if of.numel() < rows else of for of in known])
        ignored, absent, group, weight = (
            next(fine) if of is not None else None for of in (ignored, absent, group, weight)
        )
        if ignored is not None and absent is not None:
            ignored = ignored | absent
        ignored = absent if ignored is None else ignored
        if ignored is not None and on_cpu(logits) and not bool(ignored.any()):
            ignored = None
        return cls(logits, places, ignored, group, weight)

    @property
    def width(self) -> int:
        """Entries of a row."""
        of_rows = next((of for of in (self.ignored, self.group, self.weight) if of is not None), None)
        return 1 if of_rows is None else self.logits.numel() // max(of_rows.numel(), 1)

    def at(self, index: Tensor) -> Entries:
        """Some of them by themselves, (M,) ascending; positives that are not among them are not missed."""
        logits = self.logits.index_select(0, index)
        place = torch.searchsorted(index, self.places).clamp_(max=max(index.numel() - 1, 0))
        places = place[index[place] == self.places] if index.numel() else index
        row = index // self.width
        rows = (None if of is None else of.index_select(0, row) for of in (self.ignored, self.group, self.weight))
        return Entries(logits, places, *rows)

    def by_entry(self, of_rows: Tensor, piece: slice | None = None) -> Tensor:
        """What is known of rows, of each entry, (N,); or of a piece, which may begin and end within a row."""
        if piece is None:
            return of_rows[:, None].expand(-1, self.width).reshape(-1)
        if self.width == 1:
            return of_rows[piece]
        row = torch.arange(piece.start, piece.stop, device=of_rows.device) // self.width
        return of_rows.index_select(0, row)
