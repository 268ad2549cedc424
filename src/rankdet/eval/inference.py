"""From images to detections in pixels of the original images, and from those to COCO results.

A detection of one image is a dict of tensors: ``boxes`` (D, 4) xyxy, ``labels`` (D,) in 0..K-1, ``scores`` (D,), best
first, and perhaps ``logits`` (D,), whose sigmoid are the scores, ``masks`` (D, H, W), and ``mask_scores`` (D,) by which
masks are ordered in place of the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rankdet.data.categories import Categories
from rankdet.data.image import read_upright
from rankdet.data.rle import encoded
from rankdet.eval.download import MASKS_AT_ONCE, on_cpu
from rankdet.eval.score_mapping import ScoreMapping, logits_of

FALLBACK_SCORE = 0.3
"""The score threshold where none is stated and the best ones of a model are not known."""
Detection = dict[str, Tensor]
Resize = Callable[[Any], Any]
"""A transform of the data floor: takes and gives an image tensor (3, H, W)."""


def predict(
    model: nn.Module,
    images: Iterable[Tensor | str | Path],
    *,
    resize: Resize | None = None,
    threshold: float | Sequence[float] | None = None,
    batch_size: int = 8,
) -> Iterator[Detection]:
    """Detections of each image, in its own pixels and on the CPU, one at a time in the order of the images.

    The model must be in evaluation mode; the images are moved to the device of its parameters.

    Args:
        model: of torchvision's calling convention.
        images: files, rotated according to their EXIF orientation, or RGB tensors (3, H, W), uint8 or floating in [0,
            1].
        resize: the rule that the model was evaluated with; None for no change.
        threshold: see :func:`above`.
        batch_size: images that go through the model together.

    Raises:
        CorruptImageError: naming a file that cannot be read, when its turn comes.

    >>> class Nothing(nn.Module):
    ...     def forward(self, images):
    ...         return [{"boxes": torch.ones(1, 4), "labels": torch.zeros(1), "scores": torch.ones(1)} for _ in images]
    >>> [len(found["boxes"]) for found in predict(Nothing().eval(), [torch.rand(3, 8, 8)] * 3, batch_size=2)]
    [1, 1, 1]
    """
    if model.training:
        raise ValueError("the model is in training mode; call model.eval() before predict")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    rest = iter(images)
    while batch := list(islice(rest, batch_size)):
        originals = [read_upright(Path(image)) if isinstance(image, str | Path) else image for image in batch]
        for found in detect(model, originals, resize=resize):
            yield above(found, threshold)


@torch.no_grad()
def detect(model: nn.Module, images: Sequence[Tensor], *, resize: Resize | None = None) -> list[Detection]:
    """One batch through the model; detections in the pixels of `images`, on the CPU."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    inputs = [(resize(image) if resize is not None else image).to(device) for image in images]
    return list(rescale_batch(model(inputs), from_sizes=map(size_of, inputs), to_sizes=map(size_of, images)))


def answer(model: nn.Module, images: Sequence[Tensor], targets: Sequence[Mapping[str, Any]]) -> list[Detection]:
    """The detections of a model in a batch of images; one that is given its regions (``needs_proposals``) sees them."""
    found: list[Detection] = model(images, targets) if getattr(model, "needs_proposals", False) else model(images)
    return found


def rescale(detection: Detection, *, from_size: tuple[int, int], to_size: tuple[int, int]) -> Detection:
    """A detection in an image of `to_size` (H, W) that was made in one of `from_size`, on the CPU."""
    (found,) = rescale_batch([detection], from_sizes=[from_size], to_sizes=[to_size])
    return found


def rescale_batch(
    detections: Iterable[Detection],
    *,
    from_sizes: Iterable[tuple[int, int]],
    to_sizes: Iterable[tuple[int, int]],
) -> Iterator[Detection]:
    """`rescale` of the detections of a batch, one at a time; those of an accelerator are downloaded together.

    Masks are resized where they are: a CPU takes long for it.
    """
    changes = list(zip(from_sizes, to_sizes, strict=True))
    resized = (_with_masks(found, *change) for found, change in zip(detections, changes, strict=True))
    for found, (before, after) in zip(on_cpu(resized), changes, strict=True):
        height, width = after[0] / before[0], after[1] / before[1]
        yield {**found, "boxes": found["boxes"] * found["boxes"].new_tensor([width, height, width, height])}


def _with_masks(detection: Detection, before: tuple[int, int], after: tuple[int, int]) -> Detection:
    """A detection with the masks of an image of another size (H, W), where it has any."""
    found = {name: value.detach() for name, value in detection.items()}
    return found if "masks" not in found or before == after else {**found, "masks": _resized(found["masks"], after)}


def _resized(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (D, H, W) at another size, a few at a time: in floating point each takes four or eight times its memory."""
    resized = masks.new_empty(len(masks), *size, dtype=torch.bool)
    for part, into in zip(masks.split(MASKS_AT_ONCE), resized.split(MASKS_AT_ONCE), strict=True):
        into[:] = functional.interpolate(part[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0] >= 0.5
    return resized


def boxes_only(detection: Detection) -> Detection:
    """A detection without its masks, where only its boxes are wanted: masks of whole images cost time to carry."""
    return {name: value for name, value in detection.items() if name not in ("masks", "mask_scores")}


def above(detection: Detection, threshold: float | Sequence[float] | None) -> Detection:
    """The part of a detection whose scores are at least `threshold`: one for all, one per class, or None for all of it.

    Where masks have scores of their own, it is these that count.

    >>> found = {"labels": torch.tensor([0, 1, 0]), "scores": torch.tensor([0.9, 0.5, 0.4])}
    >>> above(found, [0.3, 0.6])["scores"]
    tensor([0.9000, 0.4000])
    """
    if threshold is None:
        return detection
    least = torch.as_tensor(threshold, dtype=torch.float64)
    if least.ndim:
        least = least[detection["labels"].long()]
    kept = detection.get("mask_scores", exact_scores(detection)) >= least
    return {name: value[kept] for name, value in detection.items()}


def mapped(detection: Detection, mapping: ScoreMapping) -> Detection:
    """A detection with calibrated scores and logits, best first; masks keep scores of their own.

    Args:
        detection: of an image; the labels are places among the classes of ``mapping``.
        mapping: what a calibration found.

    >>> from rankdet.eval.score_mapping import Affine
    >>> mapping = ScoreMapping("platt", (3,), ("cat",), (Affine(1.0, 2.0),), (0.1,), (0.4,))
    >>> mapped({"labels": torch.tensor([0]), "scores": torch.tensor([0.1]), "logits": torch.tensor([-2.0])}, mapping)
    {'labels': tensor([0]), 'scores': tensor([0.5000]), 'logits': tensor([0.])}
    """
    scores, labels = detection["scores"], detection["labels"].cpu().numpy().astype(np.int64)
    logits = (
        detection["logits"].cpu().double().numpy()
        if "logits" in detection
        else logits_of(scores.cpu().double().numpy())
    )
    calibrated = torch.from_numpy(mapping(logits, labels))
    order = calibrated.argsort(descending=True, stable=True).to(scores.device)
    changed = {"scores": calibrated.sigmoid().to(scores), "logits": calibrated.to(scores)}
    return {name: value[order] for name, value in {**detection, **changed}.items()}


def exact_scores(detection: Detection) -> Tensor:
    """(D,) float64 scores; from the logits if there are any, so that scores that float32 takes for 1 stay ordered."""
    if "logits" in detection:
        return detection["logits"].double().sigmoid()
    return detection["scores"].double()


def to_results(detection: Detection, *, image_id: int, categories: Categories) -> list[dict[str, Any]]:
    """Entries of a COCO results file: original category ids, boxes xywh; run lengths when there are masks.

    Where masks have scores of their own, an entry also has ``mask_score``, which counts when masks are evaluated here.

    >>> found = {"boxes": torch.tensor([[1.0, 2, 4, 8]]), "labels": torch.tensor([0]), "scores": torch.tensor([0.5])}
    >>> to_results(found, image_id=7, categories=Categories(names=("cat",), ids=(17,)))
    [{'image_id': 7, 'category_id': 17, 'bbox': [1.0, 2.0, 3.0, 6.0], 'score': 0.5}]
    """
    boxes = detection["boxes"].double()
    sizes = torch.cat((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), dim=1)
    columns = zip(detection["labels"].tolist(), sizes.tolist(), exact_scores(detection).tolist(), strict=True)
    results: list[dict[str, Any]] = [
        {"image_id": image_id, "category_id": categories.ids[int(label)], "bbox": box, "score": score}
        for label, box, score in columns
    ]
    if "masks" in detection:
        for entry, mask in zip(results, detection["masks"], strict=True):
            entry["segmentation"] = encoded(mask.numpy())
    if "mask_scores" in detection:
        for entry, score in zip(results, detection["mask_scores"].double().tolist(), strict=True):
            entry["mask_score"] = score
    return results


@contextmanager
def without_score_threshold(model: nn.Module) -> Iterator[float | None]:
    """Within the block the model keeps detections of any score; gives the threshold that it has otherwise, if any.

    Thresholding what it then finds, with :func:`above`, gives what it finds otherwise.
    """
    postprocess = getattr(model, "postprocess", None)
    stated = getattr(postprocess, "score_threshold", None)
    if postprocess is None or stated is None:
        yield None
        return
    postprocess.score_threshold = None
    try:
        yield stated
    finally:
        postprocess.score_threshold = stated


def class_thresholds(thresholds: Mapping[Any, float], categories: Categories) -> list[float]:
    """The score threshold of each label from those by category id, as checkpoints have them.

    A class without one, since nothing of it was found when they were determined, gets the highest of the others.
    """
    by_id = {int(number): float(value) for number, value in thresholds.items()}
    highest = max(by_id.values(), default=0.0)
    return [by_id.get(number, highest) for number in categories.ids]


def size_of(image: Tensor) -> tuple[int, int]:
    """Height and width of an image (..., H, W)."""
    return (int(image.shape[-2]), int(image.shape[-1]))
