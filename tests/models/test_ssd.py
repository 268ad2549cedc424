"""SSD: anchors, maps, the losses of a batch, weights of the backbone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import VGG16_Weights, vgg16

from rankdet.assign import GroundTruth
from rankdet.models import SSD300, SSD512, ssd_criterion
from rankdet.models.dense.ssd import anchors_300, anchors_512
from rankdet.nn import VGG16, BatchNorm, Preprocess, SSDAnchors, SSDHead, SSDNeck
from tests.models.test_every_pair import K, target
from tests.reference import anchors as slow


@pytest.mark.parametrize(
    ("sizes", "side", "percent"),
    [
        (anchors_300().sizes, 300, {"first": 7, "low": 15, "high": 90, "levels": 6}),
        (anchors_512().sizes, 512, {"first": 4, "low": 10, "high": 90, "levels": 7}),
    ],
)
def test_sizes_follow_the_published_rule(sizes, side, percent):
    assert list(sizes) == slow.ssd_sizes(side, **percent)


@pytest.mark.parametrize(
    ("recipe", "side", "number"), [(SSD300, 300, 8732), (SSD512, 512, 24564)], ids=["SSD300", "SSD512"]
)
def test_maps_and_anchors_of_an_image(recipe, side, number):
    model = recipe(num_classes=K, backbone="test_resnet")
    batch = model.preprocess([torch.zeros(3, side, side)])
    priors = model.stage.anchors(
        model.neck(model.backbone(batch.pixels)), sizes=batch.sizes, padded_sizes=batch.padded_sizes
    )
    made = model.stage.anchors
    expected = slow.ssd(side, list(made.sizes), list(made.strides), [list(ratios) for ratios in made.ratios])
    torch.testing.assert_close(priors.boxes[0], torch.tensor(expected), rtol=0, atol=1e-3)
    assert len(priors) == number
    assert priors.valid[0].all()


def test_worked_anchors():
    """Level 1 of SSD512 for VOC."""
    level = SSDAnchors(strides=(16,), sizes=(76, 153), ratios=((2, 3),)).cell_anchors(0) + 8
    expected = [
        [-30.0, -30.0, 46.0, 46.0],
        [-45.9166, -45.9166, 61.9166, 61.9166],
        [-45.7401, -18.8701, 61.7401, 34.8701],
        [-18.8701, -45.7401, 34.8701, 61.7401],
        [-57.8179, -13.9393, 73.8179, 29.9393],
        [-13.9393, -57.8179, 29.9393, 73.8179],
    ]
    torch.testing.assert_close(level, torch.tensor(expected), rtol=0, atol=1e-4)
    cut = SSDAnchors(strides=(16,), sizes=(76, 153), ratios=((2, 3),), longest=90).cell_anchors(0)
    assert cut.abs().max() == 45
    with pytest.raises(ValueError, match="one size more"):
        SSDAnchors(strides=(8, 16), sizes=(30, 60), ratios=((2,), (2,)))


def test_losses_are_those_of_the_hardest_negatives():
    """By hand: softmax of all positives and three times as many negatives of each image, over the positives."""
    torch.manual_seed(0)
    model = SSD300(num_classes=K, backbone="test_resnet", criterion=ssd_criterion())
    images, targets = [torch.rand(3, 96, 96) for _ in range(2)], [target(3, 96), target(1, 96)]
    batch = model.preprocess(images)
    predictions = model.stage.predict(model.neck(model.backbone(batch.pixels)), batch)
    losses = model(images, targets)
    truth = GroundTruth.from_targets(targets, num_classes=K, device=torch.device("cpu"))
    labels = model.stage.assign(predictions, truth).labels.view(2, -1)
    entries = F.cross_entropy(
        predictions.logits, labels.flatten().where(labels.flatten() >= 0, K), reduction="none"
    ).view(2, -1)
    total, positives = 0.0, int((labels >= 0).sum())
    for of_image, own in zip(entries, labels, strict=True):
        negatives = sorted(of_image[own == -1].tolist(), reverse=True)
        total += float(of_image[own >= 0].detach().sum()) + sum(negatives[: 3 * int((own >= 0).sum())])
    assert positives > 4
    assert float(losses["classification"].detach()) == pytest.approx(total / positives, rel=1e-5)


def test_an_image_without_objects_has_no_negatives_and_counts_as_one_positive():
    torch.manual_seed(0)
    model = SSD300(num_classes=K, backbone="test_resnet", criterion=ssd_criterion())
    image = torch.rand(3, 96, 96)
    alone = model([image], [target(3, 96)])
    batch = model.preprocess([image])
    predictions = model.stage.predict(model.neck(model.backbone(batch.pixels)), batch)
    truth = GroundTruth.from_targets([target(3, 96)], num_classes=K, device=torch.device("cpu"))
    positives = len(model.stage.assign(predictions, truth).positive_index)
    beside = model([image, torch.rand(3, 96, 96)], [target(3, 96), target(0, 96)])
    for name, loss in alone.items():
        torch.testing.assert_close(beside[name] * (positives + 1), loss * positives)


def test_the_normalised_map_keeps_its_dtype_and_its_length():
    neck = SSDNeck([4, 6], layers=())
    level = torch.randn(1, 4, 3, 3)
    torch.testing.assert_close(neck([level, torch.zeros(1, 6, 2, 2)])[0].norm(dim=1), torch.full((1, 3, 3), 20.0))
    half = neck([level.bfloat16(), torch.zeros(1, 6, 2, 2)])[0]
    assert half.dtype == torch.bfloat16


def test_outputs_of_a_head_are_ordered_like_anchors():
    head = SSDHead((2, 3), num_logits=K, anchors_per_cell=(4, 6), quality_channels=1).eval()
    maps = [torch.randn(1, 2, 3, 3), torch.randn(1, 3, 1, 2)]
    outputs = head(maps)
    second = head.classify[1](maps[1])
    assert torch.equal(outputs.logits[0, 36 + 6 + 5], second[0, 5 * K : 6 * K, 0, 1])
    assert [output.shape[1:] for output in outputs] == [(48, K), (48, 4), (48, 1)]
    normed = SSDHead((2, 3), num_logits=K, anchors_per_cell=(4, 6), norm=BatchNorm())
    assert all(conv.bias is None for conv in normed.modules() if isinstance(conv, nn.Conv2d))
    assert len(normed.class_layers) == 2


def few(value: torch.Tensor) -> torch.Tensor:
    """A tensor of that shape whose entries differ along every dimension, of little memory."""
    return torch.arange(float(sum(value.shape))).as_strided(value.shape, (1,) * value.ndim)


def test_weights_of_the_classifier_become_convolutions(tmp_path):
    with torch.device("meta"):
        network = vgg16()
    state = {name: few(value) for name, value in network.state_dict().items()}
    torch.save(state, tmp_path / "vgg16.pth")
    network = VGG16(weights=tmp_path / "vgg16.pth").features
    assert torch.equal(network[0].weight, state["features.0.weight"])
    fc6 = state["classifier.0.weight"].view(4096, 512, 7, 7)
    assert torch.equal(network[31].weight[5, 7], fc6[20, 7][[0, 3, 6]][:, [0, 3, 6]])
    assert torch.equal(network[33].weight[3, :, 0, 0], state["classifier.3.weight"][12, ::4])
    assert torch.equal(network[33].bias, state["classifier.3.bias"][::4])


def test_weights_of_the_authors_have_no_classifier(monkeypatch, tmp_path):
    state = {name: value.clone() for name, value in VGG16().state_dict().items() if int(name.split(".")[1]) < 31}
    state |= {"classifier.0.weight": torch.full((4096, 25088), torch.nan), "classifier.0.bias": torch.zeros(4096)}
    monkeypatch.setattr(type(VGG16_Weights.IMAGENET1K_FEATURES), "get_state_dict", lambda *_, **__: state)
    model = SSD300(num_classes=K, backbone="vgg16.IMAGENET1K_FEATURES")
    assert torch.equal(model.backbone.features[28].weight, state["features.28.weight"])
    assert all(torch.isfinite(value).all() for value in model.backbone.state_dict().values())
    torch.testing.assert_close(model.preprocess.std.flatten(), torch.full((3,), 1 / 255))
    with pytest.raises(ValueError, match="neither a local file nor IMAGENET1K_FEATURES"):
        VGG16(weights="tv_in1k")
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="lack"):
        VGG16(weights=tmp_path / "other.pth")


def test_other_backbones_have_the_colours_of_imagenet():
    model = SSD300(num_classes=K, backbone="test_resnet")
    assert torch.equal(model.preprocess.std, Preprocess().std)
    assert model.preprocess.divisor == 1
