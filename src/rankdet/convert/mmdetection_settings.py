"""What MMDetection does beside its networks: pixels, strides, candidates, groups; read from a file, told to a plan."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from rankdet.convert.errors import ConversionError
from rankdet.convert.source import Source
from rankdet.models import (
    FCOS,
    DenseDetector,
    Detector,
    FoveaBox,
    GridRCNN,
    GuidedRetinaNet,
    HybridTaskCascade,
    MaskScoringRCNN,
    PrototypeDetector,
    RPNDetector,
    TridentNet,
    VotingPostprocess,
)
from rankdet.nn import DenseHead, GridHead, GuidedPredictor, StandardisedConv2d
from rankdet.ops import StrideDistanceCoder

CAFFE_MEAN = (103.53, 116.28, 123.675)
"""Of files of Caffe's networks where nothing else is said: blue, green, red; the standard deviation is 1."""
FIRST_BY_PAIRS = (2, 14)
"""The version from which on a level sends its best pairs of a prior and a class, chosen by the class alone."""
LAST_MASKS = (3, 0)
"""The version from which on a Hybrid Task Cascade draws masks by its last stage alone."""
GROUPS = 32


@dataclass(frozen=True)
class PixelStatistics:
    """What a model takes: mean and standard deviation of 0..255, in the order of its channels.

    Attributes:
        blue_first: whether these are blue, green, red.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    blue_first: bool

    @classmethod
    def stated(cls, configuration: str) -> PixelStatistics | None:
        """What a configuration of MMDetection says; None if it says nothing."""
        mean, std = (_numbers(name, configuration) for name in ("mean", "std"))
        if mean is None or std is None:
            return None
        blue_first = re.search(r"(?:to_rgb|bgr_to_rgb)['\"]?\s*[=:]\s*False", configuration) is not None
        return cls(mean, std, blue_first)

    def buffers(self) -> dict[str, tuple[float, ...]]:
        """Mean and standard deviation of 0..1, red first."""
        step = -1 if self.blue_first else 1
        return {"mean": tuple(v / 255 for v in self.mean[::step]), "std": tuple(v / 255 for v in self.std[::step])}


def _numbers(name: str, configuration: str) -> tuple[float, ...] | None:
    found = re.search(rf"\b{name}['\"]?\s*[=:]\s*[\[(]([^\])]*)[\])]", configuration)
    numbers = tuple(float(number) for number in re.findall(r"[\d.]+", found[1])) if found else ()
    return numbers if len(numbers) == 3 else None


def is_caffe(source: Source, style: str | None) -> bool:
    """Whether the stride of the backbone's blocks is in their first convolution.

    Raises:
        ConversionError: the name of the file speaks of Caffe, and nothing else says whether that is so.
    """
    if style is not None:
        return style == "caffe"
    if source.configuration:
        return re.search(r"style['\"]?\s*[=:]\s*['\"]caffe", source.configuration) is not None
    if "caffe" in source.path.name.lower():
        raise ConversionError(
            f"{source.path} seems to be of Caffe's ResNet, whose weights have the same names and shapes as others and "
            "give other numbers; say which it is by the style: caffe or pytorch"
        )
    return False


def adapted(
    plan: Mapping[str, Any], model: Detector, *, caffe: bool, version: tuple[int, ...] | None
) -> dict[str, Any]:
    """The plan of a model that does as MMDetection: Caffe's stride, what a level sends, which masks are averaged."""
    arguments = dict(plan["init_args"])
    if caffe:
        backbone = arguments["backbone"]
        moved = {"class_path": "rankdet.nn.StrideInFirstConv", "init_args": {}}
        changed = {"modifications": [*backbone["init_args"].get("modifications", ()), moved]}
        arguments["backbone"] = {**backbone, "init_args": {**backbone["init_args"], **changed}}
    if isinstance(model, DenseDetector | PrototypeDetector) and not isinstance(model, RPNDetector):
        arguments["postprocess"] = _postprocess(arguments["postprocess"], model, version or (3, 0))
    if isinstance(model, HybridTaskCascade) and version is not None and version >= LAST_MASKS:
        arguments["stage"] = _drawing_last(arguments["stage"])
    return {**plan, "init_args": arguments}


def _drawing_last(plan: Mapping[str, Any] | None) -> dict[str, Any]:
    """The stage of a Hybrid Task Cascade whose masks are those of the last one alone."""
    stage = plan or {"class_path": "rankdet.models.RoIStage", "init_args": {}}
    flowing, last = "rankdet.models.FlowingMaskBranch", "rankdet.models.LastFlowingMaskBranch"
    branches = stage["init_args"].get("branches") or [{"class_path": flowing, "init_args": {}}]
    named = [{**branch, "class_path": branch["class_path"].replace(flowing, last)} for branch in branches]
    return {**stage, "init_args": {**stage["init_args"], "branches": named}}


def _postprocess(plan: Mapping[str, Any], model: Detector, version: tuple[int, ...]) -> dict[str, Any]:
    chosen = dict(plan["init_args"])
    by_priors = isinstance(model, PrototypeDetector | GuidedRetinaNet) or isinstance(
        model.postprocess, VotingPostprocess
    )
    if by_priors or version < FIRST_BY_PAIRS:
        chosen["selection"] = {"class_path": "rankdet.models.TopPriors", "init_args": {}}
    elif model.criterion.quality_channels:
        threshold = {"score_threshold": chosen["score_threshold"]}
        chosen["selection"] = {"class_path": "rankdet.models.TopPairsByClass", "init_args": threshold}
        chosen["score_threshold"] = None
    if isinstance(model, FoveaBox):
        chosen["inset"] = 1.0
    return {**plan, "init_args": chosen}


def check_groups(model: nn.Module) -> None:
    """`ConversionError` if a group normalisation has other groups than MMDetection's 32: shapes fit, numbers do not.

    Those of Grid R-CNN are as published for itself.
    """
    own = {id(layer) for head in model.modules() if isinstance(head, GridHead) for layer in head.modules()}
    for name, layer in model.named_modules():
        if not isinstance(layer, nn.GroupNorm) or id(layer) in own or layer.num_groups == GROUPS:
            continue
        mend = "State the norm of the head in the configuration: class_path: GroupNorm, init_args: {least_channels: 1}"
        if name.startswith("backbone."):
            mend = "Take a backbone that timm has with 32 groups, such as resnet50_gn"
        raise ConversionError(
            f"{name} normalises {layer.num_channels} channels in {layer.num_groups} groups, MMDetection in {GROUPS}: "
            f"the weights would load and the numbers be wrong. {mend}"
        )


def check_configuration(configuration: str, model: Detector) -> None:
    """`ConversionError` if the configuration in a file and a model differ in what weights do not show.

    Nothing is known where the file has none.
    """
    wrong = [said for said, differs in _DIFFERENCES.items() if configuration and differs(configuration, model)]
    if wrong:
        raise ConversionError(
            f"the weights would load and the numbers be wrong: in its configuration the file has {'; '.join(wrong)}. "
            "Choose the preset that it was trained as, or change the model in the configuration"
        )


def _says(configuration: str, name: str, value: str = "True") -> bool:
    return re.search(rf"\b{name}['\"]?\s*[=:]\s*['\"]?{value}(?!\w)", configuration) is not None


def _other_unit(configuration: str, model: Detector) -> bool:
    if not isinstance(model, FCOS):
        return False
    return _says(configuration, "norm_on_bbox") != isinstance(model.stage.coder, StrideDistanceCoder)


def _other_tower(configuration: str, model: Detector) -> bool:
    head = model.stage.head if isinstance(model, FCOS) else None
    if not isinstance(head, DenseHead) or not head.quality_channels:
        return False
    return _says(configuration, "centerness_on_reg") == head.judges_by_class


def _other_relu(configuration: str, model: Detector) -> bool:
    extra = getattr(getattr(model, "neck", None), "extra", None)
    if extra is None or len(getattr(extra, "convs", ())) < 2:
        return False
    return _says(configuration, "relu_before_extra_convs") != extra.relu_between


def standardises(configuration: str) -> bool:
    """Whether a configuration says that convolutions standardise their weights."""
    return _says(configuration, "type", "ConvWS")


def _other_weights(configuration: str, model: Detector) -> bool:
    here = any(isinstance(layer, StandardisedConv2d) for layer in getattr(model, "backbone", model).modules())
    return standardises(configuration) != here


_DIFFERENCES: Mapping[str, Callable[[str, Detector], bool]] = {
    "norm_on_bbox, which tells whether boxes of FCOS are in strides (StrideDistanceCoder) or pixels, otherwise": (
        _other_unit
    ),
    "centerness_on_reg, which tells from which tower centerness comes (judges_by_class of the head), otherwise": (
        _other_tower
    ),
    "ConvWS, the standardisation of weights (modifications: [WeightStandardisation] of the backbone), otherwise": (
        _other_weights
    ),
    "relu_before_extra_convs (relu_between of the pyramid's extra_levels) otherwise": _other_relu,
    "add_extra_convs='on_lateral', for which there is no part here": (
        lambda configuration, _: _says(configuration, "add_extra_convs", "on_lateral")
    ),
    "test_branch_idx=-1: all branches of a TridentNet at test, and here the middle one does": (
        lambda configuration, model: isinstance(model, TridentNet) and _says(configuration, "test_branch_idx", "-1")
    ),
}


def notes(model: Detector, version: tuple[int, ...] | None) -> list[str]:
    """What detections of a model differ in from those of MMDetection, or will when it is trained further."""
    said = []
    first = version is not None and version < (2, 0)
    heads = [getattr(getattr(model, name, None), "head", None) for name in ("stage", "rpn")]
    if any(isinstance(head, GuidedPredictor) for head in heads) and not first:
        said.append(
            "from version 2 on MMDetection trains the branch of locations inverted (low in the centre of objects); it "
            "is taken as it is, and detections are the same, but training it further would have to turn it round"
        )
    if isinstance(model, MaskScoringRCNN) and (version is None or version >= (3, 0)):
        said.append(
            "version 3 of MMDetection orders boxes by the scores of their masks as well; here boxes keep the scores of "
            "their classes, as in version 2 and the paper"
        )
    if isinstance(model, GridRCNN):
        said.append("boxes drawn through grid points are cut to the image, which MMDetection does not do")
    if isinstance(model, HybridTaskCascade) and version is None:
        said.append(
            "masks are the mean of all stages, as published and in version 2; version 3 of MMDetection draws the last "
            "stage alone, see --tool-version"
        )
    return said
