"""Mask Scoring R-CNN: what masks are judged by, what is learned from that, and their own scores in evaluation."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from rankdet.assign import InstanceTruth
from rankdet.data import Categories
from rankdet.eval import DetectionMetric, evaluate
from rankdet.eval.inference import above, boxes_only, to_results
from rankdet.models import MaskScoringRCNN, softmax_criterion
from rankdet.models.region.mask_branch import Drawing, MaskStep, Regions, mask_targets
from rankdet.models.region.mask_scoring import mask_overlaps
from tests.models.test_every_pair import make, target
from tests.reference.masks import mask_iou

SIDE = 12


def a_step(*, images: int = 2, objects: int = 20, regions: int = 30) -> tuple[MaskStep, InstanceTruth]:
    """Regions that show their objects whole, in part or not at all; more objects than are added up at once."""
    torch.manual_seed(0)
    targets = [target(objects, 60) for _ in range(images)]
    targets[0]["masks"][3] = False
    truth = InstanceTruth.from_targets(targets, num_classes=3, device=torch.device("cpu"))
    rows = torch.randint(0, images * objects, (regions,)).sort().values
    rows[:4] = 3
    rows = rows.sort().values
    boxes = (truth.all_boxes[rows] + torch.randn(regions, 4) * 8).clamp(0, 60)
    boxes = torch.cat((torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:]) + 1), 1)
    seen = Regions(boxes, truth.all_labels[rows], rows // objects)
    wanted = mask_targets(truth, rows, seen, side=SIDE)
    logits = (wanted * 2 - 1) * 3 + torch.randn(regions, SIDE, SIDE) * 3
    return MaskStep(torch.arange(regions), rows, seen, Drawing(logits, torch.zeros(regions, 4, 6, 6)), wanted), truth


def test_overlaps_are_those_of_loops():
    step, truth = a_step()
    masks = [mask for of_image in truth.masks for mask in of_image.int().tolist()]
    drawn = (step.drawing.logits.sigmoid() > 0.5).int().tolist()
    expected = [
        mask_iou(drawn[row], step.targets[row].int().tolist(), masks[matched], step.regions.boxes[row].tolist())
        for row, matched in enumerate(step.objects.tolist())
    ]
    assert mask_overlaps(step, truth).tolist() == pytest.approx(expected, abs=1e-5)
    assert {value == 0 for value in expected} == {True, False}


def test_a_perfect_mask_has_an_overlap_of_one_and_half_an_object_of_a_half():
    whole = torch.zeros(1, 40, 40, dtype=torch.bool)
    whole[0, 8:32, 4:20] = True
    for box, expected in (([4.0, 8, 20, 32], 1), ([4.0, 8, 20, 19.99], 0.5), ([4.0, 8, 11.99, 32], 0.5)):
        boxes = torch.tensor([box])
        labels, zero = torch.tensor([0]), torch.tensor([0])
        truth = InstanceTruth((boxes,), (labels,), (boxes[:0],), masks=(whole,))
        seen = Regions(boxes, labels, zero)
        wanted = mask_targets(truth, zero, seen, side=24)
        step = MaskStep(zero, zero, seen, Drawing(wanted * 20 - 10, torch.zeros(1, 4, 12, 12)), wanted)
        assert float(mask_overlaps(step, truth)) == pytest.approx(expected, abs=0.01)


def images() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.rand(3, 96, 96), torch.rand(3, 64, 64)]


def test_the_error_counts_where_a_mask_meets_its_object(monkeypatch):
    torch.manual_seed(0)
    model = make(MaskScoringRCNN, softmax_criterion)
    branch = model.roi.box_stages[0].branches[0]
    said = []
    branch.judge.register_forward_hook(lambda _module, _inputs, output: said.append(output))
    wanted = torch.linspace(0, 1, 7)
    monkeypatch.setattr(
        "rankdet.models.region.mask_scoring.mask_overlaps",
        lambda masks, _truth: wanted[torch.arange(len(masks.rows)) % len(wanted)],
    )
    losses = model(images(), [target(5, 96), target(2, 64)])
    errors = (said[0] - wanted[torch.arange(len(said[0])) % 7])[torch.arange(len(said[0])) % 7 > 0]
    torch.testing.assert_close(losses["roi_mask_iou"], 0.5 * errors.square().mean())


def test_masks_of_detections_have_scores_of_their_own():
    model = make(MaskScoringRCNN, softmax_criterion).eval()
    branch = model.roi.box_stages[0].branches[0]
    said = []
    branch.judge.register_forward_hook(lambda _module, _inputs, output: said.append(output))
    with torch.no_grad():
        found = model(images())
    scores = torch.cat([detection["scores"] for detection in found])
    torch.testing.assert_close(torch.cat([d["mask_scores"] for d in found]), scores * said[0])
    with pytest.raises(ValueError, match="are not those of its classifier alone"):
        model.shift_logits(torch.zeros(3))


def two_detections() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The first has the right box and the wrong mask, the second the right mask; their scores say the opposite."""
    masks = torch.zeros(2, 20, 20, dtype=torch.bool)
    masks[0, 10:20, 10:20] = True
    masks[1, 0:10, 0:10] = True
    found = {
        "boxes": torch.tensor([[0.0, 0, 10, 10], [10.0, 10, 20, 20]]),
        "labels": torch.tensor([0, 0]),
        "scores": torch.tensor([0.9, 0.6]),
        "logits": torch.tensor([0.9, 0.6]).logit(),
        "mask_scores": torch.tensor([0.2, 0.5]),
        "masks": masks,
    }
    return found, {"boxes": found["boxes"][:1], "labels": torch.tensor([0]), "masks": masks[1:], "image_id": 5}


def test_masks_are_ordered_by_their_own_scores_and_boxes_by_theirs():
    found, wanted = two_detections()
    categories = Categories(names=("cat",), ids=(17,))
    without = {name: value for name, value in found.items() if name != "mask_scores"}
    outcome = {}
    for name, detection in (("with", found), ("without", without)):
        for iou_type in ("bbox", "segm"):
            metric = DetectionMetric(categories=categories, iou_type=iou_type)
            metric.update([detection], [wanted])
            outcome[name, iou_type] = metric.compute().metrics["AP50"]
    assert outcome == pytest.approx(
        {("with", "bbox"): 1, ("with", "segm"): 1, ("without", "bbox"): 1, ("without", "segm"): 0.5}
    )


def test_scores_of_masks_are_in_results_and_read_from_them(tmp_path):
    found, _ = two_detections()
    results = to_results(found, image_id=5, categories=Categories(names=("cat",), ids=(17,)))
    mask = results[1]["segmentation"]
    truth = {
        "images": [{"id": 5, "width": 20, "height": 20}],
        "categories": [{"id": 17, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 17, "bbox": [0, 0, 10, 10], "segmentation": mask, "area": 100}
        ],
    }
    assert [entry["mask_score"] for entry in results] == pytest.approx([0.2, 0.5])
    file = tmp_path / "results.json"
    file.write_text(json.dumps(results))
    plain = [{name: value for name, value in entry.items() if name != "mask_score"} for entry in results]
    for given, expected in ((results, 1), (file, 1), (plain, 0.5), (results[1:] + plain[:1], 0.5)):
        assert evaluate(truth, given, iou_type="segm").metrics["AP50"] == pytest.approx(expected)
        assert evaluate(truth, given, iou_type="bbox").metrics["AP50"] == pytest.approx(1)
    bad = [{**results[0], "mask_score": "high"}, results[1]]
    with pytest.raises(ValueError, match="entry 0 of results: 'score' is 'high'"):
        evaluate(truth, bad, iou_type="segm")


def test_a_threshold_is_one_of_the_masks():
    found, _ = two_detections()
    assert above(found, 0.4)["labels"].tolist() == [0]
    assert above(found, 0.4)["mask_scores"].tolist() == [0.5]
    assert len(above(boxes_only(found), 0.4)["labels"]) == 2
