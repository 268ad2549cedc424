"""From images to detections in their own pixels, and to COCO results."""

from __future__ import annotations

from pathlib import Path

import pycocotools.mask
import pytest
import torch
from PIL import Image
from torch import nn

from rankdet.data import Categories, CorruptImageError, ResizeExactly
from rankdet.eval.inference import (
    above,
    class_thresholds,
    predict,
    rescale,
    to_results,
    without_score_threshold,
)


class WholeImage(nn.Module):
    """Finds one object that fills the left half of the image, and notes how it was called."""

    def __init__(self):
        super().__init__()
        self.batches: list[list[tuple[int, ...]]] = []

    def forward(self, images):
        self.batches.append([tuple(image.shape) for image in images])
        return [
            {
                "boxes": torch.tensor([[0.0, 0.0, image.shape[2] / 2, image.shape[1]]]),
                "labels": torch.tensor([1]),
                "scores": torch.tensor([0.75]),
            }
            for image in images
        ]


def test_boxes_come_in_the_pixels_of_each_image():
    model = WholeImage().eval()
    images = [torch.zeros(3, height, width, dtype=torch.uint8) for height, width in ((40, 60), (10, 80), (33, 7))]
    found = list(predict(model, images, resize=ResizeExactly(height=32, width=64), batch_size=2))
    assert [len(batch) for batch in model.batches] == [2, 1]
    assert {size for batch in model.batches for size in batch} == {(3, 32, 64)}
    assert [detection["boxes"].tolist() for detection in found] == [
        [[0, 0, 30, 40]],
        [[0, 0, 40, 10]],
        [[0, 0, 3.5, 33]],
    ]


def test_files_and_tensors_alike(tmp_path: Path):
    Image.new("L", (20, 10)).save(tmp_path / "grey.png")
    found = list(
        predict(WholeImage().eval(), [tmp_path / "grey.png", str(tmp_path / "grey.png"), torch.zeros(3, 10, 20)])
    )
    assert [detection["boxes"].tolist() for detection in found] == [[[0, 0, 10, 10]]] * 3


def test_what_cannot_be_predicted(tmp_path: Path):
    (tmp_path / "x.png").write_text("no image")
    with pytest.raises(CorruptImageError, match=r"x\.png"):
        list(predict(WholeImage().eval(), [tmp_path / "x.png"]))
    with pytest.raises(ValueError, match="training mode"):
        list(predict(WholeImage(), []))
    with pytest.raises(ValueError, match="batch_size"):
        list(predict(WholeImage().eval(), [], batch_size=0))


def test_thresholds_for_all_and_by_class():
    found = {
        "labels": torch.tensor([0, 1, 0, 1]),
        "scores": torch.tensor([0.9, 0.5, 0.25, 0.1]),
        "boxes": torch.ones(4, 4),
    }
    assert above(found, None) is found
    assert above(found, 0.25)["scores"].tolist() == [pytest.approx(0.9), 0.5, 0.25]
    assert above(found, [0.5, 0.1])["labels"].tolist() == [0, 1, 1]
    assert above(found, [0.2, 0.6])["boxes"].shape == (2, 4)


def test_scores_beyond_float32_stay_ordered():
    logits = torch.tensor([30.0, 25.0, 20.0])
    found = {"boxes": torch.ones(3, 4), "labels": torch.zeros(3).long(), "scores": logits.sigmoid(), "logits": logits}
    assert len(set(found["scores"].tolist())) == 1, "float32 tells them apart, so nothing is tested"
    scores = [row["score"] for row in to_results(found, image_id=1, categories=Categories(("a",), (5,)))]
    assert scores[0] > scores[1] > scores[2]


def test_results_have_original_ids_and_sizes():
    found = {
        "boxes": torch.tensor([[1.0, 2.0, 11.0, 22.0], [0.0, 0.0, 1.0, 1.0]]),
        "labels": torch.tensor([1, 0]),
        "scores": torch.tensor([0.5, 0.25]),
    }
    rows = to_results(found, image_id=139, categories=Categories(names=("cat", "dog"), ids=(17, 3)))
    assert rows == [
        {"image_id": 139, "category_id": 3, "bbox": [1, 2, 10, 20], "score": 0.5},
        {"image_id": 139, "category_id": 17, "bbox": [0, 0, 1, 1], "score": 0.25},
    ]


def test_masks_are_scaled_and_written_as_run_lengths():
    masks = torch.zeros(1, 8, 8, dtype=torch.bool)
    masks[0, :, :4] = True
    found = {
        "boxes": torch.tensor([[0.0, 0.0, 4.0, 4.0]]),
        "labels": torch.tensor([0]),
        "scores": torch.tensor([0.5]),
        "masks": masks,
    }
    large = rescale(found, from_size=(8, 8), to_size=(16, 24))
    (row,) = to_results(large, image_id=1, categories=Categories(("a",), (1,)))
    mask = torch.from_numpy(pycocotools.mask.decode(row["segmentation"]))
    assert mask.shape == (16, 24)
    assert mask[:, :12].all()
    assert not mask[:, 12:].any()
    assert isinstance(row["segmentation"]["counts"], str)


def test_classes_without_a_threshold_get_the_strictest():
    categories = Categories(names=("a", "b", "c"), ids=(4, 7, 9))
    assert class_thresholds({"7": 0.3, "4": 0.6}, categories) == [0.6, 0.3, 0.6]
    assert class_thresholds({}, categories) == [0.0, 0.0, 0.0]


def test_the_stated_threshold_comes_back():
    class Postprocess:
        score_threshold = 0.4

    model = nn.Module()
    model.postprocess = Postprocess()
    with without_score_threshold(model) as stated:
        assert (stated, model.postprocess.score_threshold) == (0.4, None)
    assert model.postprocess.score_threshold == 0.4
    with without_score_threshold(nn.Module()) as stated:
        assert stated is None


def test_no_detection_can_be_rescaled():
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long(), "masks": torch.zeros(0, 8, 8).bool()}
    large = rescale(nothing, from_size=(8, 8), to_size=(16, 24))
    assert (large["boxes"].shape, large["masks"].shape) == ((0, 4), (0, 16, 24))
