"""Evaluation in half precision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rankdet.eval.inference import Detection


class MixedPrecision(nn.Module):
    """A detector whose network computes in half precision where that does no harm (autocast), as mixed training does.

    Boxes, scores and masks of rankdet's detectors stay in float32. It stands wherever the detector itself may, in
    evaluation.

    Args:
        model: of torchvision's calling convention.
        dtype: torch.bfloat16 or torch.float16.

    >>> class Wide(nn.Module):
    ...     def forward(self, images):
    ...         return [{"scores": image.flatten(1) @ image.flatten(1).T} for image in images]
    >>> MixedPrecision(Wide().eval(), dtype=torch.bfloat16)([torch.rand(3, 2, 2)])[0]["scores"].dtype
    torch.bfloat16
    """

    def __init__(self, model: nn.Module, *, dtype: torch.dtype) -> None:
        super().__init__()
        if dtype not in (torch.bfloat16, torch.float16):
            raise ValueError(f"dtype must be torch.bfloat16 or torch.float16; got {dtype}")
        self.model = model
        self.dtype = dtype
        self.num_classes = getattr(model, "num_classes", None)
        self.train(model.training)

    def forward(self, images: Sequence[Tensor]) -> list[Detection]:
        """Images (3, H, W) -> detections in their pixels, best first."""
        with torch.autocast(images[0].device.type, dtype=self.dtype):
            found: list[Detection] = self.model(images)
        return found
