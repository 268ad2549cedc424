"""Runs an exported file as a detector: the same calling convention, so that predictors and evaluations take it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rankdet.data.categories import Categories
from rankdet.data.transforms import resize_from_dict
from rankdet.eval.inference import Detection
from rankdet.export.about import ALONE, KEY, LEAST, MOST, OF_BOXES, OUTPUTS, About
from rankdet.export.canvas import on_canvas
from rankdet.export.raw import suppressed
from rankdet.extras import needed_for
from rankdet.ops.boxes import clip_boxes
from rankdet.ops.masks import boxes_around, paste_masks
from rankdet.predictor import Predictor


class ExportedDetector(nn.Module):
    """An exported file, by onnxruntime or torch.

    Where the file is for one size, images up to that are padded at the right and the bottom. Otherwise images of one
    size go through it together. Duplicates among the candidates of a raw graph are suppressed here.

    Args:
        path: what `export` wrote: ``.onnx``, else a program of torch.
        providers: of onnxruntime, such as ``("CUDAExecutionProvider",)``.

    Attributes:
        about: the metadata in the file.
    """

    about: About

    def __init__(self, path: str | Path, *, providers: Sequence[str] = ("CPUExecutionProvider",)) -> None:
        super().__init__()
        self.path = Path(path)
        if self.path.suffix == ".onnx":
            self._run, text = _onnx(self.path, providers)
        else:
            self._run, text = _program(self.path)
        if not text:
            raise ValueError(f"{path} does not say what it is; give a file that rankdet exported")
        self.about = About.from_json(text)
        self.eval()

    def predictor(self) -> Predictor:
        """A predictor with the classes, thresholds and resizing rule that the file states."""
        about = self.about
        return Predictor(
            self,
            categories=Categories(about.names, about.ids),
            resize=resize_from_dict(about.resize),
            thresholds={int(number): score for number, score in about.thresholds.items()},
            batch_size=about.batch or 8,
        )

    def forward(self, images: Sequence[Tensor]) -> list[Detection]:
        """Images (3, H, W) -> the detections of each."""
        found: list[Detection] = []
        for _, group in groupby(images, key=lambda image: None if self.about.size else image.shape[1:]):
            alike = list(group)
            most = self.about.batch or len(alike)
            for start in range(0, len(alike), most):
                found += self._of_batch(alike[start : start + most])
        return found

    def _of_batch(self, images: Sequence[Tensor]) -> list[Detection]:
        height, width = self._canvas(images[0])
        for image in images:
            if image.shape[1] > height or image.shape[2] > width:
                raise ValueError(f"{self.path} takes images of {height} x {width} pixels; got {tuple(image.shape[1:])}")
        pixels = on_canvas(images, (height, width), number=self.about.batch or len(images))
        outputs = dict(zip(OUTPUTS, self._run(pixels), strict=False))
        return [self._of_image(outputs, row, image) for row, image in enumerate(images)]

    def _canvas(self, image: Tensor) -> tuple[int, int]:
        """Height and width of what the graph is given for an image."""
        sides = int(image.shape[1]), int(image.shape[2])
        if self.about.size is None and not LEAST <= min(sides) <= max(sides) <= MOST:
            raise ValueError(
                f"{self.path} takes images of {LEAST} to {MOST} pixels a side; got {sides[0]} x {sides[1]}"
            )
        return self.about.size or sides

    def _of_image(self, outputs: dict[str, Tensor], row: int, image: Tensor) -> Detection:
        size = (int(image.shape[1]), int(image.shape[2]))
        boxes, scores, labels = (outputs[name][row] for name in ("boxes", "scores", "labels"))
        rows = (labels >= 0).nonzero().squeeze(1)
        if self.about.suppression is not None:
            rows = rows[suppressed(boxes[rows], scores[rows], labels[rows], self.about.suppression)]
        cut = clip_boxes(boxes[rows], size)
        inside = (cut[:, 2:] > cut[:, :2]).all(1)
        kept = rows[inside]
        found = {"labels": labels[kept], "scores": scores[kept], "boxes": cut[inside]}
        if self.about.masks is not None:
            found["masks"] = _masks(outputs["masks"][row][kept], boxes[kept], self.about, size)
        if self.about.masks == ALONE:
            found["boxes"] = boxes_around(found["masks"])
            seen = found["boxes"][:, 2] > 0
            found = {name: value[seen] for name, value in found.items()}
        return found


def _masks(probabilities: Tensor, boxes: Tensor, about: About, size: tuple[int, int]) -> Tensor:
    """Boolean masks (D, H, W) of an image."""
    if about.masks == OF_BOXES:
        return paste_masks(probabilities, boxes, size)
    canvas = tuple(-(-side // about.divisor) * about.divisor for side in about.size or size)
    grown = nn.functional.interpolate(probabilities[:, None], size=canvas, mode="bilinear", align_corners=False)
    return grown[:, 0, : size[0], : size[1]] > 0.5


def _onnx(path: Path, providers: Sequence[str]) -> tuple[Any, str]:
    with needed_for(path.name):
        import onnxruntime
    session = onnxruntime.InferenceSession(str(path), providers=list(providers))

    def run(pixels: Tensor) -> list[Tensor]:
        outputs = session.run(None, {session.get_inputs()[0].name: pixels.numpy()})
        return [torch.from_numpy(np.array(output)) for output in outputs]

    return run, session.get_modelmeta().custom_metadata_map.get(KEY, "")


def _program(path: Path) -> tuple[Any, str]:
    extra = {KEY: ""}
    program = torch.export.load(path, extra_files=extra)
    graph = program.module()
    return graph.forward, extra[KEY]  # the graph itself would be a part, and cannot be put into another mode
