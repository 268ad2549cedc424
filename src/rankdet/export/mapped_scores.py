"""The mapping of scores that a calibration stored with a checkpoint, as a part of a graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rankdet.eval.score_mapping import Affine, ScoreMapping, Table


class MappedScores(nn.Module):
    """Logits and labels of any shape -> calibrated scores; -inf becomes 0.

    Args:
        mapping: with the classes in the order of the labels.

    >>> mapping = ScoreMapping("isotonic", (1,), ("cat",), (Table((0.0, 2.0), (0.2, 0.4)),), (0.5,), (0.5,))
    >>> MappedScores(mapping)(torch.tensor([-9.0, 1.0, 9.0, -torch.inf]), torch.zeros(4, dtype=torch.long))
    tensor([0.2000, 0.3000, 0.4000, 0.0000])
    """

    logits: Tensor
    scores: Tensor
    slopes: Tensor
    biases: Tensor
    has_table: Tensor

    def __init__(self, mapping: ScoreMapping) -> None:
        super().__init__()
        tables = [each if isinstance(each, Table) else Table((0.0,), (0.5,)) for each in mapping.classes]
        lines = [each if isinstance(each, Affine) else Affine() for each in mapping.classes]
        most = max(len(table.logits) for table in tables)
        for name in ("logits", "scores"):
            columns = [getattr(table, name) for table in tables]
            padded = [[*column, *column[-1:] * (most - len(column))] for column in columns]
            self.register_buffer(name, torch.tensor(padded))
        self.register_buffer("slopes", torch.tensor([line.slope for line in lines]))
        self.register_buffer("biases", torch.tensor([line.bias for line in lines]))
        self.register_buffer("has_table", torch.tensor([isinstance(each, Table) for each in mapping.classes]))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See the class."""
        straight = (self.slopes[labels] * logits + self.biases[labels]).sigmoid()
        mapped = torch.where(self.has_table[labels], self._looked_up(logits, labels), straight)
        return torch.where(logits.sigmoid() > 0, mapped, 0.0)

    def _looked_up(self, logits: Tensor, labels: Tensor) -> Tensor:
        points, scores = self.logits[labels], self.scores[labels]
        place = (points <= logits[..., None]).sum(-1, keepdim=True)
        sides = (place - 1).clamp(min=0), place.clamp(max=points.shape[-1] - 1)
        left, right = (points.gather(-1, side).squeeze(-1) for side in sides)
        low, high = (scores.gather(-1, side).squeeze(-1) for side in sides)
        width = right - left
        share = torch.where(width > 0, (logits - left) / width.clamp(min=1e-30), 0.0)
        return low + share * (high - low)
