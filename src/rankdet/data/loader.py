"""From a dataset to batches ``(images, targets)``: lists of tensors, augmented in worker processes, reproducible."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from rankdet.data.batches import DetectionBatches, Draw, InOrder, Order
from rankdet.data.dataset import DetectionDataset, Sample
from rankdet.data.seeding import seeded
from rankdet.data.worker_signals import obey_parent_alone
from rankdet.ops.distributed import rank as rank_here
from rankdet.ops.distributed import world_size as world_size_here

Batch = tuple[list[torch.Tensor], list[dict[str, Any]]]
Transforms = Callable[..., Any]
"""Takes ``(image, target)`` and returns both; torchvision's v2 transforms do. It must pickle."""


class TransformsByEpoch(ABC):
    """Transforms that are not the same in every epoch. It must pickle."""

    @abstractmethod
    def in_epoch(self, epoch: int) -> Transforms:
        """Those of an epoch, counted from 0; they depend on nothing else."""


class AugmentedSamples(Dataset[Sample]):
    """A dataset indexed by ``(place, seed, epoch)``, from which alone the transforms of a sample follow."""

    def __init__(self, dataset: DetectionDataset, transforms: Transforms | TransformsByEpoch | None) -> None:
        self.dataset = dataset
        self.transforms = transforms

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: Draw) -> Sample:
        image, target = self.dataset[draw.place]
        by_epoch = self.transforms
        transforms = by_epoch.in_epoch(draw.epoch) if isinstance(by_epoch, TransformsByEpoch) else by_epoch
        if transforms is None:
            return image, target
        with seeded(draw.seed):
            return transforms(image, target)


def build_loader(
    dataset: DetectionDataset,
    *,
    batch_size: int,
    order: Order | None = None,
    transforms: Transforms | TransformsByEpoch | None = None,
    groups: Sequence[int] | None = None,
    workers: int = 0,
    seed: int = 0,
    rank: int | None = None,
    world_size: int | None = None,
    drop_last: bool = False,
) -> DataLoader[Any]:
    """A loader whose batches depend on `seed` and the epoch, not on the number of workers.

    Epochs advance automatically; ``loader.batch_sampler.set_epoch(e)`` goes to another one.

    Args:
        dataset: the images.
        batch_size: images in a batch on this process.
        order: ``Shuffled(len(dataset))`` for training; None for the order of the dataset.
        transforms: applied to each sample.
        groups: a batch holds images of one group; see :func:`rankdet.data.batches.group_by_orientation`.
        workers: processes that load; 0 loads in this one.
        seed: of order and transforms.
        rank: which process this is; None asks ``torch.distributed``.
        world_size: number of processes; None asks ``torch.distributed``.
        drop_last: leave out the short batch at the end.

    Example:
        >>> from rankdet.data import Shapes
        >>> images, targets = next(iter(build_loader(Shapes(length=4, seed=0), batch_size=2)))
        >>> len(images), images[0].shape, sorted(targets[0])
        (2, torch.Size([3, 256, 256]), ['boxes', 'image_id', 'iscrowd', 'labels', 'original_size'])
    """
    if workers < 0:
        raise ValueError(f"workers must be at least 0, got {workers}")
    batches = DetectionBatches(
        InOrder(len(dataset)) if order is None else order,
        batch_size=batch_size,
        seed=seed,
        groups=groups,
        rank=rank_here() if rank is None else rank,
        world_size=world_size_here() if world_size is None else world_size,
        drop_last=drop_last,
    )
    if workers:
        _allow_open_files()
    return DataLoader(
        AugmentedSamples(dataset, transforms),
        batch_sampler=batches,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=obey_parent_alone,
    )


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples as a list of images and a list of targets, in plain tensors.

    (Tensors of torchvision's subclasses are copied through a pipe on their way from a worker; plain ones are shared.)
    """
    images = [image.as_subclass(torch.Tensor) for image, _ in samples]
    return images, [{key: _plain(value) for key, value in target.items()} for _, target in samples]


def _plain(value: Any) -> Any:
    return value.as_subclass(torch.Tensor) if isinstance(value, torch.Tensor) else value


def _allow_open_files() -> None:
    """Each shared tensor takes a file descriptor; a soft limit of 1,024 is too low for lists of small tensors."""
    try:
        import resource
    except ImportError:  # not on Windows, which does not share by descriptors
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
