"""One ranking over the batches of all processes.

A ranking couples the processes through its positives and through the totals of the negatives per interval, a few
kilobytes: the positives are gathered once, the totals reduced once. Every process then knows the rank of every positive
of the global batch, and works out the gradient of its own logits alone.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


class Alone:
    """A process that ranks its own batch, or the only one there is."""

    size = 1

    def gather(self, rows: Tensor) -> tuple[Tensor, slice]:
        """The columns of all processes, in their order, and which of them are this one's; (R, P) to (R, all P)."""
        return rows, slice(0, rows.shape[1])

    def total(self, values: Tensor) -> Tensor:
        """The sum over the processes."""
        return values


class Together(Alone):
    """All processes of the default group of torch.distributed."""

    def __init__(self) -> None:
        self.size = dist.get_world_size()

    def gather(self, rows: Tensor) -> tuple[Tensor, slice]:
        """See `Alone`; two collectives, since the numbers of columns differ: the numbers, then the columns, padded."""
        number = torch.tensor([rows.shape[1]], device=rows.device)
        numbers = [torch.empty_like(number) for _ in range(self.size)]
        dist.all_gather(numbers, number)
        counts = torch.cat(numbers).tolist()
        padded = torch.nn.functional.pad(rows, (0, max(counts) - rows.shape[1])).contiguous()
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        start = sum(counts[: dist.get_rank()])
        gathered = torch.cat([part[:, :count] for part, count in zip(parts, counts, strict=True)], 1)
        return gathered, slice(start, start + rows.shape[1])

    def total(self, values: Tensor) -> Tensor:
        """See `Alone`."""
        summed = values.clone()
        dist.all_reduce(summed)
        return summed


def processes(*, together: bool) -> Alone:
    """All processes, where that is asked for and there are several."""
    initialised = dist.is_available() and dist.is_initialized()
    return Together() if together and initialised and dist.get_world_size() > 1 else Alone()
