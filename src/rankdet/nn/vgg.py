"""VGG-16 (Simonyan & Zisserman, ICLR 2015) as SSD takes it: two dilated convolutions in place of its classifier.

All maximum poolings round up, so that 300 pixels are 38 cells of 8. Layers are numbered as in the published code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from rankdet.nn.backbone import Backbone
from rankdet.nn.blocks import init_kaiming
from rankdet.nn.weights import read_state, telling_misfits, weights_wanted
from rankdet.ops.part import Part

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
FINER, FC6, FC7 = 22, 31, 33


class VGG16(nn.Module, Part, Backbone):
    """The maps of conv4_3 (512 channels, stride 8) and fc7 (1024 channels, stride 16), all of it trained.

    The fully connected layers fc6 and fc7 have become a 3 x 3 convolution of dilation 6 and one of 1 x 1, of every
    fourth output and, in fc6, every third place of the original weights (SSD paper, section 3; the subsampling of the
    original program [L], as far as the weights hold those layers).

    Args:
        weights: None for random ones; ``IMAGENET1K_FEATURES``, those of SSD's authors, which torchvision downloads; or
            a local file of VGG-16 by the layer names of torchvision, or with fc6 and fc7 as layers 31 and 33. Either
            wants RGB of 0..255 less the mean: a standard deviation of 1 / 255 in `Preprocess`.

    >>> [tuple(level.shape) for level in VGG16()(torch.zeros(1, 3, 75, 100))]
    [(1, 512, 10, 13), (1, 1024, 5, 7)]
    """

    name = "vgg16"

    def __init__(self, *, weights: str | Path | None = None) -> None:
        super().__init__()
        self.weights = weights
        self.channels = (512, 1024)
        self.strides = (8, 16)
        self.features = nn.Sequential(*_layers())
        init_kaiming(self.features)
        if weights_wanted(weights):
            self._load(_state_of(weights))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Pixels (N, 3, H, W) -> the two maps."""
        finer = self.features[: FINER + 1](pixels)
        return [finer, self.features[FINER + 1 :](finer)]

    def _load(self, state: Mapping[str, Tensor]) -> None:
        own = self.state_dict()
        found = {name: value for name, value in _reduced(state).items() if name in own}
        lacking = {name for name in own if name not in found and not _of_classifier(name)}
        if lacking:
            raise ValueError(
                f"weights {self.weights} of VGG-16 lack {sorted(lacking)[:3]}; expected are names such as "
                f"{next(iter(own))}, as torchvision writes them"
            )
        with telling_misfits(self.weights, "VGG-16"):
            self.load_state_dict(found, strict=False)


def _layers() -> list[nn.Module]:
    layers: list[nn.Module] = []
    before = 3
    for stage in WIDTHS:
        for width in stage:
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
        layers.append(nn.MaxPool2d(2, stride=2, ceil_mode=True))
    layers[-1] = nn.MaxPool2d(3, stride=1, padding=1)
    return [*layers, nn.Conv2d(512, 1024, 3, padding=6, dilation=6), nn.ReLU(), nn.Conv2d(1024, 1024, 1), nn.ReLU()]


def _state_of(weights: str | Path | None) -> Mapping[str, Tensor]:
    if Path(str(weights)).is_file():
        return read_state(Path(str(weights)))
    from torchvision.models import VGG16_Weights

    if weights != VGG16_Weights.IMAGENET1K_FEATURES.name:
        raise ValueError(
            f"weights {str(weights)!r} of VGG-16 are neither a local file nor {VGG16_Weights.IMAGENET1K_FEATURES.name}"
        )
    state: Mapping[str, Tensor] = VGG16_Weights.IMAGENET1K_FEATURES.get_state_dict(progress=False, check_hash=True)
    return state


def _of_classifier(name: str) -> bool:
    return name.startswith((f"features.{FC6}.", f"features.{FC7}."))


def _reduced(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same with the layers of the classifier, where they are there and finite, as convolutions."""
    reduced = dict(state)
    for name, layer, shape in (("classifier.0", FC6, (4096, 512, 7, 7)), ("classifier.3", FC7, (4096, 4096, 1, 1))):
        weight, bias = state.get(f"{name}.weight"), state.get(f"{name}.bias")
        if weight is not None and bias is not None and bool(torch.isfinite(weight).all()):
            inputs = 1 if layer == FC6 else 4
            reduced[f"features.{layer}.weight"] = weight.view(shape)[::4, ::inputs, ::3, ::3]
            reduced[f"features.{layer}.bias"] = bias[::4]
    return reduced
