"""`RankingLoss`, the base of every ranking loss: write the errors of a positive, get value, gradient and edge cases.

A ranking loss states, for each positive i, an error that depends on where i ranks, and who is to blame for it. Identity
Update (Oksuz et al., "Rank & Sort Loss", ICCV 2021, Section 3.2) turns that into a gradient: the error promotes i and
demotes those to blame, each in proportion to its step H(s_j - s_i) above i.
"""

from __future__ import annotations

import copy
import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from rankdet.losses.ranking.attach import Arguments, Piece, Update, attach, compiled, numbered, sorted_rows
from rankdet.losses.ranking.gather import processes
from rankdet.losses.ranking.negatives import Negatives, locate
from rankdet.losses.ranking.numbers import accumulator, alone, on_cpu, widened
from rankdet.losses.ranking.ranking import Error, PositiveError, Ranked, Ranking, RankingError, SortingError
from rankdet.losses.ranking.steps import Edges
from rankdet.losses.ranking.targets import (
    Positives,
    check_image_index,
    check_logits,
    in_sorted_rows,
    listed,
    read_targets,
    split_rows,
    with_errors,
)

Scope = Literal["batch", "image"]


class RankingLoss(nn.Module, ABC):
    """A loss on the order of logits, whose gradient follows from the errors of the positives by Identity Update.

    An author overrides `errors` (and, where they differ, the class attributes below) and gets values, gradients,
    batches without positives, ignored entries, every floating dtype, every device and `torch.compile` from here.

    A batch without positives: every term is 0 and connected to the graph. Without negatives: nothing ranks above a
    positive. Infinite logits rank above or below all finite ones. Equal logits are ties. Sums are taken in float64,
    whatever the dtype of the logits (float32 on MPS); 16-bit logits give float32 values. The host waits for the device
    to select the positives of dense targets, with `gather_across_devices`, and with `scope="image"`; elsewhere never.

    Invariant: the gradients of every term over all logits sum to zero (where the author states no `PositiveError`).

    Args:
        delta: half-width of the smoothed step H in units of a logit, >= 0; 0 is the hard step.
        scope: "batch" ranks all logits of a call together, "image" those of each image by themselves and averages the
            losses of the images that hold a positive.
        gather_across_devices: rank over the batches of all processes of `torch.distributed`. The value is then the same
            on all of them, and the gradient that of the global loss times their number, so that the mean over the
            processes, which DistributedDataParallel takes, is the gradient of one process with the whole batch; also
            where some processes have no positive. Every process must call the loss equally often.
    """

    term_names: tuple[str, ...] = ("ranking",)
    """The names that `errors` returns, in order."""
    self_step: float | None = None
    """What a positive counts in its own rank; None: H(0), which is 1/2 for delta > 0 and 1 for delta = 0."""
    epsilon: float = 1e-10
    """An error is passed on only to those whose steps sum to more than this."""

    def __init__(self, *, delta: float, scope: Scope = "batch", gather_across_devices: bool = False) -> None:
        super().__init__()
        if scope not in get_args(Scope):
            raise ValueError(f"scope is {scope!r}; accepted are {' and '.join(map(repr, get_args(Scope)))}")
        self.delta = _checked(delta)
        self.scope = scope
        self.gather_across_devices = gather_across_devices
        self.number = numbered(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.number = numbered(self)  # a copy is another loss

    def extra_repr(self) -> str:
        """Shown by print."""
        return f"delta={self.delta}, scope={self.scope!r}, gather_across_devices={self.gather_across_devices}"

    @abstractmethod
    def errors(self, ranking: Ranking) -> Mapping[str, Error]:
        """The named errors of the positives; called without gradient, with at least one positive."""

    def normaliser(self, ranking: Ranking) -> Tensor | float:
        """What the sums over positives are divided by, a scalar; their number unless overridden."""
        return float(len(ranking))

    def forward(
        self, logits: Tensor, targets: Tensor, *, positives: Tensor | None = None, image_index: Tensor | None = None
    ) -> Tensor:
        """The sum of the terms, a scalar; see `terms`."""
        terms = self.terms(logits, targets, positives=positives, image_index=image_index)
        return functools.reduce(torch.add, terms.values())

    def terms(
        self, logits: Tensor, targets: Tensor, *, positives: Tensor | None = None, image_index: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The named terms, scalars that add up to the loss, each with its own gradient.

        Args:
            logits: any shape, float16, bfloat16, float32 or float64.
            targets: same shape; > 0 is a positive with that quality (at most 1), 0 a negative, < 0 ignored.
            positives: same shape, bool; says outright which entries are positives, so that one of quality 0 stays one.
            image_index: shape of the leading dimensions of the logits, int64; the image of each, for `scope="image"`.

        Raises:
            ValueError: shapes differ, a logit is NaN, or a target is NaN or above 1 (by more than rounding, 1e-3).
        """
        return self.ranked_by(logits, Arguments(targets=targets, positives=positives, image_index=image_index)).terms

    def terms_at(
        self,
        logits: Tensor,
        positive_index: Tensor,
        quality: Tensor,
        *,
        ignored: Tensor | None = None,
        image_index: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """`terms` from a list of the positives instead of dense targets: quicker, and what detectors have.

        Args:
            logits: any shape, such as (P, K): priors by classes.
            positive_index: (M,) int64 distinct indices of the positives into the flattened logits.
            quality: (M,) their qualities, in 0..1; below 0 for what is worse than useless.
            ignored: bool, shape of the leading dimensions of the logits, such as (P,): rows that take no part. A
                positive there stays one. None: nothing is ignored.
            image_index: shape of the leading dimensions of the logits, int64; the image of each, for `scope="image"`.

        Raises:
            ValueError: shapes do not fit, or (on a CPU, elsewhere nobody looks) an index is out of range or there
                twice, a quality is NaN or above 1, or a logit is NaN; where nobody looks, NaN makes the loss NaN.

        Example:
            >>> from rankdet.losses import RankSortLoss
            >>> logits = torch.tensor([[2.0, -1.0], [0.5, -3.0]])
            >>> RankSortLoss().terms_at(logits, torch.tensor([2]), torch.tensor([0.8]))["ranking"]
            tensor(0.6667)
        """
        return self.ranked_at(logits, positive_index, quality, ignored=ignored, image_index=image_index).terms

    def ranked_at(
        self,
        logits: Tensor,
        positive_index: Tensor,
        quality: Tensor,
        *,
        ignored: Tensor | None = None,
        image_index: Tensor | None = None,
    ) -> Ranked:
        """The same terms, and the ranks and soft-sampling weights of the positives that came with them."""
        return self.ranked_by(
            logits, Arguments(index=positive_index, quality=quality, ignored=ignored, image_index=image_index)
        )

    def ranked_by(self, logits: Tensor, arguments: Arguments, *, delta: float | None = None) -> Ranked:
        """What all the other calls come to; delta in the place of the loss's own."""
        if torch.compiler.is_compiling():
            return compiled(logits, arguments, self.term_names, self.number, delta)
        with torch.no_grad():
            update = self.update(logits.detach(), arguments, delta)
        terms = dict(zip(self.term_names, attach(logits, update), strict=True))
        return Ranked(terms, *update.standing.to(widened(logits.dtype)).unbind())

    def update(self, logits: Tensor, arguments: Arguments, delta: float | None) -> Update:
        """Values and gradients of all terms; for compiled code."""
        if delta not in (None, self.delta):
            return self._with(delta).update(logits, arguments, None)
        found = self._found(logits, arguments)
        if self.scope == "batch":
            if arguments.image_index is not None:
                raise ValueError('image_index is given but scope is "batch"; make the loss with scope="image"')
            return self._update_of_batch(logits, found)
        if arguments.image_index is None:
            raise ValueError('scope is "image" but image_index is missing; give the image of each row of the logits')
        check_image_index(arguments.image_index, logits)
        return self._update_of_images(logits, found, arguments.image_index.reshape(-1))

    def _with(self, delta: float) -> RankingLoss:
        other = copy.copy(self)
        other.delta = _checked(delta)
        return other

    def _found(self, logits: Tensor, arguments: Arguments) -> Positives:
        if arguments.targets is None:
            assert arguments.index is not None, "dense targets or a list of positives"
            assert arguments.quality is not None, "a list of positives has qualities"
            check_logits(logits)
            return listed(logits, Positives(arguments.index, arguments.quality.detach(), arguments.ignored))
        found = read_targets(logits, arguments.targets, arguments.positives)
        return found if arguments.quality is None else with_errors(found, arguments.quality.detach())

    def _update_of_batch(self, logits: Tensor, found: Positives) -> Update:
        flat = sorted_rows(logits, None).view(-1)
        update = self._update_of_one(flat, found, together=self.gather_across_devices)
        if on_cpu(logits) and alone():
            return update
        # Elsewhere the logits were not checked.
        return replace(update, values=torch.where(flat.amax().isnan(), torch.nan, update.values))

    def _update_of_images(self, logits: Tensor, found: Positives, image: Tensor) -> Update:
        order = None if bool((image.diff() >= 0).all()) else image.argsort(stable=True)
        flat = sorted_rows(logits, order).view(-1)
        found = in_sorted_rows(found, order, image.numel(), flat.numel() // max(image.numel(), 1))
        rows = (image if order is None else image[order]).unique_consecutive(return_counts=True)[1].tolist()
        values, standing = self._zeros(logits), flat.new_zeros(2, found.index.numel(), dtype=accumulator(flat.device))
        pieces: list[Piece] = []
        for span, inside, part in split_rows(found, rows, flat.numel() // max(image.numel(), 1)):
            update = self._update_of_one(flat[span], part, together=False)
            values = values + update.values
            standing[:, inside] = update.standing
            pieces += [replace(piece, span=span) for piece in update.pieces]
        group = processes(together=self.gather_across_devices)
        *sums, images = group.total(torch.cat([values, values.new_full((1,), len(pieces))])).unbind()
        share = 1 / images.clamp(min=1)
        scaled = tuple(piece.scaled(share * group.size) for piece in pieces)
        return Update(torch.stack(sums) * share, standing, scaled, order)

    def _update_of_one(self, flat: Tensor, found: Positives, *, together: bool) -> Update:
        """One ranking of flattened logits; no pieces where no process has a positive."""
        group = processes(together=together)
        dtype = accumulator(flat.device)
        own = torch.stack([flat.index_select(0, found.index).to(dtype), found.quality.to(dtype)])
        (logits, quality), mine = group.gather(own)
        if logits.numel() == 0:
            return Update(self._zeros(flat), own)
        edges = Edges(logits, self.delta, widened(flat.dtype))
        negatives = self._locate(flat, edges, found)
        false_positives = edges.step_sums(*group.total(negatives.totals(flat, edges)))
        ranking = Ranking(logits, quality, false_positives, delta=self.delta, self_step=self.self_step)
        values, gradients, weights = self._rows(ranking)
        piece = Piece(slice(0, flat.numel()), found.index, gradients[:, mine], weights, edges, negatives)
        standing = torch.stack([ranking.rank[mine], ranking.soft_sampling[mine]])
        return Update(values, standing, (piece.scaled(group.size),))

    def _locate(self, flat: Tensor, edges: Edges, found: Positives) -> Negatives:
        """The negatives; what they stand for may be overridden."""
        return locate(flat, edges, found)

    def _rows(self, ranking: Ranking) -> tuple[Tensor, Tensor, Tensor]:
        """Values (T,), gradients of the positives (T, P) and weights of their steps (T, P) of all terms."""
        errors = self.errors(ranking)
        if not isinstance(errors, Mapping) or tuple(errors) != self.term_names:
            given = tuple(errors) if isinstance(errors, Mapping) else type(errors).__name__
            raise ValueError(
                f"{type(self).__name__}.errors() returns {given}; accepted is a dict with the names of term_names, in "
                f"their order: {self.term_names}"
            )
        parts = [self._part(name, error, ranking) for name, error in errors.items()]
        values, gradients, weights = (torch.stack(rows) for rows in zip(*parts, strict=True))
        scale = self.normaliser(ranking)
        return values / scale, gradients / scale, weights / scale

    def _part(self, name: str, error: Error, ranking: Ranking) -> tuple[Tensor, Tensor, Tensor]:
        """Of one error, not yet normalised: value, gradient of the positives, weights of their steps for negatives."""
        read = functools.partial(_per_positive, name=f"{type(self).__name__}.errors()[{name!r}]", ranking=ranking)
        nothing = torch.zeros_like(ranking.logits)
        if isinstance(error, PositiveError):
            return read(error.value).sum(), read(error.gradient), nothing
        if not isinstance(error, RankingError | SortingError):
            raise TypeError(
                f"{type(self).__name__}.errors()[{name!r}] is a {type(error).__name__}; accepted are RankingError, "
                f"SortingError and PositiveError"
            )
        excess = read(error.current) - read(error.target)
        value = (excess if error.value is None else read(error.value)).sum()
        if isinstance(error, RankingError):
            blamed = ranking.false_positives
        else:
            blamed = ranking.rank_among_positives - ranking.rank_among_as_good
        shared = blamed > self.epsilon
        handed = torch.where(shared, excess, 0.0)
        weights = handed / torch.where(shared, blamed, 1.0)
        if isinstance(error, SortingError):
            return value, ranking.spread_over_inferior(weights) - handed, nothing
        return value, -handed, weights

    def _zeros(self, logits: Tensor) -> Tensor:
        return torch.zeros(len(self.term_names), dtype=accumulator(logits.device), device=logits.device)


def _per_positive(values: Tensor | float, *, name: str, ranking: Ranking) -> Tensor:
    """What an author states of each positive, (P,) in the dtype of the ranking; a number counts for all of them."""
    if not isinstance(values, Tensor):
        return torch.full_like(ranking.logits, values)
    if values.shape != ranking.logits.shape:
        raise ValueError(
            f"{name} holds a tensor of shape {tuple(values.shape)}; accepted is an entry for each positive, "
            f"{tuple(ranking.logits.shape)}; they are summed, and divided by the normaliser, afterwards"
        )
    return values.to(ranking.logits.dtype)


def _checked(delta: float) -> float:
    if not 0 <= delta < float("inf"):
        raise ValueError(f"delta is {delta}; accepted is a finite number >= 0, half the width of the step in logits")
    return float(delta)
