"""Backbones from timm: every network with feature maps, at any image size."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.nn.backbone import Backbone
from rankdet.nn.modification import Modification
from rankdet.nn.norm import FrozenStatistics, GroupStatistics, NormPolicy
from rankdet.nn.weights import read_state, telling_misfits, weights_wanted
from rankdet.ops.part import Part

_T = TypeVar("_T")


class TimmBackbone(nn.Module, Part, Backbone):
    """A timm network that returns the feature maps of the chosen strides.

    Networks that timm builds for one image size are built for all: windows (Swin) and position embeddings (ViT) follow
    the size of the image. Networks that cannot are refused.

    Args:
        name: timm architecture, such as ``resnet50``; ``timm.list_models()`` lists them. ``resnet50.tv_in1k`` asks for
            the weights with that tag, like ``weights="tv_in1k"``.
        weights: None for random ones (nothing is ever downloaded then); a timm tag such as ``tv_in1k``, downloaded on
            first use; or a local file (.safetensors, or .pth read with ``weights_only``).
        strides: strides of the maps to return; (4, 8, 16, 32) are C2..C5, the single map of a plain ViT has the stride
            of its patches (14 or 16; put a `SimplePyramid` behind it).
        frozen_stages: 0 trains everything, 1 keeps the stem and the first stage as they are, and so on; a stage of a
            plain ViT is a block. By default 1 with pretrained weights, 0 without; always 0 for plain ViTs, and for
            HRNet, whose stages are interleaved.
        norm: what happens to batch normalisation; by default `FrozenStatistics` with pretrained weights and
            `GroupStatistics` without.
        options: further arguments for ``timm.create_model``, such as ``output_stride`` or ``drop_path_rate``.
        modifications: changes to the network, in this order, before normalisation.

    Attributes:
        channels: channels of the returned maps.
        strides: their strides.

    >>> backbone = TimmBackbone("resnet18")
    >>> [tuple(level.shape) for level in backbone(torch.zeros(1, 3, 64, 64))]
    [(1, 64, 16, 16), (1, 128, 8, 8), (1, 256, 4, 4), (1, 512, 2, 2)]
    """

    def __init__(
        self,
        name: str,
        *,
        weights: str | Path | None = None,
        strides: Sequence[int] = (4, 8, 16, 32),
        frozen_stages: int | None = None,
        norm: NormPolicy | None = None,
        options: Mapping[str, Any] | None = None,
        modifications: Sequence[Modification] = (),
    ) -> None:
        super().__init__()
        name, _, tag = name.partition(".")
        weights = weights if weights is not None else tag or None
        self.name = name
        self.weights = weights
        self.frozen_stages = frozen_stages if frozen_stages is not None else _frozen_by_default(name, weights)
        self.options = {**_options_of(name), **(options or {})}
        self.network = _create(name, weights, strides, self.options)
        self.strides = tuple(strides)
        self.channels: tuple[int, ...] = tuple(_feature_info(self.network).channels())
        self._multiple = max(strides) if _wants_multiples(name) else 1
        _check_any_size(self, name)
        self.modifications = tuple(modifications)
        for modification in self.modifications:
            modification.prepare(self.network)
        self.norm = norm or (FrozenStatistics() if weights is not None else GroupStatistics())
        self.norm.prepare(self.network)
        self._frozen = _freeze_first_stages(self.network, self.frozen_stages)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Pixels (N, 3, H, W) -> one map (N, C_l, H / stride, W / stride) per stride."""
        maps = self.network(_padded(pixels, self._multiple))
        if getattr(self.network, "output_fmt", None) == _timm().layers.Format.NHWC:
            maps = [level.permute(0, 3, 1, 2) for level in maps]
        if self._multiple == 1:
            return list(maps)
        height, width = pixels.shape[-2:]
        cut = zip(maps, self.strides, strict=True)
        return [level[..., : -(-height // stride), : -(-width // stride)] for level, stride in cut]

    def train(self, mode: bool = True) -> TimmBackbone:
        """Switch mode; frozen stages stay in evaluation mode, batch norms follow the policy."""
        super().train(mode)
        if mode:
            self.norm.enter_training(self.network)
            for module in self._frozen:
                module.eval()
        return self


def _padded(pixels: Tensor, multiple: int) -> Tensor:
    """Zeros, the mean colour, at the right and lower edge up to a multiple."""
    below, right = (-side % multiple for side in pixels.shape[-2:])
    return F.pad(pixels, (0, right, 0, below)) if below or right else pixels


def _timm() -> Any:
    """timm, imported when the first network is built: commands that build none answer half a second sooner."""
    import timm

    return timm


@lru_cache
def _parameters(name: str) -> frozenset[str]:
    """The options that the class of a network takes."""
    with torch.device("meta"):
        network = _timm().create_model(name)
    return frozenset(inspect.signature(type(network)).parameters)


# What makes a network of one image size one of every size, and HRNet give its own maps instead of a classifier's.
_SIZE_OPTIONS = {"strict_img_size": False, "dynamic_img_size": True, "dynamic_img_pad": True}
_HRNET = {"feature_location": ""}


def _options_of(name: str) -> dict[str, Any]:
    """The options that rankdet sets unless told otherwise."""
    _check_name(name)
    taken = _parameters(name)
    options = {option: value for option, value in _SIZE_OPTIONS.items() if option in taken}
    return options | (_HRNET if name.startswith("hrnet") else {})


def _frozen_by_default(name: str, weights: str | Path | None) -> int:
    return int(weights is not None and not name.startswith("hrnet") and plain_stride(name) is None)


def _wants_multiples(name: str) -> bool:
    """Whether maps only fit together if the image is a multiple of the largest stride: windows, HRNet's exchange."""
    return name.startswith("hrnet") or "strict_img_size" in _parameters(name)


def _check_any_size(backbone: TimmBackbone, name: str) -> None:
    """Refuse a network that takes images of one size alone."""
    config = getattr(backbone.network, "pretrained_cfg", None) or {}
    if not config.get("fixed_input_size"):
        return
    largest = int(max(backbone.strides))
    with torch.device("meta"):
        probe = _timm().create_model(name, features_only=True, **backbone.options)
        try:
            probe(torch.zeros(1, 3, 4 * largest, 5 * largest))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"backbone {name!r} takes images of one size alone ({' '.join(str(error).split())}); choose another "
                "one, or options of timm that let it take every size"
            ) from error


def plain_stride(name: str) -> int | None:
    """The stride of the map of a network that has but one, a plain ViT; None for all others.

    >>> plain_stride("vit_small_patch14_dinov2"), plain_stride("resnet18")
    (14, None)
    """
    bare = name.partition(".")[0]
    reductions = set(_reductions(bare, _options_of(bare)))
    return reductions.pop() if len(reductions) == 1 else None


def _reductions(name: str, stated: Mapping[str, Any]) -> list[int]:
    """Strides of all the maps that a network can give."""
    with torch.device("meta"):
        network = _timm().create_model(name, features_only=True, **stated)
    return list(_feature_info(network).reduction())


def _check_name(name: str) -> None:
    if not _timm().is_model(name):
        near = difflib.get_close_matches(name, _timm().list_models(), n=3)
        raise ValueError(f"backbone {name!r} is not a timm model{_did_you_mean(near)}; see timm.list_models()")


def _create(name: str, weights: str | Path | None, strides: Sequence[int], stated: Mapping[str, Any]) -> nn.Module:
    """The timm network with the outputs of the given strides and the given weights."""
    reductions = _reductions(name, stated)
    missing = [stride for stride in strides if stride not in reductions]
    if missing:
        only = f"take strides=({reductions[0]},) and put a SimplePyramid behind it"
        advice = only if len(set(reductions)) == 1 else "choose another one"
        raise ValueError(f"backbone {name!r} has maps of strides {reductions}, none of {missing}; {advice}")
    plain = len(set(reductions)) == 1  # a ViT, whose maps of one stride timm counts by blocks
    wanted = [-1] if plain else [len(reductions) - 1 - reductions[::-1].index(stride) for stride in strides]
    options: dict[str, Any] = {"features_only": True, "out_indices": wanted, **stated}
    if not weights_wanted(weights):
        return _timm().create_model(name, pretrained=False, **options)
    if Path(str(weights)).is_file():
        overlay = {"state_dict": _read_weights(name, Path(str(weights)))}
        with telling_misfits(weights, name):
            return _timm().create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    _check_tag(name, str(weights))
    try:
        return _timm().create_model(f"{name}.{weights}", pretrained=True, **options)
    except OSError as error:  # what requests, urllib and the hub's client raise without a network
        raise OSError(
            f"the weights {weights!r} of backbone {name!r} cannot be downloaded: {' '.join(str(error).split())} "
            f"Name a local file as weights, or leave the tag out for random ones: backbone {name!r}"
        ) from error


def _feature_info(network: nn.Module) -> Any:
    """What timm says about the maps of a network: channels, reductions, names of the modules that make them."""
    return network.feature_info


def _read_weights(name: str, path: Path) -> dict[str, Tensor]:
    """State dict of a local file, checked to belong to the network."""
    state = read_state(path)
    with torch.device("meta"):
        expected = set(_timm().create_model(name).state_dict())
    if not expected & set(state):
        raise ValueError(
            f"{path} holds no weights of {name!r}: it starts with {sorted(state)[:3]}, expected are names such as "
            f"{sorted(expected)[:3]}"
        )
    return state


def _check_tag(name: str, tag: str) -> None:
    tags = [known.removeprefix(f"{name}.") for known in _timm().list_pretrained(f"{name}.*")]
    if tag not in tags:
        near = difflib.get_close_matches(tag, tags, n=3)
        raise ValueError(
            f"weights {tag!r} of backbone {name!r} are neither a local file nor a timm tag{_did_you_mean(near)}; "
            f"the tags are {', '.join(tags) or 'none'}"
        )


def _did_you_mean(near: Sequence[str]) -> str:
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _up_to_stage(named: Iterable[tuple[str, _T]], end: str) -> list[_T]:
    """What stands, in order of definition, before or inside the module called ``end`` (timm may write a_0 for a.0)."""
    items = list(named)
    inside = [f"{name}.".replace("_", ".").startswith(f"{end}.".replace("_", ".")) for name, _ in items]
    last = max((row for row, is_inside in enumerate(inside) if is_inside), default=-1)
    return [item for _, item in items[: last + 1]]


def _freeze_first_stages(network: nn.Module, stages: int) -> list[nn.Module]:
    """Fix the parameters up to the map of stride 4 (1 stage), 8 (2), ...; return the modules to keep in eval mode."""
    ends = [info["module"] for info in _feature_info(network).info if info["reduction"] >= 4]
    if not 0 <= stages <= len(ends):
        raise ValueError(f"frozen_stages must lie in 0..{len(ends)}; got {stages}")
    if stages == 0:
        return []
    inner = network.get_submodule("model") if _is_wrapped(network) else network
    parameters = _up_to_stage(inner.named_parameters(), ends[stages - 1])
    if not parameters:
        raise ValueError(f"cannot tell the first stages of {type(network).__name__} apart; set frozen_stages=0")
    for parameter in parameters:
        parameter.requires_grad_(False)
    leaves = ((name, module) for name, module in inner.named_modules() if next(module.children(), None) is None)
    return _up_to_stage(leaves, ends[stages - 1])


def _is_wrapped(network: nn.Module) -> bool:
    """Whether timm takes the maps out of a whole classifier, as it does for ViTs, whose names then begin with it."""
    return [name for name, _ in network.named_children()] == ["model"]
