"""Checkpoints of MMDetection: every tensor finds its place, and what would load and be wrong is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rankdet import Predictor
from rankdet.cli import main
from rankdet.convert import COCO, ConversionError, Source, from_mmdetection, read_source, to_mmdetection
from rankdet.criteria import Centerness, ScoreCriterion
from rankdet.models import (
    ATSS,
    FCOS,
    Detector,
    RetinaNet,
    fcos_criterion,
)
from rankdet.nn import DenseHead, FrozenStatistics, TimmBackbone

SMALL = {"channels": 16}
SCORED = ScoreCriterion(judged=Centerness())


def small(recipe: Callable[..., Detector], **settings: object) -> Detector:
    strides = (4, 8, 16, 32) if "RCNN" in recipe.__name__ else (8, 16, 32)
    torch.manual_seed(0)
    backbone = settings.pop("backbone", None) or TimmBackbone("test_resnet", strides=strides, norm=FrozenStatistics())
    model = recipe(**{"num_classes": 3, "backbone": backbone, **settings}).eval()
    for layer in model.modules():
        if hasattr(layer, "running_var"):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
    return model


NAMES = {"CLASSES": ("cat", "dog", "cow")}


def source(model: Detector, *, meta: dict[str, object] | None = None, name: str = "x.pth") -> Source:
    return Source(Path(name), to_mmdetection(model), {**NAMES, **(meta or {})})


def test_candidates_are_those_of_the_version():
    model = small(FCOS, channels=256, head=partial(DenseHead, stacked=1), criterion=fcos_criterion())
    newer, older = (
        from_mmdetection(source(model, meta={"mmdet_version": version}), model.plan()).model.postprocess
        for version in ("2.25.3", "2.8.0")
    )
    assert [type(chosen.selection).__name__ for chosen in (newer, older)] == ["TopPairsByClass", "TopPriors"]


CAFFE = "norm = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False)\nstyle='caffe'"


def test_colours_in_the_order_of_the_file():
    """A first convolution on what the file's own normalisation gives, blue first, gives what ours gives."""
    torch.manual_seed(0)
    weight, image = torch.randn(4, 3, 3, 3), torch.randint(0, 256, (3, 9, 9)).float()
    mean, std = torch.tensor([103.53, 116.28, 123.675]).view(3, 1, 1), torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)
    theirs = torch.conv2d(((image.flip(0) - mean) / std)[None], weight)
    backbone = TimmBackbone("resnet26", strides=(8, 16, 32), norm=FrozenStatistics())
    model = RetinaNet(num_classes=3, backbone=backbone, channels=16)
    stated = CAFFE.replace("1.0, 1.0, 1.0", "1.0, 2.0, 3.0")
    found = from_mmdetection(source(model, meta={"config": stated}), model.plan())
    first = "backbone.network.conv1.weight"
    assert torch.equal(found.model.state_dict()[first], model.state_dict()[first].flip(1))
    pixels = found.model.preprocess([image / 255]).pixels[..., :9, :9]
    torch.testing.assert_close(torch.conv2d(pixels, weight.flip(1)), theirs, rtol=1e-4, atol=1e-2)
    block = found.model.backbone.network.layer2[0]
    assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))
    assert "StrideInFirstConv" in str(found.model.plan()), "a checkpoint builds it again"


def test_a_file_named_after_caffe_wants_to_be_asked():
    model = small(RetinaNet, **SMALL)
    with pytest.raises(ConversionError, match="caffe or pytorch"):
        from_mmdetection(source(model, name="retinanet_r50_caffe.pth"), model.plan())


def spoilt(change: Callable[[dict[str, Tensor]], None]) -> Callable[[], None]:
    def convert() -> None:
        model = small(RetinaNet, **SMALL)
        theirs = to_mmdetection(model)
        change(theirs)
        from_mmdetection(Source(Path("x.pth"), theirs, NAMES), model.plan())

    return convert


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("neck.fpn_convs.0.conv.bias"), "1 tensors are missing .*neck.fpn_convs.0.conv.bias"),
        (lambda t: t.update({"neck.fpn_convs.0.conv.bias": torch.zeros(7)}), r"is \(7,\), the model has \(16,\)"),
        (lambda t: t.update({"bbox_head.retina_cls.scale": torch.zeros(7)}), "belong to layers that have none here"),
        (lambda t: t.pop("bbox_head.retina_cls.weight"), "it has no bbox_head.retina_cls.weight"),
    ],
)
def test_files_of_other_models_are_refused(change: Callable[[dict[str, Tensor]], None], said: str):
    with pytest.raises(ConversionError, match=said):
        spoilt(change)()


def test_groups_that_fit_and_are_others_are_refused():
    model = small(ATSS, channels=64, criterion=SCORED)
    with pytest.raises(ConversionError, match="64 channels in 8 groups, MMDetection in 32"):
        from_mmdetection(source(model), model.plan())


def test_what_is_left_out_is_said():
    model = small(RetinaNet, **SMALL)
    further = {"mask_head.convs.0.weight": torch.zeros(1), "data_preprocessor.mean": torch.zeros(3)}
    theirs = to_mmdetection(model) | further
    assert from_mmdetection(Source(Path("x"), theirs, NAMES), model.plan()).left_out == ("mask_head.convs.0.weight",)


def test_coco_keeps_its_ids():
    assert (len(COCO), COCO.ids[-1], COCO.names[COCO.ids.index(90)]) == (80, 90, "toothbrush")
    assert (COCO.ids[11], COCO.names[11]) == (13, "stop sign")


CONFIG = """
model:
  class_path: RetinaNet
  init_args:
    backbone: {class_path: TimmBackbone, init_args: {name: test_resnet, strides: [8, 16, 32], norm: FrozenStatistics}}
    channels: 16
data: {resize: {class_path: ResizeShorter, init_args: {short: 64, long: 96}}}
optimiser: {class_path: SGD, init_args: {lr: 0.01}}
schedule: {epochs: 1}
"""


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = small(RetinaNet, **SMALL)
    weights, config, output = (tmp_path / name for name in ("a.pth", "a.yaml", "a.ckpt"))
    torch.save({"state_dict": {f"module.{k}": v for k, v in to_mmdetection(model).items()}, "meta": NAMES}, weights)
    config.write_text(CONFIG)
    command = ["convert", "--from", "mmdet", "--config", str(config), str(weights), "--output", str(output)]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "RetinaNet with 3 classes (cat, dog, cow)" in told
    assert "'interpolation': 'opencv'" in told
    predictor = Predictor.load(output)
    assert predictor.resize.new_size(100, 100) == (64, 64)
    assert len(predictor(torch.rand(3, 80, 100), threshold=None)["boxes"]) == 100
    assert main([*command[:2], "mmdett", *command[3:]]) == 2
    assert "did you mean mmdet?" in capsys.readouterr().err


def test_read_source_takes_off_what_wraps_a_model(tmp_path: Path):
    torch.save({"model": {"module.a.b": torch.ones(1)}}, tmp_path / "a.pt")
    assert list(read_source(tmp_path / "a.pt").tensors) == ["a.b"]
