"""Deformable DETR (Zhu et al., ICLR 2021), two-stage with box refinement, by ranking or focal loss.

The network is that of Hugging Face's transformers. Unlike there, proposals learn a loss, as in the original: without
one, the layers that make them would not learn at all. They have one logit, not one for each class of which all but the
first mean nothing; the backbone is one of timm's or your own; and weights begin as in the original (scores of 0.01,
boxes at their references, Xavier's elsewhere). Tests compare the losses with the library's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from rankdet.assign.ground_truth import GroundTruth
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.score_based import ScoreCriterion
from rankdet.losses.classification import FocalLoss
from rankdet.models.postprocess import Postprocess
from rankdet.models.queries.detector import QueryDetector
from rankdet.models.queries.library import (
    PLACEHOLDER,
    LibraryNetwork,
    MapsAndMasks,
    begin_as_detr,
    config_of,
    library,
    library_targets,
    pixel_mask,
)
from rankdet.models.queries.outputs import LayerOutputs, QueryOutputs, image_frames
from rankdet.models.queries.postprocess import TopPostprocess
from rankdet.models.queries.recipe import QueryStageFactory, completed_stage, detr_criterion, template_of
from rankdet.nn.backbone import Backbone
from rankdet.nn.blocks import start_at
from rankdet.nn.preprocess import ImageBatch
from rankdet.nn.pyramid import backbone_of
from rankdet.ops.class_rows import ClassRows


def deformable_detr_criterion() -> ScoreCriterion:
    """The original loss: focal loss of weight 2, L1 of weight 5, GIoU of weight 2."""
    return detr_criterion(FocalLoss(weight=2.0))


class DeformableDETRNetwork(LibraryNetwork):
    """Backbone, deformable encoder and decoder; boxes are shares of the image without padding.

    Args:
        num_logits: columns of the classifier of each decoder layer.
        proposal_logits: those of the proposals: whether there is an object.
        backbone: its maps, and as many more as there are levels, go to the encoder.
        queries: proposals that become queries.
        options: further arguments of the library's configuration.
    """

    def __init__(
        self,
        *,
        num_logits: int,
        proposal_logits: int,
        backbone: Backbone,
        queries: int,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        settings = {
            "num_labels": num_logits,
            "two_stage": True,
            "with_box_refine": True,
            "two_stage_num_proposals": queries,
            "backbone_config": PLACEHOLDER,
        }
        config = config_of(library().DeformableDetrConfig, settings, options)
        super().__init__(library().DeformableDetrForObjectDetection(config))
        self.model.model.backbone = MapsAndMasks(backbone)
        self.model.model.input_proj = _projections(backbone.channels, config.num_feature_levels, config.d_model)
        self._begin(proposal_logits)

    def _begin(self, proposal_logits: int) -> None:
        """How the original begins: scores of 0.01, boxes at their references."""
        transformer, kept = self.model.model, ("sampling_offsets", "attention_weights", "class_embed", "bbox_embed")
        begin_as_detr(transformer.encoder, transformer.decoder, but=kept)
        proposals = nn.Linear(self.model.config.d_model, proposal_logits)
        for layers in (self.model.class_embed, self.model.model.decoder.class_embed):
            layers[-1] = proposals
        for layer in self.model.class_embed:
            start_at(layer, 0.01)
        for layer in self.model.bbox_embed:
            for hidden in layer.layers:
                hidden.reset_parameters()
            nn.init.zeros_(layer.layers[-1].weight)
            nn.init.zeros_(layer.layers[-1].bias)

    @property
    def class_rows(self) -> Mapping[str, ClassRows]:
        """See `rankdet.ops.class_rows`; the proposals know no classes."""
        layers = range(self.model.config.decoder_layers)
        places = ("model.class_embed", "model.model.decoder.class_embed")
        return {f"{place}.{layer}": ClassRows() for place in places for layer in layers}

    def forward(self, batch: ImageBatch, truth: GroundTruth | None) -> QueryOutputs:
        """See `QueryNetwork`."""
        frames = image_frames(batch)
        said = self.model(batch.pixels, pixel_mask=pixel_mask(batch), labels=library_targets(truth, frames))
        if truth is None:
            return QueryOutputs(frames, [LayerOutputs(said.logits, said.pred_boxes)])
        layers = zip(said.loss_dict["outputs_class"], said.loss_dict["outputs_coord"], strict=True)
        proposals = LayerOutputs(said.enc_outputs_class, said.enc_outputs_coord_logits.sigmoid())
        return QueryOutputs(frames, [LayerOutputs(*layer) for layer in layers], encoder=proposals)


def _projections(channels: Sequence[int], levels: int, width: int) -> nn.ModuleList:
    """1 x 1 convolutions of the maps to one width, and strided ones to coarser levels; group normalisation each.

    There are 32 groups, as published, of at least two channels: the coarsest map of a small image has a single cell.
    """
    layers = [nn.Conv2d(of_map, width, 1) for of_map in channels]
    before = [channels[-1], *[width] * levels]
    layers += [nn.Conv2d(before[more], width, 3, stride=2, padding=1) for more in range(levels - len(channels))]
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return nn.ModuleList(nn.Sequential(layer, nn.GroupNorm(min(32, width // 2), width)) for layer in layers)


class DeformableDETR(QueryDetector):
    """Deformable DETR with any backbone and any criterion; by default it learns by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`.
        queries: proposals of the encoder that become queries of the decoder.
        options: further arguments of ``DeformableDetrConfig`` of transformers, such as ``encoder_layers``.
        criterion: what every layer learns from; by default `query_ranking_criterion`; `deformable_detr_criterion` gives
            the original one.
        stage: who is positive, and what proposals learn from: ``partial(QueryStage, matcher=..., encoder=...)``;
            whatever it does not state is as published.
        postprocess: how detections are chosen; by default the best 100 pairs of query and class, as published.

    >>> import torch
    >>> small = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    >>> model = DeformableDETR(num_classes=5, backbone="resnet18", queries=20, options=small)
    >>> target = {"boxes": torch.tensor([[8., 8., 40., 40.]]), "labels": torch.tensor([2])}
    >>> list(model([torch.rand(3, 64, 64)] * 2, [target] * 2))[:4]
    ['ranking', 'sorting', 'box1', 'box2']
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str | Backbone = "resnet50",
        queries: int = 300,
        options: Mapping[str, Any] | None = None,
        criterion: Criterion | None = None,
        stage: QueryStageFactory | None = None,
        postprocess: Postprocess | None = None,
    ) -> None:
        made = completed_stage(stage, criterion, {"proposals_have_classes": False})
        super().__init__(
            num_classes=num_classes,
            network=DeformableDETRNetwork(
                num_logits=made.criterion.num_logits(num_classes),
                proposal_logits=(made.encoder or made.criterion).num_logits(1),
                backbone=backbone_of(backbone, (8, 16, 32)),
                queries=queries,
                options=options,
            ),
            stage=made,
            postprocess=postprocess or TopPostprocess(max_detections=100),
        )
        self.settle(stage=template_of(made))
