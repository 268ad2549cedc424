"""Length and learning rate of a training: warm-up times a decay, both functions of the step alone.

Source: the schedules of the Rank & Sort Loss paper (section 5) and of MMDetection (section 9.3 of its documentation):
warm-up multiplies the regular rate of that moment, milestones count finished epochs. Nothing here has state, so that a
resumed run continues at exactly the rate it was interrupted at.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

from typing_extensions import override

_LONG_WARMUP = 0.1


class Decay(ABC):
    """A factor of the learning rate, in [0, 1], as a function of the progress of the training."""

    @abstractmethod
    def factor(self, step: int, *, steps_per_epoch: int, epochs: int) -> float:
        """The factor for the optimiser step number `step`, counted from 0."""

    @abstractmethod
    def describe(self, epochs: int) -> str:
        """A phrase for the header of a run of `epochs` epochs."""


class Steps(Decay):
    """Multiply by `gamma` after each of the `milestones`.

    Args:
        milestones: numbers of finished epochs, ascending; ``(8, 11)`` of 12 is the "1x" schedule.
        gamma: factor of each step, in (0, 1].

    >>> steps = Steps(milestones=(8, 11))
    >>> [round(steps.factor(epoch, steps_per_epoch=1, epochs=12), 4) for epoch in (7, 8, 11)]
    [1.0, 0.1, 0.01]
    """

    def __init__(self, *, milestones: Sequence[int], gamma: float = 0.1) -> None:
        if list(milestones) != sorted(set(milestones)) or any(milestone < 1 for milestone in milestones):
            raise ValueError(f"milestones are ascending numbers of finished epochs, at least 1; got {list(milestones)}")
        if not 0 < gamma <= 1:
            raise ValueError(f"gamma must be > 0 and <= 1, got {gamma}")
        self.milestones = tuple(milestones)
        self.gamma = gamma

    @override
    def factor(self, step: int, *, steps_per_epoch: int, epochs: int) -> float:
        finished = step // steps_per_epoch
        return float(self.gamma ** sum(milestone <= finished for milestone in self.milestones))

    @override
    def describe(self, epochs: int) -> str:
        reached = [str(milestone) for milestone in self.milestones if milestone < epochs]
        unreached = [str(milestone) for milestone in self.milestones if milestone >= epochs]
        text = (
            f"times {self.gamma:g} after epoch{'s' * (len(reached) > 1)} {' and '.join(reached)}"
            if reached
            else "constant"
        )
        return text + (f" (milestone {' and '.join(unreached)} is not reached)" if unreached else "")


class Cosine(Decay):
    """Half a cosine wave from 1 down to `final` at the end of the last epoch (Loshchilov and Hutter, 2017).

    >>> round(Cosine().factor(5, steps_per_epoch=1, epochs=10), 4)
    0.5
    """

    def __init__(self, *, final: float = 0.0) -> None:
        if not 0 <= final <= 1:
            raise ValueError(f"final must be >= 0 and <= 1, got {final}")
        self.final = final

    @override
    def factor(self, step: int, *, steps_per_epoch: int, epochs: int) -> float:
        done = min(1.0, step / (steps_per_epoch * epochs))
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2

    @override
    def describe(self, epochs: int) -> str:
        return f"cosine decay to {self.final:g}" + (" of the rate" if self.final else "")


class FlatCosine(Decay):
    """The full rate at first, half a cosine wave down to `final`, and that to the end (Lyu et al., "RTMDet", 2022).

    Args:
        flat_epochs: epochs at the full rate, those of the warm-up among them.
        closing_epochs: epochs at the lowest rate, at the end.
        final: the lowest rate as a share of the full one.

    >>> flat = FlatCosine(flat_epochs=4, closing_epochs=2)
    >>> [round(flat.factor(epoch, steps_per_epoch=1, epochs=10), 4) for epoch in (3, 4, 6, 8, 9)]
    [1.0, 1.0, 0.75, 0.5, 0.5]
    """

    def __init__(self, *, flat_epochs: int, closing_epochs: int = 0, final: float = 0.5) -> None:
        _check_whole("flat_epochs", flat_epochs, least=0)
        _check_whole("closing_epochs", closing_epochs, least=0)
        if not 0 <= final <= 1:
            raise ValueError(f"final must be >= 0 and <= 1, got {final}")
        self.flat_epochs = flat_epochs
        self.closing_epochs = closing_epochs
        self.final = final

    @override
    def factor(self, step: int, *, steps_per_epoch: int, epochs: int) -> float:
        past = step / steps_per_epoch - self.flat_epochs
        if past <= 0:
            return 1.0
        falling = epochs - self.closing_epochs - self.flat_epochs
        done = min(1.0, past / falling) if falling > 0 else 1.0
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2

    @override
    def describe(self, epochs: int) -> str:
        last = max(epochs - self.closing_epochs, self.flat_epochs)
        if epochs <= self.flat_epochs:
            return f"constant (the decay after {self.flat_epochs} epochs is not reached)"
        return (
            f"constant for {self.flat_epochs} epochs, then cosine decay to {self.final:g} of the rate at epoch {last}"
        )


class Schedule:
    """The length of a training and its learning rate.

    Args:
        epochs: passes over the training set, at least 1.
        least_steps: the fewest optimiser steps of the training; small datasets get more epochs to reach them.
        warmup_iterations: optimiser steps over which the rate grows to its full value; 0 for none.
        warmup_share: the same as a share of all steps, in [0, 1), in place of `warmup_iterations`.
        warmup_ratio: fraction of the full rate at the first of these steps, in [0, 1].
        warmup_power: the rate grows with this power of the step, above 0; linearly by default, with 2 as in DEIM.
        decay: how the rate falls; None keeps it constant.
        base_batch_size: images per step, over all devices, that the optimiser's rate is meant for. Presets set it.
        scale_lr: if `base_batch_size` is set, multiply the rate by (images of a step) / `base_batch_size`. Goyal
            et al., "Accurate, Large Minibatch SGD", 2017; meant for SGD.

    >>> schedule = Schedule(epochs=12, warmup_iterations=500, decay=Steps(milestones=(8, 11)))
    >>> [round(schedule.factor(step, steps_per_epoch=1000), 4) for step in (0, 250, 500, 8000)]
    [0.001, 0.5005, 1.0, 0.1]
    """

    def __init__(
        self,
        *,
        epochs: int,
        least_steps: int = 0,
        warmup_iterations: int = 0,
        warmup_share: float | None = None,
        warmup_ratio: float = 0.001,
        warmup_power: float = 1.0,
        decay: Decay | None = None,
        base_batch_size: int | None = None,
        scale_lr: bool = True,
    ) -> None:
        _check_whole("epochs", epochs, least=1)
        _check_whole("least_steps", least_steps, least=0)
        _check_whole("warmup_iterations", warmup_iterations, least=0)
        if warmup_share is not None and not 0 <= warmup_share < 1:
            raise ValueError(f"warmup_share must be >= 0 and < 1, got {warmup_share}")
        if warmup_share is not None and warmup_iterations:
            raise ValueError(
                "warmup_share and warmup_iterations are two ways to say how long the warm-up is; set warmup_share to "
                "null or warmup_iterations to 0"
            )
        if not 0 <= warmup_ratio <= 1:
            raise ValueError(f"warmup_ratio must be >= 0 and <= 1, got {warmup_ratio}")
        if warmup_power <= 0:
            raise ValueError(f"warmup_power must be > 0, got {warmup_power}")
        if base_batch_size is not None:
            _check_whole("base_batch_size", base_batch_size, least=1)
        self.epochs = epochs
        self.least_steps = least_steps
        self.warmup_iterations = warmup_iterations
        self.warmup_share = warmup_share
        self.warmup_ratio = warmup_ratio
        self.warmup_power = warmup_power
        self.decay = decay
        self.base_batch_size = base_batch_size
        self.scale_lr = scale_lr

    def for_epochs_of(self, steps: int, *, most_steps: int | None = None) -> Schedule:
        """The schedule of a training with a given number of steps per epoch, and at most a given number in total.

        >>> schedule = Schedule(epochs=12, least_steps=1000)
        >>> schedule.for_epochs_of(500).epochs, schedule.for_epochs_of(50).epochs
        (12, 20)
        >>> schedule.for_epochs_of(50, most_steps=149).epochs
        2
        """
        resolved = copy.copy(self)
        resolved.epochs = max(self.epochs, math.ceil(self.least_steps / steps))
        if most_steps is not None:
            resolved.epochs = max(1, min(resolved.epochs, most_steps // steps))
        return resolved

    def factor(self, step: int, *, steps_per_epoch: int) -> float:
        """What the full rate is multiplied by at an optimiser step, counted from 0 at the start of the training."""
        decay = 1.0
        if self.decay is not None:
            decay = self.decay.factor(step, steps_per_epoch=steps_per_epoch, epochs=self.epochs)
        warmup = self.warmup_steps(steps_per_epoch)
        if step >= warmup:
            return decay
        grown = (step / warmup) ** self.warmup_power
        return decay * (1 - (1 - grown) * (1 - self.warmup_ratio))

    def warmup_steps(self, steps_per_epoch: int) -> int:
        """Optimiser steps before the rate reaches its full value.

        >>> Schedule(epochs=12, warmup_share=0.05).warmup_steps(100)
        60
        """
        if self.warmup_share is None:
            return self.warmup_iterations
        return round(self.warmup_share * steps_per_epoch * self.epochs)

    def full_rate(self, lr: float, batch_size: int) -> float:
        """The rate after warm-up for steps of `batch_size` images."""
        return lr * batch_size / self.base_batch_size if self.scale_lr and self.base_batch_size else lr

    def describe(self) -> str:
        """A phrase for the header of a run."""
        length = f"{self.warmup_share:.0%} of the" if self.warmup_share else self.warmup_iterations
        power = f" by the power {self.warmup_power:g} of the step" if self.warmup_power != 1 else ""
        warmup = f", warm-up {length} steps from {self.warmup_ratio:g} of the rate{power}" if length else ""
        decay = self.decay.describe(self.epochs) if self.decay is not None else "constant"
        return f"{self.epochs} epoch{'s' if self.epochs > 1 else ''}{warmup}, {decay}"

    def describe_rate(self, lr: float, batch_size: int) -> str:
        """How the stated rate was adapted to steps of `batch_size` images, and how to change that."""
        rate = self.full_rate(lr, batch_size)
        if self.base_batch_size in (None, batch_size):
            return f"{rate:g}"
        meant = f"the stated rate is for a batch of {self.base_batch_size}"
        if self.scale_lr:
            return (
                f"{rate:g} = {lr:g} x {batch_size} / {self.base_batch_size} ({meant}; schedule.scale_lr false keeps it)"
            )
        scaled = lr * batch_size / self.base_batch_size
        return f"{rate:g} as stated ({meant}; schedule.scale_lr true would make it {scaled:g})"

    def warnings(self, *, batch_size: int, steps_per_epoch: int) -> list[str]:
        """What looks wrong with the learning rate for steps of `batch_size` images, and how to fix it."""
        found = []
        warmup, total = self.warmup_steps(steps_per_epoch), steps_per_epoch * self.epochs
        if warmup > _LONG_WARMUP * total:
            found.append(
                f"the warm-up takes {warmup} steps, and the whole training has {total}; set "
                "schedule.warmup_iterations 0 and schedule.warmup_share 0.05, or train for more epochs"
            )
        if self.base_batch_size not in (None, batch_size) and not self.scale_lr:
            found.append(
                f"the stated rate is for steps of {self.base_batch_size} images, and a step has {batch_size}; set "
                "schedule.scale_lr true, or a rate for this batch"
            )
        return found


def _check_whole(name: str, value: int, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")
