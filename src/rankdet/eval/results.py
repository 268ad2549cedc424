"""Reads results from any tool, and says what is wrong with them entry by entry.

COCO's list of results, the same list within an object, and folders of Ultralytics' txt files. Results that cannot be
understood are errors; of those that can, `suspicions` says whether they are likely to be what they seem.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rankdet.eval.columns import BoxResult, Columns, Entry, IouType, MaskResult
from rankdet.eval.convert import ResultsReading
from rankdet.eval.instances import Detections, GroundTruth
from rankdet.eval.keypoint_shapes import Keypoints, detected_keypoints
from rankdet.eval.naming import category_places, image_places, note
from rankdet.eval.reading import PathLike, check_iou_type
from rankdet.eval.results_file import LoadedResults, load_results
from rankdet.eval.shapes import Boxes, ComparedShapes, Ints
from rankdet.eval.txt_results import load_txt_results
from rankdet.garbage import without_garbage_collection

Results = Sequence[Entry] | Mapping[str, Any] | PathLike
"""A list of COCO results, an object that has one, the path of a JSON file with either, or of a folder of txt files."""


@without_garbage_collection()
def read_results(
    source: Results, ground_truth: GroundTruth, *, iou_type: IouType = "bbox", convert: str = ""
) -> Detections:
    """Results as columns in the indices of ``ground_truth``: boxes or masks, or keypoints where it has keypoints.

    ``convert`` names what is otherwise than in COCO's format, such as "xyxy,category+1": see `CONVERSIONS`. Of masks
    without boxes, the boxes around them are evaluated. Raises ResultsError for an entry without the keys of
    ``iou_type``, of an image or category that the ground truth does not have, with a score that is no finite number,
    with a box that is not four finite numbers of which the last two are not negative, or with a malformed mask.

    >>> from rankdet.eval.reading import read_ground_truth
    >>> truth = read_ground_truth({"images": [{"id": 7}], "categories": [{"id": 3, "name": "cat"}], "annotations": []})
    >>> read_results([{"image_id": 8, "category_id": 3, "bbox": [0, 0, 1, 1], "score": 0.5}], truth)
    Traceback (most recent call last):
    rankdet.eval.results_file.ResultsError: entry 0 of results: image_id 8 is not among the 'images' of ground truth;
    leave the entry out or add the id there
    """
    check_iou_type(iou_type)
    conversion = ResultsReading.named(convert)
    if isinstance(source, str | os.PathLike) and Path(source).is_dir():
        results, conversion = load_txt_results(Path(source), ground_truth, conversion, iou_type=iou_type)
    else:
        results = load_results(source, _form(ground_truth, iou_type))
    categories = category_places(results, ground_truth, conversion)
    return _detections(results, ground_truth, conversion, categories=categories, iou_type=iou_type)


@without_garbage_collection()
def read_proposals(
    source: Results, ground_truth: GroundTruth, *, iou_type: IouType = "bbox", convert: str = ""
) -> Detections:
    """As `read_results`, for results without categories; where all entries have one, it breaks ties of scores."""
    check_iou_type(iou_type)
    results = load_results(source)
    entries = results.columns.entries
    has_category = all(isinstance(entry, Mapping) and "category_id" in entry for entry in entries)
    categories = results.columns.whole_numbers("category_id") if has_category else np.zeros(len(entries), np.int64)
    conversion = ResultsReading.named(convert)
    return _detections(results, ground_truth, conversion, categories=categories, iou_type=iou_type)


def _form(truth: GroundTruth, iou_type: IouType) -> Any:
    """What entries of a file have, so that they are read quickly."""
    if isinstance(truth.shapes, Keypoints):
        return Any
    return list[BoxResult] if iou_type == "bbox" else list[MaskResult]


def _detections(
    results: LoadedResults, truth: GroundTruth, conversion: ResultsReading, *, categories: Ints, iou_type: IouType
) -> Detections:
    images = image_places(results, truth, conversion)
    return Detections(
        images=images,
        categories=categories,
        shapes=_shapes(results.columns, truth, conversion, images=images, iou_type=iou_type),
        scores=results.columns.scores(iou_type) * conversion.score_scale,
    )


def _have_masks_alone(entries: Sequence[Any]) -> bool:
    """As in pycocotools, the first decides."""
    first = entries[0] if len(entries) else {}
    return isinstance(first, Mapping) and "segmentation" in first and not first.get("bbox")


def _shapes(
    columns: Columns, truth: GroundTruth, conversion: ResultsReading, *, images: Ints, iou_type: IouType
) -> ComparedShapes:
    if isinstance(truth.shapes, Keypoints):
        return detected_keypoints(columns, truth.shapes)
    sizes = truth.image_sizes[images]
    if iou_type == "bbox" and _have_masks_alone(columns.entries):
        note("the results have no 'bbox': boxes are drawn around the masks")
        masks = columns.masks(sizes)
        return Boxes(masks.boxes(np.arange(len(masks))), masks.areas)
    if not conversion.changes_boxes:
        return columns.shapes(iou_type, sizes, negative_sides=False)
    if iou_type == "segm":
        raise ValueError("conversions of boxes do not go with masks; leave xyxy, cxcywh and normalised out")
    if conversion.normalised and (sizes == 0).any():
        place = int(np.argmax((sizes == 0).any(axis=1)))
        number = truth.image_ids[images[place]]
        columns.fail(place, f"is in 0..1, but image {number} of {truth.source} has no 'width' and 'height'; add them")
    boxes = conversion.boxes(columns.boxes(negative_sides=True), sizes.astype(np.float64))
    if (boxes[:, 2:] < 0).any():
        place = int(np.argmax((boxes[:, 2:] < 0).any(axis=1)))
        columns.fail(place, f"'bbox' ends before it begins if read as {conversion.box}")
    return Boxes(boxes)
