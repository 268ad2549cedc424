"""PAA (Kim & Lee, "Probabilistic Anchor Assignment with IoU Prediction for Object Detection", ECCV 2020).

By default RS-PAA of the Rank & Sort paper: the network of RS-ATSS without a branch that predicts the IoU, candidates
judged by focal loss and GIoU loss of equal weight. With `paa_criterion` it is the original: one anchor per cell of 8
strides, and an IoU branch.

Deviations from the published code: losses are normalised by numbers that are averaged over processes, that of the IoU
branch by at least one positive per image.
"""

from __future__ import annotations

from functools import partial

from rankdet.assign.assignment import Assigner
from rankdet.assign.paa import PAAAssigner
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.judging import GeometricMean
from rankdet.criteria.measures import BoxIoU
from rankdet.criteria.score_based import PerPositiveOrImage, ScoreCriterion
from rankdet.losses.boxes import GIoULoss
from rankdet.models.dense.recipe import AnchorRecipe
from rankdet.models.dense.settings import SQUARES_BY_RANKING, SQUARES_BY_SCORE
from rankdet.models.dense.voting import VotingPostprocess
from rankdet.models.postprocess import Postprocess
from rankdet.nn.dense_head import DenseHead
from rankdet.nn.norm import GroupNorm


def paa_criterion() -> ScoreCriterion:
    """The original loss: focal loss, GIoU loss weighted by IoU, and a branch that predicts the IoU.

    The square root of class probability times predicted IoU is the score of a detection.
    """
    return ScoreCriterion(
        box_loss=GIoULoss(weight=1.3),
        weighting=BoxIoU(),
        judged=BoxIoU(),
        judged_weight=0.5,
        fusion=GeometricMean(),
        normaliser=PerPositiveOrImage(),
    )


class PAA(AnchorRecipe):
    """PAA with any backbone and any criterion; by default it learns by Rank & Sort Loss.

    Args as `AnchorRecipe`; squares, a `PAAAssigner` whose mixture is regularised by 1e-5 for a criterion that ranks and
    by 1e-6 for others, group normalisation in the head, NMS at IoU 0.6, then score voting. `paa_criterion` gives the
    original.

    >>> import torch
    >>> model = PAA(num_classes=5, backbone="resnet18", channels=32)
    >>> target = {"boxes": torch.tensor([[8., 8., 40., 40.]]), "labels": torch.tensor([2])}
    >>> sorted(model([torch.rand(3, 64, 64)], [target]))
    ['box', 'ranking', 'sorting']
    """

    by_ranking = SQUARES_BY_RANKING
    by_score = SQUARES_BY_SCORE
    default_head = staticmethod(partial(DenseHead, norm=GroupNorm(), scaled_boxes=True))

    def default_assigner(self, criterion: Criterion) -> Assigner:
        """See `AnchorRecipe`."""
        return PAAAssigner(reg_covar=1e-5 if criterion.ranks else 1e-6)

    def default_postprocess(self) -> Postprocess:
        """See `AnchorRecipe`."""
        return VotingPostprocess()
