"""Panoptic quality (Kirillov et al., "Panoptic Segmentation", CVPR 2019) and panoptic LRP, of results in COCO's format.

A segment of the results and one of the ground truth match if they are of one class and their IoU, without pixels that
nobody labelled, is above 0.5; so each matches at most once. Of each class, with TP, FP and FN over all images,

    PQ = SQ RQ      SQ = mean IoU of the TP      RQ = TP / (TP + FP / 2 + FN / 2)
    LRP = (sum over TP of (1 - IoU) / 0.5 + FP + FN) / (TP + FP + FN)

and averages are over the classes that have any of them. Segments of the results have no scores, so LRP has no optimum
to look for (Oksuz et al., "One Metric to Measure Them All", TPAMI 2021). Crowds are never missed, and what lies mostly
on crowds of its class, or on pixels that nobody labelled, is not false. The rules are those of COCO's panopticapi,
except that it looks at one crowd of each class in an image, and this at all. The oracle of the tests counts pixel by
pixel.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rankdet.data import CorruptImageError
from rankdet.data.columns import WRONG, flags
from rankdet.data.raster import read_raster
from rankdet.eval.reading import GroundTruthError, PathLike, load
from rankdet.eval.results_file import ResultsError
from rankdet.eval.shapes import Floats, Ints
from rankdet.eval.undefined import as_text, mean_of_defined, numbers_as_json, same_if_undefined

if TYPE_CHECKING:
    from rich.table import Table

NOBODY = 0
"""The id of pixels that belong to no segment."""
_THREADS = min(4, os.cpu_count() or 1)
_TAU = 0.5
_MEASURES = ("PQ", "SQ", "RQ", "LRP", "LRP_Loc", "LRP_FP", "LRP_FN")


@dataclass(frozen=True)
class PanopticClass:
    """The numbers of one class, in [0, 1] and NaN where undefined; ``segments`` are those of the ground truth."""

    category_id: int
    name: str
    isthing: bool
    PQ: float
    SQ: float
    RQ: float
    LRP: float
    LRP_Loc: float
    LRP_FP: float
    LRP_FN: float
    segments: int


@dataclass(frozen=True)
class PanopticEvaluation:
    """``metrics`` by name, over all classes, and with ``_things`` and ``_stuff`` over these; ``per_class`` by id."""

    metrics: dict[str, float]
    per_class: tuple[PanopticClass, ...]

    def to_json(self) -> str:
        """Flat JSON: the metrics by name, and ``per_class`` below them, by class name; null where undefined."""
        rows = {row.name: numbers_as_json(asdict(row)) for row in self.per_class}
        return json.dumps({**numbers_as_json(self.metrics), "per_class": rows}, indent=2, allow_nan=False)

    def table(self) -> Table:
        """One `rich` table: all classes, things and stuff, then each class."""
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, padding=0, caption=_CAPTION)
        table.add_column("class", overflow="fold", min_width=10)
        for title in ("segments", "PQ", "SQ", "RQ", "LRP", "Loc", "FP rate", "FN rate"):
            table.add_column(title, justify="right", no_wrap=True)
        for title, end in (("all", ""), ("things", "_things"), ("stuff", "_stuff")):
            table.add_row(title, "", *(as_text(self.metrics[measure + end]) for measure in _MEASURES))
        table.add_section()
        for row in self.per_class:
            table.add_row(row.name, str(row.segments), *(as_text(getattr(row, name)) for name in _MEASURES))
        return table


_CAPTION = """\
PQ, SQ, RQ: higher is better; LRP and its parts (Loc, FP rate, FN rate): lower
Loc: mean 1 - IoU; FP rate: 1 - precision; FN rate: 1 - recall"""


def evaluate_panoptic(
    ground_truth: PathLike,
    results: PathLike,
    *,
    truth_folder: PathLike | None = None,
    results_folder: PathLike | None = None,
) -> PanopticEvaluation:
    """PQ and LRP of panoptic results, JSON files whose PNG files lie in folders of the same names without ``.json``.

    Raises:
        GroundTruthError: naming what is wrong with the ground truth.
        ResultsError: naming what is wrong with the results: an image without result, a segment that only the PNG or
            only the JSON file has, an unknown class, a PNG of another size.
    """
    truth = _File(ground_truth, truth_folder, "ground truth", GroundTruthError)
    found = _File(results, results_folder, "results", ResultsError)
    classes = truth.categories()
    known = {number: place for place, number in enumerate(classes)}
    with ThreadPoolExecutor(_THREADS) as threads:
        counts = threads.map(
            lambda number: _count(truth.image(number, known), found.image(number, known), len(known)), truth.ids
        )
        total = sum(counts, np.zeros((5, len(known))))
    return _evaluation(classes, total)


@dataclass(frozen=True)
class _Segments:
    """One image: ``pixels`` (H, W) are segment ids, of which ``ids`` (S,) ascend; the others are (S,) too."""

    name: str
    pixels: Ints
    ids: Ints
    categories: Ints
    crowd: NDArray[np.bool_]
    areas: Floats


class _File:
    """A panoptic JSON file and its folder of PNG files."""

    def __init__(self, path: PathLike, folder: PathLike | None, kind: str, error: type[ValueError]) -> None:
        self.error = error
        self.name, content = load(path, kind, error)
        self.folder = Path(folder) if folder is not None else Path(path).with_suffix("")
        entries = content.get("annotations") if isinstance(content, Mapping) else None
        if not isinstance(entries, list) or not all("segments_info" in entry for entry in entries):
            raise error(f"{self.name} is no panoptic file: it has no list 'annotations' with 'segments_info' in each")
        if not self.folder.is_dir():
            raise error(f"there is no folder {self.folder} with the PNG files of {self.name}")
        self.content: Mapping[str, Any] = content
        self._of_image = {entry["image_id"]: entry for entry in entries}

    @property
    def ids(self) -> list[Any]:
        """Those of the images."""
        return sorted(self._of_image)

    def categories(self) -> dict[int, Mapping[str, Any]]:
        """The classes by id."""
        table = self.content.get("categories")
        if not isinstance(table, list):
            raise self.error(f"{self.name} has no list 'categories'")
        return {int(entry["id"]): entry for entry in sorted(table, key=lambda entry: int(entry["id"]))}

    def image(self, number: Any, known: Mapping[int, int]) -> _Segments:
        """The segments of an image, whose classes are places by their ids in ``known``."""
        if number not in self._of_image:
            raise self.error(f"{self.name} has nothing for image {number}, which the ground truth has")
        entry = self._of_image[number]
        where = f"{entry['file_name']} of {self.name}"
        pixels = _read_ids(self.folder / entry["file_name"], self.error)
        infos = sorted(entry["segments_info"], key=lambda info: info["id"])
        ids = np.array([info["id"] for info in infos], np.int64)
        there, counts = np.unique(pixels, return_counts=True)
        if len(alone := np.setdiff1d(there[there != NOBODY], ids)):
            raise self.error(f"{where}: segment {alone[0]} is in the PNG file and not in 'segments_info'")
        if len(alone := np.setdiff1d(ids, there)):
            raise self.error(f"{where}: segment {alone[0]} is in 'segments_info' and not in the PNG file")
        if unknown := [info["category_id"] for info in infos if info["category_id"] not in known]:
            raise self.error(f"{where}: category_id {unknown[0]} is not among the 'categories' of the ground truth")
        drawn = counts[np.searchsorted(there, ids)].astype(np.float64)
        stated = [info.get("area") for info in infos]
        return _Segments(
            name=where,
            pixels=pixels,
            ids=ids,
            categories=np.array([known[info["category_id"]] for info in infos], np.int64),
            crowd=self._crowd(infos, where),
            areas=np.array([own if area is None else area for area, own in zip(stated, drawn.tolist(), strict=True)]),
        )

    def _crowd(self, infos: Sequence[Mapping[str, Any]], where: str) -> NDArray[np.bool_]:
        """(S,) which segments are crowds, in text or not."""
        column = flags([info.get("iscrowd") for info in infos])
        if len(wrong := column.places(WRONG)):
            info = infos[wrong[0]]
            raise self.error(f"{where}: segment {info['id']} has iscrowd {info['iscrowd']!r:.60}; write 0 or 1")
        return column.values


def _read_ids(path: Path, error: type[ValueError]) -> Ints:
    """(H, W) ids from the colours of a PNG file: red, then green times 256, then blue times 256 squared."""
    try:
        colours = read_raster(path).astype(np.int64)
    except CorruptImageError as cause:
        raise error(str(cause)) from cause
    return colours @ np.array([1, 256, 256**2])


def _count(truth: _Segments, found: _Segments, num_classes: int) -> Floats:
    """(5, K) true positives, the sum of their IoUs, false positives, misses, and segments of the ground truth."""
    if truth.pixels.shape != found.pixels.shape:
        (height, width), (right_height, right_width) = found.pixels.shape, truth.pixels.shape
        sizes = f"{height} x {width} pixels, {truth.name} is {right_height} x {right_width}"
        raise ResultsError(f"{found.name} is {sizes}")
    pixels = _common_pixels(truth, found)
    unlabelled, shared = pixels[0], pixels[1:]
    drawn = pixels.sum(axis=0)
    iou = shared / np.maximum(drawn + truth.areas[:, None] - shared - unlabelled, 1)
    same_class = truth.categories[:, None] == found.categories
    mine, theirs = np.nonzero((iou > _TAU) & same_class & ~truth.crowd[:, None])
    excused = unlabelled + (shared * (same_class & truth.crowd[:, None])).sum(axis=0)
    false = excused / np.maximum(drawn, 1) <= _TAU
    false[theirs] = False
    counted = ~truth.crowd
    missed = counted.copy()
    missed[mine] = False
    columns = (
        (truth.categories[mine], None),
        (truth.categories[mine], iou[mine, theirs]),
        (found.categories[false], None),
        (truth.categories[missed], None),
        (truth.categories[counted], None),
    )
    return np.stack([np.bincount(classes, weight, num_classes).astype(np.float64) for classes, weight in columns])


def _common_pixels(truth: _Segments, found: _Segments) -> Floats:
    """(1 + G, D) of each segment of the results, its pixels that nobody labelled, and those of each of the objects."""
    rows = _places(truth)
    columns = _places(found)
    shape = (len(truth.ids) + 1, len(found.ids) + 1)
    counts = np.bincount((rows * shape[1] + columns).ravel(), minlength=shape[0] * shape[1])
    return counts.reshape(shape)[:, 1:].astype(np.float64)


def _places(segments: _Segments) -> Ints:
    """(H, W) 1 + the place of the segment of each pixel, 0 for none."""
    return np.where(segments.pixels == NOBODY, 0, 1 + np.searchsorted(segments.ids, segments.pixels))


def _evaluation(classes: Mapping[int, Mapping[str, Any]], counts: Floats) -> PanopticEvaluation:
    measures = _measures(*counts[:4])
    rows = tuple(
        PanopticClass(
            category_id=number,
            name=str(entry.get("name", number)),
            isthing=bool(entry.get("isthing", 1)),
            segments=int(counts[4, place]),
            **{name: same_if_undefined(float(column[place])) for name, column in measures.items()},
        )
        for place, (number, entry) in enumerate(classes.items())
    )
    things = np.array([row.isthing for row in rows], np.bool_)
    metrics = {
        name + end: mean_of_defined(column[chosen])
        for end, chosen in (("", things | True), ("_things", things), ("_stuff", ~things))
        for name, column in measures.items()
    }
    return PanopticEvaluation(metrics, rows)


def _measures(true: Floats, overlap: Floats, false: Floats, missed: Floats) -> dict[str, Floats]:
    """(K,) each; NaN for a class that there is nothing of."""
    error = true - overlap
    with np.errstate(invalid="ignore"):
        there = np.where(true + false + missed > 0, 0.0, np.nan)
        return {
            "PQ": overlap / (true + false / 2 + missed / 2),
            "SQ": np.divide(overlap, true, out=there.copy(), where=true > 0),
            "RQ": true / (true + false / 2 + missed / 2),
            "LRP": (error / (1 - _TAU) + false + missed) / (true + false + missed),
            "LRP_Loc": error / true,
            "LRP_FP": false / (true + false),
            "LRP_FN": missed / (true + missed),
        }
