"""Writes a detector as a graph: ONNX, or torch's own."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch

from rankdet.data.transforms import FixedResize, ResizeExactly, ResizeWithin
from rankdet.export.about import ALONE, KEY, LEAST, MOST, OF_BOXES, OF_IMAGES, OUTPUTS, About, Precision
from rankdet.export.detection import ExportedGraph
from rankdet.export.half import in_half
from rankdet.extras import require
from rankdet.models import Detector, DynamicMaskDetector, QueryDetector, TwoStageDetector
from rankdet.nn.anchors import GridPriors
from rankdet.ops.writing import replacing
from rankdet.predictor import Predictor

Format = Literal["onnx", "torch"]
OPSET = 18


def export(
    predictor: Predictor,
    path: str | Path,
    *,
    size: tuple[int, int] | None,
    form: Format = "onnx",
    batch: int | None = 1,
    raw: bool = False,
    precision: Precision = "32-true",
) -> About:
    """Write a trained detector as a graph that takes images of one size, or of any.

    Anchors follow from the size of the images within the graph. Without a size, the images of a batch still have one.

    Args:
        predictor: with a detector of rankdet, on the CPU.
        path: the file: ``.onnx``, or ``.pt2`` for torch.
        size: (height, width) of the images in pixels; None for any, from 160 pixels a side on.
        form: onnx, or torch for a program of ``torch.export``.
        batch: number of images in a batch; None for any number.
        raw: leave suppression out: the graph gives candidates, and `About.suppression` says what remains to be done.
        precision: 32-true, or 16-mixed for convolutions and linear layers in float16.

    Raises:
        ValueError: the detector has a part that cannot be exported, or not for any size or number of images, or a
            library is missing, or it has no raw graph; the message says which.
    """
    model = predictor.model
    if not isinstance(model, Detector):
        raise ValueError(f"a {type(model).__name__} cannot be exported: it is no detector of rankdet")
    if (size is not None and min(size) < 32) or (batch is not None and batch < 1):
        raise ValueError(f"images have at least 32 x 32 pixels, and a batch at least one; got {size} and {batch}")
    graph = ExportedGraph(model if precision == "32-true" else in_half(model), predictor.mapping, raw=raw)
    about = About(
        size=size,
        batch=batch,
        names=predictor.categories.names,
        ids=predictor.categories.ids,
        thresholds={str(number): score for number, score in predictor.thresholds.items()},
        masks=_kind_of_masks(model),
        resize=(predictor.resize if size is None else fitting(predictor.resize, size)).to_dict(),
        divisor=model.preprocess.divisor,
        precision=precision,
        suppression=graph.suppression,
    )
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own code
        program = _program(graph, about)
        if form == "torch":
            with replacing(path) as partial, partial.open("wb") as file:
                torch.export.save(program, file, extra_files={KEY: about.to_json()})
        else:
            _write_onnx(program, Path(path), about)
    return about


def _program(graph: ExportedGraph, about: About) -> torch.export.ExportedProgram:
    """The graph as a program, for the sizes and numbers of images that it is to take."""
    height, width = (torch.export.Dim(name, min=LEAST, max=MOST) for name in ("height", "width"))
    number = torch.export.Dim("batch", min=1, max=1024)
    free = {**({} if about.batch else {0: number}), **({} if about.size else {2: height, 3: width})}
    example = torch.rand(about.batch or 2, 3, *(about.size or (2 * LEAST, 3 * LEAST)))
    if not free:
        return torch.export.export(graph, (example,), strict=False)
    kind = type(graph.detector).__name__
    grids = [part for part in graph.modules() if isinstance(part, GridPriors)]
    if about.size is None and any(not isinstance(stride, int) for grid in grids for stride in grid.strides):
        raise ValueError(
            f"{kind} has anchors that are not whole pixels apart, as they are for images of one size; give --size HxW"
        )
    if isinstance(graph.detector, QueryDetector | DynamicMaskDetector):
        raise ValueError(f"{kind} lays its queries or cells over images of one size and number; give {_BOTH}")
    try:
        return torch.export.export(graph, (example,), strict=False, dynamic_shapes=(free,))
    except torch._dynamo.exc.UserError as error:
        said = [line.strip(" -") for line in str(error).splitlines() if line.startswith("  - ")] or [str(error)]
        raise ValueError(
            f"{kind} has a part that only knows images of one size, or one number of them; give {_BOTH}. torch "
            f"says: {said[0][:300]}"
        ) from error


_BOTH = "size and batch (--size HxW --batch N)"


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
    written = _onnx_of(program, OUTPUTS[: 4 if about.masks else 3])
    written.model.metadata_props[KEY] = about.to_json()
    with replacing(path) as partial:
        written.save(str(partial))


def _onnx_of(program: torch.export.ExportedProgram, names: Sequence[str]) -> torch.onnx.ONNXProgram:
    import onnx

    assertion = torch.ops.aten._is_all_true.default  # of the transformers library; ONNX does not know it
    if any(node.target is assertion for node in program.graph.nodes):
        program = program.run_decompositions({assertion: lambda values: values.all()})
    for optimise in (True, False):  # what the optimiser makes of a Deformable DETR is no graph any more
        with _quiet("onnxscript", "onnx_ir"):
            written = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=["images"],
                output_names=list(names),
                optimize=optimise,
                verbose=False,
            )
        assert written is not None, "with dynamo there is a program"
        try:
            onnx.checker.check_model(written.model_proto)
        except onnx.checker.ValidationError:
            continue
        return written
    raise ValueError("torch made no valid ONNX graph of this detector; try --format torch")


@contextmanager
def _quiet(*libraries: str) -> Iterator[None]:
    """Only errors are said by libraries whose warnings are of no use to whoever exports a detector."""
    loggers = [logging.getLogger(name) for name in libraries]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
