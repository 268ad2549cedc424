"""How a ranking loss gets its gradient: written down in the forward pass, attached to the values in the backward pass.

Shapes: N logits, T terms, M positives of this process, P positives of all processes that rank together.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from rankdet.losses.ranking.negatives import Negatives
from rankdet.losses.ranking.numbers import widened
from rankdet.losses.ranking.steps import Edges

NO_SECOND_DERIVATIVE = (
    "a ranking loss has no second derivative: its gradient is an Identity Update, not the derivative of its value, and "
    "a penalty on that gradient has none of its own; do without create_graph=True, or take the penalty on a loss that "
    "is a smooth function of the logits"
)


class Rows(Protocol):
    """What an upstream gradient makes of the errors of the positives."""

    def __call__(self, upstream: Tensor) -> tuple[Tensor, Tensor]:
        """Upstream, in the shape of the values -> gradient (M,) of the positives, weights (P,) of negatives' steps."""
        ...


NO_FORWARD_DERIVATIVE = (
    "a ranking loss has no forward derivative: its gradient is an Identity Update, not the derivative of its value; "
    "use torch.autograd.grad or torch.func.grad"
)


@dataclass(frozen=True)
class Gradient:
    """How the gradient of all terms is written.

    Attributes:
        index: (M,) the positives among the flattened logits.
        rows: what becomes of an upstream gradient.
        edges: of the P positives.
        negatives: of this process.
    """

    index: Tensor
    rows: Rows
    edges: Edges
    negatives: Negatives

    def write(self, logits: Tensor, upstream: Tensor, dtype: torch.dtype) -> Tensor:
        """(N,) for flattened logits (N,)."""
        gradients, weights = self.rows(upstream.to(self.edges.centres.dtype))
        gradient = self.negatives.gradient(logits, self.edges, weights, dtype)
        return gradient.index_copy_(0, self.index, gradients.to(dtype))


@dataclass(frozen=True)
class Update:
    """Values and gradients of all terms.

    Attributes:
        values: (T,), or (T, M) for each positive separately.
        standing: gives (2, M) rank and soft sampling of the positives of this process, in their order.
        sampling: gives their soft sampling (M,) by a step of some delta.
        written: None where no process has a positive.
    """

    values: Tensor
    standing: Callable[[], Tensor]
    sampling: Callable[[float], Tensor]
    written: Gradient | None = None

    def gradient(self, logits: Tensor, upstream: Tensor, dtype: torch.dtype) -> Tensor:
        """The gradient of the terms weighted by upstream, in the shape of the logits."""
        if self.written is None:
            return torch.zeros_like(logits, dtype=dtype)
        return self.written.write(logits.contiguous().view(-1), upstream, dtype).view(logits.shape)

    def tensors(self) -> tuple[Tensor | None, ...]:
        """What is as large as the logits, for autograd to keep and to free."""
        return () if self.written is None else self.written.negatives.tensors()

    def with_tensors(self, tensors: tuple[Any, ...]) -> Update:
        """The same update around those tensors."""
        if self.written is None:
            return self
        negatives = self.written.negatives.with_tensors(tensors)
        return replace(self, written=replace(self.written, negatives=negatives))

    def without_tensors(self) -> Update:
        """The same update without them."""
        return self.with_tensors((None,) * len(self.tensors()))


class Attach(torch.autograd.Function):
    """The values of an update, each with its own gradient."""

    @staticmethod
    def forward(logits: Tensor, update: Update, *tensors: Tensor | None) -> tuple[Tensor, ...]:  # noqa: ARG004
        """T scalars, or T times (M,); float32 for 16-bit logits."""
        return update.values.to(widened(logits.dtype)).unbind()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: ARG004
        """Leave everything large to autograd, which frees it."""
        logits, update, *tensors = inputs
        ctx.save_for_backward(logits, *tensors)
        ctx.update = update

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of the logits."""
        logits, *tensors = ctx.saved_tensors
        update: Update = ctx.update.with_tensors(tuple(tensors))
        with torch.no_grad():
            gradient = update.gradient(logits, torch.stack(upstream), logits.dtype)
        if torch.is_grad_enabled():  # by create_graph=True
            gradient = Once.apply(logits, gradient)
        return gradient, None, *(None for _ in tensors)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> None:  # noqa: ARG004
        """Raise."""
        raise RuntimeError(NO_FORWARD_DERIVATIVE)


# What torch asks of it in every call, and finds out anew in a twentieth of the time that a small loss takes.
Attach.forward.__signature__ = inspect.signature(Attach.forward)  # type: ignore[attr-defined]


class Once(torch.autograd.Function):
    """The gradient of a ranking loss, which says so when it is differentiated itself, instead of being constant."""

    @staticmethod
    def forward(logits: Tensor, gradient: Tensor) -> Tensor:  # noqa: ARG004
        """The gradient."""
        return gradient.view_as(gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Nothing is kept."""

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> None:  # noqa: ARG004
        """Raise."""
        raise RuntimeError(NO_SECOND_DERIVATIVE)


def attach(logits: Tensor, update: Update) -> tuple[Tensor, ...]:
    """T scalars, or T times (M,), with the values and the gradients of the update."""
    return Attach.apply(logits, update.without_tensors(), *update.tensors())


@dataclass(frozen=True)
class Arguments:
    """Everything that says which logits are positives: dense targets, or else a list of the positives.

    Dense targets may come with a list of qualities that stand for theirs, in the order of the positives.

    Attributes:
        targets: shape of the logits.
        positives: shape of the logits, bool.
        index: (M,) int64 into the flattened logits.
        quality: (M,).
        ignored: bool, shape of the leading dimensions of the logits.
        group: int64, shape of the leading dimensions of the logits.
        weight: shape of the leading dimensions of the logits.
        sorting_group: (M,) int64, beside an index.
    """

    targets: Tensor | None = None
    positives: Tensor | None = None
    index: Tensor | None = None
    quality: Tensor | None = None
    ignored: Tensor | None = None
    group: Tensor | None = None
    weight: Tensor | None = None
    sorting_group: Tensor | None = None

    def tensors(self) -> list[Tensor | None]:
        """All fields in order. Not ``vars(self).values()``, which torch.compile of torch 2.4 does not follow."""
        of_positives = [self.targets, self.positives, self.index, self.quality]
        return [*of_positives, self.ignored, self.group, self.weight, self.sorting_group]

    def check_device(self, device: torch.device) -> None:
        """ValueError for the first of them that is on another device than the logits, by the name that users know."""
        of_positives = {"targets": self.targets, "positives": self.positives, "positive_index": self.index}
        of_rows = {"ignored": self.ignored, "group or image_index": self.group, "weight": self.weight}
        others = {"quality": self.quality, "sorting_group": self.sorting_group}
        for name, tensor in {**of_positives, **of_rows, **others}.items():
            if tensor is not None and tensor.device != device:
                raise ValueError(
                    f"{name} {'are' if name.endswith('s') else 'is'} on {tensor.device}, logits are on {device}; move "
                    "them to the same device"
                )
