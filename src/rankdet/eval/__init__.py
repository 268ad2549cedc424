"""Evaluation: COCO AP and AR, oLRP with components and optimal thresholds.

Needs numpy and pycocotools only; what needs torch is imported when it is asked for.
"""

from rankdet.eval.coco import evaluate, evaluate_detections
from rankdet.eval.evaluation import CategoryResult, Evaluation
from rankdet.eval.instances import Detections, GroundTruth
from rankdet.eval.lrp import LRP, lrp_at, lrp_curve, optimal_lrp
from rankdet.eval.matching import COCO_AREA_RANGES, COCO_IOU_THRESHOLDS, Matches, match
from rankdet.eval.reading import GroundTruthError, ResultsError, read_ground_truth, read_results

__all__ = [
    "COCO_AREA_RANGES",
    "COCO_IOU_THRESHOLDS",
    "CategoryResult",
    "Detections",
    "Evaluation",
    "GroundTruth",
    "GroundTruthError",
    "LRP",
    "Matches",
    "ResultsError",
    "evaluate",
    "evaluate_detections",
    "lrp_at",
    "lrp_curve",
    "match",
    "optimal_lrp",
    "read_ground_truth",
    "read_results",
]
