"""What other tools do otherwise is a part here, and does as they do."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign, batched_nms

from rankdet.criteria import ScoreCriterion
from rankdet.losses import SoftmaxCrossEntropyLoss
from rankdet.models import (
    CutLast,
    MeanOutput,
    MeanScore,
    Postprocess,
    TopPairs,
    TopPairsByClass,
    TopPriors,
    softmax_criterion,
)
from rankdet.nn import (
    FrozenStatistics,
    GroupNorm,
    RoundedAnchors,
    RPNHead,
    StrideInFirstConv,
    TimmBackbone,
    UnalignedRoIPooler,
)
from rankdet.nn.blocks import conv_block
from rankdet.ops import OneSidedDeltaCoder


@pytest.mark.parametrize("canvas", [(800, 1088), (96, 160), (608, 1344)])
def test_anchors_of_torchvision(canvas: tuple[int, int]):
    """Maps that were rounded up have narrower cells there than their stride says."""
    sides = ((32, 40, 50), (64, 80, 101), (128, 161, 203), (256, 322, 406))
    theirs = AnchorGenerator(sides, ((0.5, 1.0, 2.0),) * 4)
    maps, size = [], canvas
    for _ in range(6):
        size = (math.ceil(size[0] / 2), math.ceil(size[1] / 2))
        maps.append(torch.zeros(1, 1, *size))
    images = ImageList(torch.zeros(1, 3, *canvas), [canvas])
    ours = RoundedAnchors(strides=(8, 16, 32, 64), sides=sides, ratios=(0.5, 1.0, 2.0))
    priors = ours(maps[2:], sizes=[canvas], padded_sizes=[canvas])
    assert torch.equal(priors.boxes[0], theirs(images, maps[2:])[0])


def test_pooling_of_torchvision():
    torch.manual_seed(0)
    maps = [torch.rand(2, 4, 256 // stride, 320 // stride) for stride in (4, 8, 16, 32)]
    corners = torch.rand(40, 2) * 150
    boxes = torch.cat((corners, corners + torch.rand(40, 2) * torch.logspace(-1, 2.2, 40)[:, None]), 1)
    theirs = MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2)
    features = {str(level): features for level, features in enumerate(maps)}
    wanted = theirs(features, [boxes[:15], boxes[15:]], [(256, 320)] * 2)
    pooler = UnalignedRoIPooler(7, strides=(4, 8, 16, 32), sampling_ratio=2)
    index = (torch.arange(40) >= 15).long()
    torch.testing.assert_close(pooler(maps, boxes, index), wanted)


def test_box_deltas_of_torchvision():
    torch.manual_seed(0)
    priors = torch.tensor([[10.0, 20, 50, 90]]).expand(100, 4)
    deltas = torch.randn(100, 4) * 20
    wanted = BoxCoder((10.0, 10.0, 5.0, 5.0)).decode_single(deltas, priors)
    torch.testing.assert_close(OneSidedDeltaCoder().decode(priors, deltas), wanted)


class CaffeBlock(torchvision.models.resnet.Bottleneck):
    """torchvision's with the stride in the first convolution."""

    def __init__(self, inplanes: int, planes: int, stride: int = 1, *rest: object, **more: object) -> None:
        super().__init__(inplanes, planes, stride, *rest, **more)
        self.conv1.stride, self.conv2.stride = self.conv2.stride, (1, 1)


def test_the_stride_of_caffe():
    torch.manual_seed(0)
    theirs = torchvision.models.ResNet(CaffeBlock, [1, 1, 1, 1]).eval()
    ours = TimmBackbone(
        "resnet26", norm=FrozenStatistics(), modifications=[StrideInFirstConv()], options={"layers": (1, 1, 1, 1)}
    ).eval()
    state = {name: value for name, value in theirs.state_dict().items() if not name.startswith("fc.")}
    ours.network.load_state_dict(state)
    image = torch.rand(1, 3, 70, 90)
    with torch.no_grad():
        level = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image))))
        for stage, mine in zip((theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4), ours(image), strict=True):
            level = stage(level)
            torch.testing.assert_close(mine, level, rtol=1e-4, atol=1e-4)


def test_networks_without_such_blocks_say_so():
    with pytest.raises(ValueError, match="no bottleneck blocks"):
        TimmBackbone("resnet18", modifications=[StrideInFirstConv()])


def test_several_backgrounds_take_their_share_of_the_probability():
    criterion = ScoreCriterion(classification=SoftmaxCrossEntropyLoss(backgrounds=3))
    logits = torch.randn(5, 4 + 3)
    assert criterion.num_logits(4) == 7
    scores = criterion.detection_logits(logits, logits[:, :0]).sigmoid()
    torch.testing.assert_close(scores, logits.softmax(1)[:, :4])
    with pytest.raises(ValueError, match="at least 1"):
        SoftmaxCrossEntropyLoss(backgrounds=0)


def test_a_convolution_before_a_norm_may_have_a_bias():
    assert conv_block(8, 8, norm=GroupNorm())[0].bias is None
    assert conv_block(8, 8, norm=GroupNorm(conv_bias=True))[0].bias is not None


def test_an_rpn_head_of_several_convolutions():
    head = RPNHead(8, anchors_per_cell=(3,), convs=3)
    assert [type(layer) for layer in head.further] == [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.ReLU]
    assert set(RPNHead(8, anchors_per_cell=(3,)).state_dict()) == {
        f"{layer}.{kind}" for layer in ("tower", "classify", "regress") for kind in ("weight", "bias")
    }


# Which candidates become detections.

BOXES = torch.tensor([[0.0, 0, 10, 10], [-30, 0, 10, 10], [2, 2, 2, 2], [-9, -9, -1, -1], [5, 5, 60, 60]])
LOGITS = torch.tensor([1.0, 2, 3, 4, 5])
LABELS = torch.zeros(5, dtype=torch.long)


def found(postprocess: Postprocess, rows: list[int]) -> Tensor:
    return postprocess(BOXES[rows], LOGITS[rows], LABELS[rows], (50, 40))["boxes"]


def test_boxes_without_area_go_unless_they_are_kept():
    assert found(Postprocess(), [2, 4]).tolist() == [[5, 5, 40, 50]]
    assert found(Postprocess(least_side=None), [2, 4]).tolist() == [[5, 5, 40, 50], [2, 2, 2, 2]]
    assert found(Postprocess(least_side=36), [2, 4]).tolist() == []


def test_boxes_may_be_cut_before_the_edge():
    assert found(Postprocess(inset=1), [4]).tolist() == [[5, 5, 39, 49]]


def test_boxes_may_be_cut_when_duplicates_are_gone():
    """The same overlap of .25 before cutting is one of 1 behind it."""
    assert len(found(Postprocess(), [0, 1])) == 1
    assert found(CutLast(), [0, 1]).tolist() == [[0, 0, 10, 10], [0, 0, 10, 10]]
    assert found(CutLast(), [3, 4]).tolist() == [[5, 5, 40, 50]]


@pytest.mark.parametrize("threshold", [0.05, 0.3])
def test_candidates_by_class_are_those_of_the_published_steps(threshold: float):
    """MMDetection 3: threshold and best pairs by class score, then the product, nothing else."""
    torch.manual_seed(0)
    by_class, quality = torch.randn(1, 50, 4), torch.randn(1, 50, 1)
    fused = (by_class.sigmoid() * quality.sigmoid()).logit()
    scores = by_class[0].sigmoid()
    kept = (scores > threshold).nonzero()
    order = scores[scores > threshold].sort(descending=True).indices[:30]
    wanted = (scores * quality[0].sigmoid())[tuple(kept[order].T)]
    logits, index = TopPairsByClass(score_threshold=threshold)(fused, by_class, number=30)
    finite = torch.isfinite(logits)
    torch.testing.assert_close(logits[finite].sigmoid(), wanted)
    assert torch.equal(index[finite], kept[order] @ torch.tensor([4, 1]))


def test_candidates_of_the_best_priors_have_all_classes():
    torch.manual_seed(0)
    logits = torch.randn(2, 20, 3)
    best, index = TopPriors()(logits, logits, number=4)
    rows = logits.amax(2).topk(4).indices
    assert torch.equal(index.unflatten(1, (4, 3)) // 3, rows[..., None].expand(-1, -1, 3))
    assert torch.equal(best, logits.flatten(1).gather(1, index))
    assert TopPairs()(logits, logits, number=100)[0].shape == (2, 60)


def test_cascades_may_average_scores():
    torch.manual_seed(0)
    logits = torch.randn(3, 7, 5) * 3
    torch.testing.assert_close(MeanScore()(logits, softmax_criterion()).softmax(1), logits.softmax(2).mean(0))
    torch.testing.assert_close(MeanScore()(logits, ScoreCriterion()).sigmoid(), logits.sigmoid().mean(0))
    assert torch.equal(MeanOutput()(logits, softmax_criterion()), logits.mean(0))


def test_suppression_is_torchvisions():
    """Boxes without area included."""
    torch.manual_seed(0)
    corners = (torch.rand(200, 2) * 40).round()
    boxes = torch.cat((corners, corners + (torch.rand(200, 2) * 12).round()), 1)
    logits, labels = torch.randn(200), torch.randint(0, 3, (200,))
    wanted = batched_nms(boxes, logits.sigmoid(), labels, 0.5)[:50]
    mine = Postprocess(least_side=None, max_detections=50)(boxes, logits, labels, (100, 100))
    assert torch.equal(mine["boxes"], boxes[wanted])
