"""Whether results are what they seem: the mistakes that give an AP near 0 without an error.

Boxes of another format or scale, images or classes counted from another number, scores in per cent. A suspicion is
voiced when another way of reading finds far more of the objects than the way the results were read, and hardly misses
any that this way finds. So results that are right raise none, however bad their detector; and none changes a number.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from rankdet.eval.convert import ResultsReading
from rankdet.eval.evidence import FEW, Better, Reading, Sample, Transform, Way, are_right
from rankdet.eval.instances import Detections, GroundTruth
from rankdet.eval.naming import Known, images_of
from rankdet.eval.results_file import ResultsWarning
from rankdet.eval.shapes import Boxes, Floats, Ints, Masks

_MOST_SCORE = 1.01
"""Rounding makes no score greater."""
_TINY = 2.0
"""Pixels: nearly all boxes within so few are boxes in 0..1."""
_STRIKING = 0.9
_CONSISTENT = 0.9
_FEWEST_OF_CLASSES, _FEWEST_OF_ONE_CLASS = 5, 10
"""Objects whose detections must all be of other classes before this is no weakness of the detector."""
_NETWORK_SIDES = (300, 320, 416, 448, 512, 608, 640, 672, 768, 800, 896, 1024, 1280, 1333, 1536)
_SHORTER, _LONGER = 800, 1333
_BOXES = {
    "normalised": "normalised to 0..1 of their image",
    "normalised,xyxy": "x1, y1, x2, y2, normalised to 0..1 of their image",
    "normalised,cxcywh": "centre and sides, normalised to 0..1 of their image",
    "xyxy": "x1, y1, x2, y2",
    "cxcywh": "centre and sides",
}


def warn_of_suspicions(truth: GroundTruth, detections: Detections) -> None:
    """A warning for each of the `suspicions`."""
    for warning in suspicions(truth, detections):
        warnings.warn(warning, stacklevel=3)


def suspicions(truth: GroundTruth, detections: Detections) -> list[ResultsWarning]:
    """What the detections may be instead of what they were read as; empty if nothing speaks against that.

    >>> from rankdet.eval import read_ground_truth, read_results
    >>> boxes = [[100.0 * i, 50.0 * i, 60.0, 80.0] for i in range(1, 5)]
    >>> truth = read_ground_truth({"images": [{"id": 1}], "categories": [{"id": 3, "name": "cat"}], "annotations": [
    ...     {"image_id": 1, "category_id": 3, "bbox": box} for box in boxes]})
    >>> corners = [[x, y, x + w, y + h] for x, y, w, h in boxes]
    >>> found = read_results([{"image_id": 1, "category_id": 3, "bbox": box, "score": 0.5} for box in corners], truth)
    >>> [warning.convert for warning in suspicions(truth, found)]
    ['xyxy']
    """
    voiced = list(_of_scores(detections.scores))
    if len(detections) and not truth.ignored.all():
        sample, reading = Sample(truth, detections), Reading(detections.images, detections.categories)
        for look in (_of_masks, _of_boxes, _of_images, _of_categories):
            if better := look(sample, reading):
                voiced.append(better.warning)
                reading = better.reading
    return voiced


def _of_scores(scores: Floats) -> Iterator[ResultsWarning]:
    if len(scores) and scores.min() >= 0 and scores.max() > _MOST_SCORE:
        yield ResultsWarning(
            f"Scores go up to {scores.max():g}: are they in per cent? AP depends only on their order, but thresholds "
            "and reliability depend on their values.",
            "percent",
        )


def _of_boxes(sample: Sample, reading: Reading) -> Better | None:
    """Another format, or another scale, of boxes; whatever their classes."""
    given, shapes = sample.found(reading), sample.detections.shapes
    if not isinstance(shapes, Boxes) or are_right(given):
        return None
    sizes = sample.truth.image_sizes[reading.images]
    conversions = {convert: (text, ResultsReading.named(convert)) for convert, text in _BOXES.items()}
    formats = [
        Way(f"The boxes seem to be {text}{_looks(shapes.xywh, sizes)}", name, replace(reading, transform=read.boxes))
        for name, (text, read) in conversions.items()
        if sizes.all() or not read.normalised
    ]
    if better := sample.best(formats, given, by_category=False, fewest=1):
        return better
    if not sizes.all():
        return _of_unknown_sizes(sample, reading, given)
    scales = [
        Way(f"The boxes seem to be in pixels of a network's input, {text}", "", replace(reading, transform=scaled))
        for text, scaled in _network_scales()
    ]
    return sample.best(scales, given, by_category=False, fewest=max(FEW, len(given) // 2))


def _looks(boxes: Floats, sizes: Ints) -> str:
    """What strikes in boxes (D, 4) of images of the sizes (D, 2)."""
    small = _share_of_tiny(boxes)
    if small > _STRIKING:
        return f" ({small:.0%} of them lie within 2 pixels)"
    ends = boxes[:, :2] + boxes[:, 2:]
    outside = float(np.mean(((ends > sizes[:, ::-1] + 1) & (sizes[:, ::-1] > 0)).any(axis=1)))
    return f" ({outside:.0%} of them end outside of their images)" if outside > 1 - _STRIKING else ""


def _share_of_tiny(boxes: Floats) -> float:
    return float(np.mean((boxes < _TINY).all(axis=1)))


def _of_unknown_sizes(sample: Sample, reading: Reading, given: Floats) -> Better | None:
    """Normalised boxes in images whose sizes are unknown, so that there is no other reading to compare with."""
    boxes = sample.detections.shapes.boxes(np.arange(len(sample.detections)))
    objects = sample.objects.shapes.boxes(np.arange(len(sample.objects)))
    sides = objects[:, 2:].max(axis=1)
    if given.any() or _share_of_tiny(boxes) <= _STRIKING or np.mean(sides > 2 * _TINY) <= _STRIKING:
        return None
    suspicion = (
        f"The boxes seem to be normalised to 0..1 of their image{_looks(boxes, np.zeros((len(boxes), 2), np.int64))}; "
        f"to read them so, {sample.truth.source} must state 'width' and 'height' of its images."
    )
    return Better(ResultsWarning(suspicion), reading)


def _of_masks(sample: Sample, reading: Reading) -> Better | None:
    """Masks of another size than those of the objects of their image, with which they never overlap."""
    found, objects = sample.detections.shapes, sample.truth.shapes
    if not (isinstance(found, Masks) and isinstance(objects, Masks)):
        return None
    sizes = np.zeros((len(sample.truth.image_ids), 2), np.int64)
    sizes[sample.truth.images] = objects.sizes
    expected = sizes[reading.images]
    other = np.flatnonzero((expected > 0).all(axis=1) & (expected != found.sizes).any(axis=1))
    if not len(other):
        return None
    (height, width), (right_height, right_width) = found.sizes[other[0]].tolist(), expected[other[0]].tolist()
    suspicion = (
        f"{len(other)} of {len(found)} masks have another size than those of the objects of their image, such as "
        f"{height} x {width} and not {right_height} x {right_width}: are they of the size of a network's input? "
        "Such masks never overlap."
    )
    return Better(ResultsWarning(suspicion), reading)


def _network_scales() -> Iterator[tuple[str, Transform]]:
    """Boxes that were left in the pixels of what a network saw."""
    for side in _NETWORK_SIDES:
        yield f"{side} x {side}", partial(_from_stretched, side)
        yield f"{side} x {side} with borders", partial(_from_centred, side)
        yield f"its longer side {side}", partial(_from_longer_side, side)
    yield f"its shorter side {_SHORTER}", _from_shorter_side


def _from_stretched(side: int, boxes: Floats, sizes: Floats) -> Floats:
    return boxes * (sizes[:, [1, 0, 1, 0]] / side)


def _from_longer_side(side: int, boxes: Floats, sizes: Floats) -> Floats:
    return boxes * (sizes.max(axis=1, keepdims=True) / side)


def _from_centred(side: int, boxes: Floats, sizes: Floats) -> Floats:
    scale = sizes.max(axis=1, keepdims=True) / side
    borders = (side - sizes[:, ::-1] / np.maximum(scale, 1e-9)) / 2
    return np.concatenate([boxes[:, :2] - borders, boxes[:, 2:]], axis=1) * scale


def _from_shorter_side(boxes: Floats, sizes: Floats) -> Floats:
    scale = np.maximum(sizes.min(axis=1) / _SHORTER, sizes.max(axis=1) / _LONGER)
    return boxes * scale[:, None]


def _of_images(sample: Sample, reading: Reading) -> Better | None:
    """Images that are counted from another number; whatever the classes."""
    given, known = sample.found(reading), images_of(sample.truth)
    if are_right(given):
        return None
    ids = known.ids[reading.images]
    ways = {
        "image+1": ("one too low, as if counted from 0", known.of_ids(ids + 1)),
        "image-1": ("one too high, as if counted from 1", known.of_ids(ids - 1)),
        "image-name": ("the numbers in the file names", known.of_numbers(ids)),
    }
    return sample.best(
        [
            Way(f"The image ids seem to be {text}", convert, replace(reading, images=images))
            for convert, (text, images) in ways.items()
        ],
        given,
        by_category=False,
        fewest=FEW,
    )


def _of_categories(sample: Sample, reading: Reading) -> Better | None:
    """Classes that are counted from another number, or in another order."""
    given, truth = sample.found(reading, by_category=True), sample.truth
    if are_right(given):
        return None
    known = Known("category_id", truth.category_ids, truth.category_names, "")
    ids = known.ids[reading.categories]
    ways = {
        "category+1": ("one too low, as if counted from 0", known.of_ids(ids + 1)),
        "category-1": ("one too high, as if counted from 1", known.of_ids(ids - 1)),
        "category-index": ("places from 0", np.where((ids >= 0) & (ids < len(known.ids)), ids, -1)),
    }
    return sample.best(
        [
            Way(f"The category ids seem to be {text}", convert, replace(reading, categories=categories))
            for convert, (text, categories) in ways.items()
        ],
        given,
        by_category=True,
        fewest=_fewest(sample),
    ) or _mixed_up(sample, reading, given)


def _fewest(sample: Sample) -> int:
    classes = set(sample.objects.categories.tolist())
    return _FEWEST_OF_CLASSES if len(classes) > 1 else _FEWEST_OF_ONE_CLASS


def _mixed_up(sample: Sample, reading: Reading, given: Floats) -> Better | None:
    """Classes in another order: each class of objects is met by one other class of detections."""
    categories, objects, overlaps = sample.pairs(reading, by_category=False)
    order = np.lexsort((overlaps, objects))
    last = np.flatnonzero(np.diff(objects[order], append=-1))  # of each object, the detection that fits best
    called, classes = categories[order][last], sample.objects.categories[objects[order][last]]
    table = np.zeros((sample.truth.num_categories,) * 2, np.int64)
    np.add.at(table, (classes, called), 1)
    present = np.flatnonzero(table.sum(axis=1))
    names = table[present].argmax(axis=1)
    enough = max(_fewest(sample), len(given) / 4, 4 * int(np.count_nonzero(given)))
    if len(last) < enough or len(set(names.tolist())) < len(present):
        return None
    if table[present, names].sum() < _CONSISTENT * len(last):
        return None
    place = int(present[table[present].sum(axis=1).argmax()])
    truth, other = sample.truth, int(table[place].argmax())
    return Better(
        ResultsWarning(
            f"The classes seem to be in another order: the most confident detections find {len(last)} of {len(given)} "
            f"objects, but only {np.count_nonzero(given)} with the right class; what {truth.source} calls "
            f"{truth.category_ids[place]} ({truth.category_names[place]}) is {truth.category_ids[other]} "
            f"({truth.category_names[other]}) in the results."
        ),
        reading,
    )
