"""What a transformer says of its queries, layer by layer, and what the query stage makes of that.

N images, Q queries, L decoder layers, C logits. Boxes are centre and size as shares of the frame of the image.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rankdet.assign.assignment import BACKGROUND, Assignment
from rankdet.assign.ground_truth import GroundTruth
from rankdet.nn.network import Network
from rankdet.nn.preprocess import ImageBatch
from rankdet.ops.coder import FrameCoder
from rankdet.ops.predictions import Predictions
from rankdet.ops.priors import Priors


class LayerOutputs(NamedTuple):
    """Logits (N, Q, C) and boxes (N, Q, 4) of one layer, and what else it says, if it does.

    ``sides``: where the sides of the boxes may lie; ``masks`` (N, Q, h, w): logits, of the whole canvas.
    """

    logits: Tensor
    boxes: Tensor
    sides: SideDistributions | None = None
    masks: Tensor | None = None

    def part(self, queries: slice) -> LayerOutputs:
        """What is said of some of the queries."""
        sides = self.sides and self.sides.part(queries)
        masks = None if self.masks is None else self.masks[:, queries]
        return LayerOutputs(self.logits[:, queries], self.boxes[:, queries], sides, masks)

    def taught_by(self, teacher: LayerOutputs) -> LayerOutputs:
        """The same layer, whose sides learn from another one."""
        return self._replace(sides=self.sides and replace(self.sides, teacher=teacher))

    def predictions(self, frames: Sequence[Tensor], *, groups: int = 1) -> Predictions:
        """The same as predictions whose priors are the frames (4,) of the images.

        Queries in ``groups``, each of which is matched separately, are as many images one after another.
        """
        queries = self.logits.shape[1] // groups
        repeated = [frame.expand(queries, 4) for frame in frames for _ in range(groups)]
        valid = torch.ones(queries, dtype=torch.bool, device=self.logits.device)
        priors = Priors(tuple(repeated), (valid,) * len(repeated))
        logits = self.logits.flatten(0, 1)
        return Predictions(logits, self.boxes.flatten(0, 1), logits[:, :0], priors, FrameCoder())


@dataclass(frozen=True)
class SideDistributions:
    """Where the left, upper, right and lower side of each box may lie (D-FINE).

    Attributes:
        logits: (N, Q, 4, B) of a softmax over B places.
        references: (N, Q, 4), boxes that the sides are moved from.
        places: (B,), ascending: how far outwards a side is moved, in units of 1 / ``scale`` of the reference's size.
        scale: a side that is not moved lies half of the size, so ``scale`` / 2 units, from the centre.
        teacher: what the last layer says of the same queries; None in the last layer.
    """

    logits: Tensor
    references: Tensor
    places: Tensor
    scale: Tensor
    teacher: LayerOutputs | None = None

    def part(self, queries: slice) -> SideDistributions:
        """What is said of some of the queries."""
        teacher = self.teacher and self.teacher.part(queries)
        return replace(self, logits=self.logits[:, queries], references=self.references[:, queries], teacher=teacher)


@dataclass(frozen=True)
class Denoising:
    """Queries that were made from objects, with noise: whose object each has is known.

    Attributes:
        layers: what each decoder layer says of them.
        positives: for each image, the queries (R G_i,) that should find an object, ascending: the objects in their
            order, R times. All other queries are background.
        repeats: R.
    """

    layers: Sequence[LayerOutputs]
    positives: Sequence[Tensor]
    repeats: int

    def assignment(self, truth: GroundTruth) -> Assignment:
        """Who is positive in each layer."""
        logits = self.layers[0].logits
        images, queries, _ = logits.shape
        index = torch.cat([rows + image * queries for image, rows in enumerate(self.positives)])
        of_image = zip(truth.boxes, truth.offsets, strict=True)
        matched = torch.cat(
            [
                torch.arange(start, start + len(boxes), device=logits.device).repeat(self.repeats)
                for boxes, start in of_image
            ]
        )
        labels = torch.full((images * queries,), BACKGROUND, device=logits.device)
        labels = labels.index_copy(0, index, truth.all_labels[matched])
        return Assignment.of_positives(labels, index, matched, truth.all_boxes)


@dataclass(frozen=True)
class QueryOutputs:
    """All that a transformer says of a batch.

    Attributes:
        frames: for each image the box (4,), in pixels of the network input, that its boxes are shares of: the image, or
            all of the canvas for networks that do not know where padding begins.
        decoder: what each layer says, the last one of which gives the detections.
        encoder: proposals that the queries began from; None without.
        denoising: None without.
        groups: the number of groups of equal size that the queries of an image form; each is matched separately.
        canvas: height and width that the images are padded to, which masks show; None without masks.
    """

    frames: Sequence[Tensor]
    decoder: Sequence[LayerOutputs]
    encoder: LayerOutputs | None = None
    denoising: Denoising | None = None
    groups: int = 1
    canvas: tuple[int, int] | None = None


class QueryNetwork(Network):
    """A whole transformer detector, from pixels to what its layers say of the queries.

    Any ``nn.Module`` that does this is one. In training mode it is given the objects, for denoising.

    Attributes:
        class_layers: the layers of the class logits of the detections.
    """

    class_layers: Sequence[nn.Linear]

    @abstractmethod
    def forward(self, batch: ImageBatch, truth: GroundTruth | None) -> QueryOutputs:
        """See the class."""


def image_frames(batch: ImageBatch) -> list[Tensor]:
    """The images themselves as frames, without padding; images of one size share the tensor."""
    made = {
        size: torch.tensor([0.0, 0.0, size[1], size[0]]).to(batch.pixels.device, non_blocking=True)
        for size in set(batch.sizes)
    }
    return [made[size] for size in batch.sizes]


def canvas_frames(batch: ImageBatch) -> list[Tensor]:
    """The canvas as the frame of each image."""
    height, width = batch.canvas
    frame = torch.tensor([0.0, 0.0, width, height]).to(batch.pixels.device, non_blocking=True)
    return [frame] * len(batch.sizes)
