"""A ranking loss as one operator, for whoever sees a model from outside: compilers, tracers, vmap, fake tensors.

What is done inside depends on the values, and is none of their business.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch._C import _get_dispatch_mode, _TorchDispatchModeKey
from torch._C._functorch import TransformType, get_interpreter_stack
from torch._subclasses.fake_tensor import FakeTensor

from rankdet.losses.ranking.attach import NO_FORWARD_DERIVATIVE, Arguments, Update
from rankdet.losses.ranking.numbers import widened
from rankdet.losses.ranking.ranking import Ranked


class TermsSource(Protocol):
    """What `ranking_terms` asks of a loss."""

    term_names: tuple[str, ...]

    def update(self, logits: Tensor, arguments: Arguments, delta: float | None) -> Update:
        """Values and gradients."""
        ...


def is_seen_from_outside(logits: Tensor, arguments: Arguments) -> bool:
    """Whether there are no values to look at, or somebody records what is done: compiled, traced, fake, mapped, meta.

    Lists of positives on the meta device are no such case: with them, nobody looks at a value.
    """
    if torch.compiler.is_compiling():
        return True
    if logits.is_meta and arguments.targets is not None:
        return True
    if any(isinstance(argument, FakeTensor) for argument in (logits, *arguments.tensors())):
        return True
    maps = any(level.key() == TransformType.Vmap for level in get_interpreter_stack() or ())
    return maps or _get_dispatch_mode(_TorchDispatchModeKey.PROXY) is not None


def as_operator(
    logits: Tensor, arguments: Arguments, names: tuple[str, ...], source: int, delta: float | None
) -> Ranked:
    """What a numbered loss with terms of those names makes of the arguments, by one operator."""
    given = arguments.tensors()
    if torch.compiler.is_compiling():
        values, _, standing = ranking_terms(logits, given, source, delta)
    else:
        values, _, standing = Operator.apply(logits, source, delta, *given)
    return Ranked(dict(zip(names, values.unbind(), strict=True)), standing.detach, _not_compiled)


class Operator(torch.autograd.Function):
    """The operator with a gradient that torch.func takes, which that of operators is not."""

    @staticmethod
    def forward(logits: Tensor, source: int, delta: float | None, *arguments: Tensor | None) -> tuple[Tensor, ...]:
        """See `ranking_terms`."""
        return ranking_terms(logits, list(arguments), source, delta)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        """The gradients are known already."""
        ctx.mark_non_differentiable(*output[1:])
        ctx.arguments = len(inputs) - 3
        _keep(ctx, inputs, output)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Those of the terms, weighed."""
        return _weigh(ctx, *upstream)[0], None, None, *[None] * ctx.arguments

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """One ranking after the other."""
        found = [
            Operator.apply(*(_part(of, dim, number) for of, dim in zip(given, in_dims, strict=True)))
            for number in range(info.batch_size)
        ]
        return tuple(torch.stack(parts) for parts in zip(*found, strict=True)), (0, 0, 0)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> None:  # noqa: ARG004
        """Raise."""
        raise RuntimeError(NO_FORWARD_DERIVATIVE)


def _part(given: Any, dim: int | None, number: int) -> Any:
    return given if dim is None else given.select(dim, number)


def _not_compiled(delta: float) -> Tensor:
    raise RuntimeError(
        f"soft sampling by delta {delta} is not there in compiled code; compile the rest, or take delta 0"
    )


# The arguments of an operator are tensors and numbers, so every loss has a number.
_SOURCES: WeakValueDictionary[int, TermsSource] = WeakValueDictionary()
_NUMBERS = itertools.count()


def numbered(source: TermsSource) -> int:
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
