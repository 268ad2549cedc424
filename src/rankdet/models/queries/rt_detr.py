"""RT-DETRv2 (Zhao et al., CVPR 2024; Lv et al., arXiv 2407.17140), by ranking or varifocal loss.

Variants have the names of the published models. Tests compare the losses with the library's, denoising included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rankdet.criteria.score_based import ScoreCriterion
from rankdet.losses.classification_quality import VarifocalLoss
from rankdet.models.queries.hybrid import HybridNetwork
from rankdet.models.queries.recipe import HybridDetector, detr_criterion


def rt_detr_criterion() -> ScoreCriterion:
    """The published loss: varifocal loss, L1 of weight 5, GIoU of weight 2."""
    return detr_criterion(VarifocalLoss())


class RTDETRNetwork(HybridNetwork):
    """The network of RT-DETRv2.

    Args as `HybridNetwork`.
    """

    kinds = ("RTDetrV2Config", "RTDetrV2ForObjectDetection")


def _resnet(layer_type: str, depths: list[int], hidden_sizes: list[int]) -> dict[str, Any]:
    """The library's ResNet-vd with maps of strides 8, 16 and 32."""
    return {
        "model_type": "rt_detr_resnet",
        "layer_type": layer_type,
        "depths": depths,
        "hidden_sizes": hidden_sizes,
        "out_features": ["stage2", "stage3", "stage4"],
    }


_NARROW, _WIDE = [64, 128, 256, 512], [256, 512, 1024, 2048]
_BASIC = {"encoder_in_channels": _NARROW[1:], "hidden_expansion": 0.5}
_LARGE = {"encoder_hidden_dim": 384, "encoder_ffn_dim": 2048, "decoder_in_channels": [384] * 3}
RT_DETR_VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "r18": {"backbone_config": _resnet("basic", [2, 2, 2, 2], _NARROW), "decoder_layers": 3, **_BASIC},
    "r34": {"backbone_config": _resnet("basic", [3, 4, 6, 3], _NARROW), "decoder_layers": 4, **_BASIC},
    "r50": {"backbone_config": _resnet("bottleneck", [3, 4, 6, 3], _WIDE)},
    "r101": {"backbone_config": _resnet("bottleneck", [3, 4, 23, 3], _WIDE), **_LARGE},
}


class RTDETRv2(HybridDetector):
    """RT-DETRv2 with any criterion; by default it learns by Rank & Sort Loss, `rt_detr_criterion` is the published one.

    Variants are ``r18``, ``r34``, ``r50`` and ``r101``, which is the backbone (ResNet-vd), the width of the encoder and
    the depth of the decoder; published weights are ``PekingU/rtdetr_v2_r18vd`` and its kin.

    Args as `HybridDetector`.

    >>> import torch
    >>> small = {"d_model": 32, "encoder_hidden_dim": 32, "decoder_in_channels": [32] * 3, "decoder_layers": 2}
    >>> model = RTDETRv2(num_classes=5, backbone="resnet18", queries=20, options=small)
    >>> target = {"boxes": torch.tensor([[8., 8., 40., 40.]]), "labels": torch.tensor([2])}
    >>> list(model([torch.rand(3, 64, 64)] * 2, [target] * 2))[:4]
    ['ranking', 'sorting', 'box1', 'box2']
    """

    network_kind = RTDETRNetwork
    variants = RT_DETR_VARIANTS
    default_variant = "r50"
