"""Where the numbers of a run go: its own table always, and the loggers that are named, which are Lightning's."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.loggers import Logger, MLFlowLogger, WandbLogger

from rankdet.extras import install
from rankdet.train.folder import METRICS
from rankdet.train.metrics_file import Curves, MetricsFile

_PACKAGES = {"wandb": "wandb", "mlflow": "mlflow"}


def check_installed(names: Sequence[str]) -> None:
    """ValueError, with the remedy, for a logger whose package is not installed.

    >>> check_installed(["csv", "tensorboard"])
    """
    for name in names:
        if name in _PACKAGES and importlib.util.find_spec(_PACKAGES[name]) is None:
            raise ValueError(f"trainer.loggers: {name} is not installed; {install(name)}, or leave {name} out")


def open_loggers(names: Sequence[str], folder: Path, *, last_step: int) -> list[Logger]:
    """The table of a run, continued from `last_step`, and the loggers of these names.

    W&B obeys its own environment variables: ``WANDB_MODE=offline`` needs no network. MLflow writes to
    ``MLFLOW_TRACKING_URI``, or else into mlflow.db in the folder of the run.
    """
    loggers: list[Logger] = [MetricsFile(folder / METRICS, last_step=last_step)]
    if "tensorboard" in names:
        loggers.append(Curves(folder))
    if "wandb" in names:
        loggers.append(WandbLogger(name=folder.name, save_dir=folder, project="rankdet"))
    if "mlflow" in names:
        own = f"sqlite:///{(folder / 'mlflow.db').resolve()}"
        store = os.environ.get("MLFLOW_TRACKING_URI", own)
        loggers.append(MLFlowLogger(run_name=folder.name, tracking_uri=store, experiment_name="rankdet"))
    return loggers
