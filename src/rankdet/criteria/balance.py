"""Task balance: how much the box (or mask) loss of a stage weighs beside its classification loss."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class TaskBalance(nn.Module, ABC):
    """Scales a task's loss, a scalar, given the detached value of the classification loss of its stage."""

    @abstractmethod
    def forward(self, task_loss: Tensor, classification_value: Tensor) -> Tensor:
        """See the class."""


class ConstantBalance(TaskBalance):
    """A weight chosen by hand."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, task_loss: Tensor, classification_value: Tensor) -> Tensor:  # noqa: ARG002
        """See `TaskBalance`."""
        return self.weight * task_loss


class ValueBalance(TaskBalance):
    """Every task weighs as much as the ranking: lambda = L_cls / L_task, without gradient, anew in each step.

    Rank & Sort paper, section 5.2, value-based task balancing. The balanced loss has the value of the classification
    loss; only its gradient tells how the task fares. A task loss of 0 stays 0 (the published code divides by it).

    >>> ValueBalance()(torch.tensor(0.5), torch.tensor(2.0))
    tensor(2.)
    """

    def forward(self, task_loss: Tensor, classification_value: Tensor) -> Tensor:
        """See `TaskBalance`."""
        value = task_loss.detach()
        factor = torch.where(value > 0, classification_value / value, torch.ones_like(value))
        return factor * task_loss
