"""The batches of a training from any position on, the same batches however often the training was interrupted.

Lightning resumes in the middle of an epoch, but makes the first iterator of a loader before it tells it the epoch, and
begins it at its first batch. Here the position is one number, the batches already trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch.utils.data import DataLoader

from rankdet.data.batches import DetectionBatches
from rankdet.data.loader import Batch


class ReplayLoader:
    """Goes through a loader epoch by epoch, from a position that is asked for at each start.

    Args:
        loader: as of :func:`rankdet.data.loader.build_loader`, whose batches follow from seed, epoch and number.
        position: batches already trained on since the beginning of the training, all epochs together.

    Invariant: the k-th batch of epoch e is the same, bit for bit, whether or not the iteration began there.
    """

    def __init__(self, loader: DataLoader[Batch], *, position: Callable[[], int]) -> None:
        if not isinstance(loader.batch_sampler, DetectionBatches):
            raise TypeError(f"the loader must have DetectionBatches, got {type(loader.batch_sampler).__name__}")
        self.loader = loader
        self.position = position

    def close(self) -> None:
        """Let go of the loader, which ends its worker processes; nothing can be loaded afterwards."""
        del self.loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        assert isinstance(self.loader.batch_sampler, DetectionBatches), "checked at construction"
        epoch, start = divmod(self.position(), len(self))
        self.loader.batch_sampler.set_epoch(epoch, start=start)
        yield from self.loader
