"""RetinaNet (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017), by ranking or by focal loss.

Deviations from the paper: none in the network; anchors are centred on the corner of their cell and not rounded, as in
Detectron's successors. No ReLU between P6 and P7.
"""

from __future__ import annotations

from rankdet.assign.assignment import Assigner
from rankdet.assign.max_iou import BestPriors, MaxIoU
from rankdet.criteria.criterion import Criterion
from rankdet.models.dense.recipe import AnchorRecipe
from rankdet.models.dense.settings import NINE_BY_RANKING, NINE_BY_SCORE
from rankdet.nn.fpn import ConvLevelsOnInput


class RetinaNet(AnchorRecipe):
    """RetinaNet with any backbone and any criterion; by default it learns by Rank & Sort Loss.

    Args as `AnchorRecipe`; three scales and ratios, `MaxIoU` (`ATSSAssigner` makes it "RetinaNet with ATSS").
    ``ScoreCriterion()`` is the original focal loss.

    >>> import torch
    >>> model = RetinaNet(num_classes=3, backbone="resnet18", channels=32).eval()
    >>> detections = model([torch.rand(3, 64, 64)])
    >>> sorted(detections[0])
    ['boxes', 'labels', 'logits', 'scores']
    """

    by_ranking = NINE_BY_RANKING
    by_score = NINE_BY_SCORE
    extra_levels = ConvLevelsOnInput(2)

    def default_assigner(self, criterion: Criterion) -> Assigner:  # noqa: ARG002
        """See `AnchorRecipe`."""
        return MaxIoU(positive_iou=0.5, negative_iou=0.4, low_quality=BestPriors())
