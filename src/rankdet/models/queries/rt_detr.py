"""RT-DETRv2 (Zhao et al., CVPR 2024; Lv et al., arXiv 2407.17140), by ranking or varifocal loss.

The network is that of Hugging Face's transformers, variants by the names of the published models. Unlike there, random
weights begin as in the original: convolutions and normalisation as torch has them, scores of 0.01. Denoising queries of
a batch without objects have losses too, all 0, so that names are the same in every step. Tests compare the losses with
the library's, denoising included.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import nn
from typing_extensions import Self

from rankdet.assign.assignment import Assigner
from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.hungarian import HungarianMatcher
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.score_based import ScoreCriterion
from rankdet.losses.classification_quality import VarifocalLoss
from rankdet.models.postprocess import Postprocess
from rankdet.models.queries.detector import QueryDetector
from rankdet.models.queries.library import (
    LibraryNetwork,
    MapsAndMasks,
    config_of,
    library,
    library_targets,
    load_pretrained,
)
from rankdet.models.queries.outputs import Denoising, LayerOutputs, QueryOutputs, canvas_frames
from rankdet.models.queries.recipe import detr_criterion, query_ranking_criterion, variant_of
from rankdet.models.queries.stage import QueryStage
from rankdet.nn.backbone import Backbone
from rankdet.nn.preprocess import ImageBatch, Preprocess
from rankdet.nn.pyramid import backbone_of


def rt_detr_criterion() -> ScoreCriterion:
    """The published loss: varifocal loss, L1 of weight 5, GIoU of weight 2."""
    return detr_criterion(VarifocalLoss())


class RTDETRNetwork(LibraryNetwork):
    """A detector of RT-DETR's family; boxes are fractions of the canvas, because it does not know where padding begins.

    Args:
        model: the library's.
        backbone: takes the place of the model's; None leaves it.

    Attributes:
        kinds: names of the library's configuration and model.
    """

    kinds: ClassVar[tuple[str, str]] = ("RTDetrV2Config", "RTDetrV2ForObjectDetection")
    class_tensors = ("class_embed", "model.decoder.class_embed", "model.enc_score_head", "model.denoising_class_embed")

    def __init__(self, model: nn.Module, *, backbone: Backbone | None = None) -> None:
        super().__init__(model)
        network = self.model.model
        if backbone is not None:
            network.backbone = MapsAndMasks(backbone)
            width = self.model.config.encoder_hidden_dim
            network.encoder_input_proj = nn.ModuleList(
                nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))
                for channels in backbone.channels
            )
        of_backbone = set(network.backbone.modules())
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d) and module not in of_backbone:
                module.reset_parameters()

    @classmethod
    def made(
        cls,
        settings: Mapping[str, Any],
        *,
        options: Mapping[str, Any] | None,
        backbone: str | Backbone | None,
        pretrained: str | Path | None,
    ) -> Self:
        """The network of a variant, with options of the library's configuration, a backbone and weights if stated."""
        strides = settings.get("feat_strides", (8, 16, 32))
        own = None if backbone is None else backbone_of(backbone, strides)
        if own is not None:
            settings = {**settings, "backbone_config": _PLACEHOLDER, "encoder_in_channels": list(own.channels)}
        config, model = (getattr(library(), name) for name in cls.kinds)
        network = cls(model(config_of(config, settings, options)), backbone=own)
        load_pretrained(network, pretrained)
        return network

    def forward(self, batch: ImageBatch, truth: GroundTruth | None) -> QueryOutputs:
        """See `QueryNetwork`."""
        frames = canvas_frames(batch)
        said = self.model(batch.pixels, labels=library_targets(truth, frames))
        if truth is None:
            return QueryOutputs(frames, [LayerOutputs(said.logits, said.pred_boxes)])
        given = said.loss_dict
        layers = self.layers_of(given)
        meta = given["denoising_meta_values"]
        noisy = meta["dn_num_split"][0] if meta else 0
        return QueryOutputs(
            frames,
            [layer.part(slice(noisy, None)) for layer in layers],
            encoder=LayerOutputs(given["enc_topk_logits"], given["enc_topk_bboxes"]),
            denoising=self._denoising([layer.part(slice(noisy)) for layer in layers], meta),
        )

    def layers_of(self, given: Mapping[str, Any]) -> list[LayerOutputs]:
        """What the decoder layers say of noisy queries and others, from what the library gives its loss."""
        of_layers = zip(given["outputs_class"].unbind(1), given["outputs_coord"].unbind(1), strict=True)
        return [LayerOutputs(*layer) for layer in of_layers]

    def _denoising(self, layers: list[LayerOutputs], meta: Mapping[str, Any] | None) -> Denoising | None:
        """The noisy queries; none of them, but connected to what would make them, in a batch without objects."""
        if self.model.config.num_denoising == 0:
            return None
        if meta is not None:
            return Denoising(layers, meta["dn_positive_idx"], repeats=meta["dn_num_group"])
        nothing = 0 * self.model.model.denoising_class_embed.weight.sum()
        said = [layer._replace(logits=layer.logits + nothing) for layer in layers]
        images, device = len(said[0].logits), said[0].logits.device
        return Denoising(said, [nothing.new_empty(0).long().to(device)] * images, repeats=1)


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


class RTDETRv2(QueryDetector):
    """RT-DETRv2 with any criterion; by default it learns by Rank & Sort Loss.

    Images are not normalised beyond 0..1, and are best resized to one square, as they are for the published models.

    Args:
        num_classes: K, without a background.
        variant: ``r18``, ``r34``, ``r50`` or ``r101``, which is the backbone (ResNet-vd), the width of the encoder and
            the depth of the decoder.
        backbone: takes the place of the variant's: a timm architecture, with a tag if pretrained, or a `Backbone`.
        pretrained: weights of the whole detector: a name on Hugging Face's hub (``PekingU/rtdetr_v2_r18vd``,
            downloads) or a local folder; None: random weights.
        queries: proposals of the encoder that become queries of the decoder.
        options: further arguments of ``RTDetrV2Config`` of transformers, such as ``num_denoising``.
        criterion: what every layer learns from; by default `query_ranking_criterion`; `rt_detr_criterion` gives the
            published one.
        encoder: what proposals learn from; by default the criterion.
        denoising: what denoising queries learn from; by default the criterion.
        matcher: who is positive; by default `HungarianMatcher`.
        postprocess: how detections are chosen; by default `TopPostprocess`.

    >>> import torch
    >>> small = {"d_model": 32, "encoder_hidden_dim": 32, "decoder_in_channels": [32] * 3, "decoder_layers": 2}
    >>> model = RTDETRv2(num_classes=5, backbone="resnet18", queries=20, options=small)
    >>> target = {"boxes": torch.tensor([[8., 8., 40., 40.]]), "labels": torch.tensor([2])}
    >>> list(model([torch.rand(3, 64, 64)] * 2, [target] * 2))[:4]
    ['ranking', 'sorting', 'box1', 'box2']
    """

    def __init__(
        self,
        *,
        num_classes: int,
        variant: str = "r50",
        backbone: str | Backbone | None = None,
        pretrained: str | Path | None = None,
        queries: int = 300,
        options: Mapping[str, Any] | None = None,
        criterion: Criterion | None = None,
        encoder: Criterion | None = None,
        denoising: Criterion | None = None,
        matcher: Assigner | None = None,
        postprocess: Postprocess | None = None,
    ) -> None:
        criterion, matcher = criterion or query_ranking_criterion(), matcher or HungarianMatcher()
        settings = {
            **variant_of(RT_DETR_VARIANTS, variant),
            "num_labels": criterion.num_logits(num_classes),
            "num_queries": queries,
            "initializer_bias_prior_prob": 0.01,
            "freeze_backbone_batch_norms": pretrained is not None,
        }
        super().__init__(
            num_classes=num_classes,
            network=RTDETRNetwork.made(settings, options=options, backbone=backbone, pretrained=pretrained),
            stage=QueryStage(criterion=criterion, matcher=matcher, encoder=encoder, denoising=denoising),
            postprocess=postprocess,
            preprocess=Preprocess(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        )
        self.settle(matcher=matcher)


# What the library makes before its backbone is taken out again.
_PLACEHOLDER = {**_resnet("basic", [1, 1, 1, 1], [2, 2, 2, 2]), "embedding_size": 2}
