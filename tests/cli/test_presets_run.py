"""Presets do run: their images come out as published, and one of each detector trains, put on small images."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
import torch

from rankdet.cli.experiment import Experiment
from rankdet.data import RepeatFactor

SHAPES = "{class_path: Shapes, init_args: {length: 6, seed: %d, image_size: 64, num_classes: 3}}"
TINY = [
    ("data.train", SHAPES % 0),
    ("data.val", SHAPES % 1),
    ("data.workers", "0"),
    ("model.init_args.backbone", "test_resnet"),
    ("model.init_args.channels", "16"),
]


@pytest.mark.parametrize(
    ("name", "shorter", "square"),
    [
        ("atss/rank_sort_r50_1x_coco", {800}, True),
        ("faster_rcnn/rank_sort_r101_dcn_480_960_3x_coco", set(range(480, 961, 80)), True),
        ("mask_rcnn/rank_sort_r101_640_800_3x_coco", set(range(640, 801, 32)), True),
        ("mask_rcnn/rank_sort_r50_1x_lvis", set(range(640, 801, 32)), True),
        ("retinanet/alrp_r50_100e_ssd512_coco", {512}, False),
        ("retinanet/alrp_atss_r101_100e_ssd800_coco", {800}, False),
        ("solov2/light_rank_sort_r34_3x_coco", set(range(352, 513, 32)), True),
        ("yolact/rank_sort_r50_55e_coco", {550}, False),
    ],
)
def test_training_images_are_of_the_published_sizes(name: str, shorter: set[int], square: bool):
    data = Experiment(files=[name], overrides=TINY).build().data
    torch.manual_seed(0)
    samples = [data.train_transforms(*data.train[index % 6]) for index in range(12)]
    sizes = [image.shape[-2:] for image, _ in samples]
    assert {min(size) for size in sizes} <= shorter
    assert len({min(size) for size in sizes}) >= min(len(shorter), 3)
    assert all(height == width for height, width in sizes)
    assert any(len(target["boxes"]) for _, target in samples)
    assert all(("masks" in target) == name.startswith(("mask", "solo", "yolact")) for _, target in samples)
    areas = torch.cat([(t["boxes"][:, 2:] - t["boxes"][:, :2]).prod(1) / i.shape[-1] ** 2 for i, t in samples])
    spread = float(areas.max() / areas.min())
    assert spread < 100 if square else spread > 5, "the augmentation of SSD makes objects larger and smaller"


def test_lvis_is_sampled_by_repeat_factors():
    rare = ("data.train", "{class_path: Shapes, init_args: {length: 60, seed: 0, num_classes: 5, imbalance: 100}}")
    validation = ("data.val", "{class_path: Shapes, init_args: {length: 6, seed: 1, num_classes: 5}}")
    overrides = [*TINY, rare, validation, ("data.sampling.init_args.threshold", "0.5")]
    data = Experiment(files=["mask_rcnn/rank_sort_r50_1x_lvis"], overrides=overrides).build().data
    assert isinstance(data._order, RepeatFactor)
    assert len(data._order) > len(data.train)


@pytest.mark.parametrize(
    ("strong", "names"),
    [
        ("strong", ["Mosaic", "AffineJitter", "MixUp", "ColorJitter", "ObjectErasing"]),
        ("copy_paste", ["LargeScaleJitter", "CopyPaste"]),
    ],
)
def test_strong_augmentation_is_put_on_a_preset(strong: str, names: list[str], rankdet, tmp_path: Path):
    files = ["mask_rcnn/rank_sort_r50_1x_coco", "finetune", strong]
    options = [*TINY, ("data.resize.init_args.short", "64"), ("data.batch_size", "4")]
    stated = Experiment(files=files, overrides=options).section("data")["strong"]["init_args"]["transforms"]
    assert [transform["class_path"].rpartition(".")[2] for transform in stated] == names
    given = [text for file in files for text in ("--config", file)]
    given += [text for key, value in options for text in (f"--{key}", value)]
    outcome = rankdet("check", *given, "--preview", "pictures")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "pictures" / "batch-1.jpg").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "atss/average_precision_centerness_r50_1x_coco",
        "cascade_rcnn/rank_sort_r50_1x_coco",
        "faster_rcnn/alrp_r50_100e_ssd512_coco",
        "fovea_box/average_precision_r50_100e_ssd512_coco",
        "mask_rcnn/rank_sort_r50_1x_lvis",
        "paa/average_precision_iou_r50_1x_coco",
        "retinanet/alrp_atss_r50_100e_ssd512_coco",
        "solov2/light_rank_sort_r34_3x_coco",
        "yolact/softmax_r50_55e_coco",
    ],
)
def test_one_of_each_detector_trains(name: str, rankdet, tmp_path: Path):
    small = ["--config", name, "--config", "small", "--output", tmp_path / "run"]
    short = ["--schedule.epochs", 1, "--schedule.decay", "null", "--data.batch_size", 3]
    sizes = ["--data.resize.init_args.short", 96, "--data.resize.init_args.long", 160]
    quiet = ["--trainer.accelerator", "cpu", "--trainer.pictures", 0, "--trainer.log_every", 1]
    tiny = [text for key, value in TINY for text in (f"--{key}", value)]
    outcome = rankdet("train", *small, *short, *sizes, *quiet, *tiny)
    assert outcome.code == 0, outcome.err
    assert re.search(r"^epoch 1/1  loss \d+\.\d+ .*rho ", outcome.out, re.M)
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert rows[-1]["AP"] != ""
