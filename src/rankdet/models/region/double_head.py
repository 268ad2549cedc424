"""Double-Head R-CNN (Wu et al., "Rethinking Classification and Localization for Object Detection", CVPR 2020).

Faster R-CNN with two heads: classes are told by fully connected layers, boxes by convolutions on regions enlarged by
1.3. By ranking nothing else changes; `double_head_criterion` is the original loss.
"""

from __future__ import annotations

from rankdet.criteria.criterion import Criterion
from rankdet.models.region.cascade_rcnn import smooth_softmax_criterion
from rankdet.models.region.recipe import RCNN
from rankdet.nn.double_head import DoubleHead, DoublePooler


def double_head_criterion() -> Criterion:
    """The original loss of the regions: softmax cross entropy and smooth L1 on the deltas, both times 2."""
    return smooth_softmax_criterion().with_weight(2.0)


class DoubleHeadRCNN(RCNN):
    """Double-Head R-CNN with any backbone and any criterion; by default both stages learn by Rank & Sort Loss.

    Args as `RCNN`, whose stage has a `DoubleHead` here; `double_head_criterion` gives the original.

    >>> model = DoubleHeadRCNN(num_classes=5, backbone="resnet18", channels=32)
    >>> type(model.roi.box_stages[0].head).__name__
    'DoubleHead'
    """

    stage_defaults = {"head": DoubleHead, "pooler": DoublePooler}
