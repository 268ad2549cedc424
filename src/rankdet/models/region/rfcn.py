"""R-FCN (Dai et al., "R-FCN: Object Detection via Region-based Fully Convolutional Networks", NeurIPS 2016).

Nothing is computed for a region but a mean of score maps. As published: 128 regions of 300, a quarter of them positive
beside a criterion of scores; detections by ``Postprocess(score_threshold=0.001, nms_threshold=0.3)``. Not as published:
the hardest regions (OHEM) are no part of the recipe, and the scales of batch normalisation in a pretrained backbone are
trained unless its `norm` says otherwise.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from rankdet.assign.samplers import RandomSampler
from rankdet.criteria.criterion import Criterion
from rankdet.models.region.c4 import FasterRCNNC4, network_of
from rankdet.models.region.proposals import ProposalSelection
from rankdet.models.region.settings import BY_RANKING, BY_SCORE
from rankdet.nn.dense_head import RPNHead
from rankdet.nn.position_sensitive import PositionSensitivePooler, VotingHead
from rankdet.nn.timm_backbone import TimmBackbone

RFCN_PROPOSALS = ProposalSelection(per_level_training=6000, per_level_evaluation=6000, keep=300)


class RFCN(FasterRCNNC4):
    """R-FCN with a residual network and any criterion; by default both stages learn by Rank & Sort Loss.

    Args as `FasterRCNNC4`, whose stage has a `PositionSensitivePooler` and a `VotingHead` here;
    `smooth_softmax_criterion` gives the original.

    >>> model = RFCN(num_classes=5, backbone="resnet50")
    >>> model.roi.box_stages[0].pooler.classify.out_channels
    245
    """

    by_score = replace(BY_SCORE, sampler=RandomSampler(num=128, positive_fraction=0.25), proposals=RFCN_PROPOSALS)
    by_ranking = replace(BY_RANKING, proposals=RFCN_PROPOSALS)
    scales = (4.0, 8.0, 16.0, 32.0)
    rpn_head = staticmethod(partial(RPNHead, channels=512))

    def stage_defaults(self, backbone: TimmBackbone, criterion: Criterion, num_classes: int) -> dict[str, Any]:
        """See `FasterRCNNC4`."""
        pooler = partial(
            PositionSensitivePooler,
            num_logits=criterion.num_logits(num_classes),
            prior_probability=criterion.prior_score,
            **network_of(backbone),
        )
        return {"pooler": pooler, "head": VotingHead, "box_outputs": 1}
