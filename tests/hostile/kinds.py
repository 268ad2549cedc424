"""What comes in from outside: for each kind of file a sound one, how it is spoilt, and who reads it."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import random
import shutil
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from rankdet.cli import main
from rankdet.ops.checkpoint import VERSION
from tests.hostile.mutation import as_json, spoilt_bytes, spoilt_tree

Reader = Callable[[Path], None]
SIDE = 48


class TracebackError(AssertionError):
    """A reader that ended otherwise than with a result or one message."""


def command(*arguments: object) -> None:
    """The command line takes it, or complains in one message with code 2."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    said = err.getvalue()
    if code not in (0, 1, 2) or "Traceback" in said or (code == 2 and "\nrankdet" not in f"\n{said}"):
        raise TracebackError(f"code {code}: {said[-300:]}")


def python(read: Callable[[], object]) -> None:
    """A call in Python gives something or raises a ValueError with a message."""
    try:
        read()
    except ValueError as error:
        if not str(error):
            raise TracebackError(f"{type(error).__name__} without a message") from error


@dataclass(frozen=True)
class Kind:
    """`write` puts the input of a seed into an empty folder; `read` has everyone read it."""

    write: Callable[[Path, random.Random], None]
    read: Reader


# ------------------------------------------------------------------------------------------------- datasets and results


def coco_tree(*, lvis: bool = False) -> dict[str, Any]:
    """Three images with polygons, run lengths in both forms, a crowd; as LVIS with its keys."""
    images = [{"id": row, "file_name": f"{row}.png", "height": SIDE, "width": SIDE} for row in (1, 2, 3)]
    polygon = [[4.0, 4.0, 30.0, 4.0, 30.0, 20.0]]
    masks = [polygon, {"size": [SIDE, SIDE], "counts": [100, 50, SIDE * SIDE - 150]}, polygon, polygon]
    annotations: list[dict[str, Any]] = [
        {
            "id": row + 1,
            "image_id": row % 3 + 1,
            "category_id": row % 2 + 1,
            "bbox": [4, 4, 26, 16 + row],
            "area": 200.5,
        }
        | {"iscrowd": int(row == 1), "segmentation": mask}
        for row, mask in enumerate(masks)
    ]
    categories: list[dict[str, Any]] = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    if lvis:
        for image in images:
            image |= {"neg_category_ids": [2], "not_exhaustive_category_ids": [1]}
            image["coco_url"] = f"http://images.cocodataset.org/train/{image.pop('file_name')}"
        for category, frequency in zip(categories, "rf", strict=True):
            category |= {"frequency": frequency, "synset": "cat.n.01", "image_count": 2}
    return {"info": {"year": 2026}, "images": images, "annotations": annotations, "categories": categories}


def results_tree() -> list[dict[str, Any]]:
    """Boxes and masks as detectors write them."""
    counts = [100, 50, SIDE * SIDE - 150]
    return [
        {"image_id": row % 3 + 1, "category_id": row % 2 + 1, "bbox": [4.5, 4, 26, 17], "score": 0.9 - row / 10}
        | {"segmentation": {"size": [SIDE, SIDE], "counts": counts}}
        for row in range(4)
    ]


def write_images(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for row in (1, 2, 3):
        Image.fromarray(np.full((SIDE, SIDE, 3), 40 * row, np.uint8)).save(folder / f"{row}.png")


def spoilt_json(tree: Any, dice: random.Random) -> bytes:
    """Spoilt as a tree, or as text."""
    return as_json(spoilt_tree(tree, dice)) if dice.random() < 0.8 else spoilt_bytes(as_json(tree), dice)


def write_coco(folder: Path, dice: random.Random, *, lvis: bool = False) -> None:
    write_images(folder / "images")
    (folder / "truth.json").write_bytes(spoilt_json(coco_tree(lvis=lvis), dice))
    (folder / "results.json").write_bytes(as_json(results_tree()))


def read_dataset(source: Path, folder: Path, *, masks: bool) -> None:
    from rankdet.data import open_dataset

    def use() -> None:
        dataset = open_dataset(source, masks=masks)
        dataset.ground_truth()
        for row in range(min(2, len(dataset))):
            dataset[row]

    python(use)
    command("check", source, "--images", "--fix", folder / "repaired")


def read_coco(folder: Path) -> None:
    read_dataset(folder / "truth.json", folder, masks=True)
    command("eval", "--results", folder / "results.json", "--annotations", folder / "truth.json")
    command("eval", "--results", folder / "results.json", "--annotations", folder / "truth.json", "--iou-type", "segm")


def write_results(folder: Path, dice: random.Random) -> None:
    (folder / "truth.json").write_bytes(as_json(coco_tree()))
    (folder / "results.json").write_bytes(spoilt_json(results_tree(), dice))


def read_results(folder: Path) -> None:
    for subject in ("results", "proposals"):
        command("eval", f"--{subject}", folder / "results.json", "--annotations", folder / "truth.json")
    command("eval", "--results", folder / "results.json", "--annotations", folder / "truth.json", "--iou-type", "segm")
    command("eval", "--results", folder / "truth.json", "--annotations", folder / "results.json")


VOC = """<?xml version="1.0" encoding="UTF-8"?>
<annotation><folder>images</folder><filename>{row}.png</filename>
<size><width>48</width><height>48</height><depth>3</depth></size>
<object><name>cat</name><difficult>0</difficult><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>30</xmax><ymax>21.5</ymax></bndbox></object>
<object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>48</xmax><ymax>48</ymax></bndbox></object></annotation>"""
ENTITIES = (
    '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>',
    '<!DOCTYPE a [<!ENTITY a0 "x">' + "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(9)) + "]>",
)
ENCODINGS = ("UTF-16", "UTF-7", "EBCDIC-CP-US", "rot13", "zip", "idna", "latin-1", "no such", "hex", "unicode_escape")


def write_voc(folder: Path, dice: random.Random) -> None:
    for name in ("Annotations", "ImageSets/Main"):
        (folder / "voc" / name).mkdir(parents=True)
    write_images(folder / "voc" / "JPEGImages")
    for row in (1, 2, 3):
        text = VOC.format(row=row).encode()
        (folder / "voc" / "Annotations" / f"{row}.xml").write_bytes(text if row == 1 else spoilt_xml(text, dice))
    lines = b"1\n2 1\n3 -1\n"
    split = lines if dice.random() < 0.5 else spoilt_bytes(lines, dice)
    (folder / "voc" / "ImageSets" / "Main" / "train.txt").write_bytes(split)


def spoilt_xml(text: bytes, dice: random.Random) -> bytes:
    how = dice.randrange(5)
    if how == 0:
        return text.replace(b"UTF-8", dice.choice(ENCODINGS).encode())
    if how == 1:
        return text.replace(b"<annotation>", dice.choice(ENTITIES).encode() + b"<annotation>").replace(
            b"cat", b"&a9;&b;"
        )
    if how == 2:
        levels = dice.choice((1_000, 100_000))
        return text.replace(b"<object>", b"<a>" * levels + b"</a>" * levels + b"<object>", 1)
    return spoilt_bytes(text, dice)


def read_voc(folder: Path) -> None:
    read_dataset(folder / "voc", folder, masks=False)
    command("check", f"{folder / 'voc'}:train")


def write_yolo(folder: Path, dice: random.Random) -> None:
    described = {"path": ".", "train": "images", "val": "images", "nc": 2, "names": {0: "cat", 1: "dog"}}
    folder = folder / "yolo"
    (folder / "labels").mkdir(parents=True)
    write_images(folder / "images")
    text = b"0 0.5 0.5 0.25 0.5\n1 0.1 0.1 0.4 0.1 0.4 0.6\n1 0.25 0.25 0.5 0.5\n"
    spoils_labels = dice.random() < 0.6
    for row in (1, 2, 3):
        (folder / "labels" / f"{row}.txt").write_bytes(spoilt_bytes(text, dice) if spoils_labels else text)
    data = yaml.safe_dump(described).encode()
    if not spoils_labels:
        data = spoilt_json(described, dice) if dice.random() < 0.7 else spoilt_bytes(data, dice)
    (folder / "data.yaml").write_bytes(data)


def read_yolo(folder: Path) -> None:
    read_dataset(folder / "yolo" / "data.yaml", folder, masks=False)
    command("data", "convert", folder / "yolo" / "data.yaml", "--to", "coco", "--output", folder / "converted")


# ---------------------------------------------------------------------------------------------------------- pictures

FORMATS = ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "JPEG2000")


def bomb(width: int, height: int) -> bytes:
    """A small PNG whose header says that it is large."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def write_picture(folder: Path, dice: random.Random) -> None:
    kind = dice.randrange(6)
    if kind == 0:
        data = bomb(dice.choice((13_000, 2**31 - 1, 100, 0)), dice.choice((13_000, 2**31 - 1, 1)))
    elif kind == 1:
        data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(touched) (w) file closefile\nshowpage\n"
    else:
        buffer, rng = io.BytesIO(), np.random.default_rng(dice.randrange(2**31))
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, dice.choice(FORMATS))
        data = spoilt_bytes(buffer.getvalue(), dice)
    (folder / "1.png").write_bytes(data)
    tree = coco_tree()
    (folder / "truth.json").write_bytes(as_json({**tree, "images": tree["images"][:1], "annotations": []}))


def read_picture(folder: Path) -> None:
    from rankdet.data import read_image

    python(lambda: read_image(folder / "1.png"))
    command("check", folder / "truth.json", "--images")


# ------------------------------------------------------------------------------------------ configurations and weights

ALIASES = "a: &a0 [x, x]\n" + "".join(f"b{n}: &a{n + 1} [*a{n}, *a{n}, *a{n}, *a{n}]\n" for n in range(30))
TAGS = (
    "seed: !!python/object/apply:os.system ['touch touched']\n",
    *("seed: &a [*a]\n", "seed: !!timestamp x\n", "seed: 2026-99-99\n", "seed: !!binary x\n", "? [a]\n: 1\n"),
    *(
        ALIASES,
        "<<: [*a]\n",
        "a: " + "[" * 5_000,
        "a: " + "{a: " * 5_000,
        "output: ../../../x\n",
        "base: /etc/passwd\n",
    ),
    *("model: {class_path: os.system}\n", "model: {class_path: rankdet.train.run.TensorBoardLogger}\n"),
    "data: {train: {class_path: Shapes, init_args: {length: 1000000000000}}}\n",
    "model: {init_args: {head: {class_path: DenseHead, init_args: {stacked: 1000000}}}}\n",
)
CONFIG = {
    "model": {"class_path": "RetinaNet", "init_args": {"backbone": "test_resnet", "channels": 16}},
    "data": {
        "train": {"class_path": "Shapes", "init_args": {"length": 8, "seed": 0, "image_size": 64, "num_classes": 3}},
        "val": {"class_path": "Shapes", "init_args": {"length": 4, "seed": 1, "image_size": 64, "num_classes": 3}},
        "resize": "KeepSize",
        "batch_size": 4,
    },
    "optimiser": {"class_path": "SGD", "init_args": {"lr": 0.1}},
    "schedule": {"epochs": 1, "decay": {"class_path": "Steps", "init_args": {"milestones": [1]}}},
    "trainer": {"gradient_clip": 10.0},
}


def write_yaml(folder: Path, dice: random.Random) -> None:
    how = dice.random()
    if how < 0.25:
        data = (dice.choice(TAGS) + "schedule: {epochs: 1}\n").encode()
    elif how < 0.5:
        data = spoilt_bytes(yaml.safe_dump(CONFIG).encode(), dice)
    else:
        data = spoilt_json(CONFIG, dice)  # YAML as well
    (folder / "config.yaml").write_bytes(data)


def read_yaml(folder: Path) -> None:
    command("show", "config", "--config", folder / "config.yaml")


def checkpoint_tree() -> dict[str, Any]:
    """What a checkpoint of ``rankdet train`` has that its readers look at."""
    from rankdet.models import RetinaNet, spec_of

    torch.manual_seed(0)
    model = RetinaNet(num_classes=2, backbone="test_resnet", channels=16)
    record = {
        "version": VERSION,
        "model": spec_of(model),
        "categories": {"names": ["cat", "dog"], "ids": [1, 2]},
        "thresholds": {"1": 0.3, "2": 0.4},
        "image_size": {"rule": "shorter", "short": 64, "long": 128},
        "metrics": {"AP": 0.3, "oLRP": 0.7},
    }
    return {
        "state_dict": {f"model.{name}": value for name, value in model.state_dict().items()},
        "rankdet": record,
        "epoch": 0,
        "global_step": 2,
        "callbacks": {"LeaveOutNonFinite": {"steps": [1]}},
        "rankdet_progress": {"batches_seen": 2, "batches_per_epoch": 2, "settings": {"schedule.epochs": 1}},
        "optimizer_states": [],
    }


PLANS: tuple[Mapping[str, Any], ...] = (
    {"class_path": "rankdet.train.run.TensorBoardLogger", "init_args": {"save_dir": "/tmp/outside"}},
    {"class_path": "torch.nn.Linear", "init_args": {"in_features": 1, "out_features": 1}},
    {"class_path": "subprocess.Popen", "init_args": {"args": "touch touched"}},
    {"class_path": "rankdet.models.RetinaNet", "init_args": {"num_classes": 10**9, "backbone": "test_resnet"}},
    {"class_path": "RetinaNet", "init_args": {"num_classes": 2, "backbone": "test_resnet", "channels": 10**6}},
    {"class_path": "RetinaNet", "init_args": {"num_classes": 2, "backbone": "../../x", "channels": 16}},
    {
        "class_path": "RetinaNet",
        "init_args": {"num_classes": 2, "backbone": "test_resnet", "channels": 16}
        | {"head": {"class_path": "rankdet.nn.DenseHead", "init_args": {"stacked": 10**6}}},
    },
)


class Payload:
    """Pickled, it is a call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("touched"),))


def write_checkpoint(folder: Path, dice: random.Random) -> None:
    tree, how, place = checkpoint_tree(), dice.random(), folder / "last.ckpt"
    record = tree["rankdet"]
    if how < 0.2:
        record["model"] = dice.choice(PLANS)
    elif how < 0.3:
        record[dice.choice(list(record))] = Payload()
    elif how < 0.8:
        part = dice.choice(("rankdet", "rankdet", "rankdet", "rankdet_progress", ""))
        if part:
            tree[part] = spoilt_tree(tree[part], dice)
        else:
            tree = spoilt_tree(tree, dice)
    with contextlib.suppress(RecursionError, UnicodeError):  # pickle does not write what is nested deeply
        torch.save(tree, place)
    data = place.read_bytes()
    if how >= 0.9:
        place.write_bytes(spoilt_bytes(data, dice))
    elif how >= 0.8:
        place.write_bytes(spoilt_bytes(pickle.dumps({"a": 1}), dice))
    shutil.copy(place, folder / "best.ckpt")
    write_images(folder / "images")
    write_numbers(folder, dice)


def write_numbers(folder: Path, dice: random.Random) -> None:
    """The other files of a run."""
    metrics = b"step,epoch,loss,lr,AP\n0,0,1.5,0.1,\n1,0,1.25,0.1,0.3\n"
    (folder / "metrics.csv").write_bytes(spoilt_bytes(metrics, dice))
    run = {"sessions": [{"step": 0, "processes": 1, "device": "cpu", "changed": [], "outcome": "finished"}]}
    (folder / "run.json").write_bytes(spoilt_json(run, dice))
    (folder / "best.json").write_bytes(spoilt_json({"AP": 0.3, "per_class": {}}, dice))


def read_checkpoint(folder: Path) -> None:
    from rankdet import Predictor
    from rankdet.report.training import training_curves
    from rankdet.train.metrics_file import MetricsFile

    command("show", "run", folder)
    python(lambda: Predictor.load(folder / "last.ckpt"))
    command("predict", folder / "images", "--checkpoint", folder / "last.ckpt", "--output", folder / "out")
    command("calibrate", "--checkpoint", folder / "last.ckpt", "--output", folder / "calibrated.ckpt")
    python(lambda: training_curves(folder / "metrics.csv"))
    python(lambda: MetricsFile(folder / "metrics.csv", last_step=5))


def write_folder(folder: Path, dice: random.Random) -> None:
    """A folder of `Predictor.save_pretrained`; what it says of itself is spoilt, or the weights are."""
    from rankdet.ops.checkpoint import model_weights
    from rankdet.ops.pretrained import CONFIG, WEIGHTS, write_pretrained

    tree, how = checkpoint_tree(), dice.random()
    if how < 0.2:
        tree["rankdet"]["model"] = dice.choice(PLANS)
    with contextlib.suppress(ValueError):
        write_pretrained(folder / "model", tree["rankdet"], model_weights(tree), versions={})
    config, weights = folder / "model" / CONFIG, folder / "model" / WEIGHTS
    if 0.2 <= how < 0.9:
        config.write_bytes(spoilt_json(json.loads(config.read_bytes()), dice))
    elif how >= 0.9:
        weights.write_bytes(spoilt_bytes(weights.read_bytes(), dice))
    write_images(folder / "images")


def read_folder(folder: Path) -> None:
    from rankdet import Predictor

    python(lambda: Predictor.load(folder / "model"))
    command("predict", folder / "images", "--checkpoint", folder / "model", "--output", folder / "out", "--tiles", 32)


def write_safetensors(folder: Path, dice: random.Random) -> None:
    from safetensors.torch import save

    data = save({"conv1.weight": torch.zeros(4, 3, 3, 3), "bn1.bias": torch.ones(4)})
    length = struct.unpack("<Q", data[:8])[0]
    header, rest = data[8 : 8 + length], data[8 + length :]
    how = dice.random()
    if how < 0.6:
        header = spoilt_json(json.loads(header), dice)
        data = struct.pack("<Q", len(header)) + header + rest
    elif how < 0.7:
        data = struct.pack("<Q", dice.choice((0, 2**40, 2**64 - 1))) + header + rest
    else:
        data = spoilt_bytes(data, dice)
    (folder / "weights.safetensors").write_bytes(data)


def read_safetensors(folder: Path) -> None:
    from rankdet.nn import TimmBackbone

    python(lambda: TimmBackbone("test_resnet", weights=folder / "weights.safetensors"))


KINDS = {
    "COCO": Kind(write_coco, read_coco),
    "LVIS": Kind(lambda folder, dice: write_coco(folder, dice, lvis=True), read_coco),
    "VOC": Kind(write_voc, read_voc),
    "YOLO": Kind(write_yolo, read_yolo),
    "results": Kind(write_results, read_results),
    "images": Kind(write_picture, read_picture),
    "YAML": Kind(write_yaml, read_yaml),
    "checkpoints": Kind(write_checkpoint, read_checkpoint),
    "folders": Kind(write_folder, read_folder),
    "safetensors": Kind(write_safetensors, read_safetensors),
}
