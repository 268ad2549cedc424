"""One ranking over the batches of all processes.

A ranking couples the processes through its positives and through the totals of the negatives per interval, a few
kilobytes: the positives are gathered once, the totals reduced once. Every process then knows the rank of every positive
of the global batch, and works out the gradient of its own logits alone.

Losses of single positives, and sums of losses, are joined likewise: every process has the global value, and on its own
part the gradient of it times the number of processes, so that the mean of the gradients over the processes, which
DistributedDataParallel takes, is the gradient of one process with the whole batch.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


class Group:
    """Processes whose batches count as one; here a process with its own batch, or the only one there is."""

    size = 1
    rank = 0

    def gather(self, rows: Tensor) -> tuple[Tensor, slice]:
        """The columns of all processes, in their order, and which of them are this one's; (R, P) to (R, all P)."""
        return rows, slice(0, rows.shape[1])

    def total(self, values: Tensor) -> Tensor:
        """The sum over the processes, without gradient."""
        return values.detach()

    def everyone(self, *rows: Tensor) -> tuple[Tensor, ...]:
        """Each (P,), the same P for all, to (all P,), with the gradient of the global batch times `size`."""
        return rows

    def sum(self, value: Tensor) -> Tensor:
        """The sum over the processes, with the gradient of the global batch times `size`."""
        return value


class Together(Group):
    """All processes of a group of torch.distributed, by default of the default group."""

    def __init__(self, members: dist.ProcessGroup | None = None) -> None:
        self.members = members
        self.size = dist.get_world_size(members)
        self.rank = dist.get_rank(members)

    def gather(self, rows: Tensor) -> tuple[Tensor, slice]:
        """See `Group`; two collectives, since the numbers of columns differ: the numbers, then the columns, padded."""
        number = torch.tensor([rows.shape[1]], device=rows.device)
        numbers = [torch.empty_like(number) for _ in range(self.size)]
        dist.all_gather(numbers, number, group=self.members)
        counts = torch.cat(numbers).tolist()
        padded = torch.nn.functional.pad(rows, (0, max(counts) - rows.shape[1])).contiguous()
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded, group=self.members)
        start = sum(counts[: self.rank])
        gathered = torch.cat([part[:, :count] for part, count in zip(parts, counts, strict=True)], 1)
        return gathered, slice(start, start + rows.shape[1])

    def total(self, values: Tensor) -> Tensor:
        """See `Group`."""
        summed = values.detach().clone()
        dist.all_reduce(summed, group=self.members)
        return summed

    def everyone(self, *rows: Tensor) -> tuple[Tensor, ...]:
        """See `Group`."""
        own = torch.stack(rows)
        gathered, mine = self.gather(own.detach())
        return torch.cat(
            [gathered[:, : mine.start], own.detach() + self._zero(own), gathered[:, mine.stop :]], 1
        ).unbind()

    def sum(self, value: Tensor) -> Tensor:
        """See `Group`."""
        return self.total(value) + self._zero(value)

    def _zero(self, values: Tensor) -> Tensor:
        """Zeros with the gradient of the values times `size`."""
        return self.size * (values - values.detach())


class Members:
    """Which processes are meant. Copies share it, for it is no data: read from a file, all are meant again."""

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group

    def __deepcopy__(self, memo: dict[int, object]) -> Members:
        return self

    def __reduce__(self) -> tuple[type[Members], tuple[()]]:
        return Members, ()


def processes(*, together: bool, members: dist.ProcessGroup | None = None) -> Group:
    """The members (None: all processes), where that is asked for and there are several."""
    initialised = dist.is_available() and dist.is_initialized()
    return Together(members) if together and initialised and dist.get_world_size(members) > 1 else Group()
