"""How ``predict`` and ``eval`` look at an image: as it is, by tiles, at several sizes, mirrored, in half precision."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rankdet.cli.errors import CommandError
from rankdet.cli.options import Given, Option
from rankdet.cli.values import whole_number

if TYPE_CHECKING:
    from rankdet.predictor import Predictor

OPTIONS = {
    "tiles": Option("PIXELS", "look at large images by overlapping tiles of this size, each like an image of its own"),
    "overlap": Option("SHARE", "with --tiles: what neighbouring tiles share, from 0 to below 1 (default: 0.2)"),
    "whole": Option(None, "with --tiles: look at the whole image too, for objects larger than the overlap"),
    "scales": Option("LIST", "look at each image at these sizes, such as 0.5,1,1.5, and put what is found together"),
    "flip": Option(None, "look at each image mirrored too"),
    "precision": Option("TYPE", "of the network: 32-true (default), 16-mixed or bf16-mixed"),
}
_TYPES = {"32-true": None, "16-mixed": "float16", "bf16-mixed": "bfloat16"}


def check_looks(given: Given) -> None:
    """`CommandError` for options that mean nothing, before a model is loaded."""
    for name in ("overlap", "whole"):
        if name in given.own and "tiles" not in given.own:
            raise CommandError(f"--{name} goes with --tiles PIXELS")
    _tiles(given)
    if not 0 <= _number("overlap", given.own.get("overlap", "0")) < 1:
        raise CommandError(f"--overlap is a part of the tile, from 0 to below 1; got {given.own['overlap']}")
    if not all(0 < scale < math.inf for scale in _scales(given)):
        raise CommandError(f"--scales must be above 0, as in 0.5,1,1.5; got {given.own['scales']}")
    if (precision := given.own.get("precision", "32-true")) not in _TYPES:
        raise CommandError(f"--precision must be one of {', '.join(_TYPES)}; got {precision}")


def looking(predictor: Predictor, given: Given) -> Predictor:
    """The predictor that looks at images as the options say; itself without any."""
    import torch

    from rankdet.eval import ManyViews, MixedPrecision

    if "scales" in given.own or "flip" in given.own:
        predictor.model = ManyViews(predictor.model, scales=_scales(given), flip="flip" in given.own)
    if "tiles" in given.own:
        settings: dict[str, Any] = {"size": _tiles(given), "whole": "whole" in given.own}
        if "overlap" in given.own:
            settings["overlap"] = float(given.own["overlap"])
        predictor = predictor.tiled(**settings)
    if dtype := _TYPES[given.own.get("precision", "32-true")]:
        predictor.model = MixedPrecision(predictor.model, dtype=getattr(torch, dtype))
    return predictor


def _tiles(given: Given) -> int:
    return whole_number(given, "tiles", default=800)


def _scales(given: Given) -> list[float]:
    return [_number("scales", part) for part in given.own.get("scales", "1").split(",")]


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise CommandError(f"--{name} takes numbers, got {text}") from None
