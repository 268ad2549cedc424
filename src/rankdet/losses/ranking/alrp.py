"""aLRP Loss: its classification part as a ranking loss, and what its localisation part needs of the ranking.

Oksuz, Cam, Akbas, Kalkan, "A Ranking-based, Balanced Loss Function Unifying Classification and Localisation in Object
Detection", NeurIPS 2020, Equations 9 to 13. As in the authors' code a positive counts 1 in its own rank, an error is
passed on only where N_FP > 1e-5, and the localisation part counts by the hard step and divides by the smooth rank.
Differs from it: both of two tied positives count in each other's localisation, delta = 0 is exact, sums are
taken in float64. Tests compare with the double loop over pairs in ``tests/reference/ranking.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from rankdet.losses.ranking.attach import Arguments
from rankdet.losses.ranking.base import RankingLoss, Scope
from rankdet.losses.ranking.numbers import accumulator
from rankdet.losses.ranking.ranking import Error, Ranked, Ranking, RankingError


class ALRPLoss(RankingLoss):
    """The classification part of average Localisation-Recall-Precision: rank positives, well localised ones first.

    The value is the mean over positives of N_FP(i) / rank(i). The error whose gradient is taken also holds, on top of
    N_FP, the localisation errors of the other positives above i: a negative that outranks i stands above all of them.
    A localisation error is E = (1 - quality) / (1 - tau), or what is given in its place.

    The other part of aLRP is ``(soft_sampling * errors).sum()`` with the weights of `ranked_at`, times a `SelfBalance`;
    `rankdet.losses.functional.alrp_loss` has both parts without the balance.

    Invariants: the loss lies in [0, 1); gradients sum to zero; no negative is promoted, no positive demoted.

    Args:
        delta: half-width of the smoothed step in logits, >= 0.
        tau: the quality at which a box counts as found, in 0..1; its localisation error is 1 there.
        scope: see `RankingLoss`.
        gather_across_devices: see `RankingLoss`.

    Example:
        >>> import torch
        >>> logits, quality = torch.tensor([3.0, 1.0, -2.0]), torch.tensor([0.9, 0.0, 0.7])
        >>> ALRPLoss()(logits, quality)  # (0 / 1 + 1 / 3) / 2
        tensor(0.1667)
    """

    self_step = 1.0
    epsilon = 1e-5
    groups_at_once = True

    def __init__(
        self, *, delta: float = 1.0, tau: float = 0.5, scope: Scope = "batch", gather_across_devices: bool = False
    ) -> None:
        super().__init__(delta=delta, scope=scope, gather_across_devices=gather_across_devices)
        if not 0 <= tau < 1:
            raise ValueError(f"tau is {tau}; accepted is 0 <= tau < 1, the quality at which a box counts as found")
        self.tau = float(tau)

    def forward(
        self,
        logits: Tensor,
        targets: Tensor,
        localisation_errors: Tensor | None = None,
        *,
        positives: Tensor | None = None,
        image_index: Tensor | None = None,
        group: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """The classification part; localisation errors are of the M positives in order, (M,), or from their quality."""
        group = self.grouping(image_index, group)
        quality = None if localisation_errors is None else self.quality_of(localisation_errors)
        arguments = Arguments(targets=targets, positives=positives, quality=quality, group=group, weight=weight)
        return self.ranked_by(logits, arguments).terms["ranking"]

    def ranked(
        self,
        logits: Tensor,
        targets: Tensor,
        localisation_errors: Tensor,
        *,
        positives: Tensor | None = None,
        image_index: Tensor | None = None,
        group: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Ranked:
        """As `ranked_at`, of dense targets, and with localisation errors (M,) >= 0 of the positives in their order.

        Raises:
            ValueError: there are not as many errors as positives, or (on a CPU) one is NaN or negative.
        """
        quality = self.quality_of(localisation_errors)
        group = self.grouping(image_index, group)
        return self.ranked_by(
            logits, Arguments(targets=targets, positives=positives, quality=quality, group=group, weight=weight)
        )

    def errors(self, ranking: Ranking) -> Mapping[str, Error]:
        """Equation 11 and its target: the localisation error of i itself stays when no negative is above it."""
        localisation = (1 - ranking.quality) / (1 - self.tau)
        above = ranking.above(localisation)  # own error included
        precision_error = ranking.false_positives / ranking.rank
        error = (ranking.false_positives + above) / ranking.rank
        return {"ranking": RankingError(error, localisation / ranking.rank, value=precision_error)}

    def quality_of(self, localisation_errors: Tensor) -> Tensor:
        """The quality that stands for a localisation error; below 0 for errors that only a GIoU can have."""
        errors = localisation_errors.detach()
        return 1 - (1 - self.tau) * errors.to(accumulator(errors.device))

    def extra_repr(self) -> str:
        """Shown by print."""
        return f"{super().extra_repr()}, tau={self.tau}"
