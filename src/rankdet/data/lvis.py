"""What LVIS says beside objects: which classes were looked for in which image, and how frequent each class is.

Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance Segmentation", CVPR 2019, section 3 (federated dataset).
Evaluation needs it; training does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rankdet.data.categories import Categories
from rankdet.data.columns import ABSENT
from rankdet.data.errors import DatasetError

if TYPE_CHECKING:
    from rankdet.data.coco_content import CocoContent

NEGATIVE, NOT_EXHAUSTIVE, FREQUENCY = "neg_category_ids", "not_exhaustive_category_ids", "frequency"
FREQUENCIES = ("r", "c", "f")
"""Rare, common, frequent: in 1 to 10, in 11 to 100, in more images."""


@dataclass(frozen=True)
class IdLists:
    """A list of category ids for each of N images, in two arrays.

    >>> lists = IdLists.pack([[3, 1], [], [2]])
    >>> lists.of(0), lists.of(1), lists.select(np.array([2, 0])).of(0)
    ([3, 1], [], [2])
    """

    ids: np.ndarray
    starts: np.ndarray

    @classmethod
    def pack(cls, lists: Sequence[Sequence[int]]) -> IdLists:
        """From N lists."""
        starts = np.concatenate([[0], np.cumsum([len(own) for own in lists], dtype=np.int64)])
        return cls(np.array([number for own in lists for number in own], dtype=np.int64), starts)

    def of(self, image: int) -> list[int]:
        """The list of one image."""
        return self.ids[self.starts[image] : self.starts[image + 1]].tolist()

    def select(self, images: np.ndarray) -> IdLists:
        """The lists of some images, in that order."""
        return IdLists.pack([self.of(image) for image in images.tolist()])


@dataclass(frozen=True)
class Federation:
    """For N images and K classes, what an absent mark means.

    ``negative`` are the classes known not to be in an image; ``not_exhaustive`` those of which an image may have more
    objects than are marked; ``frequencies`` (K,) are "r", "c" or "f".
    """

    negative: IdLists
    not_exhaustive: IdLists
    frequencies: tuple[str, ...]

    @classmethod
    def of_content(cls, content: CocoContent, chosen: Categories) -> Federation | None:
        """From an annotation file, for the chosen categories; None when the file is not LVIS's.

        :class:`DatasetError` when only some entries have what LVIS gives to each.
        """
        if (content.images[NEGATIVE].states == ABSENT).all():
            return None
        frequencies = [entry.get(FREQUENCY) for entry in content.entries("categories")]
        of_id = dict(zip(content.categories["id"].values.tolist(), frequencies, strict=True))
        for number in chosen.ids:
            if of_id[number] not in FREQUENCIES:
                raise DatasetError(f"category {number} has frequency {of_id[number]!r}; LVIS has r, c and f")
        negative, not_exhaustive = (_listed(content, key, set(chosen.ids)) for key in (NEGATIVE, NOT_EXHAUSTIVE))
        return cls(negative, not_exhaustive, tuple(str(of_id[number]) for number in chosen.ids))

    def select_images(self, images: np.ndarray) -> Federation:
        """That of some images, in that order."""
        return Federation(self.negative.select(images), self.not_exhaustive.select(images), self.frequencies)

    def image_entry(self, image: int) -> dict[str, list[int]]:
        """What an image has in an annotation file."""
        return {NEGATIVE: self.negative.of(image), NOT_EXHAUSTIVE: self.not_exhaustive.of(image)}

    def category_entry(self, label: int) -> dict[str, str]:
        """What a category has in an annotation file."""
        return {FREQUENCY: self.frequencies[label]}


def _listed(content: CocoContent, key: str, known: set[int]) -> IdLists:
    """The known ones among the category ids that each image lists."""
    column = content.images[key]
    if len(bad := np.flatnonzero(~column.readable)):
        raise DatasetError(
            f"{content.called('images', bad[0])} has {content.value('images', bad[0], key)!r:.60} for {key!r}; LVIS "
            f"has a list of category ids for each image (leave {NEGATIVE!r} out of all images if this is no LVIS file)"
        )
    return IdLists.pack([[number for number in listed if number in known] for listed in column.values])
