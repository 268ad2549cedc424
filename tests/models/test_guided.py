"""Guided anchoring: targets against loops, anchors from shapes, and what is learned from both."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import deform_conv2d, sigmoid_focal_loss

from rankdet.assign import ApproximateMaxIoU, BestPriors, GroundTruth
from rankdet.assign.guided import location_targets
from rankdet.models import GuidedFasterRCNN, GuidedRetinaNet, softmax_criterion
from rankdet.models.dense.guided import ShapeCoder
from rankdet.nn import AnchorGenerator, GuidedDenseHead, GuidedRPNHead
from rankdet.nn.guided_head import FeatureAdaption
from rankdet.ops import DeltaCoder
from tests.models.test_every_pair import target
from tests.reference import guided as loops

GRIDS, STRIDES = [(24, 32), (12, 16), (6, 8)], (4, 8, 16)


def squares_of(images: int):
    maps = [torch.zeros(images, 1, *grid) for grid in GRIDS]
    return AnchorGenerator(strides=STRIDES, scales=(8.0,))(
        maps, sizes=[(96, 128)] * images, padded_sizes=[(96, 128)] * images
    )


def truth_of(boxes: list[torch.Tensor]) -> GroundTruth:
    labels = tuple(torch.zeros(len(of_image), dtype=torch.long) for of_image in boxes)
    return GroundTruth(tuple(boxes), labels, tuple(torch.zeros(0, 4) for _ in boxes))


def random_objects(seed: int, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * torch.tensor([90.0, 60])
    sizes = torch.rand(count, 2, generator=generator).square() * torch.tensor([120.0, 90]) + 4
    return torch.cat((corners, torch.minimum(corners + sizes, torch.tensor([128.0, 96]))), 1)


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_places_equal_the_loop(seed: int):
    boxes = [random_objects(seed, 4), random_objects(seed + 1, 1), torch.zeros(0, 4)]
    targets, weights = location_targets(squares_of(3), truth_of(boxes))
    expected = [loops.locations(of_image.tolist(), GRIDS, STRIDES, 32) for of_image in boxes]
    assert targets.tolist() == [value for flat, _ in expected for value in flat]
    torch.testing.assert_close(weights, torch.tensor([value for _, counts in expected for value in counts]))


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_squares_are_compared_by_their_best_shape(seed: int):
    boxes = random_objects(seed, 3)
    squares = squares_of(1).boxes[0][::17]
    found = ApproximateMaxIoU(low_quality=BestPriors(min_iou=0.3)).overlaps(boxes, squares)
    expected = [[loops.best_shape(box, square) for square in squares.tolist()] for box in boxes.tolist()]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_adaption_is_a_deformable_convolution_by_the_shape():
    torch.manual_seed(0)
    adaption = FeatureAdaption(8, groups=4)
    features, shape = torch.randn(2, 8, 5, 6), torch.randn(2, 2, 5, 6, requires_grad=True)
    found = adaption(features, shape)
    offsets = F.conv2d(shape, adaption.conv_offset.weight)
    torch.testing.assert_close(found, deform_conv2d(features, offsets, adaption.weight, padding=1).relu())
    found.sum().backward()
    assert shape.grad is None
    assert adaption.conv_offset.weight.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="no 4 equal groups"):
        FeatureAdaption(6)


def test_shapes_may_differ_much_from_their_squares():
    square, shape = torch.tensor([[0.0, 0, 32, 32]]), torch.tensor([[0.0, 0, 8, -8]])
    wide = ShapeCoder((1.0, 1.0, 1.0, 1.0)).decode(square, shape)
    torch.testing.assert_close(wide[0, 2] - wide[0, 0], torch.tensor(32.0).mul(torch.tensor(8.0).exp()))
    assert wide[0, 2] > DeltaCoder((1.0, 1.0, 1.0, 1.0)).decode(square, shape)[0, 2]


@pytest.fixture(scope="module")
def model() -> GuidedFasterRCNN:
    torch.manual_seed(0)
    return GuidedFasterRCNN(num_classes=3, backbone="test_resnet", channels=16, criterion=softmax_criterion())


def test_anchors_are_squares_of_the_shapes_that_were_guessed(model):
    images = [torch.rand(3, 96, 96), torch.rand(3, 96, 64)]
    with torch.no_grad():
        batch = model.batch_of(images)
        maps = model.maps_of(batch)
        said = model.rpn.head(maps)
        predictions = model.rpn.predict(maps, batch)
    squares = model.rpn.anchors(maps, sizes=batch.sizes, padded_sizes=batch.padded_sizes).boxes[0]
    centre, side = (squares[:, :2] + squares[:, 2:]) / 2, squares[:, 2:] - squares[:, :2]
    for image, anchors in enumerate(predictions.priors.boxes):
        size = side * (0.14 * said.shapes[image]).exp()
        torch.testing.assert_close(anchors, torch.cat((centre - size / 2, centre + size / 2), 1))
    assert not predictions.priors.shared_grid


def test_the_loss_of_places_is_focal_and_that_of_shapes_reaches_them(model):
    images, targets = [torch.rand(3, 96, 96)], [target(3, 96)]
    batch = model.batch_of(images)
    maps = model.maps_of(batch)
    truth = GroundTruth.from_targets(targets, num_classes=3, device=torch.device("cpu")).without_classes()
    predictions = model.rpn.train().predict(maps, batch)
    losses = model.rpn.loss(predictions, truth).losses
    wanted, weights = location_targets(predictions.squares, truth)
    each = sigmoid_focal_loss(predictions.locations, wanted)
    torch.testing.assert_close(losses["location"], 200 * (each * weights).sum() / len(each))
    losses["shape"].backward()
    assert model.rpn.head.shape.weight.grad.abs().sum() > 0


def test_unlikely_places_have_no_anchor_in_evaluation(model):
    with torch.no_grad():
        batch = model.batch_of([torch.rand(3, 96, 96)])
        maps = model.maps_of(batch)
        predictions = model.rpn.train().predict(maps, batch)
        assert torch.isfinite(model.rpn.detection_logits(predictions)).all()
        logits = model.rpn.eval().detection_logits(predictions)
    assert torch.equal(torch.isfinite(logits[:, 0]), predictions.locations.sigmoid() >= 0.01)


def test_what_a_guided_head_cannot_have_is_named():
    with pytest.raises(ValueError, match="one anchor in a cell"):
        GuidedRPNHead(8, anchors_per_cell=(3, 3))
    with pytest.raises(ValueError, match="no quality branch"):
        GuidedDenseHead(8, num_logits=2, anchors_per_cell=(1, 1), quality_channels=1)
    assert GuidedRetinaNet(num_classes=2, backbone="test_resnet", channels=16).stage.anchors.scales == (4.0,)
