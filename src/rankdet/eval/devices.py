"""A detector on several devices of a machine at once."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch
from torch import Tensor, nn

from rankdet.eval.download import on_cpu
from rankdet.eval.inference import Detection


class ManyDevices(nn.Module):
    """Copies of a detector, one on each device, that share the images of a batch among them.

    It stands wherever the detector itself may, in evaluation. The images of a batch are dealt out in runs of equal
    length, each copy has a thread, and detections come back in the order of the images, on the CPU: those of a single
    device whose batches are as large as a run. Whatever changes the detector must be done before.

    Args:
        model: of torchvision's calling convention, in evaluation mode.
        devices: where the copies go; a device that is named twice gets two.

    >>> class Where(nn.Module):
    ...     def forward(self, images):
    ...         return [{"scores": image.sum()[None]} for image in images]
    >>> model = ManyDevices(Where().eval(), devices=["cpu", "cpu"])
    >>> [float(found["scores"]) for found in model([torch.full((1,), float(number)) for number in range(3)])]
    [0.0, 1.0, 2.0]
    """

    def __init__(self, model: nn.Module, *, devices: Sequence[str | torch.device]) -> None:
        super().__init__()
        if not devices:
            raise ValueError("devices must name at least one")
        if model.training:
            raise ValueError("the model is in training mode; call model.eval() before ManyDevices")
        if getattr(model, "needs_proposals", False):
            raise ValueError(f"a {type(model).__name__} is given its regions with the images; use one device for it")
        self.devices = [torch.device(device) for device in devices]
        self.copies = nn.ModuleList(copy.deepcopy(model).to(device) for device in self.devices)
        self.num_classes = getattr(model, "num_classes", None)
        self.train(False)

    def forward(self, images: Sequence[Tensor]) -> list[Detection]:
        """Images (3, H, W) -> detections in their pixels, best first, on the CPU."""
        number = len(self.copies)
        ends = [len(images) * place // number for place in range(number + 1)]
        runs = [images[start:end] for start, end in pairwise(ends)]
        with ThreadPoolExecutor(number) as threads:
            found = list(threads.map(_detect, self.copies, runs, self.devices))
        return [detection for run in found for detection in run]


@torch.no_grad()
def _detect(model: nn.Module, images: Sequence[Tensor], device: torch.device) -> list[Detection]:
    """What one copy finds; in a thread of its own, which knows nothing of the caller's `torch.no_grad`."""
    if not len(images):
        return []
    found = model([image.to(device, non_blocking=True) for image in images])
    return list(on_cpu(found))
