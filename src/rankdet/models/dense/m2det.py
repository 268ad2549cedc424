"""M2Det (Zhao et al., AAAI 2019): SSD on pyramids of pyramids, by softmax on mined negatives or by ranking.

As in the authors' program [L]: nothing published was compared with it here. Deviations: see `MLFPN`; the last
convolutions start by Xavier's rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from rankdet.assign.assignment import Assigner
from rankdet.criteria.criterion import Criterion
from rankdet.models.dense.ssd import MEAN_ALONE, SSD300
from rankdet.models.postprocess import Postprocess
from rankdet.nn.anchors import GridPriors, SSDAnchors
from rankdet.nn.backbone import Backbone
from rankdet.nn.dense_head import DensePredictor, DensePredictorFactory
from rankdet.nn.mlfpn import MLFPN
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.preprocess import Preprocess

# For each size of the images the strides of the last two levels, and the finest anchors as a share of the image.
LEVELS: Mapping[int, tuple[int, int, float]] = MappingProxyType({320: (107, 320, 0.08), 512: (128, 256, 0.06)})
SHARES = (0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
MEAN = (123 / 255, 117 / 255, 104 / 255)


def m2det_anchors(image_size: int = 320) -> SSDAnchors:
    """Six a cell on each of six levels, no side longer than the image.

    >>> m2det_anchors().sizes[:2]
    (25.6, 48.0)
    """
    if image_size not in LEVELS:
        raise ValueError(f"M2Det has anchors for images of {' or '.join(map(str, LEVELS))} pixels; got {image_size}")
    *last, finest = LEVELS[image_size]
    sizes = tuple(round(share * image_size, 2) for share in (finest, *SHARES))
    return SSDAnchors(strides=(8, 16, 32, 64, *last), sizes=sizes, ratios=((2, 3),) * 6, longest=image_size)


class M2Det(SSD300):
    """M2Det for square images; by default it learns by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        image_size: side of the images in pixels that the anchors are for, 320 or 512.
        backbone: as `SSD300`.
        neck: by default `MLFPN`.
        head: as `SSD300`.
        anchors: by default `m2det_anchors`.
        assigner: as `SSD300`.
        criterion: as `SSD300`; `ssd_criterion` gives the original one.
        postprocess: as `SSD300`.
        preprocess: by default without padding, and with a standard deviation of 1 / 255.

    >>> from functools import partial
    >>> import torch
    >>> neck = partial(MLFPN, channels=8, networks=2)
    >>> model = M2Det(num_classes=5, backbone="test_resnet", neck=neck).eval()
    >>> sorted(model([torch.rand(3, 64, 64)])[0])
    ['boxes', 'labels', 'logits', 'scores']
    """

    def __init__(
        self,
        *,
        num_classes: int,
        image_size: int = 320,
        backbone: str | Backbone = "vgg16",
        neck: Neck | NeckFactory | None = None,
        head: DensePredictor | DensePredictorFactory | None = None,
        anchors: GridPriors | None = None,
        assigner: Assigner | None = None,
        criterion: Criterion | None = None,
        postprocess: Postprocess | None = None,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck or MLFPN,
            head=head,
            anchors=anchors or m2det_anchors(image_size),
            assigner=assigner,
            criterion=criterion,
            postprocess=postprocess,
            preprocess=preprocess or Preprocess(mean=MEAN, std=MEAN_ALONE, divisor=1),
        )
        self.image_size = image_size
