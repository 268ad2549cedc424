"""The class map of a dataset: what the labels 0..K-1 are called, and which ids they had in the annotation file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from rankdet.data.errors import DatasetError


@dataclass(frozen=True)
class Categories:
    """Names and original ids of the K classes; the position in both tuples is the label.

    It travels in checkpoints as plain types, so that predictions carry names and the ids of the annotation file.

    Args:
        names: what each class is called. Two classes may share a name (some exporters write a parent class).
        ids: the category ids of the annotation file: any distinct integers, in any order.

    Invariant: ``label_of(ids[k]) == k`` for every label k.

    Example:
        >>> categories = Categories(names=("cat", "dog"), ids=(17, 18))
        >>> len(categories), categories.label_of(18), categories.ids[1]
        (2, 1, 18)
        >>> Categories.from_dict(categories.to_dict()) == categories
        True
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "ids", tuple(self.ids))
        if len(self.names) != len(self.ids):
            raise DatasetError(f"got {len(self.names)} category names but {len(self.ids)} ids; give one id per name")
        if bad := [name for name in self.names if not isinstance(name, str)]:
            raise DatasetError(f"category names must be strings, got {bad[0]!r}")
        if wrong := [number for number in self.ids if not isinstance(number, int) or isinstance(number, bool)]:
            raise DatasetError(f"category ids must be integers, got {wrong[0]!r}")
        if repeated := sorted(number for number, count in Counter(self.ids).items() if count > 1):
            raise DatasetError(f"category ids must be distinct, got {repeated[:5]} more than once")

    @classmethod
    def from_names(cls, names: Sequence[str]) -> Categories:
        """Number the names 1..K, as COCO does."""
        return cls(names=tuple(names), ids=tuple(range(1, len(names) + 1)))

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Categories:
        """Rebuild from what :meth:`to_dict` gave."""
        if set(state) != {"names", "ids"}:
            raise DatasetError(f"a class map has the keys 'names' and 'ids', got {sorted(state)}")
        return cls(names=tuple(state["names"]), ids=tuple(state["ids"]))

    def to_dict(self) -> dict[str, list[Any]]:
        """Plain lists, for checkpoints and JSON."""
        return {"names": list(self.names), "ids": list(self.ids)}

    def to_coco(self) -> list[dict[str, Any]]:
        """The ``categories`` list of a COCO annotation file."""
        return [{"id": number, "name": name} for number, name in zip(self.ids, self.names, strict=True)]

    def __len__(self) -> int:
        return len(self.ids)

    def label_of(self, category_id: int) -> int:
        """The label 0..K-1 of a category id; :class:`DatasetError` when there is none."""
        try:
            return self._labels[category_id]
        except KeyError:
            raise DatasetError(f"no category has the id {category_id}; there are {_some(self.ids)}") from None

    def select(self, classes: Sequence[str]) -> Categories:
        """Only the named classes, in the order of `classes`.

        :class:`DatasetError` for a name that is unknown, asked for twice, or borne by two categories.
        """
        if isinstance(classes, str):
            raise DatasetError(f"classes must be a list of names, got the string {classes!r}; write [{classes!r}]")
        for name, times in Counter(classes).items():
            self._check_name(name, times)
        return Categories(names=tuple(classes), ids=tuple(self.ids[self.names.index(name)] for name in classes))

    def difference(self, other: Categories) -> str:
        """In words, what `other` has or numbers differently; empty when both are equal.

        >>> Categories(("cat", "dog"), (1, 2)).difference(Categories(("cat", "cow"), (1, 2)))
        "only the first has 'dog' (id 2); only the second has 'cow' (id 2)"
        """
        if self == other:
            return ""
        mine, theirs = list(zip(self.names, self.ids, strict=True)), list(zip(other.names, other.ids, strict=True))
        parts = [
            f"only the {which} has {_some([f'{name!r} (id {number})' for name, number in only])}"
            for which, only in (
                ("first", [pair for pair in mine if pair not in theirs]),
                ("second", [pair for pair in theirs if pair not in mine]),
            )
            if only
        ]
        return "; ".join(parts) or f"the same classes in another order: {_some(self.names)} and {_some(other.names)}"

    @cached_property
    def _labels(self) -> dict[int, int]:
        return {number: label for label, number in enumerate(self.ids)}

    def _check_name(self, name: str, times: int) -> None:
        if times > 1:
            raise DatasetError(f"class {name!r} is asked for {times} times; name each class once")
        found = self.names.count(name)
        if found > 1:
            raise DatasetError(f"{found} categories are called {name!r}; rename or merge them in the annotation file")
        if not found:
            near = get_close_matches(name, self.names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise DatasetError(f"unknown class {name!r}{hint} (the dataset has {_some(self.names)})")


def _some(items: Sequence[object], most: int = 10) -> str:
    text = ", ".join(str(item) for item in items[:most])
    return text + (f" and {len(items) - most} more" if len(items) > most else "")
