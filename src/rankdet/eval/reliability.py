"""Reliability diagrams as pictures: what scores promise and what detections are worth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rankdet.eval.calibration import Calibration
from rankdet.extras import needed_for


def draw_reliability(calibrations: Mapping[str, Calibration], path: Path) -> None:
    """One diagram for each calibration, side by side below their titles; SVG or PNG, by the ending of ``path``.

    Written completely or not at all.

    Bars are the precision of the detections of each bin of scores, the darker the more there are; the line is their
    mean IoU, 0 of a false one. On the diagonal, scores keep what they promise.
    """
    with needed_for("a reliability diagram"):
        from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(calibrations), 4.4), layout="constrained")
    axes = figure.subplots(1, len(calibrations), squeeze=False, sharey=True)[0]
    for axis, (title, errors) in zip(axes, calibrations.items(), strict=True):
        edges = np.linspace(0, 1, len(errors.counts) + 1)
        shade = 0.25 + 0.65 * np.sqrt(errors.counts / max(errors.counts.max(), 1))
        colours = [(0.14, 0.34, 0.77, alpha) for alpha in shade.tolist()]
        axis.bar(edges[:-1], np.nan_to_num(errors.precision), np.diff(edges), align="edge", color=colours, ec="white")
        axis.plot((edges[:-1] + edges[1:]) / 2, errors.worth, "o-", ms=3, color="#c8500a", label="mean IoU, 0 if false")
        axis.plot([0, 1], [0, 1], "--", color="grey", lw=1)
        axis.set(title=f"{title}\nD-ECE {errors.d_ece:.3f}, LaECE {errors.la_ece:.3f}", xlabel="score")
        axis.set(xlim=(0, 1), ylim=(0, 1))
    axes[0].set_ylabel("precision")
    axes[0].legend(loc="upper left", fontsize="small")
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, dpi=130, format=path.suffix[1:])
    partial.replace(path)
