"""RF-DETR with masks (Robinson et al., arXiv 2511.09554), by ranking or by its own loss: one mask of each query.

The network is that of Hugging Face's transformers. The masks of each layer and of the proposals learn at points where
they are least sure, and matching compares masks too. Tests compare the losses with the library's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.hungarian import HungarianMatcher
from rankdet.assign.pair_costs import MaskCost
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.masks import MaskCriterion
from rankdet.models.detector import Detection
from rankdet.models.postprocess import detection_of
from rankdet.models.queries.library import library_targets, pixel_mask
from rankdet.models.queries.masks import QueryMasks, rf_detr_mask_criterion
from rankdet.models.queries.outputs import LayerOutputs, QueryOutputs, image_frames
from rankdet.models.queries.rf_detr import RFDETR, RFDETRNetwork, dino_variant
from rankdet.nn.preprocess import ImageBatch
from rankdet.ops.masks import grow_masks


def _everything(logits: Tensor, labels: Any, device: Any, boxes: Tensor, masks: Tensor, config: Any, *more: Any) -> Any:  # noqa: ARG001
    """A ``loss_function`` that hands back what it was given; its arguments are those of the library."""
    names = ("classes", "boxes", "masks", "encoder_classes", "encoder_boxes", "encoder_masks")
    return logits.new_zeros(()), dict(zip(names, more, strict=True)), None


class RFDETRMaskNetwork(RFDETRNetwork):
    """RF-DETR's network with its mask head.

    Args as `RFDETRNetwork`.
    """

    kind = "RfDetrForInstanceSegmentation"
    class_tensors = ("model.class_embed", "model.model.enc_out_class_embed")

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.model.loss_function = _everything

    @property
    def detector(self) -> Any:
        """See `RFDETRNetwork`."""
        return self.model.model

    def forward(self, batch: ImageBatch, truth: GroundTruth | None) -> QueryOutputs:
        """See `RFDETRNetwork`."""
        self.check_patches(batch)
        frames = image_frames(batch)
        said = self.model(batch.pixels, pixel_mask=pixel_mask(batch), labels=library_targets(truth, frames))
        if truth is None:
            only = LayerOutputs(said.logits, said.pred_boxes, masks=said.pred_masks)
            return QueryOutputs(frames, [only], canvas=batch.canvas)
        given = said.loss_dict
        layers = zip(given["classes"], given["boxes"], given["masks"], strict=True)
        return QueryOutputs(
            frames,
            [LayerOutputs(logits, boxes, masks=masks) for logits, boxes, masks in layers],
            encoder=LayerOutputs(given["encoder_classes"], given["encoder_boxes"], masks=given["encoder_masks"]),
            groups=self.model.config.group_detr if self.model.training else 1,
            canvas=batch.canvas,
        )


def _variant(*, resolution: int, layers: int, queries: int, windows: int = 2) -> dict[str, Any]:
    settings = dino_variant(resolution=resolution, decoder_layers=layers, patch=12, windows=windows)
    return {**settings, "num_queries": queries}


RF_DETR_MASK_VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "nano": _variant(resolution=312, layers=4, queries=100, windows=1),
    "small": _variant(resolution=384, layers=4, queries=100),
    "medium": _variant(resolution=432, layers=5, queries=200),
    "large": _variant(resolution=504, layers=5, queries=200),
}


class RFDETRSegmentation(RFDETR):
    """RF-DETR with masks and any criterion; by default it learns by Rank & Sort Loss, its masks by Dice loss.

    Variants are ``nano``, ``small``, ``medium`` and ``large``, which is the depth of the decoder, the number of queries
    and the size of the images that the published model has learnt from: squares of 312, 384, 432 and 504 pixels.
    Published weights are ``Roboflow/rf-detr-seg-nano`` and its kin.

    With a criterion that does not rank masks learn from `rf_detr_mask_criterion`; `rf_detr_criterion` is the published
    one. ``stage=partial(QueryStage, masks=QueryMasks(criterion=...))`` has another.

    Args as `RFDETR`.

    >>> import torch
    >>> backbone = {"model_type": "rf_detr_dinov2", "hidden_size": 32, "num_attention_heads": 2, "patch_size": 8,
    ...             "num_hidden_layers": 2, "num_windows": 2, "out_features": ["stage1", "stage2"]}
    >>> options = {"backbone_config": backbone, "d_model": 32, "group_detr": 3}
    >>> model = RFDETRSegmentation(num_classes=5, queries=20, options=options).eval()
    >>> sorted(model([torch.rand(3, 64, 64)])[0])
    ['boxes', 'labels', 'logits', 'masks', 'scores']
    """

    needs_masks = True
    network_kind = RFDETRMaskNetwork
    variants = RF_DETR_MASK_VARIANTS

    def published(self, criterion: Criterion) -> Mapping[str, Any]:
        """See `RFDETR`."""
        masks = MaskCriterion() if criterion.ranks else rf_detr_mask_criterion()
        return {"matcher": HungarianMatcher(masks=MaskCost()), "masks": QueryMasks(criterion=masks)}

    def detections_in(self, batch: ImageBatch) -> list[Detection]:
        """See `Detector`; a mask is that of the query of its detection."""
        outputs = self.network(batch, None)
        of_queries: Any = outputs.decoder[-1].masks
        boxes, logits, labels = zip(*self.stage.candidates(outputs, most=self.postprocess.pre_nms), strict=True)
        _, queries, _ = self.stage.best_pairs(outputs, most=self.postprocess.pre_nms)
        cut = torch.stack([self.postprocess.cut(*of_image) for of_image in zip(boxes, batch.sizes, strict=True)])
        chosen = self.postprocess.select(cut, torch.stack(logits), torch.stack(labels))
        detections = []
        for image, ((kept, left), size) in enumerate(zip(chosen, batch.sizes, strict=True)):
            found = detection_of(cut[image, kept], left, labels[image][kept])
            drawn = of_queries[image, queries[image, kept]]
            detections.append({**found, "masks": grow_masks(drawn, batch.canvas, size)})
        return detections
