"""DEIMv2 (Huang et al., arXiv 2509.20787), by ranking or matchability-aware loss, with D-FINE's losses of sides beside.

Variants have the names of the published models: ``atto``, ``femto``, ``pico`` and ``n`` on HGNetV2, ``s``, ``m``, ``l``
and ``x`` on a DINOv3 (Simeoni et al., 2025) with a small convolutional network for details beside it. Boxes, and the
sides of boxes, are learned by the queries that any layer is matched with (`UnionOfMatches`), except in the three
smallest, which learn no sides and where each layer has its own.

As of D-FINE, the library's ``Deimv2ForObjectDetectionLoss`` pairs the distributions of each layer with classes and
boxes of the layer before. Tests compare the losses, denoising included, with those of the library's ``Deimv2Loss`` on
layers that are paired with themselves, as in the program of the authors. Its late change of the matching costs, which
the library leaves out, is a `LateMatcher`; presets have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from rankdet.criteria.score_based import ScoreCriterion
from rankdet.losses.classification_quality import MALLoss
from rankdet.models.queries.d_fine import DFINENetwork
from rankdet.models.queries.hgnet import hgnet
from rankdet.models.queries.hybrid import projection
from rankdet.models.queries.recipe import HybridDetector, detr_criterion
from rankdet.models.queries.sides import FineGrainedLosses
from rankdet.models.queries.union import UnionOfMatches
from rankdet.nn.backbone import Backbone
from rankdet.nn.preprocess import Preprocess


def deim_criterion() -> ScoreCriterion:
    """The published loss: matchability-aware loss, L1 of weight 5, GIoU of weight 2."""
    return detr_criterion(MALLoss())


class ProjectedMaps(nn.Module):
    """A backbone as DEIMv2's network wants it: maps of the width of the encoder, or as they are."""

    def __init__(self, backbone: Backbone, *, width: int | None) -> None:
        super().__init__()
        self.backbone: Any = backbone
        widths = backbone.channels
        self.projections = nn.ModuleList(nn.Identity() if width is None else projection(w, width) for w in widths)

    def forward(self, pixels: Tensor, **_named: Any) -> list[Tensor]:
        """Pixels (N, 3, H, W) -> maps."""
        return [project(level) for project, level in zip(self.projections, self.backbone(pixels), strict=True)]


class DEIMNetwork(DFINENetwork):
    """The network of DEIMv2.

    Args as `HybridNetwork`.
    """

    kinds = ("Deimv2Config", "Deimv2ForObjectDetection")

    def __init__(self, model: nn.Module, *, backbone: Backbone | None = None) -> None:
        super().__init__(model, backbone=backbone)
        if self.model.config.backbone_config.model_type == "dinov3_vit":
            self._freeze_what_is_not_used()

    @property
    def backbone(self) -> nn.Module:
        """See `HybridNetwork`."""
        encoder = self.model.model.conv_encoder
        backbone: nn.Module = encoder.model if hasattr(encoder, "model") else encoder.backbone
        return backbone

    def replace_backbone(self, backbone: Backbone) -> None:
        """See `HybridNetwork`; the light encoder projects the maps itself."""
        config = self.model.config
        width = None if config.encoder_type == "lite" else config.encoder_hidden_dim
        self.model.model.conv_encoder = ProjectedMaps(backbone, width=width)

    def _freeze_what_is_not_used(self) -> None:
        """What a ViT only needs to be pretrained: the token of masked patches, and its last normalisation."""
        vit: Any = self.backbone
        vit.embeddings.mask_token.requires_grad_(False)
        if not vit.config.apply_layernorm:
            vit.norm.requires_grad_(False)


def _lite(size: str, *, width: int, ffn: int, queries: int) -> dict[str, Any]:
    """The light encoder on one map of stride 16, and a decoder with one box head."""
    backbone = hgnet(size, maps=1)
    return {
        "backbone_config": backbone,
        "freeze_backbone_batch_norms": False,
        "encoder_type": "lite",
        "encoder_layers": 0,
        "encoder_hidden_dim": width,
        "encoder_in_channels": backbone["hidden_sizes"][-1:],
        "feat_strides": [16],
        "hidden_expansion": 0.34,
        "depth_mult": 0.5,
        "d_model": width,
        "decoder_in_channels": [width, width],
        "decoder_ffn_dim": ffn,
        "decoder_layers": 3,
        "decoder_activation_function": "silu",
        "num_feature_levels": 2,
        "decoder_n_points": [4, 2],
        "num_queries": queries,
        "share_bbox_head": True,
        "use_gateway": False,
    }


def _vit(*, width: int, heads: int, maps: Sequence[int], distilled: bool, gated: bool = False) -> dict[str, Any]:
    """A DINOv3 of twelve layers, or one distilled from it: no registers and no keys with a bias there."""
    return {
        "model_type": "dinov3_vit",
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_hidden_layers": 12,
        "intermediate_size": 4 * width,
        "use_gated_mlp": gated,
        "layerscale_value": 1.0 if distilled else 1e-5,
        "num_register_tokens": 0 if distilled else 4,
        "pos_embed_rescale": None if distilled else 2.0,
        "key_bias": not distilled,
        "apply_layernorm": not distilled,
        "out_indices": list(maps),
        "reshape_hidden_states": True,
    }


def _dino(vit: Mapping[str, Any], *, width: int, ffn: tuple[int, int], details: int = 16) -> dict[str, Any]:
    """The encoder and the decoder on three maps of a ViT; ``details`` is the width of the network beside it."""
    encoder, decoder = ffn
    return {
        "backbone_config": vit,
        "spatial_tuning_adapter_inplanes": details,
        "encoder_has_trailing_conv": False,
        "encoder_in_channels": [width] * 3,
        "encoder_hidden_dim": width,
        "encoder_ffn_dim": encoder,
        "d_model": width,
        "decoder_in_channels": [width] * 3,
        "decoder_ffn_dim": decoder,
        "decoder_layers": 4,
        "decoder_activation_function": "silu",
        "decoder_n_points": [3, 6, 3],
    }


_EVENLY, _LATE = (4, 8, 12), (6, 9, 12)
_TINY = _vit(width=192, heads=3, maps=_EVENLY, distilled=True)
_TINY_PLUS = _vit(width=256, heads=4, maps=_LATE, distilled=True)
_SMALL = _vit(width=384, heads=6, maps=_LATE, distilled=False)
_SMALL_PLUS = _vit(width=384, heads=6, maps=_LATE, distilled=False, gated=True)
DEIM_VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "atto": _lite("Atto", width=64, ffn=160, queries=100),
    "femto": _lite("Femto", width=96, ffn=256, queries=150),
    "pico": _lite("Pico", width=112, ffn=320, queries=200),
    "n": {
        "backbone_config": hgnet("B0", maps=2),
        "freeze_backbone_batch_norms": False,
        "encoder_in_channels": [512, 1024],
        "feat_strides": [16, 32],
        "encode_proj_layers": [1],
        "encoder_hidden_dim": 128,
        "encoder_ffn_dim": 512,
        "hidden_expansion": 0.34,
        "depth_mult": 0.5,
        "d_model": 128,
        "decoder_in_channels": [128, 128],
        "decoder_ffn_dim": 512,
        "decoder_layers": 3,
        "decoder_activation_function": "silu",
        "num_feature_levels": 2,
        "decoder_n_points": [6, 6],
    },
    "s": {**_dino(_TINY, width=192, ffn=(512, 512)), "hidden_expansion": 0.34, "depth_mult": 0.67},
    "m": {**_dino(_TINY_PLUS, width=256, ffn=(512, 512)), "hidden_expansion": 0.67},
    "l": _dino(_SMALL, width=224, ffn=(896, 1792), details=32),
    "x": {
        **_dino(_SMALL_PLUS, width=256, ffn=(1024, 2048), details=64),
        "decoder_layers": 6,
        "hidden_expansion": 1.25,
        "depth_mult": 1.37,
    },
}


class DEIMv2(HybridDetector):
    """DEIMv2 with any criterion; by default it learns by Rank & Sort Loss, `deim_criterion` is the published one.

    Variants are ``atto``, ``femto``, ``pico``, ``n``, ``s``, ``m``, ``l`` and ``x``, which is the backbone, the widths,
    the depths and the number of queries. A ``backbone`` of your own also replaces the network of details beside a ViT.
    Weights in the library's format that its documentation names: ``harshaljanjani/DEIMv2_HGNetv2_N_COCO_Transformers``.

    Args as `HybridDetector`.

    >>> import torch
    >>> small = {"d_model": 32, "encoder_hidden_dim": 32, "decoder_in_channels": [32] * 2, "decoder_layers": 2}
    >>> model = DEIMv2(num_classes=5, variant="n", backbone="resnet18", queries=20, options=small)
    >>> target = {"boxes": torch.tensor([[8., 8., 40., 40.]]), "labels": torch.tensor([2])}
    >>> list(model([torch.rand(3, 64, 64)] * 2, [target] * 2))[:5]
    ['ranking', 'sorting', 'box1', 'box2', 'localisation']
    """

    network_kind = DEIMNetwork
    variants = DEIM_VARIANTS
    default_variant = "s"

    def published(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `HybridDetector`."""
        if settings.get("encoder_type") == "lite":
            return {}
        return {"beside": FineGrainedLosses(), "box_matches": UnionOfMatches()}

    def preprocess_of(self, settings: Mapping[str, Any]) -> Preprocess:
        """See `HybridDetector`; a ViT sees images as ImageNet's are seen."""
        is_vit = settings["backbone_config"]["model_type"] == "dinov3_vit"
        return Preprocess() if is_vit else super().preprocess_of(settings)
