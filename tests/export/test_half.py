"""Exported detectors in half precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rankdet import Predictor
from rankdet.export import BOUNDS, ExportedDetector, ExportedGraph, compare, export
from rankdet.export.half import in_half
from rankdet.models import FCOS, FasterRCNN, fcos_criterion, softmax_criterion
from tests.export.test_export import SIZE, lively


@torch.no_grad()
def test_half_precision_is_near_and_smaller():
    model, images = lively(FCOS, criterion=fcos_criterion()), [torch.rand(3, *SIZE) for _ in range(2)]
    half = in_half(model)
    parity = compare(model, half, images)
    assert parity.within(BOUNDS["16-mixed"]), parity
    assert not parity.within(BOUNDS["32-true"]), "something is in half precision"
    assert parity.detections > 100
    sizes = [sum(weight.nbytes for weight in each.parameters()) for each in (model, half)]
    assert sizes[1] < 0.6 * sizes[0]
    found = [ExportedGraph(each)(torch.stack(images)) for each in (model, half)]
    assert [part.dtype for part in found[1]] == [part.dtype for part in found[0]]
    assert all(weight.dtype == torch.float32 for weight in model.parameters()), "the detector itself stays as it is"


@pytest.mark.long
@torch.no_grad()
def test_a_file_in_half_precision(tmp_path: Path):
    pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
    predictor = Predictor(lively(FasterRCNN, criterion=softmax_criterion()))
    about = export(predictor, tmp_path / "half.onnx", size=SIZE, precision="16-mixed")
    parity = compare(predictor.detect, ExportedDetector(tmp_path / "half.onnx"), [torch.rand(3, *SIZE)] * 2)
    assert parity.within(BOUNDS[about.precision]), parity
    assert parity.detections > 20
    export(predictor, tmp_path / "full.onnx", size=SIZE)
    assert (tmp_path / "half.onnx").stat().st_size < 0.7 * (tmp_path / "full.onnx").stat().st_size
