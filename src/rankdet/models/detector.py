"""What all detectors share: torchvision's calling convention."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from rankdet.assign.ground_truth import GroundTruth, InstanceTruth, check_mask_sizes
from rankdet.criteria.criterion import Criterion, CriterionOutput
from rankdet.models.postprocess import Postprocess
from rankdet.models.shifting import check_shiftable, rescale_layers
from rankdet.models.spec import PlanError, spec_of
from rankdet.nn.preprocess import ImageBatch, Preprocess
from rankdet.ops.part import Part

Detection = dict[str, Tensor]
"""What was found in an image: boxes (D, 4), labels, scores and logits (D,), perhaps masks (D, H, W).

Detectors that judge their masks add ``mask_scores`` (D,), by which masks are ordered in place of the scores.
"""


class Losses(dict[str, Tensor]):
    """Named scalar losses that simply add up; ``logs`` holds detached scalars that are no losses."""

    def __init__(self) -> None:
        super().__init__()
        self.logs: dict[str, Tensor] = {}

    def include(self, output: CriterionOutput, *, prefix: str = "", weight: float = 1.0) -> None:
        """Add what a criterion returned, its names behind a prefix such as ``rpn_``, the losses times a weight."""
        self.update({f"{prefix}{name}": weight * loss for name, loss in output.losses.items()})
        self.logs.update({f"{prefix}{name}": value for name, value in output.logs.items()})

    def merge(self, others: Losses) -> None:
        """Add the losses and logs of another part of the detector."""
        self.update(others)
        self.logs.update(others.logs)


class _LearnsFromCriterion(Part):
    """A part that is not made with anything else in the place of its criterion.

    It is a base of its own so that signatures stay those of the constructors.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Refuse a loss in the place of a criterion before a recipe asks it what criteria know."""
        stated = kwargs.get("criterion")
        if stated is not None and not isinstance(stated, Criterion):
            raise TypeError(
                f"criterion is a {type(stated).__name__}; give a Criterion, which holds losses: "
                "RankingCriterion(ranking=RankSortLoss()), ScoreCriterion(classification=FocalLoss())"
            )
        return super().__new__(cls, *args, **kwargs)


class Detector(nn.Module, _LearnsFromCriterion, ABC):
    """A detector: images in, losses (training mode) or detections (evaluation mode) out.

    ``model(images, targets)`` in training mode returns `Losses`. ``model(images)`` in evaluation mode returns for each
    image a dict of ``boxes`` (D, 4), ``labels`` (D,), ``scores`` (D,) and ``logits`` (D,), best first; boxes are in
    pixels of the input image. Images are a list of CHW tensors, uint8 or floating point in [0, 1]; targets a
    list of dicts with ``boxes`` (G, 4) xyxy, ``labels`` (G,) in 0..K-1 and, optionally, ``iscrowd`` (G,).

    Detectors that take their regions from the data (``needs_proposals``) need ``proposals`` (R, 4) in the targets, best
    first, in evaluation as well.

    Detectors that predict masks (``needs_masks``, a class attribute) need ``masks`` (G, H, W) in the targets, and
    return boolean ``masks`` (D, H, W), perhaps with ``mask_scores`` (D,) of their own.

    Args:
        num_classes: K, without a background.
        postprocess: how detections are chosen; by default `Postprocess`.
        preprocess: normalises, pads and stacks the images; by default for ImageNet's colours.
    """

    needs_masks = False
    needs_proposals = False

    def __init__(
        self, *, num_classes: int, postprocess: Postprocess | None = None, preprocess: Preprocess | None = None
    ) -> None:
        super().__init__()
        if not isinstance(num_classes, Integral) or num_classes < 1:
            raise ValueError(
                f"num_classes must be a whole number of at least 1 (the background does not count); got {num_classes!r}"
            )
        self.num_classes: int = num_classes
        self.preprocess: Preprocess = preprocess or Preprocess()
        self.postprocess: Any = postprocess or Postprocess()

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Any]] | None = None
    ) -> Losses | list[Detection]:
        """See the class."""
        if self.training and targets is None:
            raise ValueError("a detector in training mode needs targets; call model.eval() to detect")
        if isinstance(targets, Mapping):
            raise TypeError("targets is a dict; give a list with one dict for each image")
        if self.training and targets is not None and len(targets) != len(images):
            raise ValueError(f"there must be one target per image; got {len(images)} images, {len(targets)} targets")
        batch = self.batch_of(images, targets)
        if not self.training:
            return self.detections_in(batch)
        device = batch.pixels.device
        kind = InstanceTruth if self.needs_masks else GroundTruth
        truth = kind.from_targets(targets or (), num_classes=self.num_classes, device=device)
        if self.needs_masks:
            check_mask_sizes(targets or (), batch.sizes)
        return self.losses_of(batch, truth)

    def batch_of(
        self,
        images: Sequence[Tensor],
        targets: Sequence[Mapping[str, Any]] | None = None,  # noqa: ARG002
    ) -> ImageBatch:
        """The batch of some images, with what comes with them in ``targets`` beside objects."""
        return self.preprocess(images)

    def plan(self) -> dict[str, Any]:
        """Plain data from which `rankdet.models.build` rebuilds the model; checkpoints carry it.

        Raises:
            PlanError: naming the argument that cannot be written down.
        """
        try:
            plan: dict[str, Any] = spec_of(self)
        except TypeError as error:
            raise PlanError(str(error)) from error
        return plan

    @property
    @abstractmethod
    def criterion(self) -> Criterion:
        """What the classes of its detections are learned from, in the first stage that gives any."""

    @property
    def class_layers(self) -> Sequence[nn.Conv2d | nn.Linear]:
        """The layers whose outputs are, or whose mean output is, the class logits of the detections.

        Their biases hold those of the K classes, one anchor after another. None where the scores of detections are no
        class scores.
        """
        return ()

    def rescale_logits(self, slopes: Tensor, shifts: Tensor) -> None:
        """Multiply the logits of all detections of each class by ``slopes`` (K,) > 0 and add ``shifts`` (K,).

        It is in the weights and biases of the classifier afterwards. The order of the detections of a class does not
        change. Which detections of all classes an image keeps (``max_detections``, ``pre_nms``) may change. Masks,
        boxes and proposals do not.

        Raises:
            ValueError: when no weights do that: with a softmax over the classes, scores that are fused with a judged
                quality or a mask's, or boxes that are voted on by scores.
        """
        check_shiftable(self)
        rescale_layers(self.class_layers, slopes, shifts)

    def shift_logits(self, shifts: Tensor) -> None:
        """Add ``shifts`` (K,) to the logits of all detections of each class; otherwise as `rescale_logits`."""
        self.rescale_logits(torch.ones_like(shifts), shifts)

    @abstractmethod
    def losses_of(self, batch: ImageBatch, truth: GroundTruth) -> Losses:
        """Losses of a batch with these objects."""

    @abstractmethod
    def detections_in(self, batch: ImageBatch) -> list[Detection]:
        """Detections of each image of a batch."""


def class_layers_of(predictor: nn.Module) -> Sequence[nn.Conv2d | nn.Linear]:
    """The layers of class logits of a head: its ``class_layers``, or ``classify`` alone; none that it does not name."""
    named = getattr(predictor, "class_layers", None)
    if named is not None:
        return list(named)
    classify = getattr(predictor, "classify", None)
    return [] if classify is None else [classify]
