"""What D-FINE learns beside classes and boxes: where the sides of a box lie, as distributions.

Peng et al., "D-FINE: Redefine Regression Task in DETRs as Fine-grained Distribution Refinement", ICLR 2025. As in
Hugging Face's transformers, and unlike the program of the authors, each layer learns the objects that it is matched
with itself, not those of all layers together; as in that program, the last layer learns where sides lie as well. Tests
compare the losses with the library's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rankdet.assign.assignment import Assignment
from rankdet.criteria.measures import BoxIoU
from rankdet.criteria.positives import Positives
from rankdet.models.queries.outputs import LayerOutputs, SideDistributions
from rankdet.models.queries.stage import LayerTerm
from rankdet.ops.coder import FrameCoder
from rankdet.ops.distributed import mean_over_processes
from rankdet.ops.predictions import Predictions


def side_places(bins: int, up: Tensor, scale: Tensor) -> Tensor:
    """How far a side may be moved, (bins + 1,) ascending: near 0 in small steps, towards the ends in large ones.

    Paper, eq. 5. ``up`` and ``scale`` (1,) say how far the ends are, at 2 up scale, and how steps grow.

    >>> side_places(8, torch.tensor([0.5]), torch.tensor([4.0])).round(decimals=3)
    tensor([-4.0000, -2.0000, -1.0800, -0.4420,  0.0000,  0.4420,  1.0800,  2.0000,
             4.0000])
    """
    end = up.abs() * scale.abs()
    steps = torch.arange(1, bins // 2, device=up.device) * 2 / (bins - 2)
    inner = (end + 1) ** steps - 1
    return torch.cat((-2 * end, -inner.flip(0), torch.zeros_like(end), inner, 2 * end))


class FineGrainedLosses(LayerTerm):
    """Fine-grained localisation (FGL) and decoupled distillation (DDF) of D-FINE (section 4.1 and 4.2).

    ``localisation``: the sides of a positive learn where those of its object lie, between two places by both of them,
    weighted by the IoU of the box. ``distillation``: every layer learns from the last one where the sides of all
    queries lie; positives are weighted by the IoU of their box, others by the last layer's score. The teacher has no
    gradient. Without objects the former is 0, the latter is not.

    Args:
        localisation: weight of the former.
        distillation: weight of the latter.
        temperature: of the distributions that are compared in the latter.
    """

    def __init__(self, *, localisation: float = 0.15, distillation: float = 1.5, temperature: float = 5.0) -> None:
        super().__init__()
        self.localisation = localisation
        self.distillation = distillation
        self.temperature = temperature

    def forward(self, said: LayerOutputs, predictions: Predictions, assignment: Assignment) -> dict[str, Tensor]:
        """See `LayerTerm`."""
        if said.sides is None:
            return {}
        positives = Positives.of(predictions, assignment)
        overlaps = BoxIoU()(positives)
        losses = {"localisation": self.localisation * _localisation(said.sides, positives, overlaps)}
        if said.sides.teacher is not None:
            losses["distillation"] = self.distillation * self._distillation(said.sides, positives.index, overlaps)
        return losses

    def _distillation(self, sides: SideDistributions, index: Tensor, overlaps: Tensor) -> Tensor:
        """Divergence from the last layer: means of positives and of others, weighted by the roots of their numbers."""
        teacher = sides.teacher
        assert teacher is not None, "only layers with a teacher are taught"
        assert teacher.sides is not None, "a teacher says where sides lie"
        own, wanted = (said.logits.float().flatten(0, 1) / self.temperature for said in (sides, teacher.sides))
        divergence = F.kl_div(own.log_softmax(-1), wanted.detach().softmax(-1), reduction="none").sum(-1).mean(-1)
        scores = teacher.logits.detach().float().sigmoid().amax(-1).flatten()
        losses = self.temperature**2 * scores.index_copy(0, index, overlaps.to(scores)) * divergence
        of_positives = losses[index].sum()
        found, others = len(index), len(losses) - len(index)
        means = of_positives / max(found, 1), (losses.sum() - of_positives) / max(others, 1)
        return (means[0] * found**0.5 + means[1] * others**0.5) / max(found**0.5 + others**0.5, 1)


def _localisation(sides: SideDistributions, positives: Positives, overlaps: Tensor) -> Tensor:
    """Cross entropy with the two places about each side, weighted by the IoU, for every positive."""
    logits, references = (tensor.float().flatten(0, 1)[positives.index] for tensor in (sides.logits, sides.references))
    wanted = _moves(references, FrameCoder().encode(positives.priors, positives.targets), sides.scale)
    wanted = wanted.clamp(sides.places[0], sides.places[-1])
    lower = (torch.searchsorted(sides.places, wanted, right=True) - 1).clamp(0, len(sides.places) - 2)
    below, above = sides.places[lower], sides.places[lower + 1]
    upper_share = (wanted - below) / (above - below)
    of_places = -logits.log_softmax(-1)
    at_lower, at_upper = (of_places.gather(-1, place[..., None])[..., 0] for place in (lower, lower + 1))
    of_sides = at_lower * (1 - upper_share) + at_upper * upper_share
    count = mean_over_processes(overlaps.new_full((), len(overlaps))).clamp(min=1)
    return (of_sides.sum(1) * overlaps).sum() / count


@torch.no_grad()
def _moves(references: Tensor, boxes: Tensor, scale: Tensor) -> Tensor:
    """How far the sides (M, 4) of boxes lie outside of those of references, in units of 1 / scale of their size."""
    centres, sizes = references[:, :2], references[:, 2:] / scale + 1e-16
    halves = boxes[:, 2:] / 2
    upper_left, lower_right = boxes[:, :2] - halves, boxes[:, :2] + halves
    return torch.cat(((centres - upper_left) / sizes, (lower_right - centres) / sizes), 1) - scale / 2
