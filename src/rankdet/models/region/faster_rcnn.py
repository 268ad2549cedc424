"""Faster R-CNN with FPN (Ren et al., NeurIPS 2015; Lin et al., CVPR 2017).

By default RS-R-CNN of the Rank & Sort paper (sections 5.3 and 6.1.1): no sampling, one sigmoid per class and no
background class, RPN losses weighted by 0.20, boxes by GIoU in both stages. With a `ScoreCriterion` it is the
original: random samples, softmax or sigmoid, L1 on the deltas of the RPN.
"""

from __future__ import annotations

from rankdet.criteria.score_based import PerSample, ScoreCriterion
from rankdet.losses.boxes import SmoothL1Loss
from rankdet.losses.classification import SoftmaxCrossEntropyLoss
from rankdet.models.region.recipe import RCNN


def softmax_criterion() -> ScoreCriterion:
    """The original loss of the second stage: softmax cross entropy with a background class, and L1 on the deltas."""
    return ScoreCriterion(
        classification=SoftmaxCrossEntropyLoss(), box_loss=SmoothL1Loss(beta=0.0), normaliser=PerSample()
    )


class FasterRCNN(RCNN):
    """Faster R-CNN with any backbone and any criterion; by default both stages learn by Rank & Sort Loss.

    Args as `RCNN`; `softmax_criterion` gives the original.

    >>> import torch
    >>> model = FasterRCNN(num_classes=5, backbone="resnet18", channels=32)
    >>> target = {"boxes": torch.tensor([[8., 8., 40., 40.]]), "labels": torch.tensor([2])}
    >>> sorted(model([torch.rand(3, 64, 64)], [target]))
    ['roi_box', 'roi_ranking', 'roi_sorting', 'rpn_box', 'rpn_ranking', 'rpn_sorting']
    """
