"""Evaluation batch by batch, in the manner of torchmetrics: ``update``, ``compute``, ``reset``, also under DDP.

What is seen is kept in numpy columns on the CPU, image by image; ``compute`` gathers the images of all processes. An
image that several processes have seen, as samplers do that pad the last batch, counts once: so the numbers are those
of one process with all images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rankdet.data.categories import Categories
from rankdet.data.rle import encoded
from rankdet.eval.coco import evaluate_detections
from rankdet.eval.columns import Entry, IouType
from rankdet.eval.evaluation import Evaluation
from rankdet.eval.instances import Detections, GroundTruth
from rankdet.eval.reading import PathLike, check_iou_type
from rankdet.eval.results import read_results
from rankdet.eval.results_file import ResultsError
from rankdet.eval.rules import read_rules
from rankdet.eval.shapes import Boxes, ComparedShapes, Floats, Ints, Masks
from rankdet.ops.distributed import gather_objects, rank


@dataclass(frozen=True)
class _Image:
    """What one image has, truth and detections."""

    labels: Ints
    shapes: ComparedShapes
    areas: Floats
    crowd: np.ndarray[Any, np.dtype[np.bool_]]
    found_labels: Ints
    found_shapes: ComparedShapes
    scores: Floats
    logits: Floats | None


class DetectionMetric:
    """AP and oLRP of detections against the targets that come with them, both in the pixels of the same image.

    The rules are those of COCO: targets do not say what LVIS needs to know, for which there is `ResultsMetric`. It also
    gives the numbers of an annotation file, from ``dataset.ground_truth()``: the targets of a dataset are what a model
    learns from, with boxes clipped, degenerate ones left out, and areas of their own.

    Args:
        categories: of the labels, for the names and ids in the result; None for classes named after their labels, which
            may then be any numbers from 0 on.
        iou_type: ``"bbox"``, or ``"segm"`` for targets and detections with ``masks``.
        max_detections: as in `evaluate_detections`.

    >>> metric = DetectionMetric(categories=Categories(names=("cat",), ids=(17,)))
    >>> box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    >>> metric.update([{"boxes": box, "labels": torch.tensor([0]), "scores": torch.tensor([0.9])}],
    ...               [{"boxes": box, "labels": torch.tensor([0]), "image_id": 5}])
    >>> round(metric.compute().metrics["AP"], 6)
    1.0
    """

    def __init__(
        self,
        *,
        categories: Categories | None = None,
        iou_type: IouType = "bbox",
        max_detections: tuple[int, ...] = (1, 10, 100),
    ) -> None:
        check_iou_type(iou_type)
        self.categories = categories
        self.iou_type = iou_type
        self.max_detections = max_detections
        self._images: dict[tuple[int, ...], _Image] = {}

    def reset(self) -> None:
        """Forgets all images."""
        self._images = {}

    @torch.no_grad()
    def update(self, detections: Sequence[Mapping[str, Tensor]], targets: Sequence[Mapping[str, Any]]) -> None:
        """Adds a batch of images.

        ``detections`` have ``boxes`` (D, 4) xyxy, ``labels`` (D,), ``scores`` (D,), and perhaps ``logits`` (D,), which
        then order them, and ``mask_scores`` (D,), which order masks in place of both; ``targets`` have ``boxes``
        (G, 4), ``labels`` (G,), and perhaps ``iscrowd`` (G,), ``area`` (G,) and ``image_id``. Masks are (D, H, W) and
        (G, H, W). An image whose id is known replaces what is known of it; targets without an id are images of their
        own.
        """
        if len(detections) != len(targets):
            raise ValueError(f"got detections of {len(detections)} images but targets of {len(targets)}; give one each")
        for found, target in zip(detections, targets, strict=True):
            key = (int(target["image_id"]),) if "image_id" in target else (rank(), len(self._images))
            self._images[key] = self._image(found, target, key)

    def compute(self) -> Evaluation:
        """The evaluation of the images of all processes."""
        images: dict[tuple[int, ...], _Image] = {}
        for part in gather_objects(self._images):
            images |= part
        return self._evaluation(images)

    def compute_here(self) -> Evaluation:
        """The evaluation of the images that this process has seen, for where each process sees all of them."""
        return self._evaluation(self._images)

    def _evaluation(self, images: dict[tuple[int, ...], _Image]) -> Evaluation:
        if not images:
            raise ValueError("no image has been evaluated; call update before compute")
        keys = sorted(images)
        truth, detections = self._columns(keys, [images[key] for key in keys])
        return evaluate_detections(truth, detections, max_detections=self.max_detections)

    def _image(self, found: Mapping[str, Tensor], target: Mapping[str, Any], key: tuple[int, ...]) -> _Image:
        image = f"image {key[0]}" if len(key) == 1 else f"image number {key[1]}"
        here, there = f"the target of {image}", f"the detections of {image}"
        shapes, found_shapes = _shapes(target, self.iou_type, here), _shapes(found, self.iou_type, there)
        count, found_count = len(shapes), len(found_shapes)
        if self.iou_type == "segm" and "mask_scores" in found:
            found = {"labels": found["labels"], "scores": found["mask_scores"]}
        return _Image(
            labels=self._labels(target, count, here),
            shapes=shapes,
            areas=_column(target, "area", count, here) if "area" in target else shapes.areas,
            crowd=_column(target, "iscrowd", count, here) > 0 if "iscrowd" in target else np.zeros(count, np.bool_),
            found_labels=self._labels(found, found_count, there),
            found_shapes=found_shapes,
            scores=_column(found, "scores", found_count, there),
            logits=_column(found, "logits", found_count, there) if "logits" in found else None,
        )

    def _labels(self, columns: Mapping[str, Tensor], count: int, where: str) -> Ints:
        labels: Ints = _column(columns, "labels", count, where).astype(np.int64)
        highest = np.inf if self.categories is None else len(self.categories) - 1
        if count and not (0 <= labels.min() and labels.max() <= highest):
            accepted = "numbers from 0" if self.categories is None else f"0 to {highest}"
            raise ValueError(f"{where} have labels {labels.min()} to {labels.max()}; accepted are {accepted}")
        return labels

    def _columns(self, keys: Sequence[tuple[int, ...]], images: Sequence[_Image]) -> tuple[GroundTruth, Detections]:
        """All images together; those without an id are numbered from 0."""
        numbered = np.arange(len(images))
        with_ids = all(len(key) == 1 for key in keys)
        categories = self.categories or _named_after_labels(images)
        by_id = np.argsort(np.array(categories.ids, np.int64))
        place_of_label = np.argsort(by_id)
        logits = [image.logits for image in images if image.logits is not None]
        truth = GroundTruth(
            image_ids=np.array(keys, np.int64)[:, 0] if with_ids else numbered,
            image_sizes=np.zeros((len(images), 2), np.int64),
            category_ids=np.array(categories.ids, np.int64)[by_id],
            category_names=tuple(categories.names[label] for label in by_id.tolist()),
            images=np.repeat(numbered, [len(image.labels) for image in images]),
            categories=place_of_label[np.concatenate([image.labels for image in images])],
            shapes=_joined([image.shapes for image in images]),
            areas=np.concatenate([image.areas for image in images]),
            crowd=np.concatenate([image.crowd for image in images]),
            annotation_ids=np.arange(sum(len(image.labels) for image in images)),
            source="the targets",
        )
        detections = Detections(
            images=np.repeat(numbered, [len(image.scores) for image in images]),
            categories=place_of_label[np.concatenate([image.found_labels for image in images])],
            shapes=_joined([image.found_shapes for image in images]),
            scores=np.concatenate([image.scores for image in images]),
            logits=np.concatenate(logits) if len(logits) == len(images) else None,
        )
        return truth, detections


def _named_after_labels(images: Sequence[_Image]) -> Categories:
    """As many classes as the highest label needs."""
    labels = np.concatenate([column for image in images for column in (image.labels, image.found_labels)])
    count = int(labels.max(initial=-1)) + 1
    return Categories(names=tuple(map(str, range(count))), ids=tuple(range(count)))


class ResultsMetric:
    """The same for COCO results and a ground truth that is known from the beginning, by the rules of COCO or LVIS.

    >>> truth = {"images": [{"id": 1}], "categories": [{"id": 3, "name": "cat"}],
    ...          "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10]}]}
    >>> metric = ResultsMetric(truth)
    >>> metric.update([{"image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 8], "score": 0.9}])
    >>> round(metric.compute().metrics["AP"], 6)
    0.7
    """

    def __init__(self, ground_truth: Mapping[str, Any] | PathLike, *, iou_type: IouType = "bbox") -> None:
        self.rules = read_rules(ground_truth, iou_type=iou_type)
        self.iou_type = iou_type
        self._results: dict[int, list[Entry]] = {}

    def reset(self) -> None:
        """Forgets all results."""
        self._results = {}

    def update(self, results: Sequence[Entry]) -> None:
        """Adds COCO results of some images, all those of an image in one call: a later call replaces them."""
        read_results(results, self.rules.truth, iou_type=self.iou_type)  # complains now and not in the end
        self._results |= {int(entry["image_id"]): [] for entry in results}
        for entry in results:
            self._results[int(entry["image_id"])].append(entry)

    def compute(self) -> Evaluation:
        """The evaluation of the results of all processes; images without results have no detections."""
        everyone: dict[int, list[Entry]] = {}
        for part in gather_objects(self._results):
            everyone |= part
        results = [entry for image_id in sorted(everyone) for entry in everyone[image_id]]
        detections = read_results(results, self.rules.truth, iou_type=self.iou_type)
        return self.rules.evaluate(detections)


def _shapes(columns: Mapping[str, Tensor], iou_type: IouType, where: str) -> ComparedShapes:
    if iou_type == "bbox":
        boxes = _required(columns, "boxes", where).double().numpy().reshape(-1, 4)
        if not np.isfinite(boxes).all():
            raise ValueError(f"{where} have a box that is not four finite numbers")
        return Boxes(np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1))
    masks = (_required(columns, "masks", where) != 0).numpy()
    sizes = np.tile(np.array(masks.shape[-2:], np.int64), (len(masks), 1))
    return Masks(tuple(encoded(mask)["counts"] for mask in masks), sizes, masks.sum(axis=(1, 2), dtype=np.float64))


def _column(columns: Mapping[str, Tensor], name: str, count: int, where: str) -> Floats:
    column: Floats = _required(columns, name, where).double().numpy()
    if column.shape != (count,):
        raise ValueError(f"{where} have {name!r} of shape {column.shape}; accepted is ({count},), one number each")
    if np.isnan(column).any():
        raise ResultsError(f"{where} have {name!r} that are no numbers (NaN)")
    return column


def _required(columns: Mapping[str, Tensor], name: str, where: str) -> Tensor:
    if name not in columns:
        raise ValueError(f"{where} have no {name!r}, only {sorted(columns)}")
    return torch.as_tensor(columns[name]).detach().cpu()


def _joined(parts: Sequence[ComparedShapes]) -> ComparedShapes:
    if isinstance(parts[0], Boxes):
        return Boxes(np.concatenate([part.xywh for part in parts if isinstance(part, Boxes)]))
    masks = [part for part in parts if isinstance(part, Masks)]
    return Masks(
        counts=tuple(text for part in masks for text in part.counts),
        sizes=np.concatenate([part.sizes for part in masks]),
        areas=np.concatenate([part.areas for part in masks]),
    )
