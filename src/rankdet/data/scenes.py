"""Scenes of the built-in dataset: where shapes lie, what hides what, and how it all is painted.

A scene is drawn from back to front. Each piece is a signed distance function (negative inside, in units of its radius)
evaluated on its own small window; an edge is one pixel wide, and a pixel belongs to the piece that covers at least half
of it. Only comparisons, additions, multiplications and square roots touch arrays, and random numbers come from numpy's
``RandomState``, whose stream is frozen, so that a scene is the same on every platform.

The distance functions of star, cross and friends are written from their geometry; see I. Quilez, "2D distance
functions", https://iquilezles.org/articles/distfunctions2d/ for the idea.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState
from PIL import Image

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]

NOBODY = -1
"""Owner of the pixels that belong to no object: background and clutter."""


def _half_planes(sides: int, offset: float) -> list[tuple[np.float32, np.float32, np.float32]]:
    angles = [2 * math.pi * k / sides - math.pi / 2 for k in range(sides)]
    return [(np.float32(math.cos(a)), np.float32(math.sin(a)), np.float32(offset)) for a in angles]


_TRIANGLE = _half_planes(3, 0.5)
_HEXAGON = _half_planes(6, 0.866)
_STAR = _half_planes(5, math.cos(math.radians(72)))


def _polygon(planes: list[tuple[np.float32, np.float32, np.float32]]) -> Distance:
    def distance(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        result = u * planes[0][0] + v * planes[0][1] - planes[0][2]
        for x, y, offset in planes[1:]:
            np.maximum(result, u * x + v * y - offset, out=result)
        return result

    return distance


def _box(half_width: float, half_height: float) -> Distance:
    return lambda u, v: np.maximum(np.abs(u) - np.float32(half_width), np.abs(v) - np.float32(half_height))


def _circle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.sqrt(u * u + v * v) - np.float32(1)


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A point is in a pentagram when it lies beyond at most one side of the pentagon at its heart."""
    largest = second = np.full_like(u, -np.inf)
    for x, y, offset in _STAR:
        d = u * x + v * y - offset
        second = np.maximum(second, np.minimum(largest, d))
        largest = np.maximum(largest, d)
    return second


def _ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.abs(_circle(u, v) + np.float32(0.26)) - np.float32(0.26)


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.minimum(_box(1, 0.34)(u, v), _box(0.34, 1)(u, v))


def _crescent(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    bite = np.sqrt((u - np.float32(0.55)) ** 2 + v * v) - np.float32(0.85)
    return np.maximum(_circle(u, v), -bite)


def _frame(inside: Distance, width: float) -> Distance:
    return lambda u, v: np.abs(inside(u, v) + np.float32(width)) - np.float32(width)


SHAPES: dict[str, Distance] = {
    "circle": _circle,
    "square": _box(0.85, 0.85),
    "triangle": _polygon(_TRIANGLE),
    "star": _star,
    "ring": _ring,
    "cross": _cross,
    "crescent": _crescent,
    "bar": _box(1, 0.3),
}
"""The classes, in label order."""

CLUTTER: tuple[Distance, ...] = (
    _box(1.6, 0.045),
    _box(1.2, 0.07),
    _frame(_box(0.85, 0.85), 0.07),
    _frame(_polygon(_TRIANGLE), 0.07),
    _frame(_polygon(_HEXAGON), 0.07),
)
"""Strokes and outlines, which belong to no class."""

_REACH = 1.7  # no distance function is negative farther out than this, in radii


@dataclass(frozen=True)
class Piece:
    """One thing in a scene; `label` is NOBODY for clutter. Lengths in pixels, `stretch` widens u and shortens v."""

    distance: Distance
    label: int
    x: float
    y: float
    radius: float
    angle: float
    stretch: float


@dataclass(frozen=True)
class Window:
    """The part of the image that a piece covers: `coverage` 0..255 of the pixels from (`top`, `left`)."""

    top: int
    left: int
    coverage: np.ndarray

    @property
    def area(self) -> tuple[slice, slice]:
        """Where the window lies in the image."""
        height, width = self.coverage.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    def crop(self, height: int, width: int) -> Window:
        """The part inside of an image."""
        top, left = max(-self.top, 0), max(-self.left, 0)
        bottom, right = max(height - self.top, 0), max(width - self.left, 0)
        return Window(self.top + top, self.left + left, self.coverage[top:bottom, left:right])


@dataclass(frozen=True)
class Scene:
    """What lies where: pieces from back to front with their windows, and the object that owns each pixel.

    `owner` (H, W) holds the index of the piece, or NOBODY.
    """

    pieces: tuple[Piece, ...]
    windows: tuple[Window, ...]
    owner: np.ndarray

    def objects(self) -> list[int]:
        """Indices of the pieces that are objects."""
        return [index for index, piece in enumerate(self.pieces) if piece.label != NOBODY]

    def box(self, index: int) -> tuple[int, int, int, int]:
        """Tight xyxy box of the visible pixels of a piece, so that ``x2 - x1`` counts pixel columns."""
        window = self.windows[index]
        visible = self.owner[window.area] == index
        rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
        left, top = window.left, window.top
        return left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1


def rasterise(piece: Piece) -> Window:
    """Evaluate a piece on the window around it, which may reach beyond the image."""
    reach = _REACH * piece.radius * max(piece.stretch, 1 / piece.stretch) + 1
    left, top = math.floor(piece.x - reach), math.floor(piece.y - reach)
    right, bottom = math.ceil(piece.x + reach), math.ceil(piece.y + reach)
    x = np.arange(left, right, dtype=np.float32) + np.float32(0.5 - piece.x)
    y = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - piece.y))[:, None]
    cosine, sine = math.cos(piece.angle) / piece.radius, math.sin(piece.angle) / piece.radius
    u = x * np.float32(cosine / piece.stretch) + y * np.float32(sine / piece.stretch)
    v = y * np.float32(cosine * piece.stretch) - x * np.float32(sine * piece.stretch)
    distance = piece.distance(u, v) * np.float32(-255 * piece.radius) + np.float32(128)
    return _trim(Window(top, left, np.clip(distance, 0, 255).astype(np.uint8)))


def _trim(window: Window) -> Window:
    rows, columns = np.flatnonzero(window.coverage.any(1)), np.flatnonzero(window.coverage.any(0))
    if not len(rows):
        return Window(window.top, window.left, window.coverage[:0, :0])
    tight = window.coverage[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Window(window.top + int(rows[0]), window.left + int(columns[0]), tight)


class Canvas:
    """A scene in the making: accepts a piece unless too much of it or of what it covers would be hidden."""

    def __init__(self, height: int, width: int, *, occlusion: float) -> None:
        self.owner = np.full((height, width), NOBODY, dtype=np.int16)
        self.occlusion = occlusion
        self.pieces: list[Piece] = []
        self.windows: list[Window] = []
        self._full: list[int] = []
        self._visible: list[int] = []

    def place(self, piece: Piece) -> bool:
        """Put a piece in front of everything; False, and nothing changed, when it would hide too much."""
        whole = rasterise(piece)
        window = whole.crop(*self.owner.shape)
        full, covers = int((whole.coverage >= 128).sum()), window.coverage >= 128
        visible = int(covers.sum())
        below = self.owner[window.area]
        hidden = {int(i): int(n) for i, n in zip(*np.unique(below[covers], return_counts=True), strict=True) if i >= 0}
        if piece.label != NOBODY and not self._enough(visible, full):
            return False
        if not all(self._enough(self._visible[index] - count, self._full[index]) for index, count in hidden.items()):
            return False
        for index, count in hidden.items():
            self._visible[index] -= count
        below[covers] = len(self.pieces) if piece.label != NOBODY else NOBODY
        self.pieces.append(piece)
        self.windows.append(window)
        self._full.append(full)
        self._visible.append(visible)
        return True

    def scene(self) -> Scene:
        """The finished scene."""
        return Scene(tuple(self.pieces), tuple(self.windows), self.owner)

    def _enough(self, visible: int, full: int) -> bool:
        return visible > 0 and visible >= (1 - self.occlusion) * full


def paint(scene: Scene, rng: RandomState, *, noise: float) -> np.ndarray:
    """Colour a scene: (H, W, 3) uint8. Colours say nothing about classes; `noise` is the grain, 0..1."""
    height, width = scene.owner.shape
    image = _background(rng, height, width)
    for window in scene.windows:
        _blend(image, window, rng)
    amplitude = int(noise * 255)
    if amplitude:
        grain = np.frombuffer(rng.bytes(image.size), dtype=np.uint8).reshape(image.shape).astype(np.int16)
        image += (grain - 128) * amplitude >> 8
    return np.clip(image, 0, 255).astype(np.uint8)


def _background(rng: RandomState, height: int, width: int) -> np.ndarray:
    """Coloured clouds of two sizes around one colour, as int16 (H, W, 3)."""
    image = np.empty((height, width, 3), dtype=np.int16)
    image[:] = rng.randint(48, 208, size=3)
    for cells, amplitude in ((4, 90), (24, 50)):
        coarse = rng.randint(0, 256, size=(cells, cells, 3)).astype(np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        image += (np.asarray(smooth, dtype=np.int16) - 128) * amplitude >> 8
    return image


def _blend(image: np.ndarray, window: Window, rng: RandomState) -> None:
    """Lay one piece over the image, in a colour that differs from what is below, darker towards one side."""
    below = image[window.area]
    options = rng.randint(0, 256, size=(6, 3))
    slope = rng.randint(-40, 41, size=2)
    if not below.size:
        return
    contrast = np.abs(options - below.mean((0, 1)).astype(np.int64)).sum(1)
    colour = options[int(np.argmax(contrast >= 150))] if (contrast >= 150).any() else options[int(np.argmax(contrast))]
    rows, columns = (np.arange(size) * 2 - size for size in window.coverage.shape)
    shade = (rows * slope[0] // max(len(rows), 1))[:, None] + (columns * slope[1] // max(len(columns), 1))
    front = (colour + shade[..., None]).astype(np.int32)
    alpha = window.coverage[..., None].astype(np.int32)
    below += ((front - below) * alpha // 255).astype(np.int16)
