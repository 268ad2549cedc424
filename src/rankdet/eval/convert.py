"""What results of other tools mean by boxes, ids and scores, where that is not what COCO's format says.

A conversion is asked for by its name and never guessed: `suspicions` says which one would make sense of results.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from rankdet.eval.shapes import Floats

CONVERSIONS = {
    "xyxy": "boxes are x1, y1, x2, y2 instead of x, y, width, height",
    "cxcywh": "boxes are x and y of the centre, width, height",
    "normalised": "boxes are in 0..1 of the width and height of their image instead of pixels",
    "category+1": "category ids are one too low, such as classes numbered from 0",
    "category-1": "category ids are one too high",
    "category-index": "category ids are places, from 0, among the categories by ascending id",
    "image+1": "image ids are one too low",
    "image-1": "image ids are one too high",
    "image-name": "image ids are the numbers in the file names: 7 is 000007.jpg",
    "percent": "scores are in 0..100",
}
"""What each conversion says of results."""

_EXCLUDE_EACH_OTHER = (
    ("xyxy", "cxcywh"),
    ("category+1", "category-1", "category-index"),
    ("image+1", "image-1", "image-name"),
)
_SHIFTS = {"+1": 1, "-1": -1}


@dataclass(frozen=True)
class ResultsReading:
    """How to read results; the default is COCO's way.

    ``box`` is "xywh", "xyxy" or "cxcywh". ``category_shift`` and ``image_shift`` are added to ids; ``by_index`` and
    ``by_name`` say that category ids are places, and image ids are the numbers in file names.
    """

    box: str = "xywh"
    normalised: bool = False
    category_shift: int = 0
    by_index: bool = False
    image_shift: int = 0
    by_name: bool = False
    score_scale: float = 1.0

    @classmethod
    def named(cls, names: str) -> ResultsReading:
        """The conversion of names from `CONVERSIONS`, separated by commas; ValueError for others.

        >>> ResultsReading.named("xyxy, category+1")
        ResultsReading(box='xyxy', normalised=False, category_shift=1, by_index=False, image_shift=0, by_name=False, \
score_scale=1.0)
        """
        chosen = [name.strip() for name in names.split(",") if name.strip()]
        for name in chosen:
            if name not in CONVERSIONS:
                near = get_close_matches(name, CONVERSIONS, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ValueError(f"there is no conversion {name}{hint} (accepted: {', '.join(CONVERSIONS)})")
        _check_consistent(chosen)
        return cls(
            box=next((name for name in chosen if name in ("xyxy", "cxcywh")), "xywh"),
            normalised="normalised" in chosen,
            category_shift=_shift(chosen, "category"),
            by_index="category-index" in chosen,
            image_shift=_shift(chosen, "image"),
            by_name="image-name" in chosen,
            score_scale=0.01 if "percent" in chosen else 1.0,
        )

    @property
    def changes_boxes(self) -> bool:
        """Whether it is about boxes, which masks do not have."""
        return self.box != "xywh" or self.normalised

    def boxes(self, boxes: Floats, sizes: Floats) -> Floats:
        """Boxes (D, 4) as xywh in pixels; ``sizes`` (D, 2) are height and width of the image of each.

        >>> ResultsReading.named("cxcywh,normalised").boxes(np.array([[0.5, 0.5, 0.5, 1]]), np.array([[10.0, 20.0]]))
        array([[ 5.,  0., 10., 10.]])
        """
        corner, sides = boxes[:, :2], boxes[:, 2:]
        if self.box == "xyxy":
            sides = sides - corner
        elif self.box == "cxcywh":
            corner = corner - sides / 2
        scale = sizes[:, ::-1] if self.normalised else np.ones((len(boxes), 2))
        return np.concatenate([corner * scale, sides * scale], axis=1)


AS_COCO = ResultsReading()


def _shift(chosen: list[str], what: str) -> int:
    return next((value for sign, value in _SHIFTS.items() if what + sign in chosen), 0)


def _check_consistent(chosen: list[str]) -> None:
    for group in _EXCLUDE_EACH_OTHER:
        both = [name for name in CONVERSIONS if name in chosen and name in group]
        if len(both) > 1:
            raise ValueError(f"the conversions {' and '.join(both)} exclude each other; give one of them")
