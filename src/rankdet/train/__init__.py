"""Training: the task, its schedule and optimiser, and one function that runs it all.

The settings need torch alone; Lightning is imported when something is trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rankdet.extras import exported

if TYPE_CHECKING:
    from rankdet.train.data_speed import DataSpeed as DataSpeed
    from rankdet.train.data_speed import benchmark_data as benchmark_data
    from rankdet.train.epochs import begin_epoch as begin_epoch
    from rankdet.train.epochs import end_epoch as end_epoch
    from rankdet.train.errors import TrainingError as TrainingError
    from rankdet.train.errors import TrainingInterrupted as TrainingInterrupted
    from rankdet.train.model_speed import ModelSpeed as ModelSpeed
    from rankdet.train.model_speed import Timing as Timing
    from rankdet.train.model_speed import benchmark_model as benchmark_model
    from rankdet.train.optimiser import SGD as SGD
    from rankdet.train.optimiser import AdamW as AdamW
    from rankdet.train.optimiser import Optimiser as Optimiser
    from rankdet.train.options import TrainerOptions as TrainerOptions
    from rankdet.train.parameter_groups import LayerDecay as LayerDecay
    from rankdet.train.parameter_groups import ParameterGroup as ParameterGroup
    from rankdet.train.random_images import random_batch as random_batch
    from rankdet.train.rehearsal import rehearse as rehearse
    from rankdet.train.run import Run as Run
    from rankdet.train.run import fit as fit
    from rankdet.train.schedule import Cosine as Cosine
    from rankdet.train.schedule import Decay as Decay
    from rankdet.train.schedule import FlatCosine as FlatCosine
    from rankdet.train.schedule import Schedule as Schedule
    from rankdet.train.schedule import Steps as Steps
    from rankdet.train.task import DetectionTask as DetectionTask
    from rankdet.train.transfer import Transfer as Transfer
    from rankdet.train.transfer import transfer_weights as transfer_weights

_HOMES = {
    "AdamW": "optimiser",
    "Cosine": "schedule",
    "DataSpeed": "data_speed",
    "Decay": "schedule",
    "DetectionTask": "task",
    "FlatCosine": "schedule",
    "ModelSpeed": "model_speed",
    "Optimiser": "optimiser",
    "LayerDecay": "parameter_groups",
    "ParameterGroup": "parameter_groups",
    "Run": "run",
    "SGD": "optimiser",
    "Schedule": "schedule",
    "Steps": "schedule",
    "Timing": "model_speed",
    "TrainerOptions": "options",
    "TrainingError": "errors",
    "TrainingInterrupted": "errors",
    "benchmark_data": "data_speed",
    "benchmark_model": "model_speed",
    "begin_epoch": "epochs",
    "end_epoch": "epochs",
    "fit": "run",
    "random_batch": "random_images",
    "rehearse": "rehearsal",
    "Transfer": "transfer",
    "transfer_weights": "transfer",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    return exported(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted(__all__)
