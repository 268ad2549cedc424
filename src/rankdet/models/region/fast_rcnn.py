"""Fast R-CNN (Girshick, ICCV 2015) with FPN: regions from a file instead of a first stage.

The proposals of an image are in its target, in evaluation as well, best first: the first 2000 in training, the first
1000 in evaluation (MMDetection takes all there are). ``rankdet proposals`` writes such files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.max_iou import MaxIoU
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.ranking import RankingCriterion
from rankdet.models.detector import Losses
from rankdet.models.postprocess import Postprocess, large_enough
from rankdet.models.region.cascade import Cascade
from rankdet.models.region.detector import RegionDetector
from rankdet.models.region.proposals import ProposalSelection
from rankdet.models.region.settings import RegionSettings
from rankdet.models.region.stages import RoIStageTemplate, region_stages
from rankdet.nn.backbone import Backbone
from rankdet.nn.fpn import PoolLevel
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.preprocess import ImageBatch
from rankdet.nn.pyramid import backbone_of, pyramid_on
from rankdet.ops.boxes import clip_boxes
from rankdet.ops.priors import rows_of_each


class FastRCNN(RegionDetector):
    """Fast R-CNN with any backbone and any criterion; by default it learns by Rank & Sort Loss.

    ``model(images, targets)`` wants ``proposals`` (R, 4) in the targets, xyxy in pixels of the image as it is given,
    best first, in training and in evaluation.

    Args:
        num_classes: K, without a background.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`.
        neck: makes P2 to P6, as in `FasterRCNN`.
        stage: of the regions, as in `FasterRCNN`.
        criterion: what the regions are learned from, as in `FasterRCNN`.
        settings: sampler, coder, and how many proposals of an image are looked at; whatever it leaves open is as
            published for the criterion.
        channels: width of the pyramid, unless ``neck`` states another.
        postprocess: how detections are chosen; by default `Postprocess`.

    >>> model = FastRCNN(num_classes=5, backbone="resnet18", channels=32).eval()
    >>> found = model([torch.rand(3, 64, 64)], [{"proposals": torch.tensor([[8., 8., 40., 40.]])}])
    >>> sorted(found[0])
    ['boxes', 'labels', 'logits', 'scores']
    """

    needs_proposals = True

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str | Backbone = "resnet50",
        neck: Neck | NeckFactory | None = None,
        stage: RoIStageTemplate | None = None,
        criterion: Criterion | None = None,
        settings: RegionSettings | None = None,
        channels: int = 256,
        postprocess: Postprocess | None = None,
    ) -> None:
        backbone = backbone_of(backbone)
        criterion = criterion or RankingCriterion()
        settings = settings or RegionSettings()
        settings = replace(settings, proposals=settings.proposals or ProposalSelection(keep_training=2000))
        settings = settings.completed(criterion)
        stages = region_stages(stage, criterion, settings, assigners=[MaxIoU(positive_iou=0.5, negative_iou=0.5)])
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck or pyramid_on(backbone, levels=4, channels=channels, extra_levels=PoolLevel()),
            roi=partial(Cascade, stages=stages),
            postprocess=postprocess,
            inputs=4,
        )
        self.settings = settings

    def batch_of(self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Any]] | None = None) -> ImageBatch:
        """See `Detector`.

        Raises:
            ValueError: the targets have no proposals, or of another shape.
        """
        batch = super().batch_of(images)
        if targets is None or len(targets) != len(images):
            raise ValueError(_advice("the images came without targets"))
        return replace(batch, proposals=tuple(_of(target, batch) for target in targets))

    def propose(
        self,
        maps: list[Tensor],  # noqa: ARG002
        batch: ImageBatch,
        truth: GroundTruth | None = None,
    ) -> tuple[Losses, list[Tensor]]:
        """See `RegionDetector`."""
        assert self.settings.proposals is not None, "settings are complete"
        limit = self.settings.proposals.limit(training=truth is not None)
        images = zip(batch.proposals, batch.sizes, strict=True)
        cut = [clip_boxes(boxes[:limit], size) for boxes, size in images]
        sound = rows_of_each([large_enough(boxes, 0.0) for boxes in cut])
        return Losses(), [boxes[rows] for boxes, rows in zip(cut, sound, strict=True)]


def _of(target: Mapping[str, Any], batch: ImageBatch) -> Tensor:
    """The proposals in a target, float32 on the device of the images."""
    name = f"image {target['image_id']}" if "image_id" in target else "a target"
    if "proposals" not in target:
        raise ValueError(_advice(f"{name} has none"))
    boxes: Tensor = target["proposals"].as_subclass(Tensor)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{name}: proposals must be (R, 4), xyxy in pixels; got {tuple(boxes.shape)}")
    return boxes.to(batch.pixels.device, torch.float32)


def _advice(what: str) -> str:
    return (
        f"FastRCNN looks at proposals that come with the images, but {what}. Give every target proposals (R, 4), best "
        "first; in a configuration data.proposals names files of them, which rankdet proposals writes"
    )
