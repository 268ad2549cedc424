"""Assigners and samplers: who is positive, and who is looked at."""

from rankdet.assign.assignment import BACKGROUND, IGNORE, Assigner, Assignment, CostAssigner
from rankdet.assign.atss import ATSSAssigner
from rankdet.assign.cells import CellAssignment, CellConflict, CentreCells, FirstObject, LastObject
from rankdet.assign.fovea import FoveaAssigner
from rankdet.assign.ground_truth import GroundTruth, InstanceTruth
from rankdet.assign.max_iou import BestPriors, MaxIoU
from rankdet.assign.paa import PAAAssigner
from rankdet.assign.samplers import KeepAll, RandomSampler, Sampler

__all__ = [
    "BACKGROUND",
    "IGNORE",
    "ATSSAssigner",
    "Assigner",
    "Assignment",
    "BestPriors",
    "CellAssignment",
    "CellConflict",
    "CentreCells",
    "CostAssigner",
    "FirstObject",
    "FoveaAssigner",
    "GroundTruth",
    "InstanceTruth",
    "KeepAll",
    "LastObject",
    "MaxIoU",
    "PAAAssigner",
    "RandomSampler",
    "Sampler",
]
