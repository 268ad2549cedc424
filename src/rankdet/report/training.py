"""The curves of a training, from the metrics.csv of its folder."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np

_MOST_POINTS = 400
_NOT_DRAWN = ("step", "epoch")
_EVALUATION = ("AP", "AP50", "AP75", "oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN")


def training_curves(file: Path) -> list[dict[str, Any]]:
    """Charts of a training: a title and lines with names, steps and values. Empty when there is no such file.

    Raises ValueError, naming the file, when it is not a table of numbers.
    """
    if not file.is_file():
        return []
    lines = _lines(file)
    charts = {
        "Losses": [name for name in lines if name == "loss" or name.startswith("loss/")],
        "Validation": [name for name in _EVALUATION if name in lines],
        "Learning rate": [name for name in lines if name == "lr" or name.startswith("lr/")],
        "Measures": [name for name in lines if name.startswith("log/")],
    }
    return [{"title": title, "lines": [lines[name] for name in names]} for title, names in charts.items() if names]


def _lines(file: Path) -> dict[str, dict[str, Any]]:
    """Steps and values of each column that has any, by its name."""
    points: dict[str, list[tuple[int, float]]] = {}
    try:
        with file.open(newline="", encoding="utf-8") as content:
            for row in csv.DictReader(content):
                step = int(row["step"])
                for name, text in row.items():
                    if text and name not in _NOT_DRAWN and math.isfinite(value := float(text)):
                        points.setdefault(name, []).append((step + 1, value))
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
        raise ValueError(f"{file} is not the metrics.csv of a training: {error}; remove it or restore it") from error
    return {name: _line(name, rows) for name, rows in points.items()}


def _line(name: str, points: list[tuple[int, float]]) -> dict[str, Any]:
    """At most 400 points, evenly chosen."""
    chosen = np.unique(np.linspace(0, len(points) - 1, min(len(points), _MOST_POINTS)).astype(int))
    steps, values = zip(*(points[place] for place in chosen.tolist()), strict=True)
    return {"name": name, "x": list(steps), "y": list(values)}
