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
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn

from rankdet.losses.ranking.attach import Arguments, Update, attach
from rankdet.losses.ranking.entries import Entries
from rankdet.losses.ranking.gather import Group, Members, processes
from rankdet.losses.ranking.negatives import Negatives, locate
from rankdet.losses.ranking.numbers import widened
from rankdet.losses.ranking.operator import as_operator, is_seen_from_outside, numbered
from rankdet.losses.ranking.piecewise import Delta, PiecewiseStep
from rankdet.losses.ranking.ranking import Error, Ranked, Ranking
from rankdet.losses.ranking.search import BlockScan
from rankdet.losses.ranking.steps import Edges
from rankdet.losses.ranking.targets import check_tensors
from rankdet.losses.ranking.update import GROUPED_BY, update_of

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Scope = Literal["batch", "image", "class", "group"]
SortingScope = Literal["batch", "image", "object"]


class RankingLoss(nn.Module, ABC):
    """A loss on the order of logits, whose gradient follows from the errors of the positives by Identity Update.

    An author overrides `errors` (and, where they differ, the class attributes below) and gets values, gradients,
    batches without positives, ignored entries, every floating dtype, every device and `torch.compile` from here.

    A batch without positives: every term is 0 and connected to the graph. Without negatives: nothing ranks above a
    positive. Infinite logits rank above or below all finite ones. Equal logits are ties. Sums are taken in float64,
    whatever the dtype of the logits (float32 on MPS); 16-bit logits give float32 values. The host waits for the device
    to select the positives of dense targets, with `gather_across_devices`, and to find groups; elsewhere never.

    Invariant: the gradients of every term over all logits sum to zero (where the author states no `PositiveError`).

    Args:
        delta: half-width of the smoothed step H in units of a logit, >= 0; 0 is the hard step. Or a `PiecewiseStep`,
            which takes a table of all pairs of positives, whatever their number.
        scope: "batch" ranks all logits of a call together; "image" those of each image separately, "class" those of
            each class (the last dimension), "group" those of each group that a call names. Groups are ranked in one
            pass, and the losses of those that hold a positive are averaged.
        gather_across_devices: rank over the batches of all processes of `torch.distributed`. The value is then the same
            on all of them, and the gradient that of the global loss times their number, so that the mean over the
            processes, which DistributedDataParallel takes, is the gradient of one process with the whole batch; also
            where some processes have no positive. Every process must call the loss equally often. Which processes may
            be set as `process_group`, by default all of them.
    """

    term_names: tuple[str, ...] = ("ranking",)
    """The names that `errors` returns, in order."""
    self_step: float | None = None
    """What a positive counts in its own rank; None: H(0), 1/2 for delta > 0 and 1 for delta = 0."""
    epsilon: float = 1e-10
    """An error is passed on only to those whose steps sum to more than this."""
    groups_at_once: bool = False
    """Whether `errors` and `normaliser` take a ranking of several groups; otherwise they are asked group by group."""
    sorting_scope: SortingScope = "batch"
    """Within what a loss that sorts does so: among all positives that rank together, unless it says otherwise."""

    def __init__(self, *, delta: Delta, scope: Scope = "batch", gather_across_devices: bool = False) -> None:
        super().__init__()
        if scope not in get_args(Scope):
            raise ValueError(f"scope is {scope!r}; accepted are {' and '.join(map(repr, get_args(Scope)))}")
        self.delta: Delta = delta if isinstance(delta, PiecewiseStep) else checked_delta(delta)
        self.scope = scope
        self.gather_across_devices = gather_across_devices
        self._members = Members()
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
        """What the sums over positives are divided by, a scalar, or (P,) of several groups; their number by default."""
        return float(len(ranking)) if ranking.weight is None and ranking.groups.number == 1 else ranking.number

    def forward(
        self,
        logits: Tensor,
        targets: Tensor,
        *,
        positives: Tensor | None = None,
        image_index: Tensor | None = None,
        group: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """The sum of the terms, a scalar; see `terms`."""
        terms = self.terms(logits, targets, positives=positives, image_index=image_index, group=group, weight=weight)
        return functools.reduce(torch.add, terms.values())

    def terms(
        self,
        logits: Tensor,
        targets: Tensor,
        *,
        positives: Tensor | None = None,
        image_index: Tensor | None = None,
        group: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The named terms, scalars that add up to the loss, each with its own gradient.

        Args:
            logits: any shape, float16, bfloat16, float32 or float64.
            targets: same shape; > 0 is a positive with that quality (at most 1), 0 a negative, < 0 ignored.
            positives: same shape, bool; says outright which entries are positives, so that one of quality 0 stays one.
            image_index: shape of the leading dimensions of the logits, int64; the image of each, for `scope="image"`.
            group: the same, any integers, for `scope="group"`.
            weight: shape of the leading dimensions of the logits; an entry of weight 2 counts like two of it. At least
                0, and above 0 for positives.

        Raises:
            ValueError: shapes differ, a logit is NaN, or a target is NaN or above 1 (by more than rounding, 1e-3).
        """
        arguments = Arguments(
            targets=targets, positives=positives, group=self.grouping(image_index, group), weight=weight
        )
        return self.ranked_by(logits, arguments).terms

    def terms_at(
        self,
        logits: Tensor,
        positive_index: Tensor,
        quality: Tensor,
        *,
        ignored: Tensor | None = None,
        image_index: Tensor | None = None,
        group: Tensor | None = None,
        weight: Tensor | None = None,
        sorting_group: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """`terms` from a list of the positives instead of dense targets: quicker, and what detectors have.

        Args:
            logits: any shape, such as (P, K): priors by classes.
            positive_index: (M,) int64 distinct indices of the positives into the flattened logits.
            quality: (M,) their qualities, in 0..1; below 0 for what is worse than useless.
            ignored: bool, shape of the leading dimensions of the logits, such as (P,): rows that take no part. A
                positive there stays one. None: nothing is ignored.
            image_index: see `terms`, as the rest.
            group: see there.
            weight: see there.
            sorting_group: (M,) int64, the image or the object of each positive, for a `sorting_scope` other than
                "batch". Those of other processes are other ones.

        Raises:
            ValueError: shapes do not fit, or (on a CPU, elsewhere nobody looks) an index is out of range or there
                twice, a quality is NaN or above 1, or a logit is NaN; where nobody looks, NaN makes the loss NaN.

        Example:
            >>> from rankdet.losses import RankSortLoss
            >>> logits = torch.tensor([[2.0, -1.0], [0.5, -3.0]])
            >>> RankSortLoss().terms_at(logits, torch.tensor([2]), torch.tensor([0.8]))["ranking"]
            tensor(0.6667)
        """
        return self.ranked_at(
            logits,
            positive_index,
            quality,
            ignored=ignored,
            image_index=image_index,
            group=group,
            weight=weight,
            sorting_group=sorting_group,
        ).terms

    def ranked_at(
        self,
        logits: Tensor,
        positive_index: Tensor,
        quality: Tensor,
        *,
        ignored: Tensor | None = None,
        image_index: Tensor | None = None,
        group: Tensor | None = None,
        weight: Tensor | None = None,
        sorting_group: Tensor | None = None,
    ) -> Ranked:
        """The same terms, and the ranks and soft-sampling weights of the positives that came with them."""
        group = self.grouping(image_index, group)
        return self.ranked_by(
            logits,
            Arguments(
                index=positive_index,
                quality=quality,
                ignored=ignored,
                group=group,
                weight=weight,
                sorting_group=sorting_group,
            ),
        )

    def per_positive(
        self,
        logits: Tensor,
        targets: Tensor,
        *,
        positives: Tensor | None = None,
        image_index: Tensor | None = None,
        group: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The terms before they are averaged: of each positive in order, (M,), each with a gradient of its own.

        What other losses call ``reduction="none"``. The arguments are those of `terms`. A term is the mean of these, or
        what the loss's `normaliser` makes of their sum.

        Raises:
            ValueError: the loss gathers across devices, or states a `PositiveError`, whose gradient is that of a sum.

        Example:
            >>> from rankdet.losses import AveragePrecisionLoss
            >>> logits, targets = torch.tensor([3.0, 1.0, -2.0, -3.0]), torch.tensor([0, 1, 0, 1])
            >>> AveragePrecisionLoss(interpolate=False).per_positive(logits, targets)
            {'ranking': tensor([0.5000, 0.5000])}
        """
        if self.gather_across_devices:
            raise ValueError("per_positive is of one process; make the loss without gather_across_devices")
        group = self.grouping(image_index, group)
        arguments = Arguments(targets=targets, positives=positives, group=group, weight=weight)
        check_tensors(logits, targets)
        arguments.check_device(logits.device)
        if is_seen_from_outside(logits, arguments):
            raise ValueError("per_positive does not work in compiled or traced code, or by vmap; terms does")
        self._check_sorting(arguments)
        with torch.no_grad():
            update = update_of(self, logits.detach(), arguments, each=True)
        return dict(zip(self.term_names, attach(logits, update), strict=True))

    def grouping(self, image_index: Tensor | None, group: Tensor | None) -> Tensor | None:
        """The argument by which this scope groups; it must be the one that is given."""
        given = {"image_index": image_index, "group": group}
        wanted = GROUPED_BY.get(self.scope)
        for name, of_rows in given.items():
            if of_rows is not None and name != wanted:
                scope = next(scope for scope, argument in GROUPED_BY.items() if argument == name)
                raise ValueError(f'{name} is given but scope is "{self.scope}"; make the loss with scope="{scope}"')
        if wanted is not None and given[wanted] is None:
            raise ValueError(f'scope is "{self.scope}" but {wanted} is missing; give that of each row of the logits')
        return None if wanted is None else given[wanted]

    def ranked_by(self, logits: Tensor, arguments: Arguments, *, delta: float | None = None) -> Ranked:
        """What all the other calls come to; delta in place of the loss's own."""
        check_tensors(logits, arguments.targets)
        arguments.check_device(logits.device)
        self._check_sorting(arguments)
        if is_seen_from_outside(logits, arguments):
            return as_operator(logits, arguments, self.term_names, self.number, delta)
        with torch.no_grad():
            update = self.update(logits.detach(), arguments, delta)
        terms = dict(zip(self.term_names, attach(logits, update), strict=True))
        dtype = widened(logits.dtype)
        return Ranked(terms, lambda: update.standing().to(dtype), lambda of_delta: update.sampling(of_delta).to(dtype))

    def update(self, logits: Tensor, arguments: Arguments, delta: float | None) -> Update:
        """Values and gradients of all terms; for compiled code."""
        loss = self if delta in (None, self.delta) else self._with(delta)
        device = logits.device.type
        if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
            return update_of(loss, logits, arguments)
        with torch.autocast(device, enabled=False):  # which would round the sums where these are float32
            return update_of(loss, logits, arguments)

    @property
    def process_group(self) -> ProcessGroup | None:
        """The group of torch.distributed whose processes `gather_across_devices` joins; None: all."""
        return self._members.group

    @process_group.setter
    def process_group(self, group: ProcessGroup | None) -> None:
        self._members = Members(group)

    @property
    def processes(self) -> Group:
        """The processes that rank together."""
        return processes(together=self.gather_across_devices, members=self.process_group)

    def locate(self, entries: Entries, edges: Edges, scan: BlockScan | None) -> tuple[Negatives, Tensor]:
        """The negatives among the edges, and their totals per interval; what they stand for may be overridden."""
        return locate(entries, edges, scan)

    def _check_sorting(self, arguments: Arguments) -> None:
        if (arguments.sorting_group is None) is not (self.sorting_scope == "batch"):
            missing = "missing; give that of each positive to terms_at or ranked_at"
            raise ValueError(
                f'sorting_scope is "{self.sorting_scope}" but sorting_group is '
                f"{missing if arguments.sorting_group is None else 'given; make the loss with another sorting_scope'}"
            )

    def _with(self, delta: float | None) -> RankingLoss:
        other = copy.copy(self)
        other.delta = checked_delta(delta)
        return other


def checked_delta(delta: float | None, name: str = "delta") -> float:
    """The delta, once it is known to be one."""
    if delta is None or not 0 <= delta < float("inf"):
        raise ValueError(f"{name} is {delta}; accepted is a finite number >= 0, half the width of the step in logits")
    return float(delta)
