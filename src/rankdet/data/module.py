"""The data of an experiment: training and validation images, how they are resized, augmented and batched."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from rankdet.data.batches import group_by_orientation
from rankdet.data.categories import Categories
from rankdet.data.compose import ConcatDetection, SubsetDetection
from rankdet.data.corrupt import BlankCorrupt, SkipCorrupt
from rankdet.data.dataset import DetectionDataset
from rankdet.data.errors import CLASSES, MASKS, CorruptImageError, DatasetError
from rankdet.data.loader import Transforms, TransformsByEpoch, build_loader
from rankdet.data.mixing import MixingTransform
from rankdet.data.one_class import one_class_of
from rankdet.data.proposals import ProposalFiles, with_proposals
from rankdet.data.raster import read_header
from rankdet.data.sampling import EachOnce, Sampling
from rankdet.data.semantic import with_semantics
from rankdet.data.sources import open_dataset
from rankdet.data.strong import StrongAugmentation
from rankdet.data.transforms import FixedResize, ResizeShorter, Sanitise
from rankdet.data.voc import VOCDetection
from rankdet.data.yolo_folder import of_split

_PROBED = 32  # images whose headers are read before a training


class DetectionData:
    """Training and validation data; everything about them that can be checked before a training is checked here.

    Args:
        train: a dataset, or what :func:`rankdet.data.open_dataset` takes: a COCO file, a VOC folder, a YOLO file,
            ``"shapes"``. A list of these is used as one dataset, as VOC 2007 and 2012 are.
        val: as `train`; ``"shapes"`` gives images other than those for training.
        train_images: the folder of the training images, if it is not found automatically.
        val_images: the folder of the validation images, if it is not found automatically.
        classes: use only these classes, by name and in this order, in both.
        masks: also load masks.
        batch_size: images per batch and process.
        workers: data loading workers per training process; 0 loads in the training process itself.
        resize: the rule for validation and deployment; None for ``ResizeShorter(short=800, long=1333)``.
        train_transforms: resizing and augmentation of training images, in order; None for `resize` and a
            horizontal flip with probability 0.5. Boxes are clipped and degenerate ones dropped after them in any case.
        strong: more transforms of training images, after `train_transforms`, such as `Mosaic`, `MixUp` and `CopyPaste`;
            the first and the last epochs can go without them. The images that these mix in are training images.
        sampling: how often training images come in an epoch, if at all; None for each once. ``RepeatRare()`` suits long
            tails.
        skip_empty: leave images without objects out of the training, as the published experiments do.
        min_size: leave images whose shorter side is below this many pixels out of the training.
        one_class: put all objects into one class, "object", for detectors that only separate objects from background.
        proposals: files with the regions of each image, for a detector without a first stage.
        semantic: folder with a semantic map of each training image, as COCO-stuff has them; see `WithSemantics`.

    `classes`, `masks`, `skip_empty` and `min_size` apply to data opened here, not to dataset objects.

    Raises:
        DatasetError: for what is wrong with the data: unreadable files, training without objects, categories of `train`
            and `val` that differ.

    Example:
        >>> from rankdet.data import KeepSize, Shapes
        >>> data = DetectionData(
        ...     train=Shapes(length=8, seed=0), val=Shapes(length=4, seed=1), batch_size=2, workers=0, resize=KeepSize()
        ... )
        >>> len(data.train_loader(seed=0)), len(data.val_loader()), data.num_classes
        (4, 2, 8)
    """

    def __init__(
        self,
        *,
        train: str | list[str] | DetectionDataset,
        val: str | list[str] | DetectionDataset,
        train_images: str | None = None,
        val_images: str | None = None,
        classes: list[str] | None = None,
        masks: bool = False,
        batch_size: int = 16,
        workers: int = 2,
        resize: FixedResize | None = None,
        train_transforms: list[v2.Transform] | None = None,
        strong: StrongAugmentation | None = None,
        sampling: Sampling | None = None,
        skip_empty: bool = True,
        min_size: int = 32,
        one_class: bool = False,
        proposals: ProposalFiles | None = None,
        semantic: str | None = None,
    ) -> None:
        if batch_size < 1 or workers < 0:
            raise ValueError(f"batch_size must be at least 1 and workers at least 0, got {batch_size} and {workers}")
        self.batch_size, self.workers = batch_size, workers
        self.resize = ResizeShorter() if resize is None else resize
        self.train_transforms = _augmentation(self.resize, train_transforms)
        self.strong = strong
        sampling = sampling or EachOnce()
        images = _open(
            train, train_images, classes=classes, masks=masks, seed=0, skip_empty=skip_empty, min_size=min_size
        )
        self._tolerant_train = SkipCorrupt(sampling.choose(images))
        self.proposals = files = proposals or ProposalFiles()
        self.semantic = semantic
        self.train = with_proposals(one_class_of(self._tolerant_train, one_class), files.train, everywhere=True)
        self.train = with_semantics(self.train, semantic)
        self._order = sampling.order(self.train)
        sources = [of_split(one, "val") for one in val] if isinstance(val, list) else of_split(val, "val")
        validation = _open(sources, val_images, classes=classes, masks=masks, seed=1)
        if isinstance(validation, VOCDetection) and isinstance(val, str):
            validation = _with_classes_of(self._tolerant_train.categories, validation, val, val_images)
        self._tolerant_val = BlankCorrupt(validation)
        self.val = with_proposals(one_class_of(self._tolerant_val, one_class), files.val)
        self._check()

    @property
    def categories(self) -> Categories:
        """The class map of both."""
        return self.train.categories

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.categories)

    def summary(self) -> str:
        """The corrupt images met so far, for the end of a training; empty when there were none."""
        return "\n".join(filter(None, (self._tolerant_train.summary(), self._tolerant_val.summary())))

    def to_learn_by_heart(self, count: int) -> DetectionData:
        """The first `count` training images that have objects, without augmentation, to train on and to validate on."""
        with_objects = (index for index in range(len(self.train)) if len(self.train.labels(index)))
        few = SubsetDetection(self.train, list(itertools.islice(with_objects, count)))
        return DetectionData(
            train=few,
            val=few,
            batch_size=min(self.batch_size, len(few)),
            workers=self.workers,
            resize=self.resize,
            train_transforms=[self.resize],
        )

    @property
    def all_transforms(self) -> Transforms:
        """What a training image goes through: `train_transforms`, and the strong ones if there are any."""
        usual: Transforms = self.train_transforms
        return usual if self.strong is None else self.strong.after(usual, self.train)

    def train_loader(
        self, *, seed: int, epochs: int | None = None, rank: int | None = None, world_size: int | None = None
    ) -> DataLoader[Any]:
        """Shuffled batches of one orientation each, augmented; corrupt images are replaced and counted.

        With `epochs`, those of the whole training, some go without strong augmentation if it says so.
        `rank` and `world_size` default to those of ``torch.distributed``.
        """
        transforms: Transforms | TransformsByEpoch = self.all_transforms
        if self.strong is not None and epochs is not None:
            transforms = self.strong.by_epoch(self.train_transforms, self.train, epochs=epochs)
        return build_loader(
            self.train,
            batch_size=self.batch_size,
            order=self._order,
            transforms=transforms,
            groups=group_by_orientation(self.train.image_sizes),
            workers=self.workers,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )

    def val_loader(self, *, rank: int | None = None, world_size: int | None = None) -> DataLoader[Any]:
        """All validation images in order; corrupt ones are black, so that what lies in them counts as missed.

        On several processes the first ones may come twice, so that all processes make the same number of steps: keep
        one result for each image id.
        """
        return build_loader(
            self.val,
            batch_size=self.batch_size,
            transforms=self.resize,
            workers=self.workers,
            rank=rank,
            world_size=world_size,
        )

    def _check(self) -> None:
        if difference := self.train.categories.difference(self.val.categories):
            raise DatasetError(
                f"the training data {self.train.report.source} (the first) and the validation data "
                f"{self.val.report.source} (the second) have different classes: {difference}; "
                f"make the categories of both files equal, or choose common ones: {CLASSES}"
            )
        if self.train.report.objects == 0:
            raise DatasetError(
                f"there are no objects to learn from. Give data with annotations; what was found is\n  "
                f"{self.train.report.summary()}"
            )
        self._check_mixing()
        for dataset in (self.train, self.val):
            _probe(dataset)

    def _check_mixing(self) -> None:
        for transform in self.train_transforms.transforms:
            if isinstance(transform, MixingTransform):
                transform()
        needing = self.strong.needing_masks if self.strong is not None else []
        if needing and not self.train.has_masks:
            raise DatasetError(
                f"{needing[0]} needs masks, and {self.train.report.source} was opened without them; set {MASKS} if the "
                "data have masks, or do without it"
            )


def _augmentation(resize: FixedResize, transforms: Sequence[v2.Transform] | None) -> v2.Compose:
    chosen = [resize, v2.RandomHorizontalFlip(0.5)] if transforms is None else list(transforms)
    return v2.Compose([*chosen, Sanitise()])


def _open(
    source: str | list[str] | DetectionDataset,
    images: str | None,
    *,
    classes: Sequence[str] | None,
    masks: bool,
    seed: int,
    skip_empty: bool = False,
    min_size: int = 0,
) -> DetectionDataset:
    if isinstance(source, DetectionDataset):
        if images is not None or classes is not None:
            raise DatasetError("a dataset object has its own images and classes; give them to its constructor")
        return source
    if isinstance(source, list):
        if images is not None:
            raise DatasetError(
                f"one folder of images, {images}, cannot be that of {len(source)} datasets; leave train_images or "
                "val_images out and keep the images of each where they are found, or name a single dataset"
            )
        one = partial(
            _open, images=None, classes=classes, masks=masks, seed=seed, skip_empty=skip_empty, min_size=min_size
        )
        return ConcatDetection([one(name) for name in source])
    return open_dataset(
        source,
        images=images,
        masks=masks,
        classes=classes,
        skip_empty=skip_empty,
        min_size=min_size,
        shapes_seed=seed,
    )


def _with_classes_of(
    categories: Categories, dataset: VOCDetection, source: str, images: str | None
) -> DetectionDataset:
    """VOC files list no classes: a validation folder in which one never occurs still has those of the training."""
    if dataset.categories == categories or not set(dataset.categories.names) <= set(categories.names):
        return dataset
    return open_dataset(source, images=images, classes=categories)


def _probe(dataset: DetectionDataset) -> None:
    """Read the headers of some images, spread over the dataset: sizes that are wrong throughout show before a training.

    A single bad file is left to the training, which skips it.
    """
    places = np.unique(np.linspace(0, len(dataset) - 1, _PROBED).astype(int)).tolist()
    sizes, faults = dataset.image_sizes, []
    for index in places:
        path = dataset.image_path(index)
        if path is None:
            return
        try:
            header = read_header(path)
            height, width = header.turned_size if dataset.turns_upright else header.size
        except CorruptImageError as error:
            faults.append(str(error))
            continue
        if (height, width) != sizes[index]:
            faults.append(f"{path} is {width} x {height}, its annotation says {sizes[index][1]} x {sizes[index][0]}")
    if len(faults) > max(1, len(places) // 10):
        raise DatasetError(
            f"{len(faults)} of {len(places)} images of {dataset.report.source} that were looked at are unusable, "
            f"the first: {faults[0]}"
        )
