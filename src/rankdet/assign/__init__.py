"""Assigners and samplers: who is positive, and who is looked at."""

from rankdet.extras import require

__needs__ = require(__name__, "torch")

from rankdet.assign.assignment import BACKGROUND, IGNORE, Assigner, Assignment, CandidateCost
from rankdet.assign.atss import ATSSAssigner
from rankdet.assign.balanced import IoUBalancedSampler
from rankdet.assign.centre_region import CentreRegion
from rankdet.assign.fovea import FoveaAssigner
from rankdet.assign.fsaf import FSAFAssigner
from rankdet.assign.ground_truth import GroundTruth, InstanceTruth
from rankdet.assign.guided import ApproximateMaxIoU
from rankdet.assign.hungarian import HungarianMatcher
from rankdet.assign.late import LateMatcher
from rankdet.assign.max_iou import BestPriors, MaxIoU
from rankdet.assign.paa import PAAAssigner
from rankdet.assign.pair_costs import (
    ClassCost,
    CriterionCost,
    FocalCost,
    HighOrderCost,
    MaskCost,
    Pairs,
    SoftmaxCost,
)
from rankdet.assign.points import PointAssigner
from rankdet.assign.reach import CellGrid, Reach
from rankdet.assign.samplers import KeepAll, RandomSampler, Sampler
from rankdet.assign.solo import CellAssignment, CellConflict, CentreCells, FirstObject, LastObject

__all__ = [
    "BACKGROUND",
    "IGNORE",
    "ATSSAssigner",
    "ApproximateMaxIoU",
    "Assigner",
    "Assignment",
    "BestPriors",
    "CellAssignment",
    "CandidateCost",
    "CellConflict",
    "CellGrid",
    "CentreCells",
    "CentreRegion",
    "ClassCost",
    "CriterionCost",
    "FSAFAssigner",
    "FirstObject",
    "FocalCost",
    "FoveaAssigner",
    "GroundTruth",
    "HighOrderCost",
    "HungarianMatcher",
    "InstanceTruth",
    "IoUBalancedSampler",
    "KeepAll",
    "LastObject",
    "LateMatcher",
    "MaskCost",
    "MaxIoU",
    "PAAAssigner",
    "Pairs",
    "PointAssigner",
    "RandomSampler",
    "Reach",
    "Sampler",
    "SoftmaxCost",
]
