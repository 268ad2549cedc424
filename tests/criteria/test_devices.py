"""`gather_across_devices` of a criterion: several processes learn what one would from the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from rankdet.assign import Assignment
from rankdet.criteria import (
    BoxesPerPositive,
    BoxIoU,
    Centerness,
    ConstantBalance,
    Correlated,
    Criterion,
    EpochBalance,
    HardNegatives,
    MagnitudeBalance,
    MaskAssignment,
    MaskCriterion,
    MaskPredictions,
    MeanOf,
    PerPositiveAndImage,
    PerPositiveAndOne,
    PerPositiveOfEachImage,
    PerPositiveOrImage,
    PerSample,
    Predictions,
    RankingCriterion,
    RankWeight,
    Score,
    ScoreCriterion,
    SemanticCriterion,
    Uniform,
    WeightedSum,
    alrp_criterion,
)
from rankdet.losses import (
    ALRPLoss,
    APELoss,
    AveragePrecisionLoss,
    GHMClassificationLoss,
    GHMRegressionLoss,
    NDCGLoss,
    RankSortLoss,
    SpearmanLoss,
)
from rankdet.losses.classification import QualityFocalLoss, SoftmaxCrossEntropyLoss
from rankdet.ops import DeltaCoder, Priors
from tests.processes import run

IMAGES, PRIORS, CLASSES = 4, 12, 3
POSITIVES = [(3, 2, 4, 1), (3, 0, 2, 0), (0, 3, 0, 0), (0, 0, 0, 0), (5, 0, 0, 0)]  # of each image


def _alrp(*, together: bool) -> RankingCriterion:
    criterion = alrp_criterion()
    criterion.ranking.gather_across_devices = together
    return criterion


def _sum_of_score_weights(*, together: bool) -> RankingCriterion:
    ranking = AveragePrecisionLoss(gather_across_devices=together)
    return RankingCriterion(ranking=ranking, reduction=WeightedSum(), balance=MagnitudeBalance())


def _mixed_weights(*, together: bool) -> RankingCriterion:
    weighting = MeanOf([RankWeight(), Score()])
    ranking = NDCGLoss(gather_across_devices=together)
    return RankingCriterion(ranking=ranking, weighting=weighting, reduction=WeightedSum(), balance=ConstantBalance(3.0))


def _smooth_rank_weights(*, together: bool) -> RankingCriterion:
    ranking = RankSortLoss(gather_across_devices=together)
    return RankingCriterion(ranking=ranking, weighting=RankWeight(delta_loc=1.5), judged=BoxIoU(), judged_weight=0.5)


def _uniform(*, together: bool) -> RankingCriterion:
    ranking = ALRPLoss(gather_across_devices=together)
    return RankingCriterion(ranking=ranking, weighting=Uniform(), balance=EpochBalance(steps=1), loss_weight=0.2)


def _weights_by_image(*, together: bool) -> RankingCriterion:
    ranking = RankSortLoss(scope="image", gather_across_devices=together)
    return RankingCriterion(ranking=ranking, weighting=RankWeight(delta_loc=1.0), reduction=WeightedSum())


def _alrp_by_class(*, together: bool) -> RankingCriterion:
    criterion = _alrp(together=together)
    criterion.ranking.scope = "class"
    return criterion


def _by_image(*, together: bool) -> RankingCriterion:
    return RankingCriterion(ranking=RankSortLoss(scope="image", gather_across_devices=together))


def _ghm(*, together: bool) -> ScoreCriterion:
    return ScoreCriterion(
        classification=GHMClassificationLoss(gather_across_devices=together),
        box_loss=GHMRegressionLoss(gather_across_devices=together),
        normaliser=BoxesPerPositive(),
        gather_across_devices=together,
    )


def _rank_sort_ghm(*, together: bool) -> RankingCriterion:
    ranking = RankSortLoss(gather_across_devices=together)
    return RankingCriterion(ranking=ranking, box_loss=GHMRegressionLoss(gather_across_devices=together))


def _score(**parts: object) -> Callable[..., ScoreCriterion]:
    return lambda *, together: ScoreCriterion(gather_across_devices=together, **parts)


CRITERIA: dict[str, Callable[..., Criterion]] = {
    "RS": lambda *, together: RankingCriterion(ranking=RankSortLoss(gather_across_devices=together)),
    "aLRP": _alrp,
    "AP, sum of score weights, balanced by magnitude": _sum_of_score_weights,
    "NDCG, sum of mixed weights": _mixed_weights,
    "RS, smooth rank weights, judged": _smooth_rank_weights,
    "aLRP, equal weights": _uniform,
    "RS sorted within objects": lambda *, together: RankingCriterion(
        ranking=RankSortLoss(sorting_scope="object", sorting_delta=1.0, gather_across_devices=together)
    ),
    "RS by image": _by_image,
    "RS by image, smooth rank weights": _weights_by_image,
    "aLRP by class": _alrp_by_class,
    "focal": _score(weighting=Centerness(), judged=Centerness()),
    "quality focal, SOLOv2": _score(classification=QualityFocalLoss(), normaliser=PerPositiveAndOne()),
    "softmax, PerSample": _score(classification=SoftmaxCrossEntropyLoss(), normaliser=PerSample()),
    "softmax, mined": _score(classification=SoftmaxCrossEntropyLoss(), mining=HardNegatives()),
    "PAA": _score(weighting=BoxIoU(), judged=BoxIoU(), normaliser=PerPositiveOrImage()),
    "GHM": _ghm,
    "RS beside GHM-R": _rank_sort_ghm,
    "focal and Spearman": lambda *, together: Correlated(
        ScoreCriterion(gather_across_devices=together), correlation=SpearmanLoss()
    ),
    "APE": lambda *, together: RankingCriterion(ranking=APELoss(gather_across_devices=together)),
    "SSD": _score(classification=SoftmaxCrossEntropyLoss(), normaliser=PerPositiveOfEachImage()),
    "FoveaBox": _score(normaliser=PerPositiveAndImage()),
}


@dataclass
class Batch:
    """Some images of a problem, with outputs that keep their gradients."""

    predictions: Predictions
    assignment: Assignment
    masks: MaskPredictions
    wanted: MaskAssignment
    semantic: tuple[Tensor, Tensor]

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        read = self.predictions
        return read.logits, read.deltas, read.quality_logits, self.masks.logits, self.semantic[0]


def batch_of(counts: tuple[int, ...], images: range, criterion: Criterion) -> Batch:
    """The images of a problem whose images have so many positives."""
    parts: list[dict[str, Tensor]] = []
    for image in images:
        generator = torch.Generator().manual_seed(image)
        corners = torch.rand(PRIORS, 2, generator=generator) * 50
        priors = torch.cat((corners, corners + torch.rand(PRIORS, 2, generator=generator) * 20 + 10), 1)
        labels = torch.full((PRIORS,), -1)
        index = torch.randperm(PRIORS, generator=generator)
        positive = index[: counts[image]].sort().values
        labels[positive] = torch.randint(CLASSES, (counts[image],), generator=generator)
        labels[index[-2:]] = -2
        shifts = torch.rand(PRIORS, 4, generator=generator) * 6 - 3
        parts.append(
            {
                "priors": priors,
                "labels": labels,
                "positive": positive + PRIORS * (image - images.start),
                "targets": priors[positive] + shifts[positive],
                "logits": torch.randn(PRIORS, criterion.num_logits(CLASSES), generator=generator),
                "deltas": torch.randn(PRIORS, 4, generator=generator) / 3,
                "quality": torch.randn(PRIORS, criterion.quality_channels, generator=generator),
                "masks": torch.randn(PRIORS, 5, 5, generator=generator)[positive],
                "wanted": torch.rand(PRIORS, 5, 5, generator=generator)[positive].round(),
                "classes": torch.randn(1, CLASSES, 6, 6, generator=generator),
                "class_maps": torch.rand(1, CLASSES, 6, 6, generator=generator).round(),
            }
        )
    of = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    for name in ("logits", "deltas", "quality", "masks", "classes"):
        of[name].requires_grad_()
    priors = Priors.proposals([part["priors"] for part in parts])
    return Batch(
        Predictions(of["logits"], of["deltas"], of["quality"], priors, DeltaCoder()),
        Assignment.of_positives(of["labels"], of["positive"], torch.arange(len(of["positive"])), of["targets"]),
        MaskPredictions(of["masks"]),
        MaskAssignment(of["wanted"], torch.arange(len(of["positive"]))),
        (of["classes"], of["class_maps"]),
    )


def learn(make: Callable[..., Criterion], images: range, *, together: bool) -> list[dict[str, dict[str, Tensor]]]:
    """Losses, logs and gradients of a few steps, one a problem, of a detector with masks and a class map."""
    criterion = make(together=together)
    mask_criteria = {"mask": MaskCriterion(), "weighed mask": MaskCriterion(balance=ConstantBalance(2.0))}
    steps = []
    for counts in POSITIVES:
        batch = batch_of(counts, images, criterion)
        output = criterion(batch.predictions, batch.assignment)
        losses = dict(output.losses)
        for name, of_masks in mask_criteria.items():
            losses[name] = of_masks(batch.masks, batch.wanted, output).losses["mask"]
        losses["semantic"] = SemanticCriterion()(*batch.semantic, output.group)
        gradients = torch.autograd.grad(sum(losses.values()), batch.outputs, allow_unused=True)
        names = ("logits", "deltas", "quality", "masks", "classes")
        steps.append(
            {
                "losses": {name: loss.detach() for name, loss in losses.items()},
                "logs": output.logs,
                "gradients": {n: g for n, g in zip(names, gradients, strict=True) if g is not None},
            }
        )
        for module in criterion.modules():
            if hasattr(module, "end_epoch"):
                module.end_epoch()
    return steps


def on_each(rank: int, size: int) -> dict[str, list]:
    share = IMAGES // size
    images = range(share * rank, share * (rank + 1))
    return {name: learn(make, images, together=True) for name, make in CRITERIA.items()}


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.long)], ids="{} processes".format)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list]]:
    return run(request.param, on_each, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", CRITERIA)
def test_equals_one_process_with_the_whole_batch(found: list[dict[str, list]], name: str):
    expected = learn(CRITERIA[name], range(IMAGES), together=False)
    for number, whole in enumerate(expected):
        parts = [process[name][number] for process in found]
        for part in parts:
            torch.testing.assert_close(part["losses"], whole["losses"], rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(part["logs"], whole["logs"], rtol=1e-6, atol=1e-6)
        for output, gradient in whole["gradients"].items():
            averaged = torch.cat([part["gradients"][output] for part in parts]) / len(parts)
            scale = float(gradient.abs().max()) if gradient.numel() else 1.0
            torch.testing.assert_close(
                averaged, gradient, rtol=1e-6, atol=1e-6 * max(scale, 1e-6), msg=f"{output} of {POSITIVES[number]}"
            )


def test_each_by_itself_is_something_else(found: list[dict[str, list]]):
    """So that the test above has something to find."""
    alone = learn(CRITERIA["RS"], range(2), together=False)
    assert not torch.isclose(alone[0]["losses"]["box"], found[0]["RS"][0]["losses"]["box"])
