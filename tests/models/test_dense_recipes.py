"""What is particular about PAA, FoveaBox and RetinaNet with other assigners; every ranking loss in every detector."""

from __future__ import annotations

import pytest
import torch

from rankdet.assign import ATSSAssigner, FoveaAssigner, GroundTruth, PAAAssigner
from rankdet.criteria import (
    EpochBalance,
    RankingCriterion,
    ScoreCriterion,
    alrp_criterion,
    average_precision_criterion,
    ndcg_criterion,
)
from rankdet.models import (
    ATSS,
    PAA,
    AnchorSettings,
    CascadeMaskRCNN,
    CascadeRCNN,
    FasterRCNN,
    FoveaBox,
    MaskRCNN,
    Postprocess,
    RetinaNet,
    VotingPostprocess,
    build,
    fovea_criterion,
    paa_criterion,
    spec_of,
)
from rankdet.nn import AnchorGenerator
from tests.models.test_every_pair import SMALL, make, target, two_images


@pytest.mark.parametrize("criterion", [alrp_criterion, average_precision_criterion, ndcg_criterion])
@pytest.mark.parametrize("recipe", [ATSS, RetinaNet, PAA, FoveaBox, FasterRCNN, CascadeRCNN, MaskRCNN, CascadeMaskRCNN])
def test_every_ranking_loss_trains_every_detector(recipe, criterion):
    model = make(recipe, criterion)
    nothing = model(two_images(), [target(0, 96), target(0, 50)])
    losses = model(two_images(), [target(6, 96), target(1, 50)])
    assert list(nothing) == list(losses)
    assert all("sorting" not in name for name in losses)
    sum(losses.values()).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without, f"no gradient reaches {without[:3]}"
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_every_stage_balances_itself():
    """The weights of aLRP's self-balance belong to the stage: each has buffers of its own, in the state dict."""
    model = make(CascadeRCNN, alrp_criterion)
    model(two_images(), [target(6, 96), target(1, 50)])
    balances = [module for module in model.modules() if isinstance(module, EpochBalance)]
    assert len({id(balance) for balance in balances}) == 4  # the RPN and three stages
    assert sum(name.endswith("balance.rule.weight") for name in model.state_dict()) == 4
    assert all(int(balance.rule.count) == 1 for balance in balances)


def retinanet_with(assigner) -> RetinaNet:
    return RetinaNet(**SMALL, assigner=assigner, anchors=AnchorSettings(scales=(4.0,), ratios=(1.0,)))


@pytest.mark.parametrize("assigner", [ATSSAssigner(topk=4), PAAAssigner(topk=4)], ids=["ATSS", "PAA"])
def test_retinanet_takes_other_assigners(assigner):
    model = retinanet_with(assigner)
    losses = model(two_images(), [target(6, 96), target(1, 50)])
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)
    again = build(spec_of(model))
    assert type(again.stage.assigner) is type(assigner)
    assert again.stage.assigner.topk == 4


def stage_of(model, sides: list[torch.Tensor]):
    """Predictions of the dense stage for two images, and their objects."""
    truth = GroundTruth.from_targets(sides, num_classes=3, device=torch.device("cpu"))
    batch = model.preprocess(two_images())
    maps = model.neck(model.backbone(batch.pixels)[-3:])
    return model.stage.predict(maps, batch), truth


def test_paa_asks_its_criterion_who_is_cheap():
    torch.manual_seed(1)
    model = PAA(**SMALL)
    predictions, truth = stage_of(model, [target(5, 96), target(2, 50)])
    candidates = model.stage.assigner(predictions.priors, truth)
    final = model.stage.assign(predictions, truth)
    assert 0 < len(final.positive_index) < len(candidates.positive_index)
    assert set(final.positive_index.tolist()) < set(candidates.positive_index.tolist())
    cost = model.criterion.cost(predictions, candidates)
    kept = torch.isin(candidates.positive_index, final.positive_index)
    for number in candidates.matched_index.unique():
        own = candidates.matched_index == number
        if (own & kept).any():
            assert cost[own & kept].min() == cost[own].min(), "the cheapest candidate is positive"


def test_paa_trains_on_the_second_step_alone():
    """The losses are those of the chosen positives."""
    torch.manual_seed(1)
    model = PAA(**SMALL)
    sides = [target(5, 96), target(2, 50)]
    predictions, truth = stage_of(model, sides)
    expected = model.criterion(predictions, model.stage.assign(predictions, truth)).losses
    losses = model(two_images(), sides)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)


def test_defaults_follow_the_papers():
    ranking, original = PAA(**SMALL), PAA(**SMALL, criterion=paa_criterion())
    assert isinstance(ranking.criterion, RankingCriterion)
    assert (ranking.stage.assigner.reg_covar, original.stage.assigner.reg_covar) == (1e-5, 1e-6)
    assert (len(ranking.stage.anchors.scales), original.stage.anchors.scales) == (3, (8.0,))
    assert isinstance(ranking.postprocess, VotingPostprocess)
    assert ranking.postprocess.nms_threshold == 0.6
    assert not hasattr(ranking.stage.head, "judge")
    assert hasattr(original.stage.head, "judge")
    assert PAA(**SMALL, postprocess=Postprocess()).postprocess.nms_threshold == 0.5


def shapes(model: torch.nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, parameter.shape) for name, parameter in model.named_parameters()]


def test_networks_are_those_of_atss_and_retinanet():
    assert shapes(PAA(**SMALL)) == shapes(ATSS(**SMALL))
    assert shapes(PAA(**SMALL, criterion=paa_criterion())) == shapes(
        ATSS(**SMALL, criterion=ScoreCriterion(judged=paa_criterion().judged))
    )
    one = AnchorSettings(scales=(4.0,), ratios=(1.0,))
    assert shapes(FoveaBox(**SMALL)) == shapes(RetinaNet(**SMALL, anchors=one))


def test_points_of_fovea_box_lie_in_the_middle_of_their_cells():
    model = FoveaBox(**SMALL)
    assert isinstance(model.stage.anchors, AnchorGenerator)
    maps = [torch.zeros(1, 1, n, n) for n in (8, 4, 2, 1, 1)]
    priors = model.stage.anchors(maps, sizes=[(64, 64)], padded_sizes=[(64, 64)])
    first_of_level = torch.tensor(priors.level_sizes).cumsum(0) - torch.tensor(priors.level_sizes)
    assert priors.boxes[0][first_of_level].tolist() == [
        [stride / 2 - base / 2, stride / 2 - base / 2, stride / 2 + base / 2, stride / 2 + base / 2]
        for stride, base in ((8, 16), (16, 32), (32, 64), (64, 128), (128, 256))
    ]


def test_fovea_box_can_be_scaled_to_small_images():
    ranges = ((1, 16), (8, 32), (16, 64), (32, 128), (64, 512))
    model = FoveaBox(**SMALL, assigner=FoveaAssigner(sigma=0.5, scale_ranges=ranges), base_edges=(4, 8, 16, 32, 64))
    again = build(spec_of(model))
    assert isinstance(again.stage.assigner, FoveaAssigner)
    assert again.stage.assigner.scale_ranges == ranges
    assert again.stage.assigner.sigma == 0.5
    assert again.stage.anchors.base_sizes == (4, 8, 16, 32, 64)


def test_original_criterion_of_fovea_box():
    model = FoveaBox(**SMALL, criterion=fovea_criterion())
    assert sorted(model(two_images(), [target(6, 96), target(1, 50)])) == ["box", "classification"]
