"""All numbers of a run in one table, metrics.csv: rows of training steps and rows of evaluations."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from typing_extensions import override

from rankdet.train.files import write_text


class MetricsFile(Logger):
    """A CSV file with one row for each step that anything was logged at.

    A cell is empty where a number was not logged and where a metric is undefined; losses are written in any case.

    A file that is already there is continued: its rows up to `last_step` are kept, so that a resumed run has one table.
    Written completely or not at all.

    Args:
        path: the file.
        last_step: optimiser steps made before this process began.
    """

    def __init__(self, path: Path, *, last_step: int = 0) -> None:
        super().__init__()
        self.path = path
        self.columns, rows = _read(path)
        self.rows = [row for row in rows if int(row["step"]) < last_step]

    @property
    @override
    def name(self) -> str:
        return self.path.stem

    @property
    @override
    def version(self) -> str:
        return ""

    @property
    @rank_zero_experiment
    def experiment(self) -> None:
        """Nothing to open: the file is written whole."""

    @override
    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the configuration stands in config.yaml."""

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row = {"step": str(step or 0), **{name: _text(name, value) for name, value in metrics.items()}}
        if self.rows and self.rows[-1]["step"] == row["step"]:
            self.rows[-1].update(row)
        else:
            self.rows.append(row)

    @override
    @rank_zero_only
    def save(self) -> None:
        columns = list(dict.fromkeys(["step", "epoch", *self.columns, *(name for row in self.rows for name in row)]))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())

    @override
    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()


def _text(name: str, value: float) -> str:
    return "" if math.isnan(value) and not name.startswith("loss") else f"{value:.6g}"


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The names of the columns, and the rows without their empty cells; ValueError for a file that is no such table."""
    if not path.exists():
        return [], []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            rows = [{name: value for name, value in row.items() if value} for row in table]
        for row in rows:
            int(row["step"])
            if None in row:
                raise ValueError(f"the row of step {row['step']} has more cells than there are columns")
    except (KeyError, ValueError, csv.Error) as error:
        what = "a row has no step" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} is not the metrics.csv of a training: {what}; restore it, or remove it") from error
    return list(table.fieldnames or []), rows


class Curves(TensorBoardLogger):
    """The same numbers for TensorBoard, which complains about those that are not finite: they are left out.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="", version="tensorboard", default_hp_metric=False)

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        super().log_metrics({name: value for name, value in metrics.items() if math.isfinite(value)}, step)
