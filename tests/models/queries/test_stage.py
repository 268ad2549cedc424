"""The query stage on outputs of no network in particular: what is matched with what, and what the losses are."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from rankdet.assign import BACKGROUND, Assignment, GroundTruth, HungarianMatcher
from rankdet.criteria import (
    BoxIoU,
    Criterion,
    RankingCriterion,
    ScoreCriterion,
    ValueBalance,
    alrp_criterion,
    average_precision_criterion,
)
from rankdet.losses.boxes import GIoULoss, SmoothL1Loss, SumOfBoxLosses
from rankdet.losses.classification import QualityFocalLoss
from rankdet.models import (
    Denoising,
    LayerOutputs,
    QueryDetector,
    QueryOutputs,
    QueryStage,
    TopPostprocess,
    UnionOfMatches,
    detr_criterion,
    spec_of,
)

K, Q = 3, 12
FRAMES = [torch.tensor([0.0, 0.0, 64.0, 48.0]), torch.tensor([0.0, 0.0, 50.0, 50.0])]
BOXES = SumOfBoxLosses([SmoothL1Loss(beta=0, weight=5), GIoULoss(weight=2)])


def both_balanced() -> RankingCriterion:
    return RankingCriterion(box_loss=[SmoothL1Loss(beta=0, weight=5), GIoULoss(weight=2)])


CRITERIA = {
    "both balanced": both_balanced,
    "ranking": lambda: RankingCriterion(box_loss=BOXES, balance=ValueBalance(least=1)),
    "aLRP": alrp_criterion,
    "AP": average_precision_criterion,
    "focal": lambda: ScoreCriterion(box_loss=BOXES),
    "quality focal": lambda: ScoreCriterion(classification=QualityFocalLoss(), box_loss=BOXES),
}
every_criterion = pytest.mark.parametrize("make", CRITERIA.values(), ids=CRITERIA)


def layer(seed: int, queries: int = Q) -> LayerOutputs:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, queries, K, generator=generator).requires_grad_()
    raw = torch.rand(2, queries, 4, generator=generator)
    return LayerOutputs(logits, (raw * 0.4 + 0.2).requires_grad_())


def truth_of(*counts: int) -> GroundTruth:
    generator = torch.Generator().manual_seed(7)
    corners = [torch.rand(count, 2, generator=generator) * 20 for count in counts]
    boxes = tuple(torch.cat((low, low + 8 + torch.rand(len(low), 2, generator=generator) * 16), 1) for low in corners)
    labels = tuple(torch.randint(0, K, (count,), generator=generator) for count in counts)
    return GroundTruth(boxes, labels, tuple(torch.empty(0, 4) for _ in counts))


def outputs_of(truth: GroundTruth) -> QueryOutputs:
    """Two decoder layers, proposals, and two copies of the objects for denoising, every second one to be rejected."""
    most = max(len(boxes) for boxes in truth.boxes)
    positives = [torch.cat([torch.arange(len(boxes)) + copy * 2 * most for copy in range(2)]) for boxes in truth.boxes]
    denoising = Denoising([layer(4, 4 * most), layer(5, 4 * most)], positives, repeats=2)
    return QueryOutputs(FRAMES, [layer(1), layer(2)], encoder=layer(3, 20), denoising=denoising)


def leaves(outputs: QueryOutputs) -> list[Tensor]:
    assert outputs.encoder is not None
    assert outputs.denoising is not None
    return [part for said in (*outputs.decoder, outputs.encoder, *outputs.denoising.layers) for part in said[:2]]


@every_criterion
@pytest.mark.parametrize("counts", [(0, 0), (3, 0), (2, 5), (15, 1)], ids=str)
def test_every_layer_learns_from_the_same_criterion(make, counts):
    """Matched together or one by one; the losses of a layer are those of its criterion, whatever there is to find."""
    truth = truth_of(*counts)
    outputs = outputs_of(truth)
    criterion: Criterion = make()
    losses = QueryStage(criterion=criterion).loss(outputs, truth)
    fresh, matcher = make(), HungarianMatcher()
    terms = [*dict.fromkeys(name.rpartition("_")[2] for name in losses)]
    assert set(losses) == {f"{part}{term}" for part in ("", "auxiliary_", "encoder_", "denoising_") for term in terms}
    for name, said in {"": outputs.decoder[1], "auxiliary_": outputs.decoder[0], "encoder_": outputs.encoder}.items():
        predictions = said.predictions(FRAMES)
        alone = fresh(predictions, matcher.match(predictions, truth, fresh)).losses
        for term in terms:
            torch.testing.assert_close(losses[f"{name}{term}"], alone[term])
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    assert all(part.grad is not None and part.grad.isfinite().all() for part in leaves(outputs))
    if criterion.ranks and counts == (0, 0):
        assert total.item() == 0


def test_denoising_queries_have_the_objects_that_they_were_made_from():
    truth = truth_of(2, 1)
    assignment = outputs_of(truth).denoising.assignment(truth)
    first, second = truth.labels
    row = [*first.tolist(), -1, -1, *first.tolist(), -1, -1]
    assert assignment.labels.tolist() == [*row, int(second), -1, -1, -1, int(second), -1, -1, -1]
    assert assignment.matched_index.tolist() == [0, 1, 0, 1, 2, 2]
    assert torch.equal(assignment.matched_boxes, truth.all_boxes[assignment.matched_index])


def test_groups_are_matched_each_by_itself():
    truth = truth_of(3, 2)
    said = layer(1)
    stage = QueryStage(criterion=RankingCriterion())
    outputs = QueryOutputs(FRAMES, [said], groups=3)
    (found,) = stage.match(list(stage._layers(outputs, truth)))
    for group in range(3):
        rows = slice(group * Q // 3, (group + 1) * Q // 3)
        alone = LayerOutputs(said.logits[:, rows], said.boxes[:, rows]).predictions(FRAMES)
        expected = HungarianMatcher().match(alone, truth, stage.criterion)
        assert torch.equal(found.labels.view(2, Q)[:, rows].flatten(), expected.labels)
    assert len(found.positive_index) == 3 * 5


def test_proposals_may_learn_that_there_is_an_object():
    truth = truth_of(3, 2)
    outputs = replace(outputs_of(truth), denoising=None)
    losses = QueryStage(criterion=ScoreCriterion(), proposals_have_classes=False).loss(outputs, truth)
    predictions = outputs.encoder.predictions(FRAMES)
    found = HungarianMatcher().match(predictions, truth.without_classes(), ScoreCriterion())
    assert set(found.labels.tolist()) == {BACKGROUND, 0}
    torch.testing.assert_close(
        losses["encoder_classification"], ScoreCriterion()(predictions, found).losses["classification"]
    )


def test_the_roles_may_have_criteria_of_their_own():
    truth = truth_of(3, 2)
    stage = QueryStage(criterion=RankingCriterion(), denoising=ScoreCriterion(), encoder=average_precision_criterion())
    losses = stage.loss(outputs_of(truth), truth)
    assert {"ranking", "auxiliary_sorting", "encoder_ranking", "denoising_classification"} <= set(losses)
    assert "encoder_sorting" not in losses
    assert spec_of(stage)["init_args"]["denoising"]["class_path"] == "rankdet.criteria.ScoreCriterion"
    assert spec_of(QueryStage(criterion=RankingCriterion()))["init_args"]["denoising"] is None


def test_a_quality_branch_is_refused():
    with pytest.raises(ValueError, match="no branch"):
        QueryStage(criterion=ScoreCriterion(judged=BoxIoU()))


def test_both_box_losses_weigh_as_much_as_the_ranking():
    """As in BRS-DETR, where the weights 5 and 2 vanish; with `least`, boxes learn although the ranking is perfect."""
    truth = truth_of(3, 2)
    said = layer(1)
    losses = QueryStage(criterion=both_balanced()).loss(QueryOutputs(FRAMES, [said]), truth)
    ranked = losses["ranking"] + losses["sorting"]
    torch.testing.assert_close(losses["box1"], ranked)
    torch.testing.assert_close(losses["box2"], ranked)


@pytest.mark.parametrize(("least", "learns"), [(0.0, False), (1.0, True)])
def test_a_perfect_ranking_stops_boxes_unless_the_balance_has_a_floor(least: float, learns: bool):
    truth = truth_of(1, 0)
    said = layer(1)
    found = HungarianMatcher(class_cost=0).match(said.predictions(FRAMES), truth, RankingCriterion())
    logits = torch.full((2 * Q, K), -9.0)
    logits[found.positive_index, found.labels[found.positive_index]] = 9.0
    perfect = LayerOutputs(logits.view(2, Q, K).requires_grad_(), said.boxes)
    criterion = RankingCriterion(box_loss=BOXES, balance=ValueBalance(least=least))
    losses = QueryStage(criterion=criterion, matcher=HungarianMatcher(class_cost=0)).loss(
        QueryOutputs(FRAMES, [perfect]), truth
    )
    losses["box"].backward()
    assert losses["ranking"].item() == losses["sorting"].item() == 0
    assert bool(said.boxes.grad.abs().sum() > 0) is learns


@pytest.mark.parametrize("least", [-1.0, float("inf"), float("nan")])
def test_a_floor_that_means_nothing_is_refused(least: float):
    with pytest.raises(ValueError, match="least"):
        ValueBalance(least=least)


def test_no_box_loss_at_all_is_refused():
    with pytest.raises(ValueError, match="box_loss"):
        RankingCriterion(box_loss=[])


class Answers(nn.Module):
    """A network that gives the same answer to everything."""

    def __init__(self, outputs: QueryOutputs) -> None:
        super().__init__()
        self.outputs = outputs
        self.class_layers = [nn.Linear(1, K)]

    def forward(self, batch, truth):
        return self.outputs


def test_detections_are_the_best_pairs_without_suppression():
    """Duplicates stay; boxes are cut to their own image, and one query may be of two classes."""
    logits = torch.full((2, 2, K), -5.0)
    logits[0, :, 1] = torch.tensor([3.0, 2.0])
    logits[0, 0, 2] = 2.5
    boxes = torch.tensor([0.5, 0.5, 1.2, 0.5]).expand(2, 2, 4)
    answers = Answers(QueryOutputs(FRAMES, [LayerOutputs(logits, boxes)]))
    stage = QueryStage(criterion=RankingCriterion())
    model = QueryDetector(
        num_classes=K, network=answers, stage=stage, postprocess=TopPostprocess(max_detections=3)
    ).eval()
    first, second = model([torch.rand(3, 48, 64), torch.rand(3, 50, 50)])
    assert first["labels"].tolist() == [1, 2, 1]
    assert first["logits"].tolist() == [3.0, 2.5, 2.0]
    assert first["boxes"].tolist() == [[0.0, 12.0, 64.0, 36.0]] * 3
    assert second["boxes"][0].tolist() == [0.0, 12.5, 50.0, 37.5]
    assert len(second["boxes"]) == 3


def test_boxes_are_learned_by_all_that_some_layer_matched():
    """Counted in plain Python: the object that most layers matched a query with, the first of several."""
    truth = truth_of(4, 15)
    generator = torch.Generator().manual_seed(2)
    matches = [torch.randint(-1, 3, (9,), generator=generator) for _ in range(4)]
    layers = [Assignment.from_matches(of_layer, truth) for of_layer in matches]
    pooled = UnionOfMatches()(layers, truth)
    for known, found in zip(layers, pooled, strict=True):
        assert torch.equal(found.labels, known.labels)
        for query, label in enumerate(found.for_boxes.labels.tolist()):
            votes = Counter(sorted(of_layer[query].item() for of_layer in matches if of_layer[query] >= 0))
            (winner, _), *_ = votes.most_common(1) or [(-1, 0)]
            assert label == (truth.all_labels[winner] if votes else BACKGROUND)
    assert torch.equal(pooled[0].for_boxes.matched_boxes, truth.all_boxes[pooled[0].for_boxes.matched_index])
    with pytest.raises(ValueError, match="layers of equally many queries"):
        UnionOfMatches()([layers[0], Assignment.from_matches(matches[0][:5], truth)], truth)


def test_box_losses_are_those_of_the_queries_that_learn_boxes():
    truth = truth_of(2, 15)
    outputs = replace(outputs_of(truth), denoising=None, encoder=None)
    apart, together = (
        QueryStage(criterion=detr_criterion(), box_matches=matches).loss(outputs, truth)
        for matches in (None, UnionOfMatches())
    )
    assert torch.equal(apart["classification"], together["classification"])
    assert not torch.equal(apart["box"], together["box"])
    by_rank = QueryStage(criterion=alrp_criterion(), box_matches=UnionOfMatches())
    with pytest.raises(ValueError, match=r"others learn boxes than are ranked; use Score\(\) or Uniform\(\)"):
        by_rank.loss(outputs, truth)


def test_layers_are_matched_together_as_each_alone():
    truth = truth_of(2, 15)
    stage = QueryStage(criterion=RankingCriterion())
    layers = list(stage._layers(outputs_of(truth), truth))
    for known, found in zip(layers, stage.match(layers), strict=True):
        alone = HungarianMatcher().match(known.predictions, truth, known.criterion)
        for name in ("labels", "positive_index", "matched_index", "matched_boxes"):
            assert torch.equal(getattr(found, name), getattr(alone, name)), name
