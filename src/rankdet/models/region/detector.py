"""Region-based detectors, assembled from parts: Faster R-CNN and its kin."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rankdet.assign.ground_truth import GroundTruth
from rankdet.criteria.criterion import Criterion
from rankdet.models.dense.stage import DenseStage
from rankdet.models.detector import Detection, Losses, class_layers_of
from rankdet.models.postprocess import Postprocess, detection_of
from rankdet.models.pyramid_detector import PyramidDetector
from rankdet.models.region.cascade import RoIHead, RoIHeadFactory, branches_of
from rankdet.models.region.rpn import RPN, RPNFactory
from rankdet.models.region.settings import RegionSettings
from rankdet.nn.backbone import Backbone
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.preprocess import ImageBatch, Preprocess
from rankdet.nn.pyramid import level_strides
from rankdet.ops.class_rows import ClassRows, class_rows_of
from rankdet.ops.part import made


class RegionDetector(PyramidDetector):
    """Detects in regions that something proposes; what that is, subclasses say.

    Args as `PyramidDetector`, and

    Args:
        num_classes: K, without a background.
        backbone: images to maps.
        neck: makes the maps.
        roi: everything behind the proposals.
        strides: pixels between the cells of each of the neck's maps; by default those of P2 to P6.
        postprocess: how detections are chosen.
        preprocess: normalises, pads and stacks the images.
        inputs: how many of the backbone's maps the neck takes.
    """

    rpn: Any

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: Backbone,
        neck: Neck | NeckFactory,
        roi: RoIHead | RoIHeadFactory,
        strides: Sequence[float] | None = None,
        postprocess: Postprocess | None = None,
        preprocess: Preprocess | None = None,
        inputs: int | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck,
            postprocess=postprocess,
            preprocess=preprocess,
            inputs=inputs,
        )
        self.strides = tuple(strides or level_strides(backbone, finest=4, levels=5))
        self.register_module("rpn", None)  # its weights come before those of the regions, in every checkpoint
        self.roi: RoIHead = made(roi, self.neck.channels, num_classes=num_classes, strides=self.strides)
        self.needs_masks = self.roi.needs_masks

    @property
    def criterion(self) -> Criterion:
        """See `Detector`: what the regions are learned from."""
        return self.roi.box_stages[0].criterion

    @property
    def class_layers(self) -> Sequence[nn.Conv2d | nn.Linear]:
        """See `Detector`; the logits of several stages are averaged. None where a branch scores by something else."""
        if any(branch.rescores for stage in self.roi.box_stages for branch in branches_of(stage)):
            return []
        return [layer for stage in self.roi.box_stages for layer in class_layers_of(stage.head)]

    @property
    def class_rows(self) -> Mapping[str, ClassRows]:
        """See `rankdet.ops.class_rows`: those of the regions; an RPN knows no classes."""
        return {f"roi.{name}": rows for name, rows in class_rows_of(self.roi).items()}

    @abstractmethod
    def propose(
        self, maps: list[Tensor], batch: ImageBatch, truth: GroundTruth | None = None
    ) -> tuple[Losses, list[Tensor]]:
        """Regions (R_i, 4) of each image, best first; in training, with objects, what is learned from them."""

    def losses(self, maps: list[Tensor], batch: ImageBatch, truth: GroundTruth) -> Losses:
        """See `Detector`."""
        losses, proposals = self.propose(maps, batch, truth)
        losses.merge(self.roi.losses(maps, proposals, truth, batch))
        return losses

    def detect(self, maps: list[Tensor], batch: ImageBatch) -> list[Detection]:
        """See `Detector`."""
        _, proposals = self.propose(maps, batch)
        return self.roi.detect(maps, proposals, batch, self.postprocess)


class TwoStageDetector(RegionDetector):
    """Proposals, then regions.

    Args as `RegionDetector`, and

    Args:
        num_classes: K, without a background.
        backbone: images to maps.
        neck: makes P2 to P6.
        roi: everything behind the proposals.
        rpn: makes the proposals; by default `RPN`.
        settings: samplers and coders of the first stage, and which of its boxes are proposals; what it leaves open is
            as published for the criterion of the regions.
        strides: as `RegionDetector`.
        postprocess: how detections are chosen.
        preprocess: normalises, pads and stacks the images.
        inputs: how many of the backbone's maps the neck takes.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: Backbone,
        neck: Neck | NeckFactory,
        roi: RoIHead | RoIHeadFactory,
        rpn: DenseStage | RPNFactory | None = None,
        settings: RegionSettings | None = None,
        strides: Sequence[float] | None = None,
        postprocess: Postprocess | None = None,
        preprocess: Preprocess | None = None,
        inputs: int | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck,
            roi=roi,
            strides=strides,
            postprocess=postprocess,
            preprocess=preprocess,
            inputs=inputs,
        )
        follows = self.criterion
        self.settings = (settings or RegionSettings()).completed(follows)
        self.rpn = made(rpn or RPN, self.neck.channels, follows=follows, settings=self.settings, strides=self.strides)
        self._register_load_state_dict_pre_hook(_rename, with_module=True)  # public from torch 2.5 on

    def propose(
        self, maps: list[Tensor], batch: ImageBatch, truth: GroundTruth | None = None
    ) -> tuple[Losses, list[Tensor]]:
        """See `RegionDetector`."""
        assert self.settings.proposals is not None, "settings are complete"
        losses, predictions = Losses(), self.rpn.predict(maps, batch)
        if truth is not None:
            losses.include(self.rpn.loss(predictions, truth.without_classes()), prefix="rpn_")
        return losses, self.settings.proposals(self.rpn, predictions, batch)

    @torch.no_grad()
    def proposals(self, images: Sequence[Tensor], *, keep: int | None = None) -> list[Detection]:
        """What the first stage proposes in each image, in evaluation mode: as detections of one class, 0.

        ``keep`` is the most of an image, by default as many as the regions get.
        """
        batch = self.batch_of(images)
        maps = self.maps_of(batch)
        selection = self.settings.proposals
        assert selection is not None, "settings are complete"
        selection = selection if keep is None else selection.keeping(keep)
        found = selection.scored(self.rpn, self.rpn.predict(maps, batch), batch)
        return [detection_of(boxes, logits, torch.zeros_like(logits, dtype=torch.long)) for boxes, logits in found]

    def current_names(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights by their present names: those of masks once stood next to their stages."""
        return {_current(name): value for name, value in weights.items()}


def _current(name: str) -> str:
    name = name.replace("roi.cascade.stages.", "roi.stages.")
    before, masks, rest = name.partition("roi.masks.")
    stage, _, inner = rest.partition(".")
    return f"{before}roi.stages.{stage}.branches.0.{inner}" if masks else name


def _rename(_module: nn.Module, weights: dict[str, Tensor], *_: Any) -> None:
    """Before weights are loaded: names of before become those of today, in place."""
    for name in list(weights):
        if (current := _current(name)) != name:
            weights[current] = weights.pop(name)
