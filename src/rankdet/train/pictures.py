"""Pictures of predictions next to the ground truth, to look at after a training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rankdet.data.categories import Categories
from rankdet.data.dataset import Sample
from rankdet.eval.draw import draw, side_by_side
from rankdet.eval.inference import FALLBACK_SCORE, above, answer, class_thresholds
from rankdet.train.evaluation import evaluating
from rankdet.train.files import make_folder


def save_pictures(
    model: nn.Module,
    samples: Iterable[Sample],
    folder: Path,
    *,
    count: int,
    categories: Categories,
    thresholds: Mapping[Any, float],
) -> list[Path]:
    """Draws the first `count` images with at least one object into `folder`, one JPEG each, named by image id.

    Detections are shown from the class thresholds on, which are by category id.
    """
    least = class_thresholds(thresholds, categories) if thresholds else FALLBACK_SCORE
    device = next(model.parameters()).device
    saved: list[Path] = []
    for image, target in islice((sample for sample in samples if len(sample[1]["labels"])), count):
        with evaluating(model), torch.no_grad():
            (found,) = answer(model, [image.to(device)], [target])
        shown = above({name: value.cpu() for name, value in found.items()}, least)
        truth, predicted = (draw(image, objects, names=categories.names) for objects in (target, shown))
        path = make_folder(folder) / f"{target['image_id']}.jpg"
        side_by_side({"ground truth": truth, "predictions": predicted}).save(path, quality=92)
        saved.append(path)
    return saved
