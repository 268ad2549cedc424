"""Whether an exported file gives what the detector gives: on images, and by AP where these are annotated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from rankdet.cli.errors import CommandError

if TYPE_CHECKING:
    from torch import Tensor

    from rankdet.cli.inference import Validation
    from rankdet.data.transforms import FixedResize
    from rankdet.export import About, Bounds, ExportedDetector, Parity
    from rankdet.export.canvas import Detect
    from rankdet.predictor import Predictor

_COMPARED = 4
_SIZES = ((192, 256), (256, 192), (203, 331))
"""Of the noise that a file for any size is compared on."""
_METRICS = ("AP", "AP50", "AP75", "box_AP", "oLRP")


def images_to_compare(
    folder: str | None, validation: Validation | None, about: About, *, rule: FixedResize
) -> list[Tensor]:
    """Images that fill the size of the file, or as the detector's own rule resizes them; without any, noise."""
    import torch

    from rankdet.cli.predict_inputs import find_inputs
    from rankdet.data.image import read_upright
    from rankdet.data.transforms import ResizeExactly

    resize = ResizeExactly(height=about.size[0], width=about.size[1]) if about.size else rule
    if folder is not None:
        inputs = find_inputs([folder], lists=[], output=None)
        if not inputs.files:
            raise CommandError(f"--images {folder}: {'; '.join(inputs.told()) or 'there are none'}")
        return [resize(read_upright(file)) for file in inputs.files[: 8 * _COMPARED]]
    if validation is not None:
        return [resize(validation.data[place][0]) for place in range(min(len(validation.data), 8 * _COMPARED))]
    generator = torch.Generator().manual_seed(0)
    sizes = [about.size] * _COMPARED if about.size else [each for each in _SIZES for _ in range(2)]
    return [torch.rand(3, *each, generator=generator) for each in sizes]


def table_of_differences(compared: Sequence[tuple[tuple[int, int], Parity]], all_sizes: Parity) -> str:
    """The largest differences between detector and file, for each size of images."""
    rows = [(f"{height} x {width}", part) for (height, width), part in compared]
    if len(rows) > 1:
        rows.append(("all", all_sizes))
    head = f"{'compared on':<14}{'detections':>12}{'not in file':>13}{'score':>10}{'pixels':>10}"
    return "\n".join(
        [head] + [f"{name:<14}{p.detections:>12}{p.alone:>13}{p.score:>10.1e}{p.pixels:>10.1e}" for name, p in rows]
    )


@dataclass(frozen=True)
class Accuracies:
    """How good detector and file are on annotated images, given the same pixels.

    Attributes:
        images: how many.
        metrics: the number of the detector and that of the file, by name.
    """

    images: int
    metrics: Mapping[str, tuple[float, float]]

    def within(self, bounds: Bounds) -> bool:
        """Whether no AP differs by more than other arithmetic explains."""
        return all(abs(one - other) <= bounds.ap for name, (one, other) in self.metrics.items() if "AP" in name)

    def table(self) -> str:
        """A column for each metric, the detector above the file."""
        lines = [f"{f'on {self.images} images':<14}" + "".join(f"{name:>9}" for name in self.metrics)]
        for place, title in enumerate(("detector", "file")):
            lines.append(f"{title:<14}" + "".join(f"{both[place]:>9.4f}" for both in self.metrics.values()))
        return "\n".join(lines)


def compare_accuracies(validation: Validation, predictor: Predictor, exported: ExportedDetector) -> Accuracies:
    """Both on the validation images, resized and padded as the file says.

    Raises:
        CommandError: there is no object to find.
    """
    from rankdet.data.transforms import resize_from_dict
    from rankdet.eval import Evaluator, iou_types_of
    from rankdet.eval.inference import to_results
    from rankdet.export.canvas import padded
    from rankdet.train.display import Display

    evaluate = Evaluator(validation.data.ground_truth(), iou_types=iou_types_of(predictor.model))
    validation.resize = None  # the rule of the file goes before that of the data

    def metrics_of(detect: Detect, title: str) -> dict[str, float]:
        found = validation.each(
            lambda images, _targets: detect(images),
            resize=resize_from_dict(exported.about.resize),
            display=Display(),
            doing=f"evaluating the {title}",
        )
        rows = [to_results(one, image_id=number, categories=predictor.categories) for number, one in found]
        return evaluate(list(chain.from_iterable(rows))).metrics

    ours, theirs = metrics_of(padded(predictor.detect, exported.about), "detector"), metrics_of(exported, "file")
    if math.isnan(ours["AP"]):
        raise CommandError("the annotated images have no object that counts, so that AP is undefined; give others")
    return Accuracies(len(validation.data), {name: (ours[name], theirs[name]) for name in _METRICS if name in ours})
