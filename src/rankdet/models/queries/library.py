"""The networks of Hugging Face's transformers, as query networks; the library is imported when the first is built.

Every detector there hands what its layers say to its ``loss_function``, which may be set. Here that is a function which
hands the same back, so that the losses are those of the stage. (A module given as ``loss_function`` is ignored without
a word, as torch keeps it among the submodules; a function is not.)
"""

from __future__ import annotations

import difflib
import re
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rankdet.assign.ground_truth import GroundTruth
from rankdet.extras import needed_for
from rankdet.models.queries.outputs import QueryNetwork, QueryOutputs
from rankdet.nn.backbone import Backbone
from rankdet.nn.preprocess import ImageBatch
from rankdet.nn.weights import weights_wanted
from rankdet.ops.class_rows import ClassRows, class_rows_of, is_counter
from rankdet.ops.coder import FrameCoder


def library() -> Any:
    """The transformers library.

    Raises:
        ImportError: naming the extra that brings it.
    """
    with needed_for("a detector with a transformer"):
        import transformers
    return transformers


def config_of(kind: Any, settings: Mapping[str, Any], options: Mapping[str, Any] | None) -> Any:
    """A configuration of the library: settings of a variant, some of them replaced by options.

    Raises:
        ValueError: naming an unknown option, and similar ones. The library would silently keep it.
    """
    known = kind().to_dict().keys()
    for name in options or {}:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            advice = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"options has {name!r}, which no {kind.__name__} of transformers has{advice}")
    return kind(**{**settings, **(options or {})})


def everything(logits: Tensor, labels: Any, device: Any, boxes: Tensor, config: Any, *more: Any, **named: Any) -> Any:  # noqa: ARG001
    """A ``loss_function`` that hands back what it was given: no loss, and a dict in place of the named losses.

    Its arguments are those of the library, which calls it with many, by position and by name.
    """
    names = ("outputs_class", "outputs_coord")
    return logits.new_zeros(()), {**dict(zip(names, more, strict=False)), **named}, None


class LibraryNetwork(nn.Module, QueryNetwork):
    """A detector of the library. Subclasses say how its outputs are read.

    Args:
        model: the library's.

    Attributes:
        class_tensors: names of layers or tensors within the model whose rows are classes.
    """

    class_tensors: Sequence[str] = ()

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        # Some of the library's parameters are made on the CPU whatever the default device is.
        self.model: Any = model.to(torch.get_default_device())
        library_model: Any = model
        library_model.loss_function = everything  # a property of the library's models

    @property
    def class_layers(self) -> Sequence[nn.Linear]:  # type: ignore[override]
        """See `QueryNetwork`."""
        return [self.model.class_embed[self.model.config.decoder_layers - 1]]

    @property
    def class_rows(self) -> Mapping[str, ClassRows]:
        """See `rankdet.ops.class_rows`."""
        return {f"model.{name}": ClassRows() for name in self.class_tensors}

    @property
    def pretrainable(self) -> Sequence[Any]:
        """Models of the library whose weights may be loaded: the detector, and parts of it."""
        return [self.model]

    @abstractmethod
    def forward(self, batch: ImageBatch, truth: GroundTruth | None) -> QueryOutputs:
        """See `QueryNetwork`."""


# A ResNet of next to nothing, which the library makes and which is taken out again for the backbone of a recipe.
PLACEHOLDER = {
    "model_type": "resnet",
    "embedding_size": 1,
    "hidden_sizes": [1, 1, 1, 1],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "out_features": ["stage2", "stage3", "stage4"],
}


class MapsAndMasks(nn.Module):
    """A backbone as the library wants it: each map with the mask of the images in its size."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone: Any = backbone
        self.intermediate_channel_sizes = list(backbone.channels)

    def forward(self, pixels: Tensor, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Pixels (N, 3, H, W) and mask (N, H, W) -> maps and their masks (N, h, w)."""
        resize = nn.functional.interpolate
        return [(level, resize(mask[None].float(), size=level.shape[-2:])[0].bool()) for level in self.backbone(pixels)]


def begin_as_detr(*transformer: nn.Module, but: Sequence[str] = ()) -> None:
    """Xavier's uniform weights for the linear layers of encoder and decoder, as in DETR and its successors.

    The library draws them from a normal distribution of standard deviation 0.02 whatever their width, so that narrow
    transformers hardly learn at first. ``but``: names of layers to be left as they are.
    """
    for part in transformer:
        for name, module in part.named_modules():
            if isinstance(module, nn.Linear) and not set(name.split(".")) & set(but):
                nn.init.xavier_uniform_(module.weight)


def library_targets(truth: GroundTruth | None, frames: Sequence[Tensor]) -> list[dict[str, Tensor]] | None:
    """The objects as the library wants them: classes, and boxes as shares of the frames. Crowds are left out."""
    if truth is None:
        return None
    encode = FrameCoder().encode
    of_images = zip(truth.labels, truth.boxes, frames, strict=True)
    return [{"class_labels": labels, "boxes": encode(frame, boxes)} for labels, boxes, frame in of_images]


def pixel_mask(batch: ImageBatch) -> Tensor:
    """(N, H, W): 1 where there is an image, 0 in the padding."""
    mask = torch.zeros(batch.pixels.shape[0], *batch.canvas, dtype=torch.long, device=batch.pixels.device)
    for of_image, (height, width) in zip(mask, batch.sizes, strict=True):
        of_image[:height, :width] = 1
    return mask


def load_pretrained(network: LibraryNetwork, pretrained: str | Path | None) -> None:
    """Give a network the weights of a detector of the library, or of its backbone: a name on the hub or a local folder.

    If the detector has other classes, their rows keep their initial values, with a warning.

    Raises:
        ValueError: there is nothing to read, or another architecture, or one in which tensors are missing or have
            another shape.
    """
    if not weights_wanted(pretrained):
        return
    part = _part_of(network, pretrained)
    kind = type(part)
    theirs = kind.from_pretrained(str(pretrained)).state_dict()
    rows = {name.removeprefix("model.") for name in class_rows_of(network)} if part is network.model else set()
    own = {name: value for name, value in part.state_dict().items() if not is_counter(name)}
    other = [name for name, value in own.items() if name not in theirs or theirs[name].shape != value.shape]
    # Attention is the same whatever is added to all keys, so DINOv3 as published has no such bias.
    if wrong := [name for name in other if name not in rows and not name.endswith("k_proj.bias")]:
        raise ValueError(
            f"pretrained={str(pretrained)!r} is no {kind.__name__} of this variant: {', '.join(wrong[:4])} are not "
            "there, or in another shape; choose the variant that it is of"
        )
    if random := [name for name in other if name in rows]:
        warnings.warn(
            f"{pretrained} was trained for other classes: {', '.join(random[:4])}{' and others' * (len(random) > 4)} "
            "begin at random",
            stacklevel=2,
        )
    part.load_state_dict({name: theirs[name] for name in own.keys() - set(other)}, strict=False)


def _part_of(network: LibraryNetwork, pretrained: str | Path | None) -> Any:
    """The part of a network that weights are of, by their configuration."""
    advice = "Give a folder that save_pretrained wrote, or the name of a detector on Hugging Face's hub."
    if not Path(str(pretrained)).exists() and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(pretrained)):
        raise ValueError(f"pretrained={str(pretrained)!r} is neither a folder nor the name of a repository. {advice}")
    try:
        found = library().AutoConfig.from_pretrained(str(pretrained)).model_type
    except (OSError, ValueError) as error:
        raise ValueError(
            f"pretrained={str(pretrained)!r} cannot be read: {str(error).strip().splitlines()[0]} {advice}"
        ) from error
    parts = {part.config.model_type: part for part in network.pretrainable}
    if found not in parts:
        raise ValueError(
            f"pretrained={str(pretrained)!r} has a {found}, and this detector takes the weights of a "
            f"{' or a '.join(parts)}; choose the detector that they are of"
        )
    return parts[found]
