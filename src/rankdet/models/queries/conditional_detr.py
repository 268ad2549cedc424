"""Conditional DETR (Meng et al., ICCV 2021) on any backbone, by ranking or focal loss.

The network is that of Hugging Face's transformers; the backbone is one of timm's or your own, and weights begin as in
the original (Xavier's, queries that differ, scores of 0.01, boxes at their references). Tests compare the losses with
the library's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from rankdet.assign.ground_truth import GroundTruth
from rankdet.criteria.criterion import Criterion
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
from rankdet.models.queries.recipe import QueryStageFactory, completed_stage, template_of
from rankdet.nn.backbone import Backbone
from rankdet.nn.blocks import start_at
from rankdet.nn.preprocess import ImageBatch
from rankdet.nn.pyramid import backbone_of


class ConditionalDETRNetwork(LibraryNetwork):
    """Backbone, encoder on its coarsest map, decoder; boxes are shares of the image without padding.

    Args:
        num_logits: columns of the classifier.
        backbone: its last map goes to the encoder.
        queries: of the decoder, learnt.
        options: further arguments of the library's configuration.
    """

    class_tensors = ("class_labels_classifier",)

    def __init__(
        self, *, num_logits: int, backbone: Backbone, queries: int, options: Mapping[str, Any] | None = None
    ) -> None:
        settings = {
            "num_labels": num_logits,
            "num_queries": queries,
            "auxiliary_loss": True,
            "backbone_config": PLACEHOLDER | {"out_features": ["stage4"]},
        }
        config = config_of(library().ConditionalDetrConfig, settings, options)
        super().__init__(library().ConditionalDetrForObjectDetection(config))
        self.model.model.backbone = MapsAndMasks(backbone)
        self.model.model.input_projection = nn.Conv2d(backbone.channels[-1], config.d_model, 1)
        self._begin()

    def _begin(self) -> None:
        """How the original begins. The library's queries are all but the same, and with them their references."""
        transformer = self.model.model
        begin_as_detr(transformer.encoder, transformer.decoder)
        nn.init.normal_(transformer.query_position_embeddings.weight)
        for layer in self.model.bbox_predictor.layers:
            layer.reset_parameters()
        start_at(self.model.class_labels_classifier, 0.01)
        nn.init.zeros_(self.model.bbox_predictor.layers[-1].weight)
        nn.init.zeros_(self.model.bbox_predictor.layers[-1].bias)

    @property
    def class_layers(self) -> Sequence[nn.Linear]:  # type: ignore[override]
        """See `QueryNetwork`."""
        return [self.model.class_labels_classifier]

    def forward(self, batch: ImageBatch, truth: GroundTruth | None) -> QueryOutputs:
        """See `QueryNetwork`."""
        frames = image_frames(batch)
        said = self.model(batch.pixels, pixel_mask=pixel_mask(batch), labels=library_targets(truth, frames))
        if truth is None:
            return QueryOutputs(frames, [LayerOutputs(said.logits, said.pred_boxes)])
        layers = zip(said.loss_dict["outputs_class"], said.loss_dict["outputs_coord"], strict=True)
        return QueryOutputs(frames, [LayerOutputs(*layer) for layer in layers])


class ConditionalDETR(QueryDetector):
    """Conditional DETR with any backbone and any criterion; by default it learns by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`, of which the coarsest map is taken.
        queries: of the decoder, learnt.
        options: further arguments of ``ConditionalDetrConfig`` of transformers, such as ``encoder_layers``.
        criterion: what every layer learns from; by default `query_ranking_criterion`; `deformable_detr_criterion` gives
            the original one.
        stage: who is positive: ``partial(QueryStage, matcher=...)``; by default `QueryStage`.
        postprocess: how detections are chosen; by default the best 100 pairs of query and class, as published.

    >>> import torch
    >>> small = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    >>> model = ConditionalDETR(num_classes=5, backbone="resnet18", queries=20, options=small)
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
        made = completed_stage(stage, criterion)
        super().__init__(
            num_classes=num_classes,
            network=ConditionalDETRNetwork(
                num_logits=made.criterion.num_logits(num_classes),
                backbone=backbone_of(backbone, (32,)),
                queries=queries,
                options=options,
            ),
            stage=made,
            postprocess=postprocess or TopPostprocess(max_detections=100),
        )
        self.settle(stage=template_of(made))
