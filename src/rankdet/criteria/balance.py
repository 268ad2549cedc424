"""Task balance: how much the box (or mask) loss of a stage weighs beside its classification loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rankdet.losses.ranking import SelfBalance
from rankdet.losses.ranking.gather import Group
from rankdet.ops.part import Part


@dataclass(frozen=True)
class Task:
    """A scalar loss and the outputs of the head that it is computed from, both connected to the graph.

    Attributes:
        group: the processes whose batches the loss is of; the outputs are those of this process.
    """

    loss: Tensor
    outputs: Tensor
    group: Group = field(default_factory=Group)

    def magnitude(self) -> Tensor:
        """L1 norm of the gradient of the loss on all outputs, a detached scalar; 0 where no graph is kept.

        >>> outputs = torch.tensor([1.0, -2.0], requires_grad=True)
        >>> Task((3 * outputs).sum(), outputs).magnitude()
        tensor(6.)
        """
        if not self.loss.requires_grad:
            return torch.zeros_like(self.loss)
        (gradient,) = torch.autograd.grad(self.loss, self.outputs, retain_graph=True)
        return self.group.total(gradient.abs().sum(dtype=torch.float32)) / self.group.size


class TaskBalance(nn.Module, Part, ABC):
    """Scales a task's loss, a scalar, given the detached value of the classification loss of its stage."""

    @abstractmethod
    def forward(self, task_loss: Tensor, classification_value: Tensor) -> Tensor:
        """See the class."""

    def between(self, task: Task, classification: Task) -> Tensor:
        """The same for tasks whose outputs are known as well; what counts are the values, unless overridden."""
        return self(task.loss, classification.loss.detach())


class ConstantBalance(TaskBalance):
    """A weight chosen by hand."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, task_loss: Tensor, classification_value: Tensor) -> Tensor:  # noqa: ARG002
        """See `TaskBalance`."""
        return self.weight * task_loss


class ValueBalance(TaskBalance):
    """Every task weighs as much as the ranking: lambda = L_cls / L_task, without gradient, renewed in each step.

    Rank & Sort paper, section 5.2, value-based task balancing. The balanced loss has the value of the classification
    loss; only its gradient reflects the task. A task loss of 0 stays 0 (the published code divides by it).

    A perfect ranking has the value 0, and then the boxes stop learning, however far they are off. With the thousands of
    priors of a dense detector this does not happen; with a few queries or regions it does. The remedy is a ``least``
    above 0: with 1 the boxes weigh as much as the ranking where it is the worse of the two, and otherwise as they do
    unbalanced.

    Args:
        least: lambda is never below it; 0 is as published.

    >>> ValueBalance()(torch.tensor(0.5), torch.tensor(2.0))
    tensor(2.)
    >>> ValueBalance(least=1)(torch.tensor(0.5), torch.tensor(0.0))
    tensor(0.5000)
    """

    def __init__(self, *, least: float = 0.0) -> None:
        super().__init__()
        if not 0 <= least < float("inf"):
            raise ValueError(f"least must be a finite number >= 0, the smallest weight of the task; got {least}")
        self.least = least

    def forward(self, task_loss: Tensor, classification_value: Tensor) -> Tensor:
        """See `TaskBalance`."""
        return _ratio(classification_value, task_loss.detach()).clamp(min=self.least) * task_loss


class MagnitudeBalance(TaskBalance):
    """Every task pulls as hard as the ranking: lambda = |dL_cls/ds| / |dL_task/db|, without gradient, in each step.

    Rank & Sort paper, appendix B.1, magnitude-based task balancing: L1 norms of the gradients on the outputs s of the
    classification and b of the box regression. A task without gradient stays as it is.

    >>> logits, deltas = torch.tensor([1.0], requires_grad=True), torch.tensor([2.0], requires_grad=True)
    >>> float(MagnitudeBalance().between(Task(deltas.sum(), deltas), Task((3 * logits).sum(), logits)).detach())
    6.0
    """

    def forward(self, task_loss: Tensor, classification_value: Tensor) -> Tensor:  # noqa: ARG002
        """See `TaskBalance`.

        Raises:
            TypeError: always: values alone do not tell the gradients.
        """
        raise TypeError(
            "MagnitudeBalance compares gradients on the outputs of two branches, of which a mask branch knows its own "
            "alone; give it a ValueBalance or a ConstantBalance"
        )

    def between(self, task: Task, classification: Task) -> Tensor:
        """See `TaskBalance`."""
        return _ratio(classification.magnitude(), task.magnitude()) * task.loss


class EpochBalance(TaskBalance):
    """The self-balance of aLRP Loss: a weight that is renewed at the end of every epoch, 50 in the first.

    lambda = mean of (L_cls + L_task) over the last epoch / mean of L_task (aLRP paper, section 4.2; `SelfBalance` has
    the rule and its state, which a checkpoint carries). A training loop signals the end of an epoch by calling
    ``end_epoch()`` on every module of the model that has this method, as `rankdet train` does; otherwise an epoch can
    be a fixed number of ``steps``.

    >>> balance = EpochBalance()
    >>> float(balance(torch.tensor(0.2), torch.tensor(0.8)))
    10.0
    >>> balance.rule.end_epoch()
    >>> float(balance(torch.tensor(0.2), torch.tensor(0.8)))
    1.0
    """

    def __init__(self, *, initial: float = 50.0, steps: int | None = None) -> None:
        super().__init__()
        self.initial = initial
        self.steps = steps
        self.rule = SelfBalance(initial=initial, steps=steps)

    def forward(self, task_loss: Tensor, classification_value: Tensor) -> Tensor:
        """See `TaskBalance`. In training mode the values count towards the weight of the next epoch."""
        balanced: Tensor = self.rule(classification_value, task_loss)
        return balanced


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient of two detached scalars >= 0, and 1 where the denominator is 0."""
    return torch.where(denominator > 0, numerator / denominator, torch.ones_like(denominator))
