"""Exported detectors give what the detectors give."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rankdet import Predictor
from rankdet.cli import main
from rankdet.data import Categories, ResizeExactly
from rankdet.eval import evaluate
from rankdet.eval.inference import to_results
from rankdet.eval.score_mapping import Affine, ScoreMapping, Table, scores_of
from rankdet.export import ExportedDetector, ExportedGraph, compare, export
from rankdet.export.fixed import _survivors, survivors_of_any
from rankdet.export.mapped_scores import MappedScores
from rankdet.models import (
    FCOS,
    PAA,
    YOLACT,
    CascadeMaskRCNN,
    CutLast,
    Detector,
    FasterRCNN,
    MaskRCNN,
    Postprocess,
    RetinaNet,
    SOLOv2,
    fcos_criterion,
    paa_criterion,
    smooth_softmax_criterion,
    softmax_criterion,
    yolact_criterion,
)
from rankdet.nn import DenseHead
from rankdet.nn.solov2 import KernelHead

SMALL = {"num_classes": 3, "backbone": "test_resnet", "channels": 16}
CELLS = {"head": partial(KernelHead, grids=(12, 10, 8, 6, 4), width=16, stacked=1, kernel_channels=8)}
Detect = Callable[[list[torch.Tensor]], list[dict[str, torch.Tensor]]]
RECIPES = {
    "RetinaNet": (RetinaNet, {"postprocess": CutLast(score_threshold=0.01, max_detections=30)}),
    "PAA": (PAA, {"criterion": paa_criterion()}),
    "FCOS": (FCOS, {"criterion": fcos_criterion()}),
    "Faster R-CNN": (FasterRCNN, {"criterion": softmax_criterion(), "postprocess": Postprocess(score_threshold=0.5)}),
    "Cascade Mask R-CNN": (CascadeMaskRCNN, {"criterion": smooth_softmax_criterion()}),
    "YOLACT": (YOLACT, {"criterion": yolact_criterion()}),
    "SOLOv2": (SOLOv2, CELLS),
}
SIZE = (96, 128)


def lively(recipe: Callable[..., Detector], **settings: object) -> Detector:
    torch.manual_seed(0)
    model = recipe(**{**SMALL, **settings}).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(("classify.weight", "judge.weight")):
            nn.init.normal_(parameter, std=0.3)
    return model


def isotonic(classes: int = 3) -> ScoreMapping:
    """Tables that turn the order of the classes round, one class with a line."""
    tables = [Table((-6.0, -4.0, -1.0, 0.5 * k), (0.01, 0.1 * k, 0.3 + 0.1 * k, 0.9)) for k in range(1, classes)]
    limits = (0.5,) * classes
    ids = tuple(range(1, classes + 1))
    return ScoreMapping("isotonic", ids, ("",) * classes, (Affine(0.5, -1.0), *tables), limits, limits)


@given(values=st.lists(st.tuples(st.floats(-20, 20, width=32), st.integers(0, 2)), min_size=1, max_size=20))
def test_tables_in_a_graph_are_those_of_numpy(values):
    logits, labels = (torch.tensor(column) for column in zip(*values, strict=True))
    expected = scores_of(isotonic()(logits.double().numpy(), labels.numpy()))
    torch.testing.assert_close(
        MappedScores(isotonic())(logits.float(), labels).double(), torch.from_numpy(expected), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("name", ["RetinaNet", "YOLACT"])
@torch.no_grad()
def test_a_mapping_of_scores_is_in_the_graph(name: str):
    recipe, settings = RECIPES[name]
    predictor = Predictor(lively(recipe, **settings), mapping=isotonic())
    images = torch.rand(2, 3, *SIZE)
    boxes, scores, labels, *masks = ExportedGraph(predictor.model, predictor.mapping)(images)
    plain = ExportedGraph(predictor.model)(images)
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    assert not torch.equal(labels, plain[2])
    for row, found in enumerate(predictor.detect(list(images))):
        for label in range(3):
            of_class, expected = scores[row][labels[row] == label], found["scores"][found["labels"] == label]
            number = min(len(of_class), len(expected))  # equal logits at the limit are either's
            assert len(of_class) + len(expected) <= 2 * number + 1
            torch.testing.assert_close(of_class[:number], expected[:number], atol=1e-4, rtol=0)
    for row in range(2):
        parts, originals = (
            torch.cat([part[row].flatten(1).double() for part in (found[0], found[2][..., None], *found[3:])], 1)
            for found in ((boxes, scores, labels, *masks), plain)
        )
        assert set(map(tuple, parts.tolist())) == set(map(tuple, originals.tolist()))


@pytest.mark.parametrize("name", RECIPES)
@torch.no_grad()
def test_fixed_outputs_are_the_detections(name: str):
    recipe, settings = RECIPES[name]
    model = lively(recipe, **settings)
    images = torch.rand(2, 3, *SIZE)
    boxes, scores, labels, *masks = ExportedGraph(model)(images)
    for row, found in enumerate(model(list(images))):
        number = len(found["boxes"])
        assert 5 < number <= scores.shape[1]
        torch.testing.assert_close(scores[row, :number], found["scores"])
        assert torch.equal(labels[row, :number], found["labels"])
        far = (boxes[row, :number] - found["boxes"]).abs().amax(1)
        close = far < (4.0 if name == "SOLOv2" else 1e-3)  # boxes around masks are exact to a cell
        assert close.float().mean() >= 0.85, "equal scores may change places"
        assert bool((scores[row, number:] == 0).all())
        assert bool((labels[row, number:] == -1).all())
    assert bool(masks) == model.needs_masks


def truth_and_ap(model: Detect, other: Detect, images: list[torch.Tensor]) -> float:
    """AP of one detector where the other's twenty best detections are the objects."""
    categories = Categories.from_names(["a", "b", "c"])
    entries = [{"id": number, "name": name} for name, number in zip(categories.names, categories.ids, strict=True)]
    objects, results = [], []
    for number, image in enumerate(images, start=1):
        best = {key: value[:20] for key, value in model([image])[0].items() if key in ("boxes", "labels", "scores")}
        objects += to_results(best, image_id=number, categories=categories)
        found = {key: value for key, value in other([image])[0].items() if key != "masks"}
        results += to_results(found, image_id=number, categories=categories)
    for number, entry in enumerate(objects, start=1):
        entry |= {"id": number, "iscrowd": 0, "area": entry["bbox"][2] * entry["bbox"][3]}
    pictures = [{"id": number, "height": SIZE[0], "width": SIZE[1]} for number in range(1, len(images) + 1)]
    return evaluate({"images": pictures, "annotations": objects, "categories": entries}, results).metrics["AP"]


EXPORTS = [
    pytest.param(RetinaNet, {"head": partial(DenseHead, stacked=1)}, "a.onnx", marks=pytest.mark.slow, id="ONNX"),
    pytest.param(FasterRCNN, {"criterion": softmax_criterion()}, "a.onnx", marks=pytest.mark.long, id="regions"),
    pytest.param(MaskRCNN, {}, "a.onnx", marks=pytest.mark.long, id="ONNX with masks of boxes"),
    pytest.param(SOLOv2, CELLS, "a.onnx", marks=pytest.mark.long, id="ONNX with masks alone"),
    pytest.param(RetinaNet, {"head": partial(DenseHead, stacked=1)}, "a.pt2", marks=pytest.mark.long, id="torch"),
    pytest.param(YOLACT, {}, "a.pt2", marks=pytest.mark.long, id="torch with masks of images"),
]


@pytest.mark.parametrize(("recipe", "settings", "file"), EXPORTS)
@torch.no_grad()
def test_files_give_the_same_ap(recipe: type, settings: dict, file: str, tmp_path: Path):
    if file.endswith("onnx"):
        for library in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(library, reason="the extra [export] is not installed")
    model = lively(recipe, **settings)
    filling = ResizeExactly(height=SIZE[0], width=SIZE[1])
    mapping = isotonic() if recipe is RetinaNet else None
    predictor = Predictor(model, resize=filling, thresholds={1: 0.3, 2: 0.4, 3: 0.5}, mapping=mapping)
    export(predictor, tmp_path / file, size=SIZE, form="onnx" if file.endswith("onnx") else "torch")
    exported = ExportedDetector(tmp_path / file)
    images = [torch.rand(3, *SIZE) for _ in range(2)]
    parity = compare(predictor.detect, exported, images)
    assert parity.within(), parity
    assert parity.detections > 20
    assert compare(model, exported, images).within() == (mapping is None)
    ap, expected = (truth_and_ap(predictor.detect, other, images) for other in (exported, predictor.detect))
    assert abs(ap - expected) < 1e-3
    ours, theirs = predictor, exported.predictor()
    assert (theirs.categories, theirs.thresholds) == (ours.categories, ours.thresholds)
    picture = torch.randint(0, 256, (3, 60, 70), dtype=torch.uint8)
    assert len(theirs(picture, threshold=None)["boxes"]) == len(ours(picture, threshold=None)["boxes"]) > 0
    if model.needs_masks:
        assert theirs(picture, threshold=None)["masks"].shape[1:] == (60, 70)


class Strided(nn.Module):
    """A backbone of next to nothing."""

    def __init__(self, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.strides, self.channels = strides, (8,) * len(strides)
        self.stem = nn.Conv2d(3, 8, strides[0], stride=strides[0])
        self.further = nn.ModuleList(nn.Conv2d(8, 8, 3, stride=2, padding=1) for _ in strides[1:])

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        maps = [self.stem(pixels)]
        for layer in self.further:
            maps.append(layer(maps[-1]).tanh())
        return maps


ANY = [
    pytest.param(RetinaNet, {"head": partial(DenseHead, stacked=1)}, (8, 16, 32), "a.onnx", id="ONNX"),
    pytest.param(MaskRCNN, {}, (4, 8, 16, 32), "a.pt2", id="torch with masks of boxes"),
    pytest.param(FasterRCNN, {"criterion": softmax_criterion()}, (4, 8, 16, 32), "a.onnx", id="ONNX of regions"),
]


@pytest.mark.long
@pytest.mark.parametrize(("recipe", "settings", "strides", "file"), ANY)
@torch.no_grad()
def test_files_for_any_size(recipe: type, settings: dict, strides: tuple[int, ...], file: str, tmp_path: Path):
    if file.endswith("onnx"):
        pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
    predictor = Predictor(lively(recipe, **settings, backbone=Strided(strides)))
    export(predictor, tmp_path / file, size=None, batch=None, form="onnx" if file.endswith("onnx") else "torch")
    exported = ExportedDetector(tmp_path / file)
    images = [torch.rand(3, *size) for size in ((192, 256), (256, 192), (203, 331)) for _ in range(2)]
    parity = compare(predictor.detect, exported, images, together=2)
    assert parity.within(), parity
    assert parity.detections > 20
    assert exported.predictor().resize.to_dict() == predictor.resize.to_dict()
    with pytest.raises(ValueError, match="160 to 4096 pixels a side; got"):
        exported([torch.rand(3, 64, 512)])


def test_anchors_for_one_size_are_refused_for_any(tmp_path: Path):
    with pytest.raises(ValueError, match="YOLACT has anchors that are not whole pixels apart"):
        export(Predictor(lively(YOLACT)), tmp_path / "a.pt2", size=None, form="torch")


def test_suppression_of_any_number_of_images_is_that_of_each():
    corners = torch.rand(3, 60, 2, generator=torch.Generator().manual_seed(0)) * 50
    boxes = torch.cat((corners, corners + 20), 2)
    kept = survivors_of_any(boxes, 0.5)
    assert torch.equal(kept, _survivors(boxes, 0.5))
    assert 3 < kept.sum() < 180


def test_differences_are_found():
    class Shifted(nn.Module):
        def __init__(self, by: float) -> None:
            super().__init__()
            self.by = by

        def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
            boxes = torch.tensor([[10.0, 10, 90, 90], [0, 0, 50, 50]]) + self.by
            found = {"boxes": boxes, "labels": torch.tensor([0, 1]), "scores": torch.tensor([0.9, 0.8])}
            return [found for _ in images]

    image = [torch.zeros(3, 8, 8)]
    assert compare(Shifted(0), Shifted(0.05), image).within()
    assert not compare(Shifted(0), Shifted(0.5), image).within()
    assert compare(Shifted(0), Shifted(30), image).alone == 2


def test_parts_without_a_fixed_form_are_named():
    class Other(Postprocess):
        pass

    with pytest.raises(ValueError, match="Other cannot be exported; known are Postprocess, CutLast"):
        ExportedGraph(lively(RetinaNet, postprocess=Other()))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--checkpoint", "a", "--output", "a.onnx"], "--size HxW is needed"),
        (["--checkpoint", "a", "--output", "a.onnx", "--size", "12"], "must be HEIGHTxWIDTH"),
        (["--checkpoint", "a", "--output", "a.pt", "--size", "64x64"], "must end in .onnx"),
        (["--checkpoint", "a", "--output", "a.pt", "--size", "64x64", "--format", "onx"], "did you mean onnx"),
        (
            ["--checkpoint", "a", "--output", "a.onnx", "--size", "64x64", "--precision", "16"],
            "known are 32-true and 16",
        ),
    ],
)
def test_wrong_options_say_so(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    assert main(["export", *arguments]) == 2
    assert said in capsys.readouterr().err
