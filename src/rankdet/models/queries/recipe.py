"""What the recipes of transformer detectors share: box losses, how a stage is completed, RT-DETR's family as one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

from rankdet.criteria.balance import ValueBalance
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.ranking import RankingCriterion
from rankdet.criteria.score_based import ScoreCriterion
from rankdet.losses.boxes import BoxLoss, GIoULoss, SmoothL1Loss, SumOfBoxLosses
from rankdet.losses.classification import ClassificationLoss
from rankdet.models.postprocess import Postprocess
from rankdet.models.queries.detector import QueryDetector
from rankdet.models.queries.hybrid import HybridNetwork
from rankdet.models.queries.stage import QueryStage
from rankdet.nn.backbone import Backbone
from rankdet.nn.preprocess import Preprocess
from rankdet.ops.part import arguments_of


def detr_box_losses() -> list[BoxLoss]:
    """5 times the L1 distance of centre and size, and 2 times 1 - GIoU (DETR, section 3.1)."""
    return [SmoothL1Loss(beta=0, weight=5.0), GIoULoss(weight=2.0)]


def detr_criterion(classification: ClassificationLoss | None = None) -> ScoreCriterion:
    """A classification loss, focal loss by default, and DETR's box losses, summed and divided by the objects."""
    return ScoreCriterion(classification=classification, box_loss=SumOfBoxLosses(detr_box_losses()))


def query_ranking_criterion() -> RankingCriterion:
    """Rank & Sort Loss for queries: L1 and GIoU each as important as the ranking, weighted by score.

    As BRS-DETR (Yavuz et al., ECCV 2024) does, whose code leaves the weighting out; and boxes go on learning when the
    ranking is perfect, which a few hundred queries soon reach.
    """
    return RankingCriterion(box_loss=detr_box_losses(), balance=ValueBalance(least=1.0))


class QueryStageFactory(Protocol):
    """Makes a stage once the criterion is known; ``partial(QueryStage, matcher=..., denoising=...)`` is one."""

    def __call__(self, *, criterion: Criterion) -> QueryStage:
        """See the class."""


def completed_stage(
    stage: QueryStageFactory | None, criterion: Criterion | None, published: Mapping[str, Any] | None = None
) -> QueryStage:
    """The stage of a recipe: what a template states, else what the recipe is published with; RS Loss by default.

    A template states what is not None, as the whole of a configuration names every argument.
    """
    keywords = getattr(stage, "keywords", {}).items()
    stated = {**(published or {}), **{name: value for name, value in keywords if value is not None}}
    kind = getattr(stage, "func", stage) or QueryStage
    made: QueryStage = kind(criterion=criterion or query_ranking_criterion(), **stated)
    return made


def template_of(stage: QueryStage) -> QueryStageFactory:
    """The factory of a stage, from whose plan it can be made again with another criterion."""
    return partial(type(stage), **{k: v for k, v in arguments_of(stage).items() if k != "criterion"})


def variant_of(variants: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """The settings of a variant.

    Raises:
        ValueError: naming those there are.
    """
    if name not in variants:
        raise ValueError(f"variant must be one of {', '.join(variants)}; got {name!r}")
    return variants[name]


def settings_for(
    settings: Mapping[str, Any], stage: QueryStage, *, num_classes: int, queries: int | None
) -> dict[str, Any]:
    """The library's configuration of a variant for so many classes, and queries; None: as the variant has, or 300."""
    of_queries = {"num_queries": 300, **settings} if queries is None else {**settings, "num_queries": queries}
    return {**of_queries, "num_labels": stage.criterion.num_logits(num_classes)}


class HybridDetector(QueryDetector):
    """A recipe of the family; its subclasses state their network, their variants and what they are published with.

    Images are best resized to one square, as they are for the published models.

    Args:
        num_classes: K, without a background.
        variant: the backbone, the widths and the depths.
        backbone: takes the place of the variant's: a timm architecture, with a tag if pretrained, or a `Backbone`.
        pretrained: weights of the whole detector, or of its backbone alone: a name on Hugging Face's hub (downloads) or
            a local folder; None: random weights.
        queries: proposals of the encoder that become queries of the decoder; by default as many as the variant has.
        options: further arguments of the library's configuration, such as ``num_denoising``.
        criterion: what every layer learns from; by default `query_ranking_criterion`.
        stage: who is positive, and what proposals and denoising queries learn from:
            ``partial(QueryStage, matcher=..., denoising=...)``. Whatever it does not state is as published.
        postprocess: how detections are chosen; by default `TopPostprocess`.

    Attributes:
        network_kind: the class of the network.
        variants: settings of the library's configuration by the name of the variant.
        default_variant: the variant unless another is stated.
    """

    network_kind: ClassVar[type[HybridNetwork]]
    variants: ClassVar[Mapping[str, Mapping[str, Any]]]
    default_variant: ClassVar[str]

    def __init__(
        self,
        *,
        num_classes: int,
        variant: str | None = None,
        backbone: str | Backbone | None = None,
        pretrained: str | Path | None = None,
        queries: int | None = None,
        options: Mapping[str, Any] | None = None,
        criterion: Criterion | None = None,
        stage: QueryStageFactory | None = None,
        postprocess: Postprocess | None = None,
    ) -> None:
        variant = variant or self.default_variant
        settings = variant_of(self.variants, variant)
        made = completed_stage(stage, criterion, self.published(settings))
        settings = {
            "initializer_bias_prior_prob": 0.01,
            **settings_for(settings, made, num_classes=num_classes, queries=queries),
            "freeze_backbone_batch_norms": pretrained is not None and settings.get("freeze_backbone_batch_norms", True),
        }
        super().__init__(
            num_classes=num_classes,
            network=self.network_kind.made(settings, options=options, backbone=backbone, pretrained=pretrained),
            stage=made,
            postprocess=postprocess,
            preprocess=self.preprocess_of(settings),
        )
        self.settle(variant=variant, queries=self.network.queries, stage=template_of(made))

    def published(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG002
        """What the stage has beside its criterion unless stated, given the settings of the variant."""
        return {}

    def preprocess_of(self, settings: Mapping[str, Any]) -> Preprocess:  # noqa: ARG002
        """How images are normalised, given the settings of the variant: here to 0..1 alone."""
        return Preprocess(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
