from __future__ import annotations

import pytest
import torch
from torch import nn

from rankdet.train import SGD, AdamW, LayerDecay, ParameterGroup
from rankdet.train.parameter_groups import in_groups_of_today


def test_sgd_is_the_published_one():
    group = SGD(lr=0.012).build(nn.Linear(2, 2), lr=0.012).param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.012, 0.9, 1e-4)


def test_adamw_has_its_arguments():
    optimiser = AdamW(lr=1e-3, betas=(0.8, 0.95), weight_decay=0.05).build(nn.Linear(2, 2), lr=2e-3)
    assert isinstance(optimiser, torch.optim.AdamW)
    assert optimiser.param_groups[0]["betas"] == (0.8, 0.95)
    assert optimiser.param_groups[0]["lr"] == 2e-3


def test_frozen_parameters_are_left_out():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    parameters = SGD(lr=0.1).build(model, lr=0.1).param_groups[0]["params"]
    assert {id(parameter) for parameter in parameters} == {id(parameter) for parameter in model[1].parameters()}


def test_a_model_without_anything_to_train_is_refused():
    with pytest.raises(ValueError, match="unfreeze"):
        SGD(lr=0.1).build(nn.Linear(2, 2).requires_grad_(False), lr=0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(lr=0.0), "lr must be > 0, got 0.0"),
        (lambda: SGD(lr=0.1, momentum=1.0), "momentum must be >= 0 and < 1, got 1.0"),
        (lambda: SGD(lr=0.1, weight_decay=-1), "weight_decay must be >= 0, got -1"),
        (lambda: AdamW(lr=0.1, betas=(0.9, 1.0)), "betas must be >= 0 and < 1, got 1.0"),
        (lambda: SGD(lr=float("nan")), "lr must be > 0, got nan"),
    ],
)
def test_impossible_settings_are_refused(make, message: str):
    with pytest.raises(ValueError, match=message):
        make()


def small() -> nn.Module:
    return nn.ModuleDict({"backbone": nn.Linear(3, 3), "head": nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))})


@pytest.mark.parametrize(
    ("backbone", "layers"), [("resnet18", 8), ("convnext_atto", 15), ("swin_tiny_patch4_window7_224", 15)]
)
def test_each_layer_learns_slower_than_the_next(backbone: str, layers: int):
    """As many layers as blocks and steps between stages, and a stem; what is no backbone has the whole rate."""
    from rankdet.nn import TimmBackbone

    with torch.device("meta"):
        model = nn.ModuleDict({"backbone": TimmBackbone(backbone), "head": nn.Linear(2, 2)})
    groups = SGD(lr=1.0, groups=[LayerDecay(rate=0.5)]).build(model, lr=1.0).param_groups
    rates = {name: group["lr"] for group in groups for name in group["names"]}
    assert rates["head.weight"] == 1.0
    inner = [rate for name, rate in rates.items() if name.startswith("backbone.")]
    assert sorted(set(inner)) == [0.5**depth for depth in range(layers + 1, 0, -1)]
    ordered = [rates[name] for name, _ in model.named_parameters() if name.startswith("backbone.")]
    assert ordered == sorted(ordered), "the nearer to the image, the slower"


def test_a_layer_decay_that_grows_is_refused():
    with pytest.raises(ValueError, match=r"the rate of LayerDecay must be <= 1, got 1\.5"):
        LayerDecay(rate=1.5)


def test_layers_of_hugging_face_are_layers():
    layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
    network = nn.ModuleDict({"embeddings": nn.Linear(2, 2), "encoder": nn.ModuleDict({"layer": layers})})
    rates = LayerDecay(names="*.weight", rate=0.5).rates(dict(network.named_parameters()))
    assert rates == {"embeddings.weight": 0.125, "encoder.layer.0.weight": 0.25, "encoder.layer.1.weight": 0.5}


def test_factors_of_groups_multiply():
    slow = ParameterGroup(names="backbone.*", rate=0.1)
    bare = ParameterGroup(names="*", decay=0.0, vectors=True)
    groups = AdamW(lr=1.0, weight_decay=0.5, groups=[slow, bare]).build(small(), lr=2.0).param_groups
    found = {name: (group["lr"], group["weight_decay"]) for group in groups for name in group["names"]}
    assert found == {
        "backbone.weight": (0.2, 0.5),
        "backbone.bias": (0.2, 0.0),
        "head.0.weight": (2.0, 0.5),
        "head.0.bias": (2.0, 0.0),
        "head.1.weight": (2.0, 0.0),
        "head.1.bias": (2.0, 0.0),
    }


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(ValueError, match=r"'neck\.\*' of a parameter group matches none .*; there are backb"):
        SGD(lr=0.1, groups=[ParameterGroup(names=["head.*", "neck.*"], rate=0.1)]).build(small(), lr=0.1)


@pytest.mark.parametrize(("factors", "message"), [({"rate": 0.0}, "frozen"), ({"decay": -1.0}, "must be >= 0")])
def test_impossible_factors_are_refused(factors: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        ParameterGroup(names="*", **factors)


def after_steps(model: nn.Module, optimiser: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        optimiser.zero_grad()
        x = torch.linspace(-1, 1, 6).reshape(2, 3) + step
        model["head"](model["backbone"](x)).square().sum().backward()  # type: ignore[index]
        optimiser.step()


@pytest.mark.parametrize("named", [True, False], ids=["groups with names", "a checkpoint of before"])
def test_momentum_goes_with_its_parameter_into_other_groups(named: bool):
    model, settings = small(), SGD(lr=0.01)
    optimiser = settings.build(model, lr=0.01)
    after_steps(model, optimiser, 2)
    stored = optimiser.state_dict()
    for group in stored["param_groups"] if not named else []:
        del group["names"], group["rate"]
    other = SGD(lr=0.01, groups=[ParameterGroup(names="head.*", rate=0.5)]).build(model, lr=0.01)
    names = {f"{name}": name for name in model.state_dict()}
    other.load_state_dict(in_groups_of_today(stored, names=names, optimiser=other, model=model))
    assert [len(group["params"]) for group in other.param_groups] == [2, 4]
    assert other.param_groups[1]["lr"] == 0.005
    for parameter in model.parameters():
        assert torch.equal(other.state[parameter]["momentum_buffer"], optimiser.state[parameter]["momentum_buffer"])
