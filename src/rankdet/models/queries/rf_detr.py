"""RF-DETR (Robinson et al., arXiv 2511.09554), by ranking or IoU-aware cross entropy: boxes, and masks in its kin.

The network is that of Hugging Face's transformers, a DINOv2 with windowed attention and a light decoder. In training
there are 13 groups of queries, each of which is matched with the objects by itself; only the first one detects. Unlike
in the library, references of queries begin at the proposals, and there is no dropout, both as in the original. Tests
compare the losses with the library's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import nn
from typing_extensions import Self

from rankdet.assign.ground_truth import GroundTruth
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.score_based import ScoreCriterion
from rankdet.losses.classification_quality import IABCELoss
from rankdet.models.postprocess import Postprocess
from rankdet.models.queries.detector import QueryDetector
from rankdet.models.queries.library import (
    LibraryNetwork,
    config_of,
    library,
    library_targets,
    load_pretrained,
    pixel_mask,
)
from rankdet.models.queries.outputs import LayerOutputs, QueryOutputs, image_frames
from rankdet.models.queries.recipe import (
    QueryStageFactory,
    completed_stage,
    detr_criterion,
    query_ranking_criterion,
    settings_for,
    template_of,
    variant_of,
)
from rankdet.nn.preprocess import ImageBatch, Preprocess


def rf_detr_criterion() -> ScoreCriterion:
    """The published loss: IoU-aware cross entropy, L1 of weight 5, GIoU of weight 2."""
    return detr_criterion(IABCELoss())


class RFDETRNetwork(LibraryNetwork):
    """A detector of RF-DETR's family; boxes are shares of the image without padding.

    Args:
        model: the library's.
    """

    kind = "RfDetrForObjectDetection"
    class_tensors = ("class_embed", "model.enc_out_class_embed")

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        nn.init.zeros_(self.detector.model.reference_point_embed.weight)

    @classmethod
    def made(
        cls, settings: Mapping[str, Any], *, options: Mapping[str, Any] | None, pretrained: str | Path | None
    ) -> Self:
        """The network of a variant, with options of the library's configuration, and weights if stated."""
        network = cls(getattr(library(), cls.kind)(config_of(library().RfDetrConfig, settings, options)))
        load_pretrained(network, pretrained)
        return network

    @property
    def detector(self) -> Any:
        """The part of the library's model that predicts classes and boxes: all of it."""
        return self.model

    @property
    def class_layers(self) -> Sequence[nn.Linear]:  # type: ignore[override]
        """See `QueryNetwork`."""
        return [self.detector.class_embed]

    @property
    def queries(self) -> int:
        """How many there are in a group."""
        return int(self.model.config.num_queries)

    @property
    def divisor(self) -> int:
        """What sides of images are multiples of: patches in windows."""
        backbone = self.model.config.backbone_config
        return int(backbone.patch_size * backbone.num_windows)

    def forward(self, batch: ImageBatch, truth: GroundTruth | None) -> QueryOutputs:
        """See `QueryNetwork`.

        Raises:
            ValueError: the images have fewer patches than there are queries.
        """
        self.check_patches(batch)
        frames = image_frames(batch)
        said = self.model(batch.pixels, pixel_mask=pixel_mask(batch), labels=library_targets(truth, frames))
        if truth is None:
            return QueryOutputs(frames, [LayerOutputs(said.logits, said.pred_boxes)])
        layers = zip(said.loss_dict["outputs_class"], said.loss_dict["outputs_coord"], strict=True)
        return QueryOutputs(
            frames,
            [LayerOutputs(*layer) for layer in layers],
            encoder=LayerOutputs(said.enc_outputs_class, said.enc_outputs_coord_logits),
            groups=self.model.config.group_detr if self.model.training else 1,
        )

    def check_patches(self, batch: ImageBatch) -> None:
        """ValueError for fewer patches than queries: each patch is a proposal, of which the best become queries."""
        height, width = batch.canvas
        patch, queries = self.model.config.backbone_config.patch_size, self.model.config.num_queries
        if (patches := (height // patch) * (width // patch)) < queries:
            raise ValueError(
                f"images of {height} x {width} pixels have {patches} patches of {patch} x {patch}, fewer than the "
                f"{queries} queries; resize images to more, or lower `queries`"
            )


def dino_variant(*, resolution: int, decoder_layers: int, patch: int = 16, windows: int = 2) -> dict[str, Any]:
    """A DINOv2-S with patches of so many pixels, in windows x windows windows, and a decoder."""
    backbone = {
        "model_type": "rf_detr_dinov2",
        "hidden_size": 384,
        "num_attention_heads": 6,
        "num_hidden_layers": 12,
        "patch_size": patch,
        "num_windows": windows,
        "image_size": resolution,
        "out_features": ["stage3", "stage6", "stage9", "stage12"],
        "use_mask_token": False,
    }
    return {"backbone_config": backbone, "decoder_layers": decoder_layers, "decoder_n_points": 2, "dropout": 0.0}


RF_DETR_VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "nano": dino_variant(resolution=384, decoder_layers=2),
    "small": dino_variant(resolution=512, decoder_layers=3),
    "medium": dino_variant(resolution=576, decoder_layers=4),
    "large": dino_variant(resolution=704, decoder_layers=4),
}


class RFDETR(QueryDetector):
    """RF-DETR with any criterion; by default it learns by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        variant: ``nano``, ``small``, ``medium`` or ``large``, which is the depth of the decoder and the size of the
            images that the published model has learnt from: squares of 384, 512, 576 and 704 pixels. Others will do.
        pretrained: weights of the whole detector: a name on Hugging Face's hub (``Roboflow/rf-detr-nano``, downloads)
            or a local folder; None: random weights.
        queries: of each group; by default as many as the variant has, 300.
        options: further arguments of ``RfDetrConfig`` of transformers, such as ``group_detr``.
        criterion: what every layer learns from; by default `query_ranking_criterion`; `rf_detr_criterion` gives the
            published one.
        stage: who is positive in each group, and what proposals learn from: ``partial(QueryStage, matcher=...,
            encoder=...)``; whatever it does not state is as published.
        postprocess: how detections are chosen; by default `TopPostprocess`.

    >>> import torch
    >>> backbone = {"model_type": "rf_detr_dinov2", "hidden_size": 32, "num_attention_heads": 2, "patch_size": 8,
    ...             "num_hidden_layers": 2, "num_windows": 2, "out_features": ["stage1", "stage2"]}
    >>> model = RFDETR(num_classes=5, queries=20, options={"backbone_config": backbone, "d_model": 32, "group_detr": 3})
    >>> target = {"boxes": torch.tensor([[8., 8., 40., 40.]]), "labels": torch.tensor([2])}
    >>> list(model([torch.rand(3, 64, 64)] * 2, [target] * 2))[:4]
    ['ranking', 'sorting', 'box1', 'box2']
    """

    network_kind: ClassVar[type[RFDETRNetwork]] = RFDETRNetwork
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = RF_DETR_VARIANTS

    def __init__(
        self,
        *,
        num_classes: int,
        variant: str = "nano",
        pretrained: str | Path | None = None,
        queries: int | None = None,
        options: Mapping[str, Any] | None = None,
        criterion: Criterion | None = None,
        stage: QueryStageFactory | None = None,
        postprocess: Postprocess | None = None,
    ) -> None:
        criterion = criterion or query_ranking_criterion()
        made = completed_stage(stage, criterion, self.published(criterion))
        variant_settings = variant_of(self.variants, variant)
        settings = settings_for(variant_settings, made, num_classes=num_classes, queries=queries)
        network = self.network_kind.made(settings, options=options, pretrained=pretrained)
        super().__init__(
            num_classes=num_classes,
            network=network,
            stage=made,
            postprocess=postprocess,
            preprocess=Preprocess(divisor=network.divisor),
        )
        self.settle(queries=network.queries, stage=template_of(made))

    def published(self, criterion: Criterion) -> Mapping[str, Any]:  # noqa: ARG002
        """What the stage has beside its criterion unless stated."""
        return {}
