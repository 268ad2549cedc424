"""Parts: objects that remember how they were made, so that they can be written down and made again.

A *factory* is a part still to be made, because something it needs is not known yet: a neck wants the channels of a
backbone, a head those of the neck and the number of logits. It is ``functools.partial`` of the class, and in type
hints a protocol with ``__call__``, which names what will be known and the kind of part that comes out.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn
from typing_extensions import Self


class _OfConstructor:
    """The signature of a class is that of its ``__init__``; before Python 3.11.4, `inspect` prefers any ``__new__``."""

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("__signature__")  # what calling the object takes is another matter
        of_init = inspect.signature(owner.__init__)  # type: ignore[misc]
        return of_init.replace(parameters=list(of_init.parameters.values())[1:])


class Part:
    """Remembers the arguments of the call that made it: from them come its plan, its ``repr`` and its YAML.

    What counts is the outermost call: of a recipe that calls the constructor of its parent the arguments of the recipe.
    Among the base classes it stands behind ``nn.Module``, whose ``repr`` shows the layers.

    >>> class Threshold(Part):
    ...     def __init__(self, iou: float, *, strict: bool = True) -> None: ...
    >>> Threshold(0.5)
    Threshold(iou=0.5, strict=True)
    """

    _arguments: dict[str, Any]
    __signature__ = _OfConstructor()

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Write the arguments down; wrong ones are left to the constructor, which says more about them."""
        self = super().__new__(cls)
        try:
            bound = inspect.signature(cls).bind_partial(*args, **kwargs)
        except TypeError:
            bound = inspect.signature(cls).bind_partial()
        bound.apply_defaults()
        object.__setattr__(self, "_arguments", dict(bound.arguments))
        return self

    def settle(self, **arguments: Any) -> None:
        """Write down what became of arguments that were left out, where no attribute of their name says it."""
        unknown = arguments.keys() - parameters_of(type(self)).keys()
        assert not unknown, f"{type(self).__name__} takes no {sorted(unknown)}"
        self._arguments |= arguments

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in arguments_of(self).items())
        return f"{type(self).__name__}({shown})"


def remember(value: Any, arguments: Mapping[str, Any]) -> None:
    """Give an object that is no `Part` the memory of one, where it can have attributes.

    >>> remember(layer := nn.Linear(2, 3), {"in_features": 2, "out_features": 3})
    >>> arguments_of(layer)["out_features"]
    3
    """
    if isinstance(value, Part):
        return
    defaults = {name: item.default for name, item in parameters_of(type(value)).items()}
    known = {name: default for name, default in defaults.items() if default is not inspect.Parameter.empty}
    with suppress(AttributeError, TypeError):
        object.__setattr__(value, "_arguments", {**known, **arguments})


def parameters_of(owner: type) -> dict[str, inspect.Parameter]:
    """The arguments of a constructor by name, without sinks such as ``**kwargs``."""
    sinks = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: item for name, item in inspect.signature(owner).parameters.items() if item.kind not in sinks}


def arguments_of(value: Any, *, where: str = "") -> dict[str, Any]:
    """The constructor arguments of an object: as its attributes of the same names say, else as `Part` remembers them.

    Attributes come first, since they tell what a default became and what was changed later. An argument that was a
    factory stays one, although the attribute holds what it made.

    Raises:
        TypeError: naming the argument, when neither knows it.
    """
    remembered: Mapping[str, Any] = getattr(value, "_arguments", {})
    arguments = {}
    for name in parameters_of(type(value)):
        known = remembered.get(name)
        if _has_value(value, name) and not _holds_factory(known):
            arguments[name] = getattr(value, name)
        elif name in remembered:
            arguments[name] = known
        else:
            kind = type(value).__name__
            raise TypeError(
                f"{where or kind} is a {kind}, which does not say what its argument {name!r} was and so cannot be "
                f"written down; derive {kind} from rankdet.ops.Part, or keep the argument as self.{name}"
            )
    return arguments


def _has_value(value: Any, name: str) -> bool:
    """Whether an object has an attribute of a name that is no method of it, and no buffer made from an argument."""
    return hasattr(value, name) and not isinstance(getattr(value, name), types.MethodType | Tensor)


def _holds_factory(argument: Any) -> bool:
    if isinstance(argument, list | tuple):
        return any(_holds_factory(item) for item in argument)
    return isinstance(argument, partial) or (isinstance(argument, type) and issubclass(argument, nn.Module))


def made(part: Any, *args: Any, **known: Any) -> Any:
    """The part itself if it is made already, or what its factory makes of what is known by now.

    >>> made(partial(nn.Linear, bias=False), 2, out_features=3)
    Linear(in_features=2, out_features=3, bias=False)
    >>> made(nn.ReLU(), 2, out_features=3)
    ReLU()
    """
    return part if isinstance(part, nn.Module) else part(*args, **known)


class Kind(NamedTuple):
    """What an argument may be: an object of a class, or a factory of one that will be ``given`` some arguments."""

    cls: type
    given: frozenset[str] = frozenset()

    def misfit(self, found: type) -> str | None:
        """Why a class is not of this kind; None if it is."""
        if not issubclass(found, self.cls):
            return f"{found.__name__} is no {self.cls.__name__}"
        if refused := self.given - parameters_of(found).keys():
            return f"{found.__name__} takes no {sorted(refused)[0]}, which every {self.cls.__name__} is given"
        return None


def kinds_of(hint: Any) -> Iterator[Kind]:
    """The classes of parts in a type hint, factories as the classes of what they make.

    >>> [kind.cls.__name__ for kind in kinds_of(Part | None | float)]
    ['Part']
    """
    made_by = _call_of(hint)
    if made_by is not None:
        signature, result = made_by
        yield Kind(result, frozenset(signature))
    elif arguments := typing.get_args(hint):
        for argument in arguments:
            yield from kinds_of(argument)
    elif isinstance(hint, type) and hint.__module__ not in _PLAIN_MODULES:
        yield Kind(hint)


_PLAIN_MODULES = ("builtins", "pathlib", "collections.abc", "typing", "types")


def _call_of(hint: Any) -> tuple[Sequence[str], type] | None:
    """The names of the arguments of a factory protocol, and the class of what it makes."""
    if not (isinstance(hint, type) and getattr(hint, "_is_protocol", False) and "__call__" in vars(hint)):
        return None
    call = hint.__call__
    hints = typing.get_type_hints(call)
    result = hints.get("return")
    return ([name for name in hints if name != "return"], result) if isinstance(result, type) else None


def hints_of(owner: type) -> dict[str, Any]:
    """Type hints of the arguments of a constructor; none where they name what exists for type checkers only."""
    try:
        return typing.get_type_hints(owner.__init__)  # type: ignore[misc]
    except (NameError, AttributeError):
        return {}
