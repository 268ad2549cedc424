"""How a ranking loss gets its gradient: written down in the forward pass, attached to the values in the backward pass.

Shapes: N logits, T terms, M positives of this process, P positives of all processes that rank together.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from rankdet.losses.ranking.negatives import Negatives
from rankdet.losses.ranking.numbers import widened
from rankdet.losses.ranking.ranking import Ranked
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
        values: (T,), or (T, M) for each positive by itself.
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


class Source(Protocol):
    """What `ranking_terms` asks of a loss."""

    term_names: tuple[str, ...]

    def update(self, logits: Tensor, arguments: Arguments, delta: float | None) -> Update:
        """Values and gradients."""
        ...


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
    """

    targets: Tensor | None = None
    positives: Tensor | None = None
    index: Tensor | None = None
    quality: Tensor | None = None
    ignored: Tensor | None = None
    group: Tensor | None = None
    weight: Tensor | None = None


def compiled(logits: Tensor, arguments: Arguments, names: tuple[str, ...], source: int, delta: float | None) -> Ranked:
    """What a numbered loss with terms of those names makes of the arguments, for compiled code."""
    values, _, standing = ranking_terms(logits, list(vars(arguments).values()), source, delta)
    return Ranked(dict(zip(names, values.unbind(), strict=True)), standing.detach, _not_compiled)


def _not_compiled(delta: float) -> Tensor:
    raise RuntimeError(
        f"soft sampling by delta {delta} is not there in compiled code; compile the rest, or take delta 0"
    )


# torch.compile sees a ranking loss as one operator. Its arguments are tensors and numbers, so every loss has a number.
_SOURCES: WeakValueDictionary[int, Source] = WeakValueDictionary()
_NUMBERS = itertools.count()


def numbered(source: Source) -> int:
    """A number for a loss, valid as long as the loss lives."""
    number = next(_NUMBERS)
    _SOURCES[number] = source
    return number


@torch.library.custom_op("rankdet::ranking_terms", mutates_args=())
def ranking_terms(
    logits: Tensor, arguments: Sequence[Tensor | None], source: int, delta: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Values (T,), gradients (T, shape of the logits) and standing (2, M) of a numbered loss.

    Arguments are the fields of `Arguments`. Of dense targets alone compiled code cannot know M; it is 0 then.
    """
    loss = _SOURCES[source]
    given = Arguments(*arguments)
    update = loss.update(logits, given, delta)
    dtype = widened(logits.dtype)
    units = torch.eye(len(loss.term_names), dtype=dtype, device=logits.device)
    gradients = torch.stack([update.gradient(logits, unit, dtype) for unit in units])
    standing = update.standing()[:, : _number_of_positives(given)].to(dtype).clone()
    return update.values.to(dtype), gradients, standing


@ranking_terms.register_fake
def _(
    logits: Tensor,
    arguments: Sequence[Tensor | None],
    source: int,
    delta: float | None,  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor]:
    terms = len(_SOURCES[source].term_names)
    dtype = widened(logits.dtype)
    shapes = ((terms,), (terms, *logits.shape), (2, _number_of_positives(Arguments(*arguments))))
    values, gradients, standing = (logits.new_empty(shape, dtype=dtype) for shape in shapes)
    return values, gradients, standing


def _number_of_positives(arguments: Arguments) -> int:
    return 0 if arguments.quality is None else arguments.quality.shape[0]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.dtype = inputs[0].dtype
    ctx.save_for_backward(output[1])


def _weigh(ctx: Any, upstream: Tensor, of_gradients: Tensor, of_standing: Tensor) -> tuple[Any, ...]:  # noqa: ARG001
    (gradients,) = ctx.saved_tensors
    scale = upstream.view(-1, *[1] * (gradients.ndim - 1))
    return (scale * gradients).sum(0).to(ctx.dtype), None, None, None


ranking_terms.register_autograd(_weigh, setup_context=_keep)
