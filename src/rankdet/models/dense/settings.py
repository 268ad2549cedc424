"""What dense detectors with anchors do differently by ranking and by scores, as published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rankdet.models.settings import completed
from rankdet.nn.anchors import AnchorGenerator, octave_scales
from rankdet.ops.coder import DeltaCoder
from rankdet.ops.part import Part


@dataclass(frozen=True, kw_only=True)
class AnchorSettings(Part):
    """The anchors of a cell, and how boxes are regressed from them.

    What is None is as published for the recipe and its criterion.

    Attributes:
        scales: sides in strides, for every ratio.
        ratios: height / width.
        stds: standard deviations of the box coder, see `DeltaCoder`.

    >>> AnchorSettings(scales=(8.0,)).completed(NINE_BY_RANKING).ratios
    (0.5, 1.0, 2.0)
    """

    scales: Sequence[float] | None = None
    ratios: Sequence[float] | None = None
    stds: tuple[float, float, float, float] | None = None

    def completed(self, published: AnchorSettings) -> AnchorSettings:
        """The same with everything that is None as published."""
        return completed(self, published)

    def on(self, strides: Sequence[float]) -> AnchorGenerator:
        """The anchors on levels of these strides."""
        assert self.scales is not None, "settings are complete"
        assert self.ratios is not None, "settings are complete"
        return AnchorGenerator(strides=strides, scales=self.scales, ratios=self.ratios)

    @property
    def coder(self) -> DeltaCoder:
        """Of the boxes."""
        assert self.stds, "settings are complete"
        return DeltaCoder(self.stds)


STDS = (0.1, 0.1, 0.2, 0.2)

SQUARES_BY_RANKING = AnchorSettings(scales=octave_scales(4, 3), ratios=(1.0,), stds=STDS)
"""Three squares, from four strides on: ATSS and PAA by ranking (Rank & Sort paper, section 5.2)."""

SQUARES_BY_SCORE = AnchorSettings(scales=(8.0,), ratios=(1.0,), stds=STDS)
"""One square of eight strides: ATSS and PAA as they were published."""

NINE_BY_RANKING = AnchorSettings(scales=octave_scales(4, 3), ratios=(0.5, 1.0, 2.0), stds=STDS)
"""Three scales and three ratios, boxes in units of .1 and .2: RetinaNet by ranking."""

NINE_BY_SCORE = replace(NINE_BY_RANKING, stds=(1.0, 1.0, 1.0, 1.0))
"""The same with boxes in units of 1: RetinaNet as it was published."""
