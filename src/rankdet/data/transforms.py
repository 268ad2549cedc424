"""Resizing rules and clean-up after geometric transforms, on top of ``torchvision.transforms.v2``.

Every transform takes ``(image, target)`` or an image alone and keeps boxes and masks in step. Random ones draw from
torch's global generator, which the loader seeds for each sample. Images stay uint8: the model normalises and pads.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from rankdet.data.dataset import Target
from rankdet.data.interpolation import Antialiased, FloatBilinear, Interpolation, interpolation_called

PER_OBJECT = ("boxes", "labels", "iscrowd", "difficult", "masks")
"""The keys of a target that have one row for each object."""
PLACED = ("boxes", "masks", "proposals", "semantic")
"""The keys of a target that lie in the image, so that whatever cuts the image cuts them."""


class Transform(v2.Transform):
    """A transform that is called by the same names under every torchvision: `make_params` once, `transform` for each.

    They are torchvision's own from 0.21 on; before that they had names of their own.
    """

    @abstractmethod
    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """What is done to all of the image and its target, drawn or computed once."""

    @abstractmethod
    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Do it to one image, box or mask tensor."""

    def _get_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return self.make_params(flat_inputs)

    def _transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return self.transform(inpt, params)


class Resize(Transform):
    """A rule that gives the size of the resized image; masks are resized by the nearest pixel.

    Authors of a rule write :meth:`new_size`.

    Attributes:
        interpolation: how the pixels of images come about.
    """

    interpolation: Interpolation = Antialiased()

    @abstractmethod
    def new_size(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) that an image of (height, width) gets."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Ask the rule; torchvision calls this once for an image and its target."""
        return {"size": self.new_size(*_common_size(flat_inputs))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize one image, box or mask tensor; torchvision calls this."""
        is_image = isinstance(inpt, tv_tensors.Image) or not isinstance(inpt, tv_tensors.TVTensor)
        if is_image and isinstance(inpt, torch.Tensor) and not isinstance(self.interpolation, Antialiased):
            return tv_tensors.wrap(self.interpolation(inpt.as_subclass(torch.Tensor), params["size"]), like=inpt)
        return self._call_kernel(v2.functional.resize, inpt, size=list(params["size"]), antialias=True)


class FixedResize(Resize):
    """A rule without randomness, fit for testing; it travels in checkpoints as a plain dictionary."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain types from which :func:`resize_from_dict` rebuilds the rule."""

    def _interpolated(self, rule: dict[str, Any]) -> dict[str, Any]:
        """The rule with the name of its interpolation, unless that is the usual one."""
        name = self.interpolation.name
        return rule if name == Antialiased.name else {**rule, "interpolation": name}


class KeepSize(FixedResize):
    """Images stay as large as they are.

    >>> KeepSize().new_size(300, 400)
    (300, 400)
    """

    def new_size(self, height: int, width: int) -> tuple[int, int]:
        """The size itself."""
        return height, width

    def to_dict(self) -> dict[str, Any]:
        """``{"rule": "keep"}``."""
        return {"rule": "keep"}


class ResizeExactly(FixedResize):
    """Every image gets the same size, whatever its aspect ratio.

    >>> ResizeExactly(height=512, width=640).new_size(100, 100)
    (512, 640)
    """

    def __init__(self, *, height: int, width: int, interpolation: Interpolation | None = None) -> None:
        super().__init__()
        self.height, self.width = _sides(height=height, width=width)
        self.interpolation = interpolation or Antialiased()

    def new_size(self, height: int, width: int) -> tuple[int, int]:
        """The fixed size."""
        del height, width
        return self.height, self.width

    def to_dict(self) -> dict[str, Any]:
        """Rule and both sides."""
        return self._interpolated({"rule": "exactly", "height": self.height, "width": self.width})


class ResizeWithin(FixedResize):
    """Every image gets as large as fits within a size, its aspect ratio kept: for graphs of one size of images.

    >>> ResizeWithin(height=640, width=640).new_size(300, 400)
    (480, 640)
    """

    def __init__(self, *, height: int, width: int, interpolation: Interpolation | None = None) -> None:
        super().__init__()
        self.height, self.width = _sides(height=height, width=width)
        self.interpolation = interpolation or Antialiased()

    def new_size(self, height: int, width: int) -> tuple[int, int]:
        """The size by the rule."""
        scale = min(self.height / height, self.width / width)
        return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)

    def to_dict(self) -> dict[str, Any]:
        """Rule and both sides."""
        return self._interpolated({"rule": "within", "height": self.height, "width": self.width})


class ResizeShorter(FixedResize):
    """The shorter side becomes `short` unless the longer one would exceed `long`; the aspect ratio is kept.

    The rule of Detectron and MMDetection: ``s = min(long / max(h, w), short / min(h, w))``, new side
    ``int(side * s + 0.5)``, at least 1.

    >>> ResizeShorter().new_size(480, 640), ResizeShorter(short=256, long=320).new_size(100, 400)
    ((800, 1067), (80, 320))
    """

    def __init__(self, *, short: int = 800, long: int = 1333, interpolation: Interpolation | None = None) -> None:
        super().__init__()
        self.short, self.long = _sides(short=short, long=long)
        self.interpolation = interpolation or Antialiased()

    def new_size(self, height: int, width: int) -> tuple[int, int]:
        """The size by the rule."""
        return keep_ratio(height, width, short=self.short, long=self.long)

    def to_dict(self) -> dict[str, Any]:
        """Rule, both limits and interpolation."""
        return self._interpolated({"rule": "shorter", "short": self.short, "long": self.long})


class ResizeShorterDown(ResizeShorter):
    """:class:`ResizeShorter` with sides rounded down, by default in floating point: torchvision's detectors.

    >>> ResizeShorterDown().new_size(480, 640)
    (800, 1066)
    """

    def __init__(self, *, short: int = 800, long: int = 1333, interpolation: Interpolation | None = None) -> None:
        super().__init__(short=short, long=long, interpolation=interpolation or FloatBilinear())

    def new_size(self, height: int, width: int) -> tuple[int, int]:
        """The size by the rule."""
        scale = min(self.short / min(height, width), self.long / max(height, width))
        return max(math.floor(height * scale), 1), max(math.floor(width * scale), 1)

    def to_dict(self) -> dict[str, Any]:
        """Rule, both limits and interpolation."""
        name = self.interpolation.name
        return {"rule": "shorter_down", "short": self.short, "long": self.long, "interpolation": name}


class RandomResizeShorter(Resize):
    """:class:`ResizeShorter` with `short` drawn from a list for each image (multi-scale training).

    >>> RandomResizeShorter(shorts=[480, 480]).new_size(480, 640)
    (480, 640)
    """

    def __init__(self, *, shorts: Sequence[int], long: int = 1333) -> None:
        super().__init__()
        if not shorts:
            raise ValueError("shorts must name at least one length, got none")
        self.shorts = _sides(**{f"shorts[{place}]": short for place, short in enumerate(shorts)})
        (self.long,) = _sides(long=long)

    def new_size(self, height: int, width: int) -> tuple[int, int]:
        """Draw a length, then the rule."""
        short = self.shorts[_draw(0, len(self.shorts) - 1)]
        return keep_ratio(height, width, short=short, long=self.long)


class RandomResizeShorterRange(Resize):
    """:class:`ResizeShorter` with both lengths drawn from ranges, ends included, for each image.

    >>> RandomResizeShorterRange(short=(480, 480), long=(1333, 1333)).new_size(480, 640)
    (480, 640)
    """

    def __init__(self, *, short: tuple[int, int], long: tuple[int, int] = (1333, 1333)) -> None:
        super().__init__()
        for name, (least, most) in (("short", short), ("long", long)):
            _sides(**{name: least})
            if most < least:
                raise ValueError(f"{name} must be (least, most) with least <= most, got {(least, most)}")
        self.short, self.long = tuple(short), tuple(long)

    def new_size(self, height: int, width: int) -> tuple[int, int]:
        """Draw both lengths, then the rule."""
        long, short = _draw(*self.long), _draw(*self.short)
        return keep_ratio(height, width, short=short, long=long)


class Sanitise(v2.Transform):
    """Clip boxes to the image and drop objects with a side below `min_size` pixels, with all that belongs to them.

    Proposals that come with the image are clipped as well, and dropped where nothing of them is left.

    To be put after whatever crops or shrinks.
    """

    def __init__(self, *, min_size: float = 1.0) -> None:
        super().__init__()
        self.min_size = min_size

    def forward(self, image: tv_tensors.Image, target: Target) -> tuple[tv_tensors.Image, Target]:
        """The image as it was, and a new target."""
        boxes = v2.functional.clamp_bounding_boxes(target["boxes"])
        chosen = select_objects({**target, "boxes": boxes}, _shorter_sides(boxes) >= self.min_size)
        if "proposals" in chosen:
            proposals = v2.functional.clamp_bounding_boxes(chosen["proposals"])
            chosen["proposals"] = _rewrap(proposals[_shorter_sides(proposals) > 0], proposals)
        return image, chosen


def _common_size(inputs: list[Any]) -> tuple[int, int]:
    """(H, W) of an image, its boxes and its masks."""
    sizes = {tuple(v2.functional.get_size(item)) for item in inputs}
    if len(sizes) != 1:
        raise ValueError(f"an image, its boxes and its masks must be of one size (H, W); got {sorted(sizes)}")
    return sizes.pop()


def select_objects(target: Target, keep: torch.Tensor) -> Target:
    """A target with some of its objects: `keep` is a mask (G,) or indices; every key stays in step."""
    rows = {key: _rewrap(target[key][keep], target[key]) for key in PER_OBJECT if key in target}  # type: ignore[literal-required]
    return {**target, **rows}  # type: ignore[typeddict-item]


def resize_from_dict(rule: Mapping[str, Any]) -> FixedResize:
    """The rule that :meth:`FixedResize.to_dict` described; ``ValueError`` for a dictionary of another kind.

    >>> resize_from_dict({"rule": "shorter", "short": 600, "long": 1000}).new_size(300, 400)
    (600, 800)
    """
    rules: dict[str, Callable[..., FixedResize]] = {
        "keep": KeepSize,
        "exactly": ResizeExactly,
        "within": ResizeWithin,
        "shorter": ResizeShorter,
        "shorter_down": ResizeShorterDown,
    }
    arguments = {key: value for key, value in rule.items() if key != "rule"}
    if "interpolation" in arguments:
        arguments["interpolation"] = interpolation_called(arguments["interpolation"])
    try:
        return rules[rule["rule"]](**arguments)
    except (KeyError, TypeError):
        raise ValueError(f"no resizing rule is described by {dict(rule)}; known rules are {sorted(rules)}") from None


def keep_ratio(height: int, width: int, *, short: int, long: int) -> tuple[int, int]:
    """The size of an image whose shorter side is brought to `short`, its longer to `long` at most."""
    scale = min(long / max(height, width), short / min(height, width))
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def as_size(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """(H, W) of a side or of both; None for None.

    >>> as_size(640), as_size([480, 640])
    ((640, 640), (480, 640))
    """
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    _sides(height=height, width=width)
    return height, width


def check_range(name: str, limits: Sequence[float], *, above: float, below: float = math.inf) -> tuple[float, float]:
    """(least, most) with above < least <= most <= below; else ValueError."""
    least, most = limits
    if not above < least <= most <= below:
        bound = "" if math.isinf(below) else f" <= {below:g}"
        raise ValueError(f"{name} must be (least, most) with {above:g} < least <= most{bound}; got {(least, most)}")
    return least, most


def check_share(name: str, value: float) -> float:
    """The value, if it lies in 0..1; else ValueError."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be a share, 0 to 1; got {value}")
    return value


def _draw(least: int, most: int) -> int:
    return int(torch.randint(least, most + 1, ()))


def _shorter_sides(boxes: torch.Tensor) -> torch.Tensor:
    """(R,) of boxes (R, 4)."""
    return (boxes[:, 2:] - boxes[:, :2]).amin(1) if len(boxes) else boxes[:, 0]


def _sides(**sides: int) -> tuple[int, ...]:
    for name, side in sides.items():
        if not isinstance(side, int) or isinstance(side, bool) or side < 1:
            raise ValueError(f"{name} must be a whole number of pixels, at least 1, got {side!r}")
    return tuple(sides.values())


def _rewrap(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return tv_tensors.wrap(value, like=like) if isinstance(like, tv_tensors.TVTensor) else value
