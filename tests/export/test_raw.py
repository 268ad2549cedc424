"""Graphs without suppression, and the suppression that the documentation shows for them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rankdet import Predictor
from rankdet.export import About, ExportedDetector, ExportedGraph, compare, export
from rankdet.export.about import Suppression
from rankdet.export.raw import suppressed
from rankdet.models import (
    PAA,
    CutLast,
    FasterRCNN,
    MaskRCNN,
    Postprocess,
    RetinaNet,
    TopPostprocess,
    paa_criterion,
    softmax_criterion,
)
from tests.export.test_export import SIZE, isotonic, lively

PAGE = Path(__file__).parent.parent.parent / "docs" / "export.md"
CHOSEN = Postprocess(score_threshold=0.01, nms_threshold=0.4, max_detections=30)
DETECTORS = {
    "RetinaNet": (RetinaNet, {}),
    "Faster R-CNN": (FasterRCNN, {"criterion": softmax_criterion()}),
}


def shown() -> Callable[..., np.ndarray]:
    """The suppression of the page."""
    known: dict[str, Any] = {}
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    exec(compile(block, PAGE.name, "exec"), known)
    return known["suppress"]


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("mapping", [None, isotonic()], ids=["plain", "calibrated"])
@torch.no_grad()
def test_what_the_page_shows_gives_the_detections(name: str, mapping: Any):
    recipe, settings = DETECTORS[name]
    predictor = Predictor(lively(recipe, **settings, postprocess=CHOSEN), mapping=mapping)
    images = torch.rand(2, 3, *SIZE)
    graph = ExportedGraph(predictor.model, predictor.mapping, raw=True)
    assert predictor.model.postprocess is CHOSEN, "the detector itself stays as it is"
    outputs = graph(images)
    left = About.from_json(About(SIZE, 1, (), (), suppression=graph.suppression).to_json()).suppression
    for found, *candidates in zip(predictor.detect(list(images)), *outputs, strict=True):
        boxes, scores, labels = (part.numpy() for part in candidates)
        rows = shown()(boxes, scores, labels, nms_threshold=left.nms_threshold, max_detections=left.max_detections)
        assert 5 < len(rows) == len(found["boxes"]) < (labels >= 0).sum()
        torch.testing.assert_close(torch.from_numpy(scores[rows]), found["scores"], atol=1e-5, rtol=0)
        same = (torch.from_numpy(boxes[rows]) - found["boxes"]).abs().amax(1) < 1e-3
        assert same.float().mean() >= 0.85, "equal scores may change places"


def test_both_suppressions_are_the_same():
    numbers = torch.Generator().manual_seed(0)
    corners = torch.randint(0, 30, (200, 2), generator=numbers).float()
    boxes = torch.cat((corners, corners + torch.randint(0, 20, (200, 2), generator=numbers)), 1)
    scores = torch.randint(0, 5, (200,), generator=numbers) / 5
    labels = torch.randint(0, 2, (200,), generator=numbers)
    rows = suppressed(boxes, scores, labels, Suppression(0.4, 50))
    told = shown()(boxes.numpy(), scores.numpy(), labels.numpy(), nms_threshold=0.4, max_detections=50)
    assert rows.tolist() == told.tolist()
    assert len(rows) == 50
    assert len(suppressed(boxes, scores, labels, Suppression(0.4, 500))) < 200


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: lively(MaskRCNN), "MaskRCNN draws the masks of what suppression leaves"),
        (lambda: lively(PAA, criterion=paa_criterion()), "VotingPostprocess of PAA does more than to suppress"),
        (lambda: lively(RetinaNet, postprocess=CutLast()), "CutLast of RetinaNet does more"),
        (lambda: lively(RetinaNet, postprocess=TopPostprocess()), "RetinaNet suppresses nothing, so its graph is the"),
    ],
)
def test_what_is_more_than_suppression_is_refused(build: Callable[[], Any], reason: str):
    with pytest.raises(ValueError, match=reason):
        ExportedGraph(build(), raw=True)


@pytest.mark.long
@pytest.mark.parametrize("file", ["a.onnx", "a.pt2"])
@torch.no_grad()
def test_a_raw_file_is_a_detector(file: str, tmp_path: Path):
    if file.endswith("onnx"):
        pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
    predictor = Predictor(lively(FasterRCNN, criterion=softmax_criterion(), postprocess=CHOSEN), mapping=isotonic())
    form = "onnx" if file.endswith("onnx") else "torch"
    about = export(predictor, tmp_path / file, size=SIZE, raw=True, form=form)
    exported = ExportedDetector(tmp_path / file)
    assert exported.about == about
    assert about.suppression == Suppression(0.4, 30)
    parity = compare(predictor.detect, exported, [torch.rand(3, *SIZE) for _ in range(2)])
    assert parity.within(), parity
    assert parity.detections > 20
