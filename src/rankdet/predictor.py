"""Predictor: a trained detector with all that its detections depend on, for Python and the command line alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor, nn
from typing_extensions import Self

from rankdet.card import model_card
from rankdet.data.categories import Categories
from rankdet.data.picture import Picture, as_tensor, is_one
from rankdet.data.transforms import FixedResize, KeepSize, ResizeShorter, resize_from_dict
from rankdet.environment import version_of
from rankdet.eval.inference import FALLBACK_SCORE, Detection, above, class_thresholds, mapped, predict, to_results
from rankdet.eval.score_mapping import MappingError, ScoreMapping
from rankdet.eval.tiles import Tiles
from rankdet.models.checkpoint import model_in
from rankdet.ops.checkpoint import KEY, VERSION, CheckpointError, read_checkpoint
from rankdet.ops.pretrained import CARD, upload, write_pretrained


class Optimal:
    """As a threshold: the LRP-optimal one of each class, found on the validation data; 0.3 where none is known."""

    def __repr__(self) -> str:
        return "OPTIMAL"


OPTIMAL = Optimal()
Threshold = float | Sequence[float] | Optimal | None


class Prediction(dict[str, Tensor]):
    """What was found in an image, best first, on the CPU and in pixels of the image as it was given.

    ``boxes`` (D, 4) xyxy, ``labels`` (D,), ``scores`` (D,), ``logits`` (D,), and ``masks`` (D, H, W) from a detector
    that draws any.

    Attributes:
        categories: what the labels mean.
    """

    def __init__(self, found: Detection, categories: Categories) -> None:
        super().__init__(found)
        self.categories = categories

    @property
    def names(self) -> list[str]:
        """The class of each object."""
        return [self.categories.names[label] for label in self["labels"].tolist()]

    def to_results(self, image_id: int) -> list[dict[str, Any]]:
        """Entries of a COCO results file: category ids of the training's annotation file, boxes xywh, run lengths."""
        return to_results(self, image_id=image_id, categories=self.categories)


class Predictor:
    """Finds objects in images as the training's own evaluation did: at the same size, by the classes' own thresholds.

    Args:
        model: of torchvision's calling convention; it is put into evaluation mode.
        categories: its classes; numbered ones where they are not known.
        resize: the rule by which images are brought to the scale of the network; None for 800 x 1333 at most.
        thresholds: the best score threshold by category id, empty where they are not known.
        record: all that the checkpoint says of itself, plain data; empty for a model from elsewhere.
        batch_size: images that go through the model together.
        mapping: of the scores, where a calibration could not put it into the weights; that of a checkpoint by itself.

    >>> class Nothing(nn.Module):
    ...     num_classes = 2
    ...     def forward(self, images):
    ...         found = {"boxes": torch.ones(1, 4), "labels": torch.tensor([1]), "scores": torch.tensor([0.4])}
    ...         return [found for _ in images]
    >>> predictor = Predictor(Nothing(), thresholds={1: 0.2, 2: 0.5})
    >>> len(predictor(torch.rand(3, 8, 8))["boxes"]), predictor(torch.rand(3, 8, 8), threshold=None).names
    (0, ['class 2'])
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        categories: Categories | None = None,
        resize: FixedResize | None = None,
        thresholds: Mapping[int, float] | None = None,
        record: Mapping[str, Any] | None = None,
        batch_size: int = 8,
        mapping: ScoreMapping | None = None,
    ) -> None:
        self.model = model.eval()
        self.categories = categories or _numbered(model)
        self.resize = resize or ResizeShorter()
        self.thresholds = {int(number): float(score) for number, score in (thresholds or {}).items()}
        self.record = dict(record or {})
        self.batch_size = batch_size
        self.mapping = None if mapping is None else mapping.of_categories(self.categories.ids)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str | torch.device | None = None,
        trusted: Sequence[str] = ("rankdet",),
        model: nn.Module | None = None,
        batch_size: int = 8,
    ) -> Self:
        """From a checkpoint of ``rankdet train``, a folder or the hub; no code that comes with them is run.

        Args:
            path: ``best.ckpt`` of a run, or a calibrated or converted one; a folder of `save_pretrained`; or
                ``hf://owner/name`` or ``hf://owner/name@revision``, which is downloaded unless it is there (extra
                ``[hub]``).
            device: where the model goes; by default it stays on the CPU.
            trusted: packages whose classes the plan in the file may name.
            model: takes the weights instead of one that is built by that plan.
            batch_size: images that go through the model together.

        Raises:
            CheckpointError: the file cannot be used; the message says why.
        """
        content = read_checkpoint(path)
        record, loaded = content[KEY], model_in(content, path=path, model=model, trusted=trusted)
        categories, rule = record.get("categories"), record.get("image_size")
        try:
            stated = record.get("score_mapping")
            mapping = None if stated is None else ScoreMapping.from_dict(stated, source=f"score_mapping of {path}")
        except MappingError as error:
            raise CheckpointError(str(error)) from error
        return cls(
            loaded if device is None else loaded.to(device),
            categories=None if categories is None else Categories.from_dict(categories),
            resize=None if rule is None else resize_from_dict(rule),
            thresholds=record.get("thresholds"),
            record=record,
            batch_size=batch_size,
            mapping=mapping,
        )

    def save_pretrained(self, folder: str | Path, *, data: str = "", licence: str = "") -> None:
        """Write a folder that `load` and the command line take like a checkpoint: safetensors, JSON and a model card.

        There is no pickle in it, and nothing of the training but the metrics.

        Args:
            folder: is made; files of these names in it are replaced.
            data: a sentence about the training data, for the card.
            licence: its identifier, such as "apache-2.0", for the card.

        Raises:
            PlanError: the model has a part that cannot be written down.
            ValueError: the model does not say how it is built.

        >>> import tempfile
        >>> from rankdet.models import ATSS
        >>> predictor = Predictor(ATSS(num_classes=2, backbone="test_resnet", channels=16), thresholds={1: 0.3})
        >>> folder = tempfile.mkdtemp()
        >>> predictor.save_pretrained(folder, data="A few circles.")
        >>> Predictor.load(folder)
        Predictor(ATSS, 2 classes, resize=ResizeShorter(short=800, long=1333), 1 thresholds)
        """
        folder, record = Path(folder), self._described()
        versions = {name: version_of(name) for name in ("rankdet", "torch", "torchvision", "timm")}
        write_pretrained(folder, record, self.model.state_dict(), versions=versions)
        card = model_card(record, title=folder.resolve().name, versions=versions, data=data, licence=licence)
        (folder / CARD).write_text(card, encoding="utf-8")

    def push_to_hub(
        self, repository: str, *, private: bool = True, revision: str | None = None, data: str = "", licence: str = ""
    ) -> str:
        """Upload what `save_pretrained` writes to the Hugging Face hub (extra ``[hub]``), as the user who is logged in.

        Args:
            repository: ``owner/name``; it is made if it is not there.
            private: whether a repository that is made is seen by its owner alone.
            revision: the branch; by default the main one.
            data: a sentence about the training data, for the card.
            licence: its identifier, such as "apache-2.0", for the card.

        Returns:
            What `load` takes.
        """
        write = partial(self.save_pretrained, data=data, licence=licence)
        return upload(write, repository, private=private, revision=revision)

    def _described(self) -> dict[str, Any]:
        """The record of a checkpoint with what holds now, in values that JSON has."""
        plan = getattr(self.model, "plan", None)
        if not callable(plan):
            raise ValueError(
                f"{type(self.model).__name__} does not say how it is built, as detectors of rankdet do; save the "
                "predictor of the detector itself, before tiles or views are put around it"
            )
        known = {
            "version": VERSION,
            "categories": self.categories.to_dict(),
            "image_size": self.resize.to_dict(),
            "thresholds": {str(number): score for number, score in self.thresholds.items()},
        }
        mapping = {} if self.mapping is None else {"score_mapping": self.mapping.to_dict()}
        return {**_finite({**self.record, **known, **mapping}), "model": plan()}

    def to(self, device: str | torch.device) -> Self:
        """The same with its model on a device."""
        self.model.to(device)
        return self

    def tiled(
        self, *, size: int = 800, overlap: float = 0.2, whole: bool = False, max_detections: int | None = None
    ) -> Self:
        """The same for large images: it looks at them by overlapping tiles, each resized like an image of its own.

        See `rankdet.eval.Tiles` for what happens to objects at the edges. One image is in memory at a time, and
        ``batch_size`` tiles go through the model together. The best thresholds remain those found without tiles.

        Args:
            size: longest side of a tile, in pixels of the image.
            overlap: what neighbouring tiles share at least, as a part of `size`.
            whole: whether the whole image is looked at too, for objects larger than the overlap.
            max_detections: per image; by default the detector's own number.

        >>> class Nothing(nn.Module):
        ...     num_classes = 1
        ...     def forward(self, images):
        ...         found = {"boxes": torch.ones(0, 4), "labels": torch.ones(0), "scores": torch.ones(0)}
        ...         return [dict(found) for _ in images]
        >>> Predictor(Nothing(), resize=KeepSize()).tiled(size=64)(torch.rand(3, 90, 150))["boxes"].shape
        torch.Size([0, 4])
        """
        tiles = Tiles(
            self.model,
            size=size,
            overlap=overlap,
            whole=whole,
            resize=self.resize,
            max_detections=max_detections,
            batch_size=self.batch_size,
        )
        return type(self)(
            tiles,
            categories=self.categories,
            resize=KeepSize(),
            thresholds=self.thresholds,
            record=self.record,
            batch_size=1,
            mapping=self.mapping,
        )

    @property
    def class_thresholds(self) -> list[float]:
        """The best score threshold of each label; empty where they are not known."""
        return class_thresholds(self.thresholds, self.categories) if self.thresholds else []

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a text is an iterable of texts
        self, images: Picture, *, threshold: Threshold = OPTIMAL
    ) -> Prediction: ...

    @overload
    def __call__(self, images: Iterable[Picture], *, threshold: Threshold = OPTIMAL) -> list[Prediction]: ...

    def __call__(
        self, images: Picture | Iterable[Picture], *, threshold: Threshold = OPTIMAL
    ) -> Prediction | list[Prediction]:
        """The detections of an image, or of each of several.

        Args:
            images: files (turned as their EXIF orientation says), arrays (H, W, 3) or (H, W), RGB tensors (3, H, W),
                images of PIL; integers in 0..255, floating point in 0..1.
            threshold: the lowest score: one for all, one for each class, `OPTIMAL`, or None for all that the model
                gives, as evaluation takes them.

        Raises:
            CorruptImageError: naming a file that cannot be read.
            TypeError, ValueError: naming an image that is none of these.
        """
        if is_one(images):
            return next(self.stream([images], threshold=threshold))  # type: ignore[list-item]
        return list(self.stream(images, threshold=threshold))  # type: ignore[arg-type]

    def stream(self, images: Iterable[Picture], *, threshold: Threshold = OPTIMAL) -> Iterator[Prediction]:
        """The same one by one, in the order of the images, so that never more than a batch is in memory."""
        tensors = (as_tensor(image, place=place) for place, image in enumerate(images))
        least = self.least_score(threshold)
        for found in predict(self.model, tensors, resize=self.resize, batch_size=self.batch_size):
            yield Prediction(above(self.calibrated(found), least), self.categories)

    def detect(self, images: Sequence[Tensor]) -> list[Detection]:
        """What the model gives of images (3, H, W) as they are: no resizing, no threshold, but calibrated scores."""
        return [self.calibrated(found) for found in self.model(images)]

    def calibrated(self, found: Detection) -> Detection:
        """What the model gave of an image, its scores mapped as `rankdet.eval.inference.mapped` does, if at all."""
        return found if self.mapping is None else mapped(found, self.mapping)

    def least_score(self, threshold: Threshold) -> float | Sequence[float] | None:
        """The scores that a threshold stands for: one for all, one for each label, or None."""
        if isinstance(threshold, Optimal):
            return self.class_thresholds or FALLBACK_SCORE
        return threshold

    def __repr__(self) -> str:
        return (
            f"Predictor({type(self.model).__name__}, {len(self.categories)} classes, resize={self.resize}, "
            f"{len(self.thresholds)} thresholds)"
        )


def _finite(value: Any) -> Any:
    """Plain data without the numbers that JSON lacks: metrics that are undefined."""
    if not isinstance(value, Mapping):
        return value
    return {
        name: _finite(inner)
        for name, inner in value.items()
        if not (isinstance(inner, float) and not math.isfinite(inner))
    }


def _numbered(model: nn.Module) -> Categories:
    count: Any = getattr(model, "num_classes", None)
    if not isinstance(count, int):
        raise ValueError(f"{type(model).__name__} does not say how many classes it has; give Predictor(categories=...)")
    return Categories.from_names([f"class {number + 1}" for number in range(count)])
