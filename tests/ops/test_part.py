"""What a part takes is what its constructor takes, under every version of Python."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from torch import nn

from rankdet.ops.part import Part, parameters_of


class Plain(nn.Module, Part):
    def __init__(self, width: int, *, deep: bool = False) -> None:
        super().__init__()

    def forward(self, image: int) -> int:
        return image


@dataclass(frozen=True, kw_only=True)
class Columns(Part):
    height: int = 2


class Inheriting(Plain):
    pass


@pytest.mark.parametrize(
    ("kind", "names"), [(Plain, ["width", "deep"]), (Inheriting, ["width", "deep"]), (Columns, ["height"])]
)
def test_the_signature_of_a_class_is_that_of_its_constructor(kind: type, names: list[str]):
    assert list(kind.__signature__.parameters) == names, "where inspect would take __new__ (before Python 3.11.4)"
    assert list(parameters_of(kind)) == names


def test_an_object_has_not_the_signature_of_its_class():
    assert not hasattr(Plain(3), "__signature__")
