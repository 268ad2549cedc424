"""The images of a report: the worst ones, those to browse, and what lies in them.

A page embeds a bounded number of pictures, as small JPEGs, and the boxes of many more images.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from rankdet.data import CorruptImageError
from rankdet.data.raster import read_raster
from rankdet.eval import Comparison
from rankdet.eval.shapes import Bools, Boxes, Floats, Ints
from rankdet.report.changes import changed_images
from rankdet.report.outlines import outline
from rankdet.report.problem import Problem

if TYPE_CHECKING:
    from rankdet.data import DetectionDataset

OpenImage = Callable[[int], Image.Image | None]
"""Gives the image of an id, or None where there is none or it cannot be read."""

FOUND, MISSED, IGNORED = 0, 1, 2
TRUE, FALSE = 0, 1
_QUALITY = 72
_WHOLE_PIXELS_FROM = 400


@dataclass(frozen=True)
class Limits:
    """What a page may hold.

    Args:
        worst: images of each kind of error.
        pictures: embedded pictures in all; the worst images have them first.
        side: of a picture, the longer one, in pixels.
        images: images to browse.
        boxes: boxes in all; images beyond are left out of browsing.
    """

    worst: int = 8
    pictures: int = 60
    side: int = 512
    images: int = 5000
    boxes: int = 150_000


def no_images(image_id: int) -> None:
    """If there are no image files: only boxes are drawn."""
    del image_id


def folder_images(folder: Path, names: Mapping[int, str]) -> OpenImage:
    """Images that lie in a folder by their names; a name that leads out of the folder is none.

    A name may include folders; if there is no such file, it is looked for without them.
    """
    root = folder.resolve()

    def open_image(image_id: int) -> Image.Image | None:
        name = PurePosixPath(names.get(image_id, ""))
        for path in ((root / name).resolve(), root / name.name):
            if path.is_relative_to(root) and path.is_file():
                return read_picture(path)
        return None

    return open_image


def dataset_images(dataset: DetectionDataset) -> OpenImage:
    """The images of a dataset, from their files where they have any."""
    places = {number: place for place, number in enumerate(dataset.image_ids)}

    def open_image(image_id: int) -> Image.Image | None:
        place = places.get(image_id)
        if place is None:
            return None
        path = dataset.image_path(place)
        if path is not None:
            return read_picture(path)
        try:
            return Image.fromarray(dataset[place][0].permute(1, 2, 0).numpy())
        except CorruptImageError:
            return None

    return open_image


def read_picture(path: Path) -> Image.Image | None:
    """An image file as RGB, without EXIF orientation, as boxes are given; None when it cannot be read."""
    try:
        return Image.fromarray(read_raster(path))
    except CorruptImageError:
        return None


def describe_images(
    problem: Problem, open_image: OpenImage, *, limits: Limits, comparison: Comparison | None = None
) -> dict[str, Any]:
    """The entries of the images, the worst first, and of each kind of error the places of the worst among them.

    With a ``comparison``, those that became worse and better are kinds as well.
    """
    worst = worst_images(problem, limits.worst)
    if comparison is not None:
        changes = changed_images(problem, comparison)
        worst |= {"worse": _largest(changes, limits.worst), "better": _largest(-changes, limits.worst)}
    order = _browsing_order(problem, worst, limits)
    boxes = _BoxesOfImages(problem)
    entries, total = [], 0
    for rank, image in enumerate(order.tolist()):
        picture = _picture(open_image, int(problem.truth.image_ids[image]), limits) if rank < limits.pictures else None
        entry = boxes.entry(image, everything=rank < limits.pictures) | (picture or {})
        total += len(entry["truth"]) + len(entry["found"])
        if total > limits.boxes and rank >= limits.pictures:
            break
        entries.append(entry)
    place = {image: rank for rank, image in enumerate(order.tolist())}
    return {
        "entries": entries,
        "worst": {name: [place[image] for image in images] for name, images in worst.items()},
        "total": len(problem.truth.image_ids),
        "pictures": sum("picture" in entry for entry in entries),
    }


def worst_images(problem: Problem, count: int) -> dict[str, list[int]]:
    """Indices of the images with the most missed objects, the most false detections, the worst located detections.

    All at the thresholds to deploy with. Images without such an error are none of them.
    """
    outcomes, total = problem.outcomes, len(problem.truth.image_ids)
    false = np.bincount(outcomes.images[problem.deployed & outcomes.false_positive], minlength=total)
    missed = np.bincount(problem.truth.images[problem.missed], minlength=total)
    hits = problem.deployed & outcomes.true_positive
    error = np.zeros(total)
    np.maximum.at(error, outcomes.images[hits], 1 - outcomes.overlaps[hits])
    columns: dict[str, Floats] = {"missed": missed.astype(float), "false": false.astype(float), "located": error}
    return {name: _largest(values, count) for name, values in columns.items()}


def _largest(values: Floats, count: int) -> list[int]:
    order = np.argsort(-values, kind="stable")[:count]
    return order[values[order] > 0].tolist()


def _browsing_order(problem: Problem, worst: dict[str, list[int]], limits: Limits) -> Ints:
    """The worst ones, then images from all parts of the dataset, then the rest in its order."""
    total = len(problem.truth.image_ids)
    first = dict.fromkeys(image for images in worst.values() for image in images)
    spread = np.linspace(0, max(total - 1, 0), min(limits.pictures, total)).astype(int).tolist()
    return np.array(list(dict.fromkeys([*first, *spread, *range(total)])), np.int64)[: limits.images]


def _picture(open_image: OpenImage, image_id: int, limits: Limits) -> dict[str, Any] | None:
    """An image as a small JPEG in a data URI, and the size it had; None where there is none."""
    image = open_image(image_id)
    if image is None:
        return None
    small = ImageOps.contain(image, (limits.side, limits.side)) if max(image.size) > limits.side else image
    content = io.BytesIO()
    small.save(content, "JPEG", quality=_QUALITY, optimize=True)
    return {
        "picture": "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode("ascii"),
        "width": image.width,
        "height": image.height,
    }


class _BoxesOfImages:
    """Objects and detections by image."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        total = np.arange(len(problem.truth.image_ids) + 1)
        self.object_order = np.argsort(problem.truth.images, kind="stable")
        self.object_starts = np.searchsorted(problem.truth.images[self.object_order], total)
        images, scores = problem.outcomes.images, problem.outcomes.scores
        self.order = np.lexsort((-scores, images))
        self.starts = np.searchsorted(images[self.order], total)
        self.states = np.where(problem.counted, FOUND, IGNORED)
        self.states[problem.missed] = MISSED

    def entry(self, image: int, *, everything: bool) -> dict[str, Any]:
        """Of one image (its index): id, file, size, objects and detections, the deployed ones or ``everything``.

        Objects are ``[class, state, x, y, width, height]``, detections ``[class, state, score, IoU, deployed, x, y,
        width, height]``; with masks, of an image that shows ``everything``, an outline follows.
        """
        problem = self.problem
        height, width = problem.truth.image_sizes[image].tolist()
        objects = self.object_order[self.object_starts[image] : self.object_starts[image + 1]]
        found = self.order[self.starts[image] : self.starts[image + 1]]
        found = found if everything else found[problem.deployed[found]]
        truth, detections = self._objects(objects), self._detections(found)
        if everything and not isinstance(problem.truth.shapes, Boxes):
            truth = [[*row, outline(problem.truth.shapes, i)] for row, i in zip(truth, objects.tolist(), strict=True)]
            chosen = problem.outcomes.chosen[found].tolist()
            deployed = problem.deployed[found].tolist()
            detections = [
                [*row, outline(problem.detections.shapes, i)] if is_deployed else row
                for row, i, is_deployed in zip(detections, chosen, deployed, strict=True)
            ]
        return {
            "all": everything,
            "id": int(problem.truth.image_ids[image]),
            "file": problem.file_names[image],
            "width": width,
            "height": height,
            "truth": truth,
            "found": detections,
        }

    def _objects(self, objects: Ints) -> list[list[Any]]:
        truth = self.problem.truth
        boxes = _short(truth.shapes.boxes(objects), truth.image_sizes[truth.images[objects]])
        columns = zip(truth.categories[objects].tolist(), self.states[objects].tolist(), boxes, strict=True)
        return [[category, state, *box] for category, state, box in columns]

    def _detections(self, found: Ints) -> list[list[Any]]:
        outcomes, problem = self.problem.outcomes, self.problem
        boxes = problem.detections.shapes.boxes(outcomes.chosen[found])
        columns = zip(
            outcomes.categories[found].tolist(),
            _states(outcomes.ignored[found], outcomes.true_positive[found]),
            np.round(outcomes.scores[found], 4).tolist(),
            np.round(outcomes.overlaps[found], 2).tolist(),
            problem.deployed[found].astype(int).tolist(),
            _short(boxes, problem.truth.image_sizes[outcomes.images[found]]),
            strict=True,
        )
        return [[*row, *box] for *row, box in columns]


def _states(ignored: Bools, hit: Bools) -> list[int]:
    return np.where(ignored, IGNORED, np.where(hit, TRUE, FALSE)).tolist()


def _short(boxes: Floats, sizes: Ints) -> list[list[float]]:
    """Boxes (X, 4) in whole pixels; in tenths where the image is small, or its size (X, 2) unknown."""
    if len(sizes) and sizes.max(axis=1).min() >= _WHOLE_PIXELS_FROM:
        return np.round(boxes).astype(int).tolist()
    return np.round(boxes, 1).tolist()
