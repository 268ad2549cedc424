"""ATSS (Zhang et al., "Bridging the Gap Between Anchor-based and Anchor-free Detection", CVPR 2020).

By default RS-ATSS of the Rank & Sort paper (section 5.2: three anchors per cell, no centerness branch). With a
`ScoreCriterion` that judges centerness it is the original: one anchor per cell of 8 strides.
"""

from __future__ import annotations

from functools import partial

from rankdet.assign.assignment import Assigner
from rankdet.assign.atss import ATSSAssigner
from rankdet.criteria.criterion import Criterion
from rankdet.models.dense.recipe import AnchorRecipe
from rankdet.models.dense.settings import SQUARES_BY_RANKING, SQUARES_BY_SCORE
from rankdet.models.postprocess import Postprocess
from rankdet.nn.dense_head import DenseHead
from rankdet.nn.norm import GroupNorm


class ATSS(AnchorRecipe):
    """ATSS with any backbone and any criterion; by default it learns by Rank & Sort Loss.

    Args as `AnchorRecipe`; squares, an `ATSSAssigner`, group normalisation in the head, NMS at IoU 0.6.

    >>> import torch
    >>> model = ATSS(num_classes=5, backbone="resnet18", channels=32)
    >>> target = {"boxes": torch.tensor([[8., 8., 40., 40.]]), "labels": torch.tensor([2])}
    >>> sorted(model([torch.rand(3, 64, 64)], [target]))
    ['box', 'ranking', 'sorting']
    """

    by_ranking = SQUARES_BY_RANKING
    by_score = SQUARES_BY_SCORE
    default_head = staticmethod(partial(DenseHead, norm=GroupNorm(), scaled_boxes=True))

    def default_assigner(self, criterion: Criterion) -> Assigner:  # noqa: ARG002
        """See `AnchorRecipe`."""
        return ATSSAssigner()

    def default_postprocess(self) -> Postprocess:
        """See `AnchorRecipe`."""
        return Postprocess(nms_threshold=0.6)
