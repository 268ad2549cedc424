"""What an exported file says of itself: all that its numbers depend on, as text beside the graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

KEY = "rankdet"
OUTPUTS = ("boxes", "scores", "labels", "masks")
OF_BOXES, OF_IMAGES, ALONE = "of boxes", "of images", "of images, without boxes of their own"
"""What masks are: those without boxes of their own have boxes around them, to the cell of the mask."""

Precision = Literal["32-true", "16-mixed"]
"""As Lightning and the options of rankdet call it."""

LEAST, MOST = 160, 4096
"""Sides in pixels of images where the graph takes any size: two cells of stride 128, so that no cell stands alone."""


@dataclass(frozen=True)
class Suppression:
    """What a raw graph leaves to whoever runs it.

    Attributes:
        nms_threshold: IoU above which the worse one of two candidates of a class goes.
        max_detections: how many of an image remain, over all classes.
    """

    nms_threshold: float
    max_detections: int


@dataclass(frozen=True)
class About:
    """The metadata of an exported detector.

    Attributes:
        size: height and width of the images that the graph takes; None for any, from `LEAST` pixels a side on.
        batch: how many at once; None for any number.
        names: of the classes, by label.
        ids: of the classes in the annotation file that the detector was trained on.
        thresholds: the best score threshold of each class by its id; empty where none is known.
        masks: None, `OF_BOXES`, `OF_IMAGES` or `ALONE`.
        resize: the rule by which images are brought to that size.
        colours: what the graph takes.
        divisor: what the graph pads the sides of images to multiples of.
        precision: of convolutions and linear layers; everything else is in float32.
        suppression: what remains to be done with the candidates of a raw graph; None where the graph gives detections.
    """

    size: tuple[int, int] | None
    batch: int | None
    names: tuple[str, ...]
    ids: tuple[int, ...]
    thresholds: Mapping[str, float] = field(default_factory=dict)
    masks: str | None = None
    resize: Mapping[str, Any] = field(default_factory=dict)
    colours: str = "red, green, blue, floating in 0..1; mean and standard deviation are in the graph"
    divisor: int = 32
    precision: Precision = "32-true"
    suppression: Suppression | None = None

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> About:
        """The inverse."""
        read = json.loads(text)
        lists = {name: tuple(read[name]) for name in ("size", "names", "ids") if read[name] is not None}
        left = read.get("suppression")
        return cls(**{**read, **lists, "suppression": None if left is None else Suppression(**left)})
