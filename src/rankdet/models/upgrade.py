"""Plans of checkpoints that an older version wrote, in the words of this one.

Version 1 (0.1.0): recipes took single choices where they take parts now, ``Backbone`` was the class of timm's networks.
Version 2: transformers took what is now said of their stage as arguments of their own.
Version 3: so did two detectors with a branch of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rankdet.models.spec import ARGUMENTS, CLASS
from rankdet.ops.checkpoint import VERSION

Tree = dict[str, Any]
Change = Callable[[str, Tree], Tree]


def upgraded(plan: Any, *, version: int) -> Any:
    """A plan of a version in the words of `VERSION`; itself if it is of that version.

    >>> old = {"class_path": "rankdet.models.atss.ATSS", "init_args": {"num_classes": 3, "topk": 4}}
    >>> upgraded(old, version=1)["init_args"]["assigner"]["init_args"]
    {'topk': 4}
    """
    for older in range(version, VERSION):
        plan = _upgraded(plan, _CHANGES[older])
    return plan


def _upgraded(value: Any, changes: Mapping[str, Change]) -> Any:
    if isinstance(value, list):
        return [_upgraded(item, changes) for item in value]
    if not isinstance(value, Mapping) or CLASS not in value:
        return value
    path = str(value[CLASS])
    arguments = {name: _upgraded(inner, changes) for name, inner in (value.get(ARGUMENTS) or {}).items()}
    change = changes.get(path.rpartition(".")[2]) if path.startswith("rankdet.") or "." not in path else None
    return change(path, arguments) if change is not None else {CLASS: path, ARGUMENTS: arguments}


def _object(public: str, /, **arguments: Any) -> Tree:
    """An object of a public class, with the arguments that are not None."""
    return {CLASS: f"rankdet.{public}", ARGUMENTS: {k: v for k, v in arguments.items() if v is not None}}


def _backbone(_path: str, arguments: Tree) -> Tree:
    deformable = arguments.pop("deformable", None)
    if deformable is not None:
        arguments["modifications"] = [deformable]
    if str(arguments.get("name")).startswith("hrnet"):
        arguments["options"] = {"feature_location": "incre"}
    return _object("nn.TimmBackbone", **arguments)


def _atss(path: str, arguments: Tree) -> Tree:
    if "topk" in arguments:
        arguments["assigner"] = _object("assign.ATSSAssigner", topk=arguments.pop("topk"))
    return _squares(path, arguments)


def _squares(path: str, arguments: Tree) -> Tree:
    """ATSS and PAA."""
    scales = arguments.pop("anchor_scales", None)
    if scales is not None:
        arguments["anchors"] = _object("models.AnchorSettings", scales=scales)
    if "stacked" in arguments:
        norm = _object("nn.GroupNorm")
        arguments["head"] = _object("nn.DenseHead", stacked=arguments.pop("stacked"), norm=norm, scaled_boxes=True)
    return {CLASS: path, ARGUMENTS: arguments}


def _retinanet(path: str, arguments: Tree) -> Tree:
    scales, ratios = arguments.pop("anchor_scales", None), arguments.pop("anchor_ratios", None)
    coder = arguments.pop("coder", None) or {}
    if scales is not None:
        stds = (coder.get(ARGUMENTS) or {}).get("stds")
        arguments["anchors"] = _object("models.AnchorSettings", scales=scales, ratios=ratios, stds=stds)
    return {CLASS: path, ARGUMENTS: arguments}


def _fovea_box(path: str, arguments: Tree) -> Tree:
    fovea = {name: arguments.pop(name, None) for name in ("sigma", "scale_ranges")}
    if any(value is not None for value in fovea.values()):
        arguments["assigner"] = _object("assign.FoveaAssigner", **fovea)
    if "stacked" in arguments:
        arguments["head"] = _object("nn.DenseHead", stacked=arguments.pop("stacked"))
    return {CLASS: path, ARGUMENTS: arguments}


def _region(path: str, arguments: Tree) -> Tree:
    rpn = {name: arguments.pop(f"rpn_{name}", None) for name in ("criterion", "sampler", "coder")}
    border = 0.0 if "Cascade" in path else None
    arguments["rpn"] = _object("models.RPN", **rpn, border=border)
    named = {"sampler": "sampler", "proposals": "proposals", "weights": "stage_weights"}
    settings = {new: arguments.pop(old, None) for new, old in named.items()}
    arguments["settings"] = _object("models.RegionSettings", **settings)
    pyramid = arguments.pop("pyramid", None)
    if pyramid is not None:
        chosen = pyramid.get(ARGUMENTS) or {}
        arguments["neck"] = _object("nn.FPN", channels=arguments.get("channels", 256), **chosen)
    masks = {name: arguments.pop(f"mask_{name}", None) for name in ("criterion", "limit")}
    if "Mask" in path:
        arguments["stage"] = _object("models.RoIStage", branches=[_object("models.MaskBranch", **masks)])
    return {CLASS: path, ARGUMENTS: arguments}


def _yolact(path: str, arguments: Tree) -> Tree:
    masks = {name: arguments.pop(f"mask_{name}", None) for name in ("criterion", "limit")}
    prototypes = arguments.pop("prototypes", None)
    arguments["masks"] = _object("models.PrototypeMasks", **masks, prototypes=prototypes)
    return {CLASS: path, ARGUMENTS: arguments}


def _solov2(path: str, arguments: Tree) -> Tree:
    if path.endswith("Light"):
        channels = arguments.get("channels", 256)
        arguments |= {"stacked": 2, "width": channels, "kernel_channels": channels // 2}
    sizes = {name: arguments.pop(name, None) for name in ("grids", "stacked", "width", "kernel_channels")}
    return {CLASS: path, ARGUMENTS: {**arguments, "head": _object("nn.KernelHead", **sizes)}}


def _transformer(path: str, arguments: Tree) -> Tree:
    stage = {name: arguments.pop(name, None) for name in ("matcher", "encoder", "denoising", "beside")}
    return {CLASS: path, ARGUMENTS: {**arguments, "stage": _object("models.QueryStage", **stage)}}


def _hybrid_task_cascade(path: str, arguments: Tree) -> Tree:
    head, criterion = arguments.pop("semantic", None), arguments.pop("semantic_criterion", None)
    if head is not None:
        arguments["semantic_branch"] = _object("models.SemanticBranch", head=head, criterion=criterion)
    return {CLASS: path, ARGUMENTS: arguments}


def _fsaf_retinanet(path: str, arguments: Tree) -> Tree:
    free = {name: arguments.pop(f"free_{name}", None) for name in ("assigner", "criterion")}
    return {CLASS: path, ARGUMENTS: {**arguments, "free": _object("models.FreeBranch", **free)}}


_CHANGES: Mapping[int, Mapping[str, Change]] = {
    1: {
        "Backbone": _backbone,
        "ATSS": _atss,
        "PAA": _squares,
        "RetinaNet": _retinanet,
        "FoveaBox": _fovea_box,
        "FasterRCNN": _region,
        "MaskRCNN": _region,
        "CascadeRCNN": _region,
        "CascadeMaskRCNN": _region,
        "YOLACT": _yolact,
        "SOLOv2": _solov2,
        "SOLOv2Light": _solov2,
    },
    2: dict.fromkeys(("RTDETRv2", "DFINE", "RFDETR", "DeformableDETR", "ConditionalDETR"), _transformer),
    3: {"HybridTaskCascade": _hybrid_task_cascade, "FSAFRetinaNet": _fsaf_retinanet},
}
