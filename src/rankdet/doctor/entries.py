"""The lists of a COCO file, entry by entry: those that are sound, and a finding about the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rankdet.doctor.draft import LeaveOutEntries
from rankdet.doctor.finding import Finding, Severity, find

_SINGULAR = {"images": "image", "annotations": "annotation", "categories": "category"}
_SHOWN = 80  # characters of a malformed entry


class Entries:
    """The entries of one list that are JSON objects.

    ``places`` are their places in the list, ``findings`` what was found about those left out.

    >>> entries = Entries({"images": [{"id": 3}, "a.jpg"]}, "images")
    >>> entries.column("id"), entries.findings[0].what
    ([3], "1 entry of 'images' is malformed: each must be an object")
    """

    def __init__(self, content: dict[str, Any], key: str) -> None:
        listed = content.get(key)
        self.key = key
        self.items: list[Any] = listed if isinstance(listed, list) else []
        self.places = np.arange(len(self.items))
        self.findings: list[Finding] = []
        self.require(np.array([type(item) is dict for item in self.items], dtype=bool), "be an object")

    def __len__(self) -> int:
        return len(self.items)

    def column(self, name: str) -> list[Any]:
        """What each entry has under a name; None where it has nothing."""
        return [item.get(name) for item in self.items]

    def require(self, sound: np.ndarray, needs: str) -> np.ndarray:
        """Leave out the entries that are not sound; returns the rows (R,) of the others."""
        kept = np.flatnonzero(sound)
        if len(kept) < len(self.items):
            self.findings += self._malformed(np.flatnonzero(~sound), needs)
            self.keep(kept)
        return kept

    def keep(self, rows: np.ndarray | Sequence[int]) -> None:
        """Go on with some of the entries."""
        self.items = [self.items[row] for row in rows]
        self.places = self.places[rows]

    def _malformed(self, rows: np.ndarray, needs: str) -> list[Finding]:
        return list(
            find(
                f"malformed-{_SINGULAR[self.key]}",
                Severity.ERROR,
                rows,
                what=f"{{entry/entries}} of '{self.key}' {{is/are}} malformed: each must {needs}",
                remedy="complete the entries or remove them",
                example=lambda row: f"{self.key}[{self.places[row]}] is {str(self.items[row])[:_SHOWN]}",
                repair=LeaveOutEntries(self.key, self.places[rows]),
            )
        )
