"""From a file of Detectron2 to a `Conversion`."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from rankdet.convert.coco_classes import categories_of
from rankdet.convert.conversion import Conversion
from rankdet.convert.detectron2_models import FAMILIES, Detectron2Family, ResNetStyle
from rankdet.convert.errors import ConversionError
from rankdet.convert.source import Source
from rankdet.convert.table import fill, written
from rankdet.data.categories import Categories
from rankdet.data.interpolation import PillowBilinear
from rankdet.data.transforms import ResizeShorter
from rankdet.models import Detector

_PIXELS = ("pixel_mean", "pixel_std")
_MEAN, _STD = (103.53, 116.28, 123.675), (1.0, 1.0, 1.0)
_NAMES = "faster_rcnn_R_50_FPN, mask_rcnn_R_101_FPN, cascade_mask_rcnn_R_50_FPN, retinanet_R_50_FPN and the like"


def from_detectron2(
    source: Source, name: str, *, categories: Categories | None = None, caffe: bool = True
) -> Conversion:
    """A detector with the weights of one of Detectron2's with a ResNet and a pyramid.

    Args:
        source: what `read_source` read; ``.pkl`` files of the model zoo are read as well.
        name: of its configuration, such as ``mask_rcnn_R_50_FPN_3x``.
        categories: its classes; by default COCO's where there are 80.
        caffe: whether the stride of a block is in its first convolution (``STRIDE_IN_1X1``), as in the model zoo.

    Raises:
        ConversionError: the file is of another model.
    """
    known, network = _known(name, caffe)
    if known.classifier not in source.tensors:
        raise ConversionError(
            f"{source.path} is of another model: it has no {known.classifier}; it begins with "
            f"{', '.join(list(source.tensors)[:4])}"
        )
    classes = len(source.tensors[known.classifier]) // known.rows - known.background
    model = known.build(classes, network)
    filled = fill(model, list(known.matches(model)), source.tensors)
    model.load_state_dict(filled.state)
    mean, std = (_pixels(source, kind, usual) for kind, usual in zip(_PIXELS, (_MEAN, _STD), strict=True))
    model.preprocess.mean.copy_(mean.flip(0).view(-1, 1, 1) / 255)
    model.preprocess.std.copy_(std.flip(0).view(-1, 1, 1) / 255)
    unused = (tensor for tensor in source.tensors if tensor not in filled.used)
    return Conversion(
        model=model.eval(),
        categories=categories or categories_of(None, classes),
        resize=ResizeShorter(interpolation=PillowBilinear()),
        origin={"tool": "detectron2", "model": name, "file": source.path.name},
        left_out=tuple(
            tensor
            for tensor in unused
            if not tensor.startswith((*_PIXELS, "anchor_generator.", "proposal_generator.anchor_generator."))
        ),
        kept=tuple(kept for kept in filled.kept if not kept.startswith("preprocess.")),
        remarks=(f"the stride of a block is in its {'first' if caffe else 'second'} convolution, see --style",),
    )


def to_detectron2(model: Detector, name: str, *, caffe: bool = True) -> dict[str, Tensor]:
    """The weights of a detector that `from_detectron2` made, by Detectron2's names."""
    return written(model, list(_known(name, caffe)[0].matches(model)))


def _known(name: str, caffe: bool) -> tuple[Detectron2Family, ResNetStyle]:
    found = re.match(r"(cascade_mask_rcnn|faster_rcnn|mask_rcnn|retinanet)_R_(50|101)(_FPN|_|$)", name)
    if found is None:
        raise ConversionError(f"no detector of Detectron2 called {name} is known; known are {_NAMES}")
    return FAMILIES[found[1]], ResNetStyle(int(found[2]), caffe)


def _pixels(source: Source, name: str, usual: tuple[float, ...]) -> Tensor:
    stated = source.tensors.get(name)
    return torch.tensor(usual) if stated is None else stated.float().flatten()
