"""Draws value and gradient of every ranking loss on eight logits, the picture of docs/losses.md.

    python examples/loss_pictures.py docs/images/losses.svg

The logits are those of Figure A.4 of the Rank & Sort paper: four positives of quality 0.9, 0.4, 0.8 and 0.1
and four negatives, a unit apart. The second positive is ranked above a better one, and the last two below negatives.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import torch

from rankdet.losses import ALRPLoss, AveragePrecisionLoss, NDCGLoss, RankSortLoss

matplotlib.use("svg")
from matplotlib import pyplot as plt

LOGITS = (3.0, 2.0, 1.0, 0.0, -1.0, -2.0, -3.0, -4.0)
BLUE, ORANGE, GREY = "#3b82f6", "#d97706", "#7d8590"
QUALITY = (0.9, 0.4, 0.0, 0.0, 0.8, 0.0, 0.1, 0.0)


def terms() -> dict[str, tuple[float, list[float]]]:
    """Value and gradient of every term."""
    logits, quality = torch.tensor(LOGITS, requires_grad=True), torch.tensor(QUALITY)
    losses = {"RS": RankSortLoss(), "AP": AveragePrecisionLoss(), "aLRP": ALRPLoss(), "NDCG": NDCGLoss()}
    found = {}
    for name, loss in losses.items():
        for part, value in loss.terms(logits, quality).items():
            (gradient,) = torch.autograd.grad(value, logits, retain_graph=True)
            found[f"{name}, {part}" if name == "RS" else name] = (value.item(), gradient.tolist())
    return found


def draw(path: Path) -> None:
    """One panel a term: how far a step of descent moves each logit, up or down; readable on white and on black."""
    style = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), GREY)
    plt.rcParams.update({"svg.hashsalt": "rankdet", "font.size": 9, **style})
    parts = terms()
    figure, axes = plt.subplots(1, len(parts), figsize=(11, 3), sharey=True, layout="constrained")
    for axis, (name, (value, gradient)) in zip(axes, parts.items(), strict=True):
        axis.bar(range(8), [-entry for entry in gradient], color=[BLUE if y > 0 else ORANGE for y in QUALITY])
        axis.axhline(0, color=GREY, linewidth=0.6)
        axis.set_xticks(range(8), [f"{y:g}" if y > 0 else "neg" for y in QUALITY], rotation=90)
        axis.set_title(f"{name}: {value:.3f}", fontsize=10)
        axis.set_facecolor("none")
    axes[0].set_ylabel("minus the gradient")
    figure.supxlabel("the eight examples from the highest logit to the lowest: quality of a positive, or negative")
    figure.savefig(path, metadata={"Date": None}, transparent=True)
    plt.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="an .svg file to write")
    draw(parser.parse_args().path)
