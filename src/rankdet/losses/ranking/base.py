"""`RankingLoss`, the base of every ranking loss: write the errors of a positive, get value, gradient and edge cases.

A ranking loss states, for each positive i, an error that depends on where i ranks, and who is to blame for it. Identity
Update (Oksuz et al., "Rank & Sort Loss", ICCV 2021, Section 3.2) turns that into a gradient: the error promotes i and
demotes those to blame, each in proportion to its step H(s_j - s_i) above i.

Shapes: logits of any shape with N entries; P positives; T terms.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rankdet.losses.ranking.checks import Positives, check_logits, read_targets
from rankdet.losses.ranking.negatives import Negatives
from rankdet.losses.ranking.ranking import Error, PositiveError, Ranking, RankingError, SortingError
from rankdet.losses.ranking.steps import accumulator


class RankingLoss(nn.Module, ABC):
    """A loss on the order of logits, whose gradient follows from the errors of the positives by Identity Update.

    An author overrides `errors` (and, where they differ, the class attributes below) and gets the value, the gradient,
    batches without positives, ignored entries, every floating dtype and device from here.

    Invariant: the gradients of every term over all logits sum to zero (where the author states no `PositiveError`).

    Args:
        delta: half-width of the smoothed step H in units of a logit, >= 0; 0 is the hard step.
    """

    self_step: float | None = None
    """What a positive counts in its own rank; None: H(0), which is 1/2 for delta > 0 and 1 for delta = 0."""
    epsilon: float = 1e-10
    """An error is handed to others only where their steps sum to more than this."""

    def __init__(self, *, delta: float) -> None:
        super().__init__()
        if not 0 <= delta < float("inf"):
            raise ValueError(
                f"delta is {delta}; accepted is a finite number >= 0, the half-width of the step in logits"
            )
        self.delta = float(delta)

    @abstractmethod
    def errors(self, ranking: Ranking) -> Mapping[str, Error]:
        """The named errors of the positives; called without gradient, with at least one positive."""

    def normaliser(self, ranking: Ranking) -> Tensor:
        """What the sums over positives are divided by; their number unless overridden."""
        return ranking.logits.new_tensor(len(ranking))

    @property
    @abstractmethod
    def term_names(self) -> tuple[str, ...]:
        """The names that `errors` returns, in order."""

    def forward(
        self, logits: Tensor, targets: Tensor, *, positives: Tensor | None = None, image_index: Tensor | None = None
    ) -> Tensor:
        """The sum of the terms, a scalar; see `terms`."""
        terms = self.terms(logits, targets, positives=positives, image_index=image_index)
        return torch.stack(list(terms.values())).sum()

    def terms(
        self, logits: Tensor, targets: Tensor, *, positives: Tensor | None = None, image_index: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The named terms, scalars that add up to the loss, each with its own gradient.

        Args:
            logits: any shape, float16, bfloat16, float32 or float64.
            targets: same shape; > 0 is a positive with that quality (at most 1), 0 a negative, < 0 ignored.
            positives: same shape, bool; says outright which entries are positives, so that one of quality 0 stays one.
            image_index: shape of the leading dimensions of the logits, int64; the image of each entry.

        Raises:
            ValueError: shapes differ, a logit is NaN, or a target is NaN or above 1.
        """
        found = read_targets(logits, targets, positives)
        return self._terms(logits, found)

    def terms_at(
        self,
        logits: Tensor,
        positive_index: Tensor,
        quality: Tensor,
        *,
        ignored: Tensor | None = None,
        image_index: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """`terms`, from a list of the positives in place of a dense target: what detectors call.

        Args:
            logits: any shape, such as (P, K): priors by classes.
            positive_index: (M,) int64 distinct indices of the positives into the flattened logits.
            quality: (M,) their qualities, in 0..1.
            ignored: bool, shape of the leading dimensions of the logits, such as (P,): rows that take no part. A
                positive there stays one. None: nothing is ignored.
            image_index: shape of the leading dimensions of the logits, int64; the image of each row.
        """
        check_logits(logits)
        return self._terms(logits, Positives(positive_index, quality, ignored))

    def _terms(self, logits: Tensor, found: Positives) -> dict[str, Tensor]:
        with torch.no_grad():
            update = self._update(logits.detach(), found)
        values = _Attach.apply(logits, update)
        return dict(zip(self.term_names, values, strict=True))

    def _update(self, logits: Tensor, found: Positives) -> _Update:
        """Values and gradients of all terms."""
        dtype = accumulator(logits.device)
        flat = logits.reshape(-1)
        if found.index.numel() == 0:
            return _Update.nothing(len(self.term_names), logits, dtype)
        positive_logits = flat.index_select(0, found.index).to(dtype)
        negatives = Negatives(logits, positive_logits, found, self.delta)
        ranking = Ranking(
            positive_logits,
            found.quality.to(dtype),
            negatives.step_sums(),
            delta=self.delta,
            self_step=self.self_step,
        )
        errors = self.errors(ranking)
        if tuple(errors) != self.term_names:
            raise ValueError(f"errors() of {type(self).__name__} returned {tuple(errors)}, not {self.term_names}")
        parts = [self._part(error, ranking) for error in errors.values()]
        scale = self.normaliser(ranking)
        values, gradients, weights = (torch.stack(rows) / scale for rows in zip(*parts, strict=True))
        return _Update(values, found.index, gradients, weights, negatives)

    def _part(self, error: Error, ranking: Ranking) -> tuple[Tensor, Tensor, Tensor]:
        """Of one error, not yet normalised: value, gradient of the positives, weights of their steps for negatives."""
        nothing = torch.zeros_like(ranking.logits)
        if isinstance(error, PositiveError):
            return error.value.sum(), error.gradient, nothing
        excess = error.current - error.target
        value = (excess if error.value is None else error.value).sum()
        blamed = ranking.false_positives if isinstance(error, RankingError) else ranking.inferior_above
        shared = blamed > self.epsilon
        handed = torch.where(shared, excess, 0.0)
        weights = handed / torch.where(shared, blamed, 1.0)
        if isinstance(error, SortingError):
            return value, ranking.spread_over_inferior(weights) - handed, nothing
        return value, -handed, weights


@dataclass(frozen=True)
class _Update:
    """What the forward pass leaves to the backward pass.

    Attributes:
        values: (T,).
        index: (P,) where the positives are.
        gradients: (T, P) of the positives.
        weights: (T, P) of the positives' steps in the gradient of the negatives.
        negatives: None without positives.
    """

    values: Tensor
    index: Tensor
    gradients: Tensor
    weights: Tensor
    negatives: Negatives | None

    @classmethod
    def nothing(cls, terms: int, logits: Tensor, dtype: torch.dtype) -> _Update:
        empty = torch.zeros(terms, 0, dtype=dtype, device=logits.device)
        index = torch.zeros(0, dtype=torch.long, device=logits.device)
        return cls(torch.zeros(terms, dtype=dtype, device=logits.device), index, empty, empty, None)


class _Attach(torch.autograd.Function):
    """Values with the gradients that the update prescribes; each of the T outputs has its own."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, update: _Update) -> tuple[Tensor, ...]:
        ctx.save_for_backward(logits)
        ctx.update = update
        return update.values.to(logits.dtype).unbind()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        (logits,) = ctx.saved_tensors
        update: _Update = ctx.update
        scale = torch.stack(upstream).to(update.values.dtype)
        gradient = torch.zeros_like(logits, memory_format=torch.contiguous_format)
        if update.negatives is not None:
            flat = gradient.view(-1)
            update.negatives.add_gradient(flat, logits.reshape(-1), scale @ update.weights)
            flat.index_copy_(0, update.index, (scale @ update.gradients).to(flat.dtype))
        return gradient, None
