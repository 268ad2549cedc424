"""Exported transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from rankdet import Predictor
from rankdet.export import ExportedDetector, ExportedGraph, compare, export
from rankdet.models import ConditionalDETR, DeformableDETR, DEIMv2, Detector, RFDETRSegmentation, RTDETRv2

NARROW = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
TRANSFORMERS = {
    "RT-DETRv2": (
        RTDETRv2,
        {"d_model": 32, "encoder_hidden_dim": 32, "decoder_in_channels": [32] * 3, "decoder_layers": 2},
    ),
    "Conditional DETR": (ConditionalDETR, NARROW),
    "Deformable DETR": (DeformableDETR, NARROW),
    "DEIMv2": (
        DEIMv2,
        {
            **{"d_model": 32, "decoder_ffn_dim": 32, "encoder_ffn_dim": 32, "decoder_layers": 2, "depth_mult": 0.34},
            **{"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_hidden_dim": 32},
            **{"decoder_in_channels": [32] * 3, "hidden_expansion": 0.5},
        },
    ),
}


def transformer(name: str) -> Detector:
    pytest.importorskip("transformers", reason="the extra [transformers] is not installed")
    torch.manual_seed(0)
    recipe, options = TRANSFORMERS[name]
    model = recipe(num_classes=3, backbone="test_resnet", queries=20, options=options).eval()
    for name_of, parameter in model.named_parameters():
        if name_of.endswith("enc_score_head.weight"):
            nn.init.normal_(parameter, std=0.5)  # no two places have the same score, so that all agree on the best
    return model


@torch.no_grad()
def test_a_transformer_has_fixed_outputs_already(tmp_path: Path):
    model, images = transformer("RT-DETRv2"), torch.rand(2, 3, 64, 96)
    boxes, scores, labels = ExportedGraph(model)(images)
    for row, found in enumerate(model(list(images))):
        number = len(found["boxes"])
        torch.testing.assert_close(boxes[row, :number], found["boxes"])
        torch.testing.assert_close(scores[row, :number], found["scores"])
        assert torch.equal(labels[row, :number], found["labels"])
        assert 20 < number <= len(labels[row]) == model.postprocess.max_detections
    with pytest.raises(ValueError, match="RTDETRv2 lays its queries or cells over images of one size"):
        export(Predictor(model), tmp_path / "a.pt2", size=None, form="torch")


@torch.no_grad()
def test_masks_of_queries_go_with_their_detections():
    pytest.importorskip("transformers", reason="the extra [transformers] is not installed")
    torch.manual_seed(0)
    dino = {"model_type": "rf_detr_dinov2", "hidden_size": 32, "num_attention_heads": 2, "patch_size": 8}
    dino |= {"num_hidden_layers": 2, "num_windows": 2, "out_features": ["stage1", "stage2"]}
    options = {"backbone_config": dino, "d_model": 32, "group_detr": 1}
    model = RFDETRSegmentation(num_classes=3, queries=20, options=options).eval()
    images = torch.rand(2, 3, 64, 64)
    *_, masks = ExportedGraph(model)(images)
    for row, found in enumerate(model(list(images))):
        drawn = masks[row, : len(found["masks"])]
        grown = nn.functional.interpolate(drawn[:, None], size=(64, 64), mode="bilinear", align_corners=False)[:, 0]
        assert ((grown > 0.5) == found["masks"]).float().mean() > 0.95, "grown as probabilities, not as logits"
        assert 0 < found["masks"].float().mean() < 1


@pytest.mark.long
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_files_of_transformers(name: str, tmp_path: Path):
    pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
    predictor = Predictor(transformer(name))
    export(predictor, tmp_path / "a.onnx", size=(64, 96))
    parity = compare(predictor.detect, ExportedDetector(tmp_path / "a.onnx"), [torch.rand(3, 64, 96)] * 2)
    assert parity.within(), parity
    assert parity.detections > 20
