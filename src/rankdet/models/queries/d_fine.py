"""D-FINE (Peng et al., ICLR 2025), by ranking or varifocal loss, with what it learns of the sides of boxes beside.

The network is that of Hugging Face's transformers, variants by the names of the published models; like those on the
hub, the medium one has the four decoder layers that detections come from, without the fifth that only takes part in
training. Random weights begin as in `RTDETRv2`.

Every decoder layer, and the boxes that the first one starts from, learn from the criterion. In the library,
``DFineForObjectDetectionLoss`` pairs the distributions of each layer with classes and boxes of the layer before, and
leaves out the classes and boxes of the last layer but one. Tests compare the losses, denoising included, with those of
the library's ``DFineLoss`` on layers that are paired with themselves, as in the program of the authors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rankdet.assign.assignment import Assigner
from rankdet.assign.hungarian import HungarianMatcher
from rankdet.criteria.criterion import Criterion
from rankdet.models.postprocess import Postprocess
from rankdet.models.queries.detector import QueryDetector
from rankdet.models.queries.outputs import LayerOutputs, SideDistributions
from rankdet.models.queries.recipe import query_ranking_criterion, variant_of
from rankdet.models.queries.rt_detr import RTDETRNetwork
from rankdet.models.queries.sides import FineGrainedLosses, side_places
from rankdet.models.queries.stage import LayerTerm, QueryStage
from rankdet.nn.backbone import Backbone
from rankdet.nn.preprocess import Preprocess


class DFINENetwork(RTDETRNetwork):
    """A detector of D-FINE's family. Boxes that learn are cut to the canvas, as the library does.

    Args as `RTDETRNetwork`.
    """

    kinds = ("DFineConfig", "DFineForObjectDetection")

    def layers_of(self, given: Mapping[str, Any]) -> list[LayerOutputs]:
        """See `RTDETRNetwork`. The first are the boxes that the first decoder layer starts from."""
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


def _hgnet(
    stem: list[int], mid: list[int], out: list[int], *, blocks: list[int], layers: int, affine: bool, stages: int = 3
) -> dict[str, Any]:
    """The library's HGNetV2 with maps of the last ``stages`` of its four stages."""
    return {
        "model_type": "hgnet_v2",
        "embedding_size": stem[-1],
        "hidden_sizes": out,
        "stem_channels": stem,
        "stage_in_channels": [stem[-1], *out[:-1]],
        "stage_mid_channels": mid,
        "stage_out_channels": out,
        "stage_num_blocks": blocks,
        "stage_numb_of_layers": [layers] * 4,
        "use_learnable_affine_block": affine,
        "out_features": ["stage2", "stage3", "stage4"][-stages:],
    }


_B0: dict[str, Any] = {
    "stem": [3, 16, 16],
    "mid": [16, 32, 64, 128],
    "out": [64, 256, 512, 1024],
    "blocks": [1, 1, 2, 1],
    "layers": 3,
}
_B2: dict[str, Any] = {
    "stem": [3, 24, 32],
    "mid": [32, 64, 128, 256],
    "out": [96, 384, 768, 1536],
    "blocks": [1, 1, 3, 1],
    "layers": 4,
}
_B4: dict[str, Any] = {
    "stem": [3, 32, 48],
    "mid": [48, 96, 192, 384],
    "out": [128, 512, 1024, 2048],
    "blocks": [1, 1, 3, 1],
    "layers": 6,
}
_B5: dict[str, Any] = {
    "stem": [3, 32, 64],
    "mid": [64, 128, 256, 512],
    "out": [128, 512, 1024, 2048],
    "blocks": [1, 2, 5, 2],
    "layers": 6,
}
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
        "backbone_config": _hgnet(**_B0, affine=True, stages=2),
        "hidden_expansion": 0.34,
        "depth_mult": 0.5,
        "decoder_layers": 3,
        **_COARSE,
    },
    "s": {
        "backbone_config": _hgnet(**_B0, affine=True),
        "encoder_in_channels": [256, 512, 1024],
        "hidden_expansion": 0.5,
        "depth_mult": 0.34,
        "decoder_layers": 3,
        **_POINTS,
    },
    "m": {
        "backbone_config": _hgnet(**_B2, affine=True),
        "encoder_in_channels": [384, 768, 1536],
        "depth_mult": 0.67,
        "decoder_layers": 4,
        **_POINTS,
    },
    "l": {"backbone_config": _hgnet(**_B4, affine=False), **_POINTS},
    "x": {
        "backbone_config": _hgnet(**_B5, affine=False),
        "encoder_hidden_dim": 384,
        "encoder_ffn_dim": 2048,
        "decoder_in_channels": [384] * 3,
        "reg_scale": 8.0,
        **_POINTS,
    },
}


class DFINE(QueryDetector):
    """D-FINE with any criterion; by default it learns by Rank & Sort Loss, and what `FineGrainedLosses` say.

    Images are not normalised beyond 0..1, and are best resized to one square, as they are for the published models.

    Args:
        num_classes: K, without a background.
        variant: ``n``, ``s``, ``m``, ``l`` or ``x``, which is the backbone (HGNetV2), the widths and the depths; ``n``
            has maps of strides 16 and 32 alone.
        backbone: takes the place of the variant's: a timm architecture, with a tag if pretrained, or a `Backbone`.
        pretrained: weights of the whole detector: a name on Hugging Face's hub (``ustc-community/dfine-nano-coco``,
            downloads) or a local folder; None: random weights.
        queries: proposals of the encoder that become queries of the decoder.
        options: further arguments of ``DFineConfig`` of transformers, such as ``num_denoising``.
        criterion: what every layer learns from; by default `query_ranking_criterion`; `rt_detr_criterion` gives the
            published one.
        encoder: what proposals learn from; by default the criterion.
        denoising: what denoising queries learn from; by default the criterion.
        beside: what decoder layers learn of the sides of boxes; by default `FineGrainedLosses`.
        matcher: who is positive; by default `HungarianMatcher`.
        postprocess: how detections are chosen; by default `TopPostprocess`.

    >>> import torch
    >>> small = {"d_model": 32, "encoder_hidden_dim": 32, "decoder_in_channels": [32] * 3, "decoder_layers": 2}
    >>> model = DFINE(num_classes=5, backbone="resnet18", queries=20, options=small)
    >>> target = {"boxes": torch.tensor([[8., 8., 40., 40.]]), "labels": torch.tensor([2])}
    >>> list(model([torch.rand(3, 64, 64)] * 2, [target] * 2))[:5]
    ['ranking', 'sorting', 'box1', 'box2', 'localisation']
    """

    def __init__(
        self,
        *,
        num_classes: int,
        variant: str = "l",
        backbone: str | Backbone | None = None,
        pretrained: str | Path | None = None,
        queries: int = 300,
        options: Mapping[str, Any] | None = None,
        criterion: Criterion | None = None,
        encoder: Criterion | None = None,
        denoising: Criterion | None = None,
        beside: LayerTerm | None = None,
        matcher: Assigner | None = None,
        postprocess: Postprocess | None = None,
    ) -> None:
        criterion, matcher = criterion or query_ranking_criterion(), matcher or HungarianMatcher()
        beside = beside or FineGrainedLosses()
        settings = {
            **variant_of(D_FINE_VARIANTS, variant),
            "num_labels": criterion.num_logits(num_classes),
            "num_queries": queries,
            "initializer_bias_prior_prob": 0.01,
            "freeze_backbone_batch_norms": pretrained is not None and variant in ("l", "x"),
        }
        super().__init__(
            num_classes=num_classes,
            network=DFINENetwork.made(settings, options=options, backbone=backbone, pretrained=pretrained),
            stage=QueryStage(criterion=criterion, matcher=matcher, encoder=encoder, denoising=denoising, beside=beside),
            postprocess=postprocess,
            preprocess=Preprocess(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        )
        self.settle(matcher=matcher, beside=beside)
