"""Fast R-CNN on stored proposals, and a region proposal network by itself."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rankdet.assign import KeepAll, RandomSampler
from rankdet.cli.proposals import write_proposals
from rankdet.criteria import RankingCriterion
from rankdet.data import Shapes, WithProposals
from rankdet.models import (
    RPN,
    FasterRCNN,
    FastRCNN,
    ProposalSelection,
    RegionSettings,
    RPNDetector,
    rpn_cross_entropy,
    softmax_criterion,
)
from tests.models.test_every_pair import target

SMALL = {"num_classes": 3, "backbone": "test_resnet", "channels": 16}
FEW = RegionSettings(proposals=ProposalSelection(keep=40))


def a_pair(criterion) -> tuple[FasterRCNN, FastRCNN]:
    """A Faster R-CNN, and a Fast R-CNN with the weights of its regions."""
    torch.manual_seed(0)
    faster = FasterRCNN(**SMALL, criterion=criterion(), settings=FEW)
    fast = FastRCNN(**SMALL, criterion=criterion(), settings=FEW)
    fast.load_state_dict({name: value for name, value in faster.state_dict().items() if not name.startswith("rpn.")})
    return faster.eval(), fast.eval()


@pytest.mark.parametrize("criterion", [RankingCriterion, softmax_criterion])
def test_with_the_proposals_of_its_own_first_stage_it_detects_the_same(criterion, tmp_path: Path):
    """The proposals go through a file: detections are equal to the last bit."""
    faster, fast = a_pair(criterion)
    shapes = Shapes(length=3, seed=0, image_size=(64, 80), num_classes=3)
    images = [shapes[index][0].as_subclass(Tensor) for index in range(3)]
    found = zip(shapes.image_ids, faster.proposals(images), strict=True)
    assert write_proposals(tmp_path / "p.json", found) == (3, sum(len(d["boxes"]) for d in faster.proposals(images)))
    dataset = WithProposals(shapes, tmp_path / "p.json")
    with torch.no_grad():
        expected, detected = faster(images), fast(images, [dataset[index][1] for index in range(3)])
    for one, other in zip(expected, detected, strict=True):
        assert len(one["boxes"])
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_with_the_same_proposals_it_learns_the_same():
    faster, fast = a_pair(RankingCriterion)
    torch.manual_seed(0)
    images, targets = [torch.rand(3, 64, 64)] * 2, [target(4, 64), target(0, 64)]
    seen = []
    faster.settings = dataclasses.replace(faster.settings, proposals=_Watched(faster.settings.proposals, seen))
    losses = faster.train()(images, targets)
    given = [{**t, "proposals": boxes} for t, boxes in zip(targets, seen[0], strict=True)]
    again = fast.train()(images, given)
    assert set(again) == {name for name in losses if name.startswith("roi_")}
    for name, loss in again.items():
        torch.testing.assert_close(loss, losses[name])


class _Watched(ProposalSelection):
    def __init__(self, within: ProposalSelection, seen: list) -> None:
        super().__init__(keep=within.keep)
        self.seen = seen

    def __call__(self, stage, predictions, batch):
        self.seen.append(super().__call__(stage, predictions, batch))
        return self.seen[-1]


def test_the_first_ones_are_looked_at_more_of_them_in_training():
    model = FastRCNN(**SMALL)
    assert model.settings.proposals.limit(training=True) == 2000
    assert model.settings.proposals.limit(training=False) == 1000
    model = FastRCNN(**SMALL, settings=RegionSettings(proposals=ProposalSelection(keep=3, keep_training=5))).eval()
    boxes = torch.tensor([[0.0, 0, 9, 9]]).repeat(8, 1) + torch.arange(8)[:, None]
    regions = []
    model.roi.box_stages[0].pooler.register_forward_pre_hook(lambda _, inputs: regions.append(inputs[1]))
    model([torch.rand(3, 64, 64)], [{"proposals": boxes}])
    model.train()([torch.rand(3, 64, 64)], [{**target(0, 64), "proposals": boxes}])
    assert torch.equal(regions[0], boxes[:3])
    assert torch.equal(regions[1], boxes[:5])


def test_proposals_are_cut_to_the_image_and_need_an_area():
    model = FastRCNN(**SMALL).eval()
    boxes = torch.tensor([[-5.0, 2, 10, 70], [70, 70, 90, 90], [4, 4, 4, 9]])
    regions = []
    model.roi.box_stages[0].pooler.register_forward_pre_hook(lambda _, inputs: regions.append(inputs[1]))
    model([torch.rand(3, 64, 64)], [{"proposals": boxes}])
    assert regions[0].tolist() == [[0, 2, 10, 64]]


def test_an_image_without_any_is_empty_in_evaluation_and_learned_from_in_training():
    model = FastRCNN(**SMALL)
    empty = torch.zeros(0, 4)
    losses = model([torch.rand(3, 64, 64)], [{**target(3, 64), "proposals": empty}])
    assert all(torch.isfinite(loss) for loss in losses.values())
    (found,) = model.eval()([torch.rand(3, 64, 64)], [{"proposals": empty}])
    assert len(found["boxes"]) == 0


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (None, "the images came without targets"),
        ([{"image_id": 7}], "image 7 has none. Give every target proposals"),
        ([{"proposals": torch.zeros(3, 5)}], r"must be \(R, 4\)"),
    ],
)
def test_missing_proposals_are_explained(targets, message):
    with pytest.raises(ValueError, match=message):
        FastRCNN(**SMALL).eval()([torch.rand(3, 64, 64)], targets)


def test_an_rpn_has_one_class():
    with pytest.raises(ValueError, match=r"num_classes is 1; got 3.*one_class"):
        RPNDetector(**SMALL)


def an_rpn(**arguments) -> RPNDetector:
    torch.manual_seed(0)
    return RPNDetector(num_classes=1, backbone="test_resnet", channels=16, **arguments)


def test_an_rpn_proposes_what_a_two_stage_detector_with_its_weights_proposes():
    rpn = an_rpn().eval()
    faster = FasterRCNN(**SMALL)
    renamed = {name.replace("stage.", "rpn.", 1): value for name, value in rpn.state_dict().items()}
    faster.load_state_dict(renamed, strict=False)
    images = [torch.rand(3, 64, 96), torch.rand(3, 50, 40)]
    for keep in (None, 20, 5000):
        pairs = zip(rpn.proposals(images, keep=keep), faster.eval().proposals(images, keep=keep), strict=True)
        for one, other in pairs:
            assert set(one["labels"].tolist()) == {0}
            assert all(torch.equal(one[name], other[name]) for name in one)
            assert keep is None or len(one["boxes"]) <= keep
    with torch.no_grad():
        assert torch.equal(rpn(images)[0]["boxes"], rpn.proposals(images)[0]["boxes"])


def test_boxes_of_different_levels_do_not_suppress_one_another():
    """With a threshold of 0 each level keeps at most what does not touch; levels overlap all the same."""
    model = an_rpn().eval()
    model.postprocess.nms_threshold = 0.0
    (found,) = model([torch.rand(3, 64, 64)])
    x1, y1, x2, y2 = found["boxes"].unbind(1)
    low = torch.maximum(x1[:, None], x1), torch.maximum(y1[:, None], y1)
    high = torch.minimum(x2[:, None], x2), torch.minimum(y2[:, None], y2)
    touching = ((high[0] > low[0]) & (high[1] > low[1])).fill_diagonal_(False)
    assert touching.any()


def test_what_an_rpn_learns_from():
    default = an_rpn()
    assert (default.criterion.loss_weight, type(default.stage.sampler)) == (1.0, KeepAll)
    bounded = RandomSampler(num=256, positive_fraction=0.5, negatives_per_positive=3)
    original = an_rpn(criterion=rpn_cross_entropy(beta=0.2), rpn=partial(RPN, border=0.0, sampler=bounded))
    assert (original.stage.criterion.box_loss.beta, original.stage.anchors.border) == (0.2, 0.0)
    assert original.stage.sampler is bounded
    assert isinstance(an_rpn(criterion=rpn_cross_entropy()).stage.sampler, RandomSampler)
    assert an_rpn(rpn=partial(RPN, criterion=rpn_cross_entropy())).stage.criterion.box_loss.beta == pytest.approx(1 / 9)


@pytest.mark.parametrize("bound", [None, 3, 5])
def test_negatives_are_bounded_by_positives(bound):
    """Table 9 of MMDetection: the number of sampled negatives per positive."""
    sampler = RandomSampler(num=256, positive_fraction=0.5, negatives_per_positive=bound)
    model = an_rpn(criterion=rpn_cross_entropy(), rpn=partial(RPN, sampler=sampler))
    seen = []
    model.stage.criterion.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    model([torch.rand(3, 128, 128)], [{"boxes": torch.tensor([[10.0, 10, 90, 100]]), "labels": torch.tensor([0])}])
    positives, negatives = int((seen[0].labels >= 0).sum()), int((seen[0].labels == -1).sum())
    assert positives
    assert negatives == (256 - positives if bound is None else bound * positives)


def test_a_published_file_of_proposals_is_one(tmp_path):
    found = [(3, {"boxes": torch.tensor([[1.0, 2, 4, 8]]), "scores": torch.tensor([0.5])})]
    assert write_proposals(tmp_path / "p.json", found) == (1, 1)
    assert json.loads((tmp_path / "p.json").read_text()) == [{"image_id": 3, "bbox": [1, 2, 3, 6], "score": 0.5}]
    assert write_proposals(tmp_path / "none.json", []) == (0, 0)
    assert json.loads((tmp_path / "none.json").read_text()) == []
