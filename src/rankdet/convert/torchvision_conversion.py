"""From a file of torchvision's detectors to a `Conversion`, and back."""

from __future__ import annotations

from difflib import get_close_matches

from torch import Tensor

from rankdet.convert.coco_classes import COCO, categories_of
from rankdet.convert.conversion import Conversion
from rankdet.convert.errors import ConversionError
from rankdet.convert.source import Source
from rankdet.convert.table import fill, written
from rankdet.convert.torchvision_models import DENSE, MODELS, Layout, TorchvisionDetector
from rankdet.data.categories import Categories
from rankdet.models import Detector
from rankdet.ops.class_rows import is_counter

COCO_LABELS = 91
"""Labels of torchvision's detectors of COCO: the background, and 90 of which 10 mean nothing."""
FIRST_TRAINED = ("fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn")
"""Those whose first published weights go with batch norms that add nothing to the variance."""


def from_torchvision(
    source: Source, name: str, *, categories: Categories | None = None, epsilon: float | None = None
) -> Conversion:
    """A detector with the weights of one of torchvision's.

    Args:
        source: what `read_source` read.
        name: of the function that builds it there, such as ``fasterrcnn_resnet50_fpn``.
        categories: the classes, without the background; by default COCO's where there are 91 labels. A detector with
            sigmoids may use label 0 as well: give as many as it has labels.
        epsilon: what batch norms add to the variance. The weights ``COCO_V1`` go with 0, and so does what was trained
            from them; it is the default for files whose batch norms are frozen. Others have 1e-5.

    Raises:
        ConversionError: the file is of another model.
    """
    known = _known(name)
    layout = _layout(known, source, categories)
    frozen = not any(is_counter(tensor) for tensor in source.tensors)
    if epsilon is None and name in FIRST_TRAINED and frozen:
        epsilon = 0.0
    model = known.build(layout, epsilon)
    filled = fill(model, list(known.matches(model, layout)), source.tensors)
    model.load_state_dict(filled.state)
    unused = [tensor for tensor in source.tensors if tensor not in filled.used and not is_counter(tensor)]
    remarks = []
    if epsilon is not None:
        remarks.append(f"batch norms add {epsilon:g} to the variance, see --epsilon")
    if layout.total != COCO_LABELS and categories is None:
        remarks.append("the file does not name its classes, see --classes")
    return Conversion(
        model=model.eval(),
        categories=categories or categories_of(None, len(layout.classes)),
        resize=known.resize,
        origin={"tool": "torchvision", "model": name, "file": source.path.name},
        left_out=tuple(unused),
        kept=tuple(kept for kept in filled.kept if not kept.startswith("preprocess.")),
        remarks=tuple(remarks),
    )


def to_torchvision(model: Detector, name: str, *, labels: int | None = None) -> dict[str, Tensor]:
    """The weights of a detector that `from_torchvision` made, by torchvision's names; it loads them as its own.

    Args:
        model: of ours, built as `from_torchvision` builds it.
        name: of the function that builds the model there.
        labels: how many the model has there, the background among them; by default one more than classes, and
            `COCO_LABELS` for COCO's 80.
    """
    total = labels or (COCO_LABELS if model.num_classes == len(COCO) else model.num_classes + 1)
    layout = Layout(tuple(range(total)), ()) if total == model.num_classes else _of_labels(total)
    return written(model, list(_known(name).matches(model, layout)))


def _known(name: str) -> TorchvisionDetector:
    if name not in MODELS:
        near = get_close_matches(name, MODELS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConversionError(
            f"no detector of torchvision called {name} is known{hint} (known are {', '.join(MODELS)})"
        )
    return MODELS[name]


def _layout(known: TorchvisionDetector, source: Source, categories: Categories | None) -> Layout:
    if known.classifier not in source.tensors:
        raise ConversionError(
            f"{source.path} is of another model: it has no {known.classifier}; it begins with "
            f"{', '.join(list(source.tensors)[:4])}"
        )
    total = len(source.tensors[known.classifier]) // known.per_label
    if categories is not None and len(categories) == total and known.classifier == DENSE:
        return Layout(classes=tuple(range(total)), others=())
    layout = _of_labels(total)
    if categories is not None and len(categories) != len(layout.classes):
        raise ConversionError(f"{len(categories)} classes are named, and {source.path} has {len(layout.classes)}")
    return layout


def _of_labels(total: int) -> Layout:
    classes = COCO.ids if total == COCO_LABELS else tuple(range(1, total))
    others = tuple(label for label in range(total - 1, -1, -1) if label not in classes)
    return Layout(classes=tuple(classes), others=others)
