"""Results files with other scores: everything else of an entry stays, in the words of COCO's format."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rankdet.eval.columns import IouType
from rankdet.eval.convert import ResultsReading
from rankdet.eval.instances import Detections, GroundTruth
from rankdet.eval.results import Results
from rankdet.eval.results_file import load_results
from rankdet.eval.score_mapping import MappingError, ScoreMapping, logits_of, scores_of
from rankdet.eval.shapes import Floats
from rankdet.eval.txt_results import load_txt_results


def rescored(
    source: Results, truth: GroundTruth, detections: Detections, *, iou_type: IouType = "bbox", convert: str = ""
) -> list[dict[str, Any]]:
    """The entries of results with the scores of ``detections``, in COCO's format whatever the format of ``source``.

    The scores are put under ``mask_score`` where masks are evaluated and an entry has one.

    Args:
        source: the results.
        truth: the ground truth that they were read with.
        detections: what `read_results` made of them, with other scores.
        iou_type: as they were read.
        convert: as they were read.

    >>> from rankdet.eval import read_ground_truth, read_results
    >>> truth = read_ground_truth({"images": [{"id": 7}], "categories": [{"id": 3, "name": "cat"}], "annotations": []})
    >>> results = [{"image_id": 7, "category_id": 2, "bbox": [0, 0, 1, 1], "score": 50, "by": "me"}]
    >>> found = read_results(results, truth, convert="category+1,percent")
    >>> rescored(results, truth, found, convert="category+1,percent")
    [{'image_id': 7, 'category_id': 3, 'bbox': [0, 0, 1, 1], 'score': 0.5, 'by': 'me'}]
    """
    conversion = ResultsReading.named(convert)
    if isinstance(source, str | os.PathLike) and Path(source).is_dir():
        loaded, conversion = load_txt_results(Path(source), truth, conversion, iou_type=iou_type)
    else:
        loaded = load_results(source)
    images, categories = truth.image_ids[detections.images], truth.category_ids[detections.categories]
    columns = zip(loaded.columns.entries, images.tolist(), categories.tolist(), strict=True)
    entries = [{**entry, "image_id": image, "category_id": category} for entry, image, category in columns]
    if conversion.changes_boxes:
        boxes = detections.shapes.boxes(np.arange(len(detections)))
        entries = [{**entry, "bbox": box} for entry, box in zip(entries, boxes.tolist(), strict=True)]
    return [_with_score(*pair, iou_type) for pair in zip(entries, detections.scores.tolist(), strict=True)]


def apply_mapping(source: Results, mapping: ScoreMapping, *, iou_type: IouType = "bbox") -> list[dict[str, Any]]:
    """Results of COCO's format with mapped scores; no ground truth is needed.

    Raises:
        ValueError: an entry has a category that the mapping has not, or a score outside 0..1; the message names it.

    >>> from rankdet.eval.score_mapping import Affine
    >>> mapping = ScoreMapping("platt", (3,), ("cat",), (Affine(2.0, 0.0),), (0.1,), (0.4,))
    >>> apply_mapping([{"image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 1], "score": 0.5}], mapping)
    [{'image_id': 1, 'category_id': 3, 'bbox': [0, 0, 1, 1], 'score': 0.5}]
    """
    loaded = load_results(source)
    columns = loaded.columns
    scores, numbers = columns.scores(iou_type), columns.whole_numbers("category_id")
    ids = np.array(mapping.category_ids, np.int64)
    _check(loaded.name, numbers, ids, scores)
    logits = mapping(logits_of(scores), np.searchsorted(ids, numbers))
    pairs = zip(columns.entries, scores_of(logits).tolist(), strict=True)
    return [_with_score(dict(entry), score, iou_type) for entry, score in pairs]


def _check(name: str, numbers: Any, ids: Any, scores: Floats) -> None:
    if len(unknown := np.flatnonzero(~np.isin(numbers, ids))):
        raise MappingError(
            f"entry {unknown[0]} of {name}: category_id {numbers[unknown[0]]} is not in the mapping; give one "
            "that was made with the same categories"
        )
    if len(wrong := np.flatnonzero((scores < 0) | (scores > 1))):
        raise MappingError(f"entry {wrong[0]} of {name}: the score {scores[wrong[0]]:.6g} does not lie in 0..1")


def _with_score(entry: Mapping[str, Any], score: float, iou_type: IouType) -> dict[str, Any]:
    key = "mask_score" if iou_type == "segm" and entry.get("mask_score") is not None else "score"
    return {**entry, key: score}
