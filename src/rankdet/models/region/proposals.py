"""From the predictions of a first stage to the regions of a second."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from rankdet.models.dense.stage import Candidates, DenseStage
from rankdet.models.postprocess import large_enough
from rankdet.nn.preprocess import ImageBatch
from rankdet.ops.boxes import clip_boxes
from rankdet.ops.nms import top_of_batch
from rankdet.ops.part import Part
from rankdet.ops.predictions import Predictions
from rankdet.ops.priors import image_of_rows


class ProposalSelection(Part):
    """Which boxes of the first stage become regions of the second.

    Args:
        per_level_training: best candidates that each pyramid level sends in training.
        per_level_evaluation: the same in evaluation.
        keep: proposals per image after suppression, over all levels.
        keep_training: the same in training, if that is another number.
        nms_threshold: IoU above which the worse of two candidates of the same level goes.
        least_side: what both sides of a proposal must exceed, in pixels; torchvision asks for 0.001.
        add_objects: whether the objects themselves join the proposals in training, as published for RS Loss and for
            cross entropy; not so for aLRP Loss.
    """

    def __init__(
        self,
        *,
        per_level_training: int = 2000,
        per_level_evaluation: int = 1000,
        keep: int = 1000,
        keep_training: int | None = None,
        nms_threshold: float = 0.7,
        add_objects: bool = True,
        least_side: float = 0.0,
    ) -> None:
        self.per_level_training = per_level_training
        self.per_level_evaluation = per_level_evaluation
        self.keep = keep
        self.keep_training = keep_training
        self.nms_threshold = nms_threshold
        self.add_objects = add_objects
        self.least_side = least_side

    def __call__(self, stage: DenseStage, predictions: Predictions, batch: ImageBatch) -> list[Tensor]:
        """Predictions of the first stage -> one (R_i, 4) tensor per image, best first, cut to the image."""
        return [boxes for boxes, _ in self.scored(stage, predictions, batch)]

    @torch.no_grad()
    def scored(self, stage: DenseStage, predictions: Predictions, batch: ImageBatch) -> list[tuple[Tensor, Tensor]]:
        """The same with their logits (R_i,)."""
        per_level = self.per_level_training if stage.training else self.per_level_evaluation
        levels = list(stage.candidates(predictions, per_level=per_level))
        boxes, logits, _, _ = Candidates.joined(levels)
        sizes = [candidates.logits.shape[1] for candidates in levels]
        level = image_of_rows(sizes, logits.device)
        limit = self.limit(training=stage.training)
        boxes = torch.stack([clip_boxes(of_image, size) for of_image, size in zip(boxes, batch.sizes, strict=True)])
        valid = large_enough(boxes, self.least_side) & torch.isfinite(logits)
        groups = level.expand(len(logits), -1)
        kept = top_of_batch(boxes, logits, groups, valid, threshold=self.nms_threshold, limit=limit)
        return [(of_image[rows], own[rows]) for of_image, own, rows in zip(boxes, logits, kept.rows, strict=True)]

    def limit(self, *, training: bool) -> int:
        """Proposals per image, at most."""
        return self.keep_training if training and self.keep_training is not None else self.keep

    def keeping(self, number: int) -> ProposalSelection:
        """The same that keeps so many of an image in evaluation, and lets each level send as many."""
        changed = copy.copy(self)
        changed.keep = number
        changed.per_level_evaluation = max(number, self.per_level_evaluation)
        return changed
