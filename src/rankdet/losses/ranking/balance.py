"""The self-balance of aLRP Loss, without the dataset's constants and with its state in buffers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SelfBalance(nn.Module):
    """A weight on the localisation part of aLRP Loss: last epoch's mean of the whole over its mean of that part.

    Oksuz et al., NeurIPS 2020, Section 4.2. The weight starts at `initial` and is renewed at the end of every epoch,
    from the ratio of the means, not the mean of the ratios. Steps without positives do not count. The authors' code has
    the length of an epoch of COCO at batch size 32 built in, and forgets the weight when training resumes; here an
    epoch ends when `end_epoch` is called, or after `steps` counted steps, and all state is in buffers. Each process has
    its own, as published, unless buffers are broadcast, as DistributedDataParallel does.

    Args:
        initial: weight in the first epoch, > 0.
        steps: end an epoch after as many steps; None: only `end_epoch` does.

    Example:
        >>> balance = SelfBalance()
        >>> balance(torch.tensor(0.8), torch.tensor(0.2)).item()  # 50 times the localisation part
        10.0
        >>> balance.end_epoch()
        >>> balance(torch.tensor(0.8), torch.tensor(0.2)).item()  # (0.8 + 0.2) / 0.2 times it
        1.0
    """

    weight: Tensor
    sums: Tensor
    count: Tensor

    def __init__(self, *, initial: float = 50.0, steps: int | None = None) -> None:
        super().__init__()
        if not initial > 0:
            raise ValueError(f"initial is {initial}; accepted is a weight above 0")
        if steps is not None and steps < 1:
            raise ValueError(f"steps is {steps}; accepted is a number of steps of at least 1, or None")
        self.steps = steps
        self.register_buffer("weight", torch.tensor(float(initial)))
        self.register_buffer("sums", torch.zeros(2))  # of the classification and of the localisation part
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self, classification: Tensor, localisation: Tensor) -> Tensor:
        """The localisation part, a scalar, times the weight; in training mode both parts are taken into account."""
        if self.training:
            self._record(torch.stack([classification.detach(), localisation.detach()]).to(self.sums.dtype))
        return localisation * self.weight.to(localisation.dtype)

    def end_epoch(self) -> None:
        """Renew the weight from the steps since the last time; without any it stays."""
        self._renew(torch.ones((), dtype=torch.bool, device=self.count.device))

    def _record(self, parts: Tensor) -> None:
        counts = parts[1] > 0
        self.sums.add_(torch.where(counts, parts, 0.0))
        self.count.add_(counts)
        if self.steps is not None:
            self._renew(self.count >= self.steps)

    def _renew(self, due: Tensor) -> None:
        known = due & (self.sums[1] > 0)
        ratio = self.sums.sum() / torch.where(known, self.sums[1], 1.0)
        self.weight.copy_(torch.where(known, ratio, self.weight))
        self.sums.mul_(~due)
        self.count.mul_(~due)
