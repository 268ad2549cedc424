"""Evaluation: AP by the rules of COCO, LVIS and VOC, oLRP with its parts and class thresholds, and comparisons.

Boxes, masks and their boundaries, keypoints, proposals, panoptic results. Importing this needs only numpy, msgspec and
pycocotools; what needs more is imported when it is asked for (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rankdet.eval.average_precision import precision_recall_curve
from rankdet.eval.boundaries import BoundaryRules, evaluate_boundaries
from rankdet.eval.coco import evaluate, evaluate_detections
from rankdet.eval.comparison import Comparison, compare
from rankdet.eval.correlation import Correlation, score_iou_correlation
from rankdet.eval.evaluation import CategoryResult, Details, Evaluation
from rankdet.eval.evaluator import Evaluator, iou_types_of
from rankdet.eval.instances import Detections, GroundTruth
from rankdet.eval.keypoints import evaluate_keypoints
from rankdet.eval.lrp import LRP, lrp_at, lrp_curve, optimal_lrp
from rankdet.eval.lvis import PerClass, evaluate_lvis
from rankdet.eval.matching import COCO_IOU_THRESHOLDS, Matches, Outcomes, match
from rankdet.eval.proposals import evaluate_proposals
from rankdet.eval.reading import GroundTruthError, read_ground_truth
from rankdet.eval.rescoring import apply_mapping
from rankdet.eval.results import read_results
from rankdet.eval.results_file import ResultsError, ResultsNote, ResultsWarning
from rankdet.eval.rules import COCORules, LVISRules, Rules, read_rules
from rankdet.eval.score_calibration import (
    FittedScores,
    ScoreAssessment,
    assess_scores,
    fit_scores,
    map_scores,
    shift_scores,
)
from rankdet.eval.score_fitting import fit_isotonic, fit_platt, fit_temperature
from rankdet.eval.score_mapping import MappingError, ScoreMapping
from rankdet.eval.sizes import COCO_AREA_RANGES, parse_sizes
from rankdet.eval.thresholding import ScoreThresholdWarning, ThresholdCost, threshold_cost, warn_of_threshold
from rankdet.eval.voc import VOCEvaluation, area_under_curve, eleven_points, evaluate_voc
from rankdet.extras import exported

if TYPE_CHECKING:
    from rankdet.eval.devices import ManyDevices
    from rankdet.eval.half import MixedPrecision
    from rankdet.eval.inference import predict, to_results
    from rankdet.eval.metric import DetectionMetric, ResultsMetric
    from rankdet.eval.panoptic import PanopticEvaluation, evaluate_panoptic
    from rankdet.eval.tiles import Tiles
    from rankdet.eval.trainer import ComputeMetrics
    from rankdet.eval.views import ManyViews

_LAZY = {
    "PanopticEvaluation": "panoptic",
    "evaluate_panoptic": "panoptic",
    "ComputeMetrics": "trainer",
    "DetectionMetric": "metric",
    "ManyDevices": "devices",
    "ManyViews": "views",
    "MixedPrecision": "half",
    "ResultsMetric": "metric",
    "Tiles": "tiles",
    "predict": "inference",
    "to_results": "inference",
}

__all__ = [
    "COCO_AREA_RANGES",
    "COCO_IOU_THRESHOLDS",
    "BoundaryRules",
    "COCORules",
    "CategoryResult",
    "Comparison",
    "ComputeMetrics",
    "Correlation",
    "DetectionMetric",
    "Detections",
    "Details",
    "Evaluation",
    "Evaluator",
    "GroundTruth",
    "GroundTruthError",
    "LRP",
    "LVISRules",
    "ManyDevices",
    "ManyViews",
    "Matches",
    "MixedPrecision",
    "Outcomes",
    "PanopticEvaluation",
    "PerClass",
    "ResultsError",
    "ResultsMetric",
    "ResultsNote",
    "ResultsWarning",
    "Rules",
    "ScoreThresholdWarning",
    "ThresholdCost",
    "Tiles",
    "VOCEvaluation",
    "area_under_curve",
    "compare",
    "eleven_points",
    "evaluate",
    "evaluate_boundaries",
    "evaluate_detections",
    "evaluate_keypoints",
    "evaluate_lvis",
    "evaluate_panoptic",
    "evaluate_proposals",
    "evaluate_voc",
    "iou_types_of",
    "lrp_at",
    "lrp_curve",
    "match",
    "optimal_lrp",
    "parse_sizes",
    "precision_recall_curve",
    "predict",
    "read_ground_truth",
    "read_results",
    "read_rules",
    "score_iou_correlation",
    "threshold_cost",
    "to_results",
    "warn_of_threshold",
    "FittedScores",
    "ScoreAssessment",
    "assess_scores",
    "fit_scores",
    "map_scores",
    "shift_scores",
    "fit_isotonic",
    "fit_platt",
    "fit_temperature",
    "MappingError",
    "ScoreMapping",
    "apply_mapping",
]


def __getattr__(name: str) -> Any:
    return exported(__name__, _LAZY, name)


def __dir__() -> list[str]:
    return sorted(__all__)
