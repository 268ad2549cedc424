"""What the tables of the papers vary about Faster R-CNN beside its criteria."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from rankdet.assign import KeepAll, RandomSampler
from rankdet.criteria import BoxIoU, Centerness, RankingCriterion, ScoreCriterion
from rankdet.losses.classification import QualityFocalLoss
from rankdet.models import (
    RPN,
    CascadeMaskRCNN,
    CascadeRCNN,
    FasterRCNN,
    MaskRCNN,
    ProposalSelection,
    RegionSettings,
    RoIStage,
    build,
    softmax_criterion,
)
from rankdet.nn import BoxHead
from rankdet.ops.part import parameters_of

SMALL = {"num_classes": 3, "backbone": "test_resnet", "channels": 16}
TARGET = {"boxes": torch.tensor([[8.0, 8, 40, 40], [30.0, 20, 60, 50]]), "labels": torch.tensor([2, 0])}


@pytest.mark.parametrize("recipe", [FasterRCNN, CascadeRCNN])
def test_scores_start_from_one_half_or_low_for_focal_losses(recipe):
    focal, quality_focal = ScoreCriterion(), ScoreCriterion(classification=QualityFocalLoss())
    for criterion, score in ((None, 0.5), (softmax_criterion(), 0.5), (focal, 0.01), (quality_focal, 0.01)):
        model = recipe(**SMALL, criterion=criterion, rpn=partial(RPN, criterion=focal))
        for stage in model.roi.box_stages:
            assert stage.head.classify.bias.sigmoid().tolist() == pytest.approx([score] * len(stage.head.classify.bias))
        assert model.rpn.head.classify.bias.sigmoid().tolist() == pytest.approx([0.01] * 3)


@pytest.mark.parametrize("adds", [True, False])
def test_objects_join_the_proposals_or_not(adds: bool):
    torch.manual_seed(0)
    model = FasterRCNN(**SMALL, settings=RegionSettings(proposals=ProposalSelection(add_objects=adds))).train()
    regions = []
    model.roi.box_stages[0].pooler.register_forward_pre_hook(lambda _, inputs: regions.append(inputs[1]))
    model([torch.rand(3, 64, 64)], [TARGET])
    is_region = (regions[0][:, None] == TARGET["boxes"]).all(2).any(0)
    assert is_region.all() if adds else not is_region.any()


@pytest.mark.parametrize("recipe", [FasterRCNN, MaskRCNN])
def test_a_criterion_that_judges_is_refused(recipe):
    for criterion in (ScoreCriterion(judged=Centerness()), RankingCriterion(judged=BoxIoU())):
        with pytest.raises(ValueError, match="quality branch, which the stages of an R-CNN do not have"):
            recipe(**SMALL, criterion=criterion)


@pytest.mark.parametrize("recipe", [FasterRCNN, MaskRCNN, CascadeRCNN, CascadeMaskRCNN])
def test_samplers_are_chosen_by_stage(recipe):
    few, all_of_them = RandomSampler(num=7), KeepAll()
    model = recipe(**SMALL, settings=RegionSettings(sampler=few, rpn_sampler=all_of_them))
    assert all(stage.sampler is few for stage in model.roi.box_stages)
    assert model.rpn.sampler is all_of_them
    stated = RegionSettings(sampler=KeepAll())
    again = build(recipe(**SMALL, criterion=ScoreCriterion(), settings=stated).plan())
    assert isinstance(again.settings.sampler, KeepAll)
    assert isinstance(again.rpn.sampler, RandomSampler)


@pytest.mark.parametrize(
    ("recipe", "branches"), [(FasterRCNN, 0), (CascadeRCNN, 0), (MaskRCNN, 1), (CascadeMaskRCNN, 1)]
)
@pytest.mark.parametrize("criterion", [RankingCriterion, softmax_criterion])
def test_a_template_states_what_is_not_none(recipe, branches: int, criterion):
    """A configuration that is shown whole names every argument of a stage; the model is the same."""
    unstated = {name: item.default for name, item in parameters_of(RoIStage).items() if item.default is None}
    template = partial(RoIStage, **unstated | {"head": partial(BoxHead, width=8)})
    settings = RegionSettings(proposals=ProposalSelection(add_objects=False))
    model = recipe(**SMALL, criterion=criterion(), settings=settings, stage=template)
    plain = recipe(**SMALL, criterion=criterion(), settings=settings)
    for stage, other in zip(model.roi.box_stages, plain.roi.box_stages, strict=True):
        assert stage.head.first.out_features == 8
        assert (repr(stage.sampler), repr(stage.coder)) == (repr(other.sampler), repr(other.coder))
        assert stage.add_objects is other.add_objects is False
        assert len(stage.branches) == len(other.branches) == branches
        assert stage.head.regress.out_features == other.head.regress.out_features
