"""Test-time augmentation: what is found in views comes back to its place, once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rankdet.eval import ManyViews


class FindsBright(nn.Module):
    """One detection: the bright part of the image, scored by its share of the width, with a mask."""

    num_classes = 1

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, images):
        return [self.find(image) for image in images]

    def find(self, image):
        self.sizes.append(tuple(image.shape[-2:]))
        bright = image[0] > 0.5
        rows, columns = bright.any(1).nonzero()[:, 0], bright.any(0).nonzero()[:, 0]
        box = torch.stack((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)).float()
        logit = (columns[0] / image.shape[-1])[None]  # farther to the right is better
        return {
            "boxes": box[None],
            "labels": torch.zeros(1, dtype=torch.long),
            "logits": logit,
            "scores": logit.sigmoid(),
            "masks": bright[None],
        }


def scene() -> torch.Tensor:
    image = torch.zeros(3, 40, 60)
    image[:, 8:24, 4:20] = 1
    return image


def test_all_views_agree_about_one_object():
    model = FindsBright().eval()
    found = ManyViews(model, scales=(1.0, 0.5, 2.0))([scene()])[0]
    assert sorted(set(model.sizes)) == [(20, 30), (40, 60), (80, 120)]
    assert len(model.sizes) == 6
    assert len(found["boxes"]) == 1
    torch.testing.assert_close(found["boxes"], torch.tensor([[4.0, 8, 20, 24]]), rtol=0, atol=1.0)
    assert found["masks"].shape == (1, 40, 60)
    assert (found["masks"][0] ^ (scene()[0] > 0.5)).sum() <= 40


def test_the_best_view_wins():
    """The mirrored object lies farther to the right, where the detector is surer."""
    plain, both = (ManyViews(FindsBright().eval(), flip=flip)([scene()])[0] for flip in (False, True))
    assert both["logits"] > plain["logits"]
    torch.testing.assert_close(both["boxes"], plain["boxes"])
    assert torch.equal(both["masks"], plain["masks"])


def test_one_view_is_the_detector():
    model, image = FindsBright().eval(), scene()
    alone, seen = model([image])[0], ManyViews(model, flip=False)([image])[0]
    assert all(torch.equal(alone[name], seen[name]) for name in alone)


def test_wrong_use_is_named():
    with pytest.raises(ValueError, match="scales are numbers above 0"):
        ManyViews(FindsBright(), scales=())
    with pytest.raises(ValueError, match="is for evaluation"):
        ManyViews(FindsBright().train())([scene()])
