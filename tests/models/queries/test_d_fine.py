"""D-FINE and DEIMv2: losses equal to the library's with denoising and sides of boxes, published sizes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from rankdet.assign import BACKGROUND, Assignment
from rankdet.models import (
    DFINE,
    DEIMv2,
    Denoising,
    FineGrainedLosses,
    LayerOutputs,
    QueryDetector,
    QueryOutputs,
    deim_criterion,
    rt_detr_criterion,
)
from rankdet.models.queries.library import library_targets
from rankdet.models.queries.sides import side_places
from tests.models.queries.networks import IMAGES, NOTHING, OBJECTS, OPTIONS, said_of, small, truth_of, untouched

pytest.importorskip("transformers", reason="the extra [transformers] is not installed")


def moved(recipe: type[QueryDetector] = DFINE, **settings: object) -> QueryDetector:
    """A detector whose layers say different things of the sides: they all begin alike, and nothing is taught."""
    model = small(recipe, **settings)
    generator = torch.Generator().manual_seed(1)
    for layer in model.network.model.bbox_embed:
        nn.init.normal_(layer.layers[-1].weight, std=0.5, generator=generator)
    return model


def as_the_library_has_them(layer: LayerOutputs, teacher: LayerOutputs) -> dict[str, Tensor]:
    """A layer by the names of the library, whose last layer is its own teacher."""
    said = {"logits": layer.logits, "pred_boxes": layer.boxes}
    if layer.sides is not None:
        taught = {"teacher_corners": teacher.sides.logits.flatten(2), "teacher_logits": teacher.logits}
        said |= {"pred_corners": layer.sides.logits.flatten(2), "ref_points": layer.sides.references, **taught}
    return said


def of_the_library(said: QueryOutputs, model: QueryDetector, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    from transformers.loss.loss_d_fine import DFineLoss
    from transformers.loss.loss_deimv2 import Deimv2Loss

    def layers(outputs: list[LayerOutputs]) -> list[dict[str, Tensor]]:
        return [as_the_library_has_them(layer, outputs[-1]) for layer in outputs]

    *others, last = layers(said.decoder)
    outputs = {**last, "auxiliary_outputs": [*others, as_the_library_has_them(said.encoder, said.encoder)]}
    if isinstance(said.denoising, Denoising) and any(len(rows) for rows in said.denoising.positives):
        meta = {"dn_positive_idx": said.denoising.positives, "dn_num_group": said.denoising.repeats}
        outputs |= {"dn_auxiliary_outputs": layers(said.denoising.layers), "denoising_meta_values": meta}
    config = copy.deepcopy(model.network.model.config)
    if isinstance(model, DFINE):
        return DFineLoss(config)(outputs, targets)
    config.focal_loss_gamma = 1.5  # as published; the library's default is the 2 of DEIM's first program
    return Deimv2Loss(config)(outputs, targets)


@pytest.mark.parametrize(
    "targets", [(OBJECTS, NOTHING), (OBJECTS, OBJECTS), (NOTHING, NOTHING)], ids=["one", "two", "none"]
)
@pytest.mark.parametrize(("recipe", "make"), [(DFINE, rt_detr_criterion), (DEIMv2, deim_criterion)])
def test_losses_equal_those_of_the_library(recipe, make, targets):
    """All decoder layers, the boxes before them, proposals, denoising queries; the terms of sides by themselves too."""
    model, truth = moved(recipe, criterion=make()), truth_of(*targets)
    said = said_of(model, truth)
    losses = model.stage.loss(said, truth)
    expected = of_the_library(said, model, library_targets(truth, said.frames))
    torch.testing.assert_close(sum(losses.values()), sum(expected.values()), rtol=1e-5, atol=1e-5)
    for ours, theirs in {"localisation": "loss_fgl", "distillation": "loss_ddf"}.items():
        of_ours = sum(loss for name, loss in losses.items() if name.endswith(ours))
        of_theirs = sum(loss for name, loss in expected.items() if name.startswith(theirs))
        torch.testing.assert_close(of_ours, of_theirs, rtol=1e-5, atol=1e-5)
        assert of_ours > 0 or (ours == "localisation" and not len(truth.all_boxes))


def test_boxes_that_learn_are_cut_to_the_canvas():
    model, truth = moved(), truth_of(OBJECTS, NOTHING)
    said = said_of(model, truth)
    boxes = torch.stack([layer.boxes for layer in said.decoder])
    assert boxes.min() >= 0
    assert boxes.max() <= 1


def test_detections_are_those_of_the_last_layer_that_learns():
    model, truth = moved(), truth_of(NOTHING, NOTHING)
    learning = said_of(model, truth).decoder[-1]
    for layer in model.modules():
        layer.training = isinstance(layer, nn.BatchNorm2d)
    found = said_of(model, None).decoder
    assert len(found) == 1
    torch.testing.assert_close(found[0].logits, learning.logits)


def test_the_teacher_learns_nothing_from_its_pupils():
    truth = truth_of(NOTHING, NOTHING)
    said = said_of(moved(), truth)
    pupil, teacher = said.decoder[1], said.decoder[1].sides.teacher
    nobody = torch.empty(0, dtype=torch.long)
    background = torch.full(pupil.logits.shape[:2], BACKGROUND).flatten()
    assignment = Assignment.of_positives(background, nobody, nobody, torch.empty(0, 4))
    loss = FineGrainedLosses()(pupil, pupil.predictions(said.frames), assignment)["distillation"]
    leaves = [pupil.sides.logits, teacher.sides.logits, teacher.logits]
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    assert [gradient is not None for gradient in gradients] == [True, False, False]


@pytest.mark.parametrize("scale", [4.0, 8.0])
def test_places_are_those_of_the_library(scale: float):
    from transformers.loss.loss_d_fine import weighting_function

    up, scales = torch.tensor([0.5]), torch.tensor([scale])
    torch.testing.assert_close(side_places(32, up, scales), weighting_function(32, up, scales))


@pytest.mark.parametrize(("variant", "millions"), [("n", 3.8), ("s", 10.3), ("m", 19.6), ("l", 31.3), ("x", 62.7)])
def test_number_of_parameters(variant: str, millions: float):
    """The published tables say 4, 10, 19, 31 and 62 millions, without what is only needed in training."""
    with torch.device("meta"):
        model = DFINE(num_classes=80, variant=variant)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("variant", "millions"),
    [
        ("atto", 0.51),
        pytest.param("femto", 0.99, marks=pytest.mark.long),
        pytest.param("pico", 1.55, marks=pytest.mark.long),
        ("n", 3.62),
        ("s", 9.82),
        pytest.param("m", 18.43, marks=pytest.mark.long),
        pytest.param("l", 32.6, marks=pytest.mark.long),
        ("x", 51.28),
    ],
)
def test_number_of_parameters_of_deim(variant: str, millions: float):
    """The published table says 0.5, 1.0, 1.5, 3.6, 9.7, 18.1, 32.2 and 50.3 millions, branches folded together."""
    with torch.device("meta"):
        model = DEIMv2(num_classes=80, variant=variant)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == millions


VIT = {
    "backbone_config": {
        "model_type": "dinov3_vit",
        "hidden_size": 32,
        "num_attention_heads": 2,
        "num_hidden_layers": 3,
        "intermediate_size": 32,
        "out_indices": [1, 2, 3],
        "apply_layernorm": False,
    }
}


@pytest.mark.parametrize(
    ("variant", "options"),
    [
        ("s", {**OPTIONS[DEIMv2], **VIT, "spatial_tuning_adapter_inplanes": 4, "encoder_in_channels": [32] * 3}),
        ("atto", {"decoder_layers": 2, "num_denoising": 10}),
    ],
)
def test_every_parameter_of_the_other_backbones_of_deim_learns(variant: str, options: dict[str, object]):
    model = small(DEIMv2, variant=variant, backbone=None, options=options)
    for targets in ([OBJECTS, NOTHING], [NOTHING, NOTHING]):
        model.zero_grad()
        losses = model(IMAGES, targets)
        sum(losses.values()).backward()
        assert not untouched(model)
        assert ("localisation" in losses) is (variant == "s")
    assert len(model.eval()(IMAGES)) == 2


def test_the_nano_variant_looks_at_two_maps():
    model = small(DFINE, variant="n", options={"decoder_layers": 2})
    assert len(model.network.model.model.encoder_input_proj) == 2
    assert sum(model([torch.rand(3, 64, 64)] * 2, [OBJECTS, NOTHING]).values()).isfinite()
