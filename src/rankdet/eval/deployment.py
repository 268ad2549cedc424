"""What is left of results when every class is deployed at its LRP-optimal threshold."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rankdet.eval.evaluation import Evaluation
from rankdet.eval.matching import Matches, Outcomes
from rankdet.eval.shapes import Bools, Floats, Ints


@dataclass(frozen=True)
class Deployment:
    """D detections in the order of `Matches`, of G objects in N images, K classes.

    ``thresholds`` (K,) are LRP-optimal; a class that has none, since nothing of it was found, gets the highest of the
    others.

    >>> from rankdet.eval import evaluate
    >>> truth = {"images": [{"id": 1}], "categories": [{"id": 3, "name": "cat"}], "annotations": [
    ...     {"image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10]}]}
    >>> results = [{"image_id": 1, "category_id": 3, "bbox": [x, 0, 10, 10], "score": 0.9 - x / 100} for x in (1, 50)]
    >>> deployment = deploy(evaluate(truth, results))
    >>> deployment.kept.tolist(), deployment.errors.round(2).tolist()
    ([True, False], [0.36])
    """

    matches: Matches
    thresholds: Floats

    @cached_property
    def outcomes(self) -> Outcomes:
        """What became of each detection at the first IoU threshold, deployed or not."""
        return self.matches.outcomes()

    @cached_property
    def kept(self) -> Bools:
        """(D,) the detections from the threshold of their class on."""
        kept: Bools = self.outcomes.scores >= self.thresholds[self.outcomes.categories]
        return kept

    @cached_property
    def counted(self) -> Bools:
        """(G,) the objects that count."""
        return ~self.matches.ignored[:, 0]

    @cached_property
    def found(self) -> Bools:
        """(G,) the counted objects that a kept detection found."""
        found = np.zeros(len(self.counted), np.bool_)
        found[self.outcomes.objects[self.kept & (self.outcomes.objects >= 0)]] = True
        return found & self.counted

    @property
    def missed(self) -> Ints:
        """Indices of the other counted objects."""
        return np.flatnonzero(~self.found & self.counted)

    @property
    def errors(self) -> Floats:
        """(N,) what LRP sums up, image by image.

        That is 1 for each missed object and each false detection, and (1 - IoU) / (1 - tau) for each found object.
        """
        truth, outcomes = self.matches.ground_truth, self.outcomes
        total = len(truth.image_ids)
        hits = self.kept & outcomes.true_positive
        location = (1 - outcomes.overlaps[hits]) / (1 - float(self.matches.iou_thresholds[0]))
        missed = np.bincount(truth.images[self.missed], minlength=total)
        false = np.bincount(outcomes.images[self.kept & outcomes.false_positive], minlength=total)
        return (missed + false).astype(np.float64) + np.bincount(outcomes.images[hits], location, total)


def deploy(evaluation: Evaluation) -> Deployment:
    """The deployment of an evaluation that has its details."""
    assert evaluation.details is not None, "an evaluation has details unless it was read from a file"
    optimal = np.array([row.threshold for row in evaluation.per_class], np.float64)
    known = ~np.isnan(optimal)
    highest = optimal[known].max() if known.any() else 0.0
    return Deployment(evaluation.details.matches, np.where(known, optimal, highest))
