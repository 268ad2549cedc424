"""Backbones: any timm network that has a feature pyramid, as C2..C5."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from rankdet.nn.deformable import DeformableStages
from rankdet.nn.norm import FrozenStatistics, GroupStatistics, NormPolicy

_T = TypeVar("_T")
_WEIGHTS_WANTED = ContextVar("weights_wanted", default=True)


@contextmanager
def without_pretrained_weights() -> Iterator[None]:
    """Within this context a `Backbone` neither reads nor downloads weights: a checkpoint will bring them.

    >>> with without_pretrained_weights():
    ...     backbone = Backbone("resnet18", weights="a1_in1k")
    """
    token = _WEIGHTS_WANTED.set(False)
    try:
        yield
    finally:
        _WEIGHTS_WANTED.reset(token)


class Backbone(nn.Module):
    """A timm network that returns the feature maps of the chosen strides.

    Args:
        name: timm architecture, ``resnet50``; ``timm.list_models()`` names them all. ``resnet50.tv_in1k`` asks for the
            weights of that tag, like ``weights="tv_in1k"``.
        weights: None for random ones (nothing is ever downloaded then); a timm tag such as ``tv_in1k``, downloaded on
            first use; or a local file (.safetensors, or .pth read with ``weights_only``).
        strides: strides of the maps to return; (4, 8, 16, 32) are C2..C5.
        frozen_stages: 0 trains everything, 1 keeps the stem and the first stage as they are, and so on. By default 1
            with pretrained weights, 0 without.
        norm: what happens to batch normalisation; by default `FrozenStatistics` with pretrained weights and
            `GroupStatistics` without.
        deformable: stages with deformable convolutions; None for none.

    Attributes:
        channels: channels of the returned maps.
        strides: their strides.

    >>> backbone = Backbone("resnet18")
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
        deformable: DeformableStages | None = None,
    ) -> None:
        super().__init__()
        name, _, tag = name.partition(".")
        weights = weights if weights is not None else tag or None
        self.name = name
        self.weights = weights
        self.frozen_stages = frozen_stages if frozen_stages is not None else int(weights is not None)
        self.network = _create(name, weights, strides)
        self.strides = tuple(strides)
        self.channels: tuple[int, ...] = tuple(_feature_info(self.network).channels())
        self.deformable = deformable
        if deformable is not None:
            deformable.prepare(self.network)
        self.norm = norm or (FrozenStatistics() if weights is not None else GroupStatistics())
        self.norm.prepare(self.network)
        self._frozen = _freeze_first_stages(self.network, self.frozen_stages)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Pixels (N, 3, H, W) -> one map (N, C_l, H / stride, W / stride) per stride."""
        maps = self.network(pixels)
        if getattr(self.network, "output_fmt", None) == _timm().layers.Format.NHWC:
            maps = [level.permute(0, 3, 1, 2) for level in maps]
        return list(maps)

    def train(self, mode: bool = True) -> Backbone:
        """Switch mode; frozen stages stay in evaluation mode, batch norms follow the policy."""
        super().train(mode)
        if mode:
            self.norm.enter_training(self.network)
            for module in self._frozen:
                module.eval()
        return self


def _timm() -> Any:
    """timm, imported when the first network is built: commands that build none answer half a second sooner."""
    import timm

    return timm


def _create(name: str, weights: str | Path | None, strides: Sequence[int]) -> nn.Module:
    """The timm network with the outputs of the given strides and the given weights."""
    if not _timm().is_model(name):
        near = difflib.get_close_matches(name, _timm().list_models(), n=3)
        raise ValueError(f"backbone {name!r} is not a timm model{_did_you_mean(near)}; see timm.list_models()")
    with torch.device("meta"):
        reductions = _feature_info(_timm().create_model(name, features_only=True)).reduction()
    missing = [stride for stride in strides if stride not in reductions]
    if missing:
        raise ValueError(f"backbone {name!r} has maps of strides {reductions}, none of {missing}; choose another one")
    wanted = [len(reductions) - 1 - reductions[::-1].index(stride) for stride in strides]
    options: dict[str, Any] = {"features_only": True, "out_indices": wanted}
    loads = weights is not None and _WEIGHTS_WANTED.get() and torch.get_default_device().type != "meta"
    if not loads:
        return _timm().create_model(name, pretrained=False, **options)
    if Path(str(weights)).is_file():
        overlay = {"state_dict": _read_weights(name, Path(str(weights)))}
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
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(path)
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = next((state[key] for key in ("state_dict", "model") if key in state), state)
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
    parameters = _up_to_stage(network.named_parameters(), ends[stages - 1])
    if not parameters:
        raise ValueError(f"cannot tell the first stages of {type(network).__name__} apart; set frozen_stages=0")
    for parameter in parameters:
        parameter.requires_grad_(False)
    leaves = ((name, module) for name, module in network.named_modules() if next(module.children(), None) is None)
    return _up_to_stage(leaves, ends[stages - 1])
