"""Who learns boxes where several layers of queries are matched with the same objects: all that any layer matched.

D-FINE and DEIM train boxes so in the programs of their authors: a query then regresses the same object in every layer,
whereas each layer classifies by a matching of its own. Tests compare with a count in plain Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from rankdet.assign.assignment import BACKGROUND, Assignment
from rankdet.assign.ground_truth import GroundTruth
from rankdet.ops.part import Part


class UnionOfMatches(Part):
    """Boxes are learned by every query that some layer matched, in all layers from the object that matched it most.

    Of objects that matched a query equally often it is the first. Classes are learned as each layer was matched.

    Invariant: the positives of every layer are the same, and among them are those of each layer's own matching.

    >>> def layer(matches):
    ...     return Assignment.from_matches(torch.tensor(matches), truth)
    >>> boxes, none = torch.tensor([[0., 0., 8., 8.], [8., 8., 9., 9.]]), torch.empty(0, 4)
    >>> truth = GroundTruth((boxes,), (torch.tensor([2, 5]),), (none,))
    >>> [both, _] = UnionOfMatches()([layer([0, 1, -1]), layer([1, -1, 0])], truth)
    >>> both.labels.tolist(), both.for_boxes.labels.tolist()
    ([2, 5, -1], [2, 5, 2])
    """

    def __call__(self, layers: Sequence[Assignment], truth: GroundTruth) -> list[Assignment]:
        """The assignments of layers of equally many queries, with who learns boxes; ``truth`` has the objects.

        Raises:
            ValueError: the layers have unequal numbers of queries, as where every place of a map is a proposal.
        """
        sizes = {len(layer.labels) for layer in layers}
        if len(sizes) > 1:
            raise ValueError(
                f"UnionOfMatches needs layers of equally many queries, these have {sorted(sizes)}; leave `box_matches` "
                "out for detectors whose proposals are more than their queries"
            )
        pooled = Assignment.from_matches(_most_frequent([_matches(layer) for layer in layers]), truth)
        return [replace(layer, box_positives=pooled) for layer in layers]


def _matches(assignment: Assignment) -> Tensor:
    """The object of each prior (P,), BACKGROUND for none."""
    nobody = torch.full_like(assignment.labels, BACKGROUND)
    return nobody.index_copy(0, assignment.positive_index, assignment.matched_index)


def _most_frequent(matches: Sequence[Tensor]) -> Tensor:
    """The most frequent object of each prior (P,) over the layers, the first of several; BACKGROUND if none has one."""
    of_layers = torch.stack(list(matches))
    matched = of_layers >= 0
    votes = ((of_layers[:, None] == of_layers[None]) & matched).sum(0)
    first = of_layers.masked_fill(~(matched & (votes == votes.amax(0))), of_layers.amax() + 1).amin(0)
    return torch.where(matched.any(0), first, BACKGROUND)
