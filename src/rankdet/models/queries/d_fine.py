"""D-FINE (Peng et al., ICLR 2025), by ranking or varifocal loss, with what it learns of the sides of boxes beside.

Variants have the names of the published models; like those on the hub, the medium one has the four decoder layers that
detections come from, without the fifth that only takes part in training.

Every decoder layer, and the boxes that the first one starts from, learn from the criterion. In the library,
``DFineForObjectDetectionLoss`` pairs the distributions of each layer with classes and boxes of the layer before, and
leaves out the classes and boxes of the last layer but one. Tests compare the losses, denoising included, with those of
the library's ``DFineLoss`` on layers that are paired with themselves, as in the program of the authors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rankdet.models.queries.hgnet import hgnet
from rankdet.models.queries.hybrid import HybridNetwork
from rankdet.models.queries.outputs import LayerOutputs, SideDistributions
from rankdet.models.queries.recipe import HybridDetector
from rankdet.models.queries.sides import FineGrainedLosses, side_places


class DFINENetwork(HybridNetwork):
    """The network of D-FINE. Boxes that learn are cut to the canvas, as the library does.

    Args as `HybridNetwork`.
    """

    kinds = ("DFineConfig", "DFineForObjectDetection")

    def layers_of(self, given: Mapping[str, Any]) -> list[LayerOutputs]:
        """See `HybridNetwork`. The first are the boxes that the first decoder layer starts from."""
        first, *others = super().layers_of({**given, "outputs_coord": given["outputs_coord"].clamp(0, 1)})
        decoder = self.model.model.decoder
        places = side_places(decoder.max_num_bins, decoder.up, decoder.reg_scale)
        corners, references = (given[name].unbind(1) for name in ("predicted_corners", "initial_reference_points"))
        layers = [
            layer._replace(
                sides=SideDistributions(
                    of_layer.unflatten(-1, (4, len(places))), reference.detach(), places, decoder.reg_scale.abs()
                )
            )
            for layer, of_layer, reference in zip(others, corners, references, strict=True)
        ]
        return [first, *(layer.taught_by(layers[-1]) for layer in layers[:-1]), layers[-1]]


_COARSE = {
    "d_model": 128,
    "encoder_hidden_dim": 128,
    "encoder_ffn_dim": 512,
    "encoder_in_channels": [512, 1024],
    "encode_proj_layers": [1],
    "feat_strides": [16, 32],
    "decoder_in_channels": [128, 128],
    "decoder_ffn_dim": 512,
    "num_feature_levels": 2,
    "decoder_n_points": [6, 6],
}
_POINTS = {"decoder_n_points": [3, 6, 3]}
D_FINE_VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "n": {
        "backbone_config": hgnet("B0", maps=2),
        "hidden_expansion": 0.34,
        "depth_mult": 0.5,
        "decoder_layers": 3,
        "freeze_backbone_batch_norms": False,
        **_COARSE,
    },
    "s": {
        "backbone_config": hgnet("B0"),
        "encoder_in_channels": [256, 512, 1024],
        "hidden_expansion": 0.5,
        "depth_mult": 0.34,
        "decoder_layers": 3,
        "freeze_backbone_batch_norms": False,
        **_POINTS,
    },
    "m": {
        "backbone_config": hgnet("B2"),
        "encoder_in_channels": [384, 768, 1536],
        "depth_mult": 0.67,
        "decoder_layers": 4,
        "freeze_backbone_batch_norms": False,
        **_POINTS,
    },
    "l": {"backbone_config": hgnet("B4", affine=False), **_POINTS},
    "x": {
        "backbone_config": hgnet("B5", affine=False),
        "encoder_hidden_dim": 384,
        "encoder_ffn_dim": 2048,
        "decoder_in_channels": [384] * 3,
        "reg_scale": 8.0,
        **_POINTS,
    },
}


class DFINE(HybridDetector):
    """D-FINE with any criterion; by default it learns by Rank & Sort Loss, and what `FineGrainedLosses` say.

    `rt_detr_criterion` is the published criterion. Variants are ``n``, ``s``, ``m``, ``l`` and ``x``, which is the
    backbone (HGNetV2), the widths and the depths; ``n`` has maps of strides 16 and 32 alone. Published weights are
    ``ustc-community/dfine-nano-coco`` and its kin.

    Args as `HybridDetector`; ``partial(QueryStage, beside=...)`` is what decoder layers learn of the sides of boxes.

    >>> import torch
    >>> small = {"d_model": 32, "encoder_hidden_dim": 32, "decoder_in_channels": [32] * 3, "decoder_layers": 2}
    >>> model = DFINE(num_classes=5, backbone="resnet18", queries=20, options=small)
    >>> target = {"boxes": torch.tensor([[8., 8., 40., 40.]]), "labels": torch.tensor([2])}
    >>> list(model([torch.rand(3, 64, 64)] * 2, [target] * 2))[:5]
    ['ranking', 'sorting', 'box1', 'box2', 'localisation']
    """

    network_kind = DFINENetwork
    variants = D_FINE_VARIANTS
    default_variant = "l"

    def published(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG002
        """See `HybridDetector`."""
        return {"beside": FineGrainedLosses()}
