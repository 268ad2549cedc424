"""The order of classes in the rows of MMDetection: the background is the last, and was the first in version 1."""

from __future__ import annotations

from dataclasses import dataclass

from rankdet.convert.changes import SAME, ReorderedColumns, TensorChange


@dataclass(frozen=True)
class ClassOrder:
    """How the rows of a file belong to K classes.

    Attributes:
        classes: K.
        background_first: whether a background is the first column of a softmax and of all else that a region has for
            each class, as in MMDetection 1.
    """

    classes: int
    background_first: bool = False

    def logits(self, columns: int, *, groups: int = 1) -> TensorChange:
        """Of ``columns`` logits, K or with a background one more, of each of ``groups`` anchors."""
        if not self.background_first or columns == self.classes:
            return SAME
        return ReorderedColumns(take=(*range(1, columns), 0), total=columns, groups=groups)

    def of_each_class(self, *, width: int = 1) -> TensorChange:
        """Of what a region has for each class, ``width`` rows; that of the background is dropped."""
        if not self.background_first:
            return SAME
        return ReorderedColumns(take=tuple(range(1, self.classes + 1)), total=self.classes + 1, width=width)
