"""Soft-NMS box by box, after equations 2 and 3 of Bodla et al., ICCV 2017."""

from __future__ import annotations

import math

from tests.reference.assigners import iou


def soft_nms(boxes, scores, labels, *, threshold, min_score, sigma=None):
    """Pairs (row, score), best first: linear, or Gaussian where there is a ``sigma``."""
    scores, found = dict(enumerate(scores)), []
    while scores:
        best = max(scores, key=scores.get)
        found.append((best, scores.pop(best)))
        for row in list(scores):
            overlap = iou(boxes[best], boxes[row])
            if labels[row] == labels[best]:
                if sigma is not None:
                    scores[row] *= math.exp(-(overlap**2) / sigma)
                elif overlap >= threshold:
                    scores[row] *= 1 - overlap
            if scores[row] < min_score:
                del scores[row]
    return found
