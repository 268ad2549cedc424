"""Parameters that learn at another rate, or decay less, than the rest: chosen by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.optim import Optimizer

NAMES, RATE = "names", "rate"
_LAYER = re.compile(r".*\b(?:blocks|encoder\.layer)\.\d+|.*?\b(?:layers?|stages?)_?\d+(?:\.(?:\d+|downsample))?")


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Factors of the learning rate and the weight decay for parameters selected by name.

    If several groups match a parameter, their factors multiply.

    Attributes:
        names: one pattern or several, with ``*`` for anything: ``backbone.*`` or ``*.bias``.
        rate: factor of the learning rate, > 0.
        decay: factor of the weight decay, >= 0.
        vectors: only parameters with at most one axis: biases, and the scales of normalisation layers.

    Raises:
        ValueError: if a factor is out of its range.

    >>> ParameterGroup(names="backbone.*", rate=0.1)
    backbone.*: 0.1 of the rate
    >>> ParameterGroup(names="*", decay=0.0, vectors=True)
    vectors of *: 0 of the decay
    """

    names: str | Sequence[str]
    rate: float = 1.0
    decay: float = 1.0
    vectors: bool = False

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise ValueError(
                f"the rate of parameter group {self.names!r} must be > 0, got {self.rate}; what must not learn is "
                "frozen by requires_grad_(False) before the training"
            )
        if not self.decay >= 0:
            raise ValueError(f"the decay of parameter group {self.names!r} must be >= 0, got {self.decay}")

    @property
    def patterns(self) -> Sequence[str]:
        """The patterns of names."""
        return (self.names,) if isinstance(self.names, str) else self.names

    def matches(self, name: str, parameter: nn.Parameter) -> bool:
        """Whether a parameter belongs to it."""
        if self.vectors and parameter.ndim > 1:
            return False
        return any(fnmatchcase(name, pattern) for pattern in self.patterns)

    def rates(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, float]:
        """The factor of the rate for each parameter that belongs to it, by name."""
        return {name: self.rate for name, parameter in parameters.items() if self.matches(name, parameter)}

    def __repr__(self) -> str:
        factors = {"rate": self.rate, "decay": self.decay}
        said = " and ".join(f"{factor:g} of the {what}" for what, factor in factors.items() if factor != 1) or "as all"
        return f"{'vectors of ' if self.vectors else ''}{', '.join(self.patterns)}: {said}"


@dataclass(frozen=True, kw_only=True, repr=False)
class LayerDecay(ParameterGroup):
    """Layers learn more slowly the nearer they are to the image: the last at `rate`, the one before at its square, ...

    A layer is a block of the network, such as ``layer3.2`` of a ResNet or ``blocks.7`` of a transformer
    (``encoder.layer.7`` in Hugging Face's). What comes
    before the first of them is one layer. Source: Clark et al., "ELECTRA", 2020; Bao et al., "BEiT", 2022.

    Attributes:
        names: of the parameters; those of the backbone by default, in the order of its layers.
        rate: factor from a layer to the one before, in (0, 1].

    >>> network = nn.ModuleDict({name: nn.Linear(2, 2, bias=False) for name in ("stem", "layer1", "layer2")})
    >>> LayerDecay(names="*", rate=0.5).rates(dict(network.named_parameters()))
    {'stem.weight': 0.125, 'layer1.weight': 0.25, 'layer2.weight': 0.5}
    """

    names: str | Sequence[str] = "backbone.*"
    rate: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rate > 1:
            raise ValueError(f"the rate of LayerDecay must be <= 1, got {self.rate}")

    def rates(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, float]:
        """See `ParameterGroup`."""
        places: dict[str, int] = {}
        layer, seen = "", {""}
        for name, parameter in parameters.items():
            if self.matches(name, parameter):
                found = _LAYER.match(name)
                layer = found[0] if found else layer  # what stands between two blocks goes with the one before
                seen.add(layer)
                places[name] = len(seen)
        return {name: self.rate ** (len(seen) + 1 - place) for name, place in places.items()}

    def __repr__(self) -> str:
        return f"layers of {', '.join(self.patterns)}: {self.rate:g} of the rate from each to the one before"


def grouped_parameters(
    model: nn.Module, *, lr: float, weight_decay: float, groups: Sequence[ParameterGroup] = ()
) -> list[dict[str, Any]]:
    """The parameters that are trained as torch's optimisers take them, those of equal factors together.

    Each group says the ``names`` of its parameters and its factor of the ``rate``, which go with the optimiser's state
    into checkpoints.

    Raises:
        ValueError: if nothing is trained, or a pattern matches nothing that is.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    >>> slow = ParameterGroup(names="0.*", rate=0.1)
    >>> [(group["lr"], group["names"]) for group in grouped_parameters(model, lr=1.0, weight_decay=0.0, groups=[slow])]
    [(0.1, ['0.weight', '0.bias']), (1.0, ['1.weight', '1.bias'])]
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not trained:
        raise ValueError("the model has no parameter that needs a gradient; unfreeze some before training")
    for group in groups:
        _check_matches(group, trained)
    rates = [group.rates(trained) for group in groups]
    by_factors: dict[tuple[float, float], dict[str, nn.Parameter]] = {}
    for name, parameter in trained.items():
        rate = decay = 1.0
        for group, of_group in zip(groups, rates, strict=True):
            if name in of_group:
                rate, decay = rate * of_group[name], decay * group.decay
        by_factors.setdefault((rate, decay), {})[name] = parameter
    return [
        {
            "params": list(members.values()),
            NAMES: list(members),
            RATE: rate,
            "lr": lr * rate,
            "weight_decay": weight_decay * decay,
        }
        for (rate, decay), members in by_factors.items()
    ]


def in_groups_of_today(
    stored: Mapping[str, Any], *, names: Mapping[str, str], optimiser: Optimizer, model: nn.Module
) -> dict[str, Any]:
    """The state of an optimiser whose parameters were in another order, in other groups, or had other names.

    Args:
        stored: ``state_dict`` of an optimiser, which numbers its parameters; returned as it is if it lacks some.
        names: what each weight of the checkpoint is called now, in the order of the checkpoint.
        optimiser: that of now, whose groups and options count.
        model: whose parameters it trains.
    """
    names_now = {id(parameter): name for name, parameter in model.named_parameters()}
    wanted = [[names_now[id(parameter)] for parameter in group["params"]] for group in optimiser.param_groups]
    places = {name: place for place, name in enumerate(name for group in wanted for name in group)}
    in_order = [name for name in names.values() if name in places]  # for states without names
    numbers: dict[str, int] = {}
    for group in stored["param_groups"]:
        own = [names.get(name, name) for name in group.get(NAMES, ())] or in_order
        numbers |= dict(zip(own, group["params"], strict=False))
    if not places.keys() <= numbers.keys():
        return dict(stored)
    states = stored["state"]
    return {
        "state": {place: states[numbers[name]] for name, place in places.items() if numbers[name] in states},
        "param_groups": [
            {**group, "params": [places[name] for name in own]}
            for group, own in zip(optimiser.param_groups, wanted, strict=True)
        ],
    }


def _check_matches(group: ParameterGroup, trained: Mapping[str, nn.Parameter]) -> None:
    for pattern in group.patterns:
        if not any(fnmatchcase(name, pattern) for name in trained):
            parts = ", ".join(dict.fromkeys(f"{name.split('.')[0]}.*" for name in trained))
            raise ValueError(
                f"the pattern {pattern!r} of a parameter group matches none that is trained; there are {parts}"
            )
