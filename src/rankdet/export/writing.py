"""Writes a detector as a graph: ONNX, or torch's own."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import torch

from rankdet.data.transforms import FixedResize, ResizeExactly, ResizeWithin
from rankdet.export.about import ALONE, KEY, OF_BOXES, OF_IMAGES, OUTPUTS, About
from rankdet.export.detection import ExportedGraph
from rankdet.extras import require
from rankdet.models import Detector, DynamicMaskDetector, TwoStageDetector
from rankdet.ops.writing import replacing
from rankdet.predictor import Predictor

Format = Literal["onnx", "torch"]
OPSET = 18


def export(
    predictor: Predictor, path: str | Path, *, size: tuple[int, int], form: Format = "onnx", batch: int = 1
) -> About:
    """Write a trained detector as a graph that takes images of one size.

    Args:
        predictor: with a detector of rankdet, on the CPU.
        path: the file: ``.onnx``, or ``.pt2`` for torch.
        size: (height, width) of the images in pixels.
        form: onnx, or torch for a program of ``torch.export``.
        batch: number of images in a batch.

    Raises:
        ValueError: the detector has a part that cannot be exported, or a library is missing; the message names it.
    """
    model = predictor.model
    if not isinstance(model, Detector):
        raise ValueError(f"a {type(model).__name__} cannot be exported: it is no detector of rankdet")
    if min(size) < 32 or batch < 1:
        raise ValueError(f"images have at least 32 x 32 pixels, and a batch at least one; got {size} and {batch}")
    graph = ExportedGraph(model, predictor.mapping)
    about = About(
        size=size,
        batch=batch,
        names=predictor.categories.names,
        ids=predictor.categories.ids,
        thresholds={str(number): score for number, score in predictor.thresholds.items()},
        masks=_kind_of_masks(model),
        resize=fitting(predictor.resize, size).to_dict(),
    )
    example = torch.rand(batch, 3, *size)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own code
        program = torch.export.export(graph, (example,), strict=False)
        if form == "torch":
            with replacing(path) as partial, partial.open("wb") as file:
                torch.export.save(program, file, extra_files={KEY: about.to_json()})
        else:
            _write_onnx(program, Path(path), about)
    return about


def _kind_of_masks(model: Detector) -> str | None:
    if not model.needs_masks:
        return None
    if isinstance(model, DynamicMaskDetector):
        return ALONE
    return OF_BOXES if isinstance(model, TwoStageDetector) else OF_IMAGES


def fitting(rule: FixedResize, size: tuple[int, int]) -> FixedResize:
    """The rule that brings images to a size: filling it where the detector's own rule does, else within it."""
    kind = ResizeExactly if isinstance(rule, ResizeExactly) else ResizeWithin
    return kind(height=size[0], width=size[1], interpolation=rule.interpolation)


def _write_onnx(program: torch.export.ExportedProgram, path: Path, about: About) -> None:
    require("the format onnx", "onnx", "onnxscript")
    names = OUTPUTS[: 4 if about.masks else 3]
    written = torch.onnx.export(
        program, dynamo=True, opset_version=OPSET, input_names=["images"], output_names=list(names), verbose=False
    )
    assert written is not None, "with dynamo there is a program"
    written.model.metadata_props[KEY] = about.to_json()
    with replacing(path) as partial:
        written.save(str(partial))
