"""How a ranking loss gets its gradient: written down in the forward pass, attached to the values in the backward pass.

Shapes: N logits, T terms, M positives of this process, P positives of all processes that rank together.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
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


@dataclass(frozen=True)
class Piece:
    """The gradients of all terms in one ranking, up to their scale.

    Attributes:
        span: of the ranking's entries among the flattened logits, rows in the order of the `Update`.
        index: (M,) the positives inside the span.
        gradients: (T, M) of the positives.
        weights: (T, P) of the positives' steps, whose sum is the gradient of a negative.
        edges: of the positives.
        negatives: in the span.
    """

    span: slice
    index: Tensor
    gradients: Tensor
    weights: Tensor
    edges: Edges
    negatives: Negatives

    def scaled(self, factor: Tensor | float) -> Piece:
        """The same gradients times a scalar."""
        return replace(self, gradients=self.gradients * factor, weights=self.weights * factor)

    def write_gradient(self, gradient: Tensor, logits: Tensor, scale: Tensor) -> None:
        """Write into zeros (N,), for flattened logits (N,), the sum of the terms' gradients scaled by (T,)."""
        inside = gradient[self.span]
        self.negatives.write_gradient(inside, logits[self.span], self.edges, scale @ self.weights)
        inside.index_copy_(0, self.index, (scale @ self.gradients).to(gradient.dtype))


@dataclass(frozen=True)
class Update:
    """Values and gradients of all terms.

    Attributes:
        values: (T,).
        pieces: one for each ranking that has positives.
        order: (rows,) int64, how the rows of the logits are sorted before they are cut into spans; None: as they are.
        standing: (2, M) rank and soft sampling of the positives of this process, in their order.
    """

    values: Tensor
    standing: Tensor
    pieces: tuple[Piece, ...] = ()
    order: Tensor | None = None

    def gradient(self, logits: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
        """The gradient of the terms weighted by scale (T,), in the shape of the logits."""
        flat = sorted_rows(logits, self.order).view(-1)
        gradient = torch.zeros_like(flat, dtype=dtype)  # where no piece writes
        for piece in self.pieces:
            piece.write_gradient(gradient, flat, scale.to(piece.weights.dtype))
        if self.order is None:
            return gradient.view(logits.shape)
        rows = gradient.view(self.order.numel(), -1)
        return torch.empty_like(rows).index_copy_(0, self.order, rows).view(logits.shape)

    def tensors(self) -> Iterator[Tensor | None]:
        """What is as large as the logits, for autograd to keep and to free; three for each piece."""
        for piece in self.pieces:
            yield from (piece.negatives.interval, piece.negatives.index, piece.negatives.values)

    def with_tensors(self, tensors: tuple[Any, ...]) -> Update:
        """The same update around those tensors."""
        triples = zip(*(iter(tensors),) * 3, strict=True)
        pieces = (replace(p, negatives=Negatives(*triple)) for p, triple in zip(self.pieces, triples, strict=True))
        return replace(self, pieces=tuple(pieces))

    def without_tensors(self) -> Update:
        """The same update without them."""
        return self.with_tensors((None, None, None) * len(self.pieces))


def sorted_rows(logits: Tensor, order: Tensor | None) -> Tensor:
    """The logits, contiguous, with their rows, whatever a row is, in the given order; (rows, entries per row)."""
    return logits.contiguous() if order is None else logits.reshape(order.numel(), -1).index_select(0, order)


class Attach(torch.autograd.Function):
    """The values of an update, each with its own gradient."""

    @staticmethod
    def forward(logits: Tensor, update: Update, *tensors: Tensor | None) -> tuple[Tensor, ...]:  # noqa: ARG004
        """T scalars; float32 for 16-bit logits."""
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
    """T scalars with the values and the gradients of the update."""
    return Attach.apply(logits, update.without_tensors(), *update.tensors())


class Source(Protocol):
    """What `ranking_terms` needs of a loss."""

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
        image_index: int64, shape of the leading dimensions of the logits.
    """

    targets: Tensor | None = None
    positives: Tensor | None = None
    index: Tensor | None = None
    quality: Tensor | None = None
    ignored: Tensor | None = None
    image_index: Tensor | None = None

    def tensors(self) -> list[Tensor | None]:
        """All fields in order. Not ``vars(self).values()``, which torch.compile of torch 2.4 does not follow."""
        return [self.targets, self.positives, self.index, self.quality, self.ignored, self.image_index]


def compiled(logits: Tensor, arguments: Arguments, names: tuple[str, ...], source: int, delta: float | None) -> Ranked:
    """What a numbered loss with terms of those names makes of the arguments, for compiled code."""
    values, _, standing = ranking_terms(logits, arguments.tensors(), source, delta)
    return Ranked(dict(zip(names, values.unbind(), strict=True)), *standing.detach().unbind())


# torch.compile sees a ranking loss as one operator. Its arguments are tensors and numbers, so every loss has a number.
_SOURCES: WeakValueDictionary[int, Source] = WeakValueDictionary()
_NUMBERS = itertools.count()


def numbered(source: Source) -> int:
    """A number for a loss, valid as long as the loss lives."""
    number = next(_NUMBERS)
    _SOURCES[number] = source
    return number


# The schema is written out: torch before 2.6 cannot infer it from annotations that are strings (PEP 563).
@torch.library.custom_op(
    "rankdet::ranking_terms",
    mutates_args=(),
    schema="(Tensor logits, Tensor?[] arguments, int source, float? delta) -> (Tensor, Tensor, Tensor)",
)
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
    standing = update.standing[:, : _number_of_positives(given)].to(dtype).clone()
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
