"""Every transformer: emptiness, crowds, many objects; a gradient everywhere; plans, shifts, other classes, refusals."""

from __future__ import annotations

import copy
import sys
from functools import partial

import pytest
import torch

from rankdet.assign import CriterionCost, HungarianMatcher
from rankdet.criteria import (
    RankingCriterion,
    ScoreCriterion,
    alrp_criterion,
    average_precision_criterion,
    ndcg_criterion,
)
from rankdet.losses.classification import QualityFocalLoss
from rankdet.models import (
    DFINE,
    RFDETR,
    ConditionalDETR,
    DeformableDETR,
    DEIMv2,
    QueryDetector,
    QueryStage,
    RFDETRSegmentation,
    RTDETRv2,
    build,
    deformable_detr_criterion,
    deim_criterion,
    query_ranking_criterion,
    rf_detr_criterion,
    rt_detr_criterion,
)
from tests.models.queries.networks import (
    CROWD,
    IMAGES,
    MANY,
    NOTHING,
    OBJECTS,
    RECIPES,
    K,
    small,
    targets_for,
    untouched,
)

pytest.importorskip("transformers", reason="the extra [transformers] is not installed")


def quality_focal() -> ScoreCriterion:
    return ScoreCriterion(classification=QualityFocalLoss())


PAIRS = [
    (recipe, make)
    for recipe in (DeformableDETR, RTDETRv2)
    for make in (query_ranking_criterion, average_precision_criterion, quality_focal)
]
PAIRS += [(DeformableDETR, deformable_detr_criterion), (DeformableDETR, alrp_criterion), (RTDETRv2, rt_detr_criterion)]
PAIRS += [(RTDETRv2, RankingCriterion)]
PAIRS += [(RFDETR, make) for make in (query_ranking_criterion, rf_detr_criterion)]
PAIRS += [(RFDETRSegmentation, make) for make in (query_ranking_criterion, rf_detr_criterion)]
PAIRS += [(DFINE, make) for make in (query_ranking_criterion, rt_detr_criterion)]
PAIRS += [(DEIMv2, make) for make in (query_ranking_criterion, deim_criterion)]
PAIRS += [(ConditionalDETR, make) for make in (query_ranking_criterion, deformable_detr_criterion)]
CRITERIA = (
    *(query_ranking_criterion, average_precision_criterion, alrp_criterion, ndcg_criterion, quality_focal),
    *(deformable_detr_criterion, rt_detr_criterion, deim_criterion, rf_detr_criterion),
)
# aLRP Loss weights boxes by their rank, so that only those that are ranked learn them; in DEIMv2 others do too.
LONG = [
    pytest.param(recipe, make, marks=pytest.mark.long)
    for recipe in RECIPES
    for make in CRITERIA
    if (recipe, make) not in PAIRS and (recipe, make) != (DEIMv2, alrp_criterion)
]
every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda part: part.__name__)


@pytest.mark.parametrize(("recipe", "make"), [*PAIRS, *LONG], ids=lambda part: part.__name__)
def test_a_step_whatever_there_is_to_find(recipe, make):
    """No, some, many objects and a crowd: the same finite losses, and a gradient for every parameter."""
    model = small(recipe, criterion=make())
    names = set()
    for targets in ([NOTHING, NOTHING], [MANY, CROWD], [OBJECTS, NOTHING]):
        model.zero_grad()
        losses = model(IMAGES, targets_for(recipe, *targets))
        names.add(tuple(losses))
        sum(losses.values()).backward()
        assert all(torch.isfinite(loss) for loss in losses.values())
        assert not untouched(model)
    assert len(names) == 1


@every_recipe
def test_a_batch_without_objects_costs_nothing_by_ranking(recipe):
    assert sum(loss.item() for loss in small(recipe)(IMAGES, targets_for(recipe, NOTHING, NOTHING)).values()) == 0


@every_recipe
def test_a_plan_builds_the_same_model_again(recipe):
    model = small(recipe).eval()
    again = build(model.plan()).eval()
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        first, second = model(IMAGES), again(IMAGES)
    for of_first, of_second in zip(first, second, strict=True):
        assert all(torch.equal(of_first[name], of_second[name]) for name in of_first)
    with torch.device("meta"):
        assert all(parameter.is_meta for parameter in build(model.plan()).parameters())


def step(model: QueryDetector, optimiser: torch.optim.Optimizer) -> None:
    """A step of training, with the noise that the generator has next."""
    optimiser.zero_grad()
    sum(model(IMAGES, targets_for(type(model), OBJECTS, NOTHING)).values()).backward()
    optimiser.step()


@every_recipe
def test_a_training_goes_on_from_its_state_bit_for_bit(recipe):
    """As from a checkpoint: the plan, the weights, the optimiser and the generator are all there is."""
    model = small(recipe)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    step(model, optimiser)
    saved = copy.deepcopy((model.plan(), model.state_dict(), optimiser.state_dict(), torch.get_rng_state()))
    step(model, optimiser)
    plan, weights, of_optimiser, generator = saved
    again = build(plan)
    again.load_state_dict(weights)
    resumed = torch.optim.AdamW(again.parameters(), lr=1e-3)
    resumed.load_state_dict(of_optimiser)
    torch.set_rng_state(generator)
    step(again, resumed)
    other = again.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in model.state_dict().items())


@every_recipe
def test_mapped_logits_are_those_of_the_detections(recipe):
    model = small(recipe).eval()
    before = model(IMAGES)[0]
    model.rescale_logits(torch.full((K,), 2.0), torch.ones(K))
    after = model(IMAGES)[0]
    torch.testing.assert_close(after["logits"], 2 * before["logits"] + 1)
    torch.testing.assert_close(after["boxes"].sort(0).values, before["boxes"].sort(0).values)


@every_recipe
def test_the_matcher_may_ask_the_criterion(recipe):
    matcher = HungarianMatcher(class_cost=1, box_cost=0, giou_cost=0, classification=CriterionCost())
    losses = small(recipe, stage=partial(QueryStage, matcher=matcher))(IMAGES, targets_for(recipe, OBJECTS, NOTHING))
    assert all(torch.isfinite(loss) for loss in losses.values())


@every_recipe
def test_an_option_that_there_is_not_is_refused(recipe):
    with pytest.raises(ValueError, match=r"'decoder_layer'.*did you mean decoder_layers"):
        recipe(num_classes=K, options={"decoder_layer": 2})


@every_recipe
def test_the_message_names_the_extra_where_the_library_is_missing(recipe, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"rankdet\[transformers\]"):
        small(recipe)
