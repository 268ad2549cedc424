"""The built-in dataset: coloured shapes in clutter, generated on the fly from a seed. Nothing to download.

What makes it a fair little test of a detector: colours and textures are independent of the class, shapes overlap and
leave the image, sizes span a factor of eight, strokes and outlines look like shapes and belong to no class, some images
are empty, and the classes can be made long-tailed.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import RandomState
from PIL import Image
from pycocotools import mask as coco_mask

from rankdet.data.categories import Categories
from rankdet.data.dataset import DetectionDataset, Sample, check_index, make_target
from rankdet.data.files import new_folder
from rankdet.data.image import as_image
from rankdet.data.report import DatasetReport
from rankdet.data.scenes import CLUTTER, NOBODY, SHAPES, Canvas, Piece, Scene, paint

_LAYOUT, _PAINT = 0, 1  # random streams of an image
_MOST_IMAGES, _MOST_OBJECTS = 10_000_000, 1000  # beyond, lists of ids or one image take gigabytes or minutes
_TRIES = 8  # places tried for a piece before it is given up


class Shapes(DetectionDataset):
    """Images of shapes, the same for the same `seed` on every machine and in every worker process.

    Another seed gives other images, so that held-out data are ``Shapes(length=200, seed=1)``. Boxes are the tight boxes
    of the visible pixels; masks are those pixels. Image ids are 1..length, category ids 1..num_classes.

    Args:
        length: number of images.
        seed: 0 to 2**32 - 1; an image depends only on `seed`, its index and the arguments below.
        image_size: (H, W) in pixels, or the side of square images.
        num_classes: the first this many of circle, square, triangle, star, ring, cross, crescent, bar.
        objects: the fewest and the most objects in an image (fewer if there is no room left).
        sizes: the smallest and the largest diameter, as a fraction of the image's shorter side, drawn log-uniformly.
        empty: fraction of images without objects.
        occlusion: the largest fraction of an object that others or the border may hide; 0 forbids overlap.
        clutter: the most strokes and outlines in an image.
        noise: grain of the image, 0 to 1.
        imbalance: how much likelier the first class is than the last, the others in geometric steps between; 1 is
            balanced, 100 a long tail.
        masks: also generate masks.

    Example:
        >>> image, target = Shapes(length=8, seed=0, image_size=64)[3]
        >>> image.shape, target["boxes"].shape[1], target["image_id"]
        (torch.Size([3, 64, 64]), 4, 4)
    """

    def __init__(
        self,
        *,
        length: int,
        seed: int,
        image_size: int | tuple[int, int] = 256,
        num_classes: int = len(SHAPES),
        objects: tuple[int, int] = (1, 7),
        sizes: tuple[float, float] = (0.06, 0.5),
        empty: float = 0.04,
        occlusion: float = 0.4,
        clutter: int = 5,
        noise: float = 0.12,
        imbalance: float = 1.0,
        masks: bool = False,
    ) -> None:
        self.size: tuple[int, int] = (image_size, image_size) if isinstance(image_size, int) else (*image_size,)
        _check("length", length, 1, _MOST_IMAGES)
        _check("seed", seed, 0, 2**32 - 1)
        _check("image_size", min(self.size), 16, 8192)
        _check("num_classes", num_classes, 1, len(SHAPES))
        _check("objects", objects[1], 0, _MOST_OBJECTS)
        _check("objects", objects[0], 0, objects[1])
        _check("sizes", sizes[0], 0.01, sizes[1])
        _check("empty", empty, 0, 1)
        _check("clutter", clutter, 0, 100)
        _check("noise", noise, 0, 1)
        _check("occlusion", occlusion, 0, 0.99)
        _check("imbalance", imbalance, 1, math.inf)
        self.length, self.seed, self.masks = length, seed, masks
        self.objects, self.sizes, self.empty = objects, sizes, empty
        self.occlusion, self.clutter, self.noise = occlusion, clutter, noise
        steps = np.arange(num_classes) / max(num_classes - 1, 1)
        self.cumulative = np.cumsum(imbalance**-steps) / np.sum(imbalance**-steps)
        self.categories = Categories.from_names(tuple(SHAPES)[:num_classes])
        self.report = DatasetReport(source=f"shapes (seed {seed})", images=length, objects=None)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        index = check_index(index, self.length)
        scene = self.scene(index)
        pixels = paint(scene, RandomState([self.seed, index, _PAINT]), noise=self.noise)
        found = scene.objects()
        target = make_target(
            np.array([scene.box(i) for i in found]),
            np.array([scene.pieces[i].label for i in found]),
            iscrowd=np.zeros(len(found)),
            image_id=index + 1,
            size=self.size,
            masks=_masks(scene) if self.masks else None,
        )
        return as_image(pixels), target

    def scene(self, index: int) -> Scene:
        """What lies where in an image, before it is painted."""
        rng = RandomState([self.seed, index, _LAYOUT])
        canvas = Canvas(*self.size, occlusion=self.occlusion)
        objects = 0 if rng.random_sample() < self.empty else int(rng.randint(self.objects[0], self.objects[1] + 1))
        order = [True] * objects + [False] * int(rng.randint(0, self.clutter + 1))
        for is_object in rng.permutation(order):
            any(canvas.place(self._piece(rng, bool(is_object))) for _ in range(_TRIES))
        return canvas.scene()

    @property
    def image_ids(self) -> list[int]:
        """1..length."""
        return list(range(1, self.length + 1))

    @property
    def image_sizes(self) -> list[tuple[int, int]]:
        """The same (H, W) for every image."""
        return [self.size] * self.length

    @property
    def has_masks(self) -> bool:
        """Whether they were asked for."""
        return self.masks

    def labels(self, index: int) -> np.ndarray:
        """The labels of one image's objects."""
        scene = self.scene(check_index(index, self.length))
        return np.array([scene.pieces[i].label for i in scene.objects()], dtype=np.int64)

    def ground_truth(self) -> dict[str, Any]:
        """The truth as a COCO dictionary; with compressed RLE masks when the dataset has masks."""
        height, width = self.size
        annotations: list[dict[str, Any]] = []
        for index in range(self.length):
            annotations += self._annotations(index, first_id=len(annotations) + 1)
        return {
            "images": [
                {"id": number, "file_name": _file_name(number), "height": height, "width": width}
                for number in self.image_ids
            ],
            "annotations": annotations,
            "categories": self.categories.to_coco(),
        }

    def export(self, folder: str | Path) -> Path:
        """Write the dataset as a COCO folder: ``annotations.json`` and ``images/*.png``; returns the annotation file.

        The folder appears when it is complete and not before. :class:`DatasetError` when it exists already.
        """
        folder = Path(folder)
        with new_folder(folder) as unfinished:
            (unfinished / "images").mkdir()
            for index, number in enumerate(self.image_ids):
                pixels = paint(self.scene(index), RandomState([self.seed, index, _PAINT]), noise=self.noise)
                Image.fromarray(pixels).save(unfinished / "images" / _file_name(number))
            (unfinished / "annotations.json").write_text(json.dumps(self.ground_truth()), encoding="utf-8")
        return folder / "annotations.json"

    def _piece(self, rng: RandomState, is_object: bool) -> Piece:
        """A random object or piece of clutter, at a random place."""
        height, width = self.size
        kind, x, y, size, angle, stretch = rng.random_sample(6)
        label = min(int(np.searchsorted(self.cumulative, kind, side="right")), len(self.categories) - 1)
        least, largest = (math.log(share) for share in self.sizes)
        return Piece(
            distance=SHAPES[self.categories.names[label]] if is_object else CLUTTER[int(kind * len(CLUTTER))],
            label=label if is_object else NOBODY,
            x=x * width,
            y=y * height,
            radius=0.5 * min(height, width) * math.exp(least + size * (largest - least)),
            angle=angle * 2 * math.pi,
            stretch=math.exp((stretch - 0.5) * 0.35),
        )

    def _annotations(self, index: int, *, first_id: int) -> list[dict[str, Any]]:
        scene = self.scene(index)
        annotations = []
        for number, piece in enumerate(scene.objects(), start=first_id):
            x1, y1, x2, y2 = scene.box(piece)
            annotation = {
                "id": number,
                "image_id": index + 1,
                "category_id": self.categories.ids[scene.pieces[piece].label],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": int((scene.owner == piece).sum()),
                "iscrowd": 0,
            }
            if self.masks:
                encoded = coco_mask.encode(np.asfortranarray(scene.owner == piece, dtype=np.uint8))
                annotation["segmentation"] = {"size": encoded["size"], "counts": encoded["counts"].decode()}
            annotations.append(annotation)
        return annotations


def _masks(scene: Scene) -> np.ndarray:
    found = np.array(scene.objects(), dtype=np.int16)
    return (scene.owner[None] == found[:, None, None]).astype(np.uint8)


def _file_name(number: int) -> str:
    return f"{number:06d}.png"


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low}, {high}], got {value}")
