"""A converted model, and its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rankdet.data.categories import Categories
from rankdet.data.transforms import FixedResize
from rankdet.models import Detector
from rankdet.ops.checkpoint import KEY, PREFIX, VERSION
from rankdet.ops.writing import replacing


@dataclass(frozen=True)
class Conversion:
    """A detector of ours with the weights of another tool.

    Attributes:
        model: in evaluation mode.
        categories: its classes.
        resize: the rule that resizes images for the network, as in that tool.
        origin: where it comes from, plain data; it goes into the checkpoint.
        left_out: names in the file that the model has no place for.
        kept: tensors of the model that such files do not have; they keep their initial values.
        remarks: what was assumed, in sentences.
    """

    model: Detector
    categories: Categories
    resize: FixedResize
    origin: Mapping[str, Any]
    left_out: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    remarks: tuple[str, ...] = field(default=())

    def content(self) -> dict[str, Any]:
        """What goes into the checkpoint: plan, classes, resizing rule and weights; no thresholds, no training."""
        weights: dict[str, Tensor] = {PREFIX + name: value for name, value in self.model.state_dict().items()}
        record = {
            "version": VERSION,
            "model": self.model.plan(),
            "categories": self.categories.to_dict(),
            "image_size": self.resize.to_dict(),
            "origin": dict(self.origin),
        }
        return {"state_dict": weights, KEY: record}

    def save(self, path: str | Path) -> None:
        """Write the checkpoint, which `rankdet.Predictor.load` and all commands read."""
        with replacing(path) as partial:
            torch.save(self.content(), partial)
