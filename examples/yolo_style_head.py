"""A dense head in the style of YOLO in some 30 lines, learning by Rank & Sort Loss from one object a picture.

    python examples/yolo_style_head.py

Every cell of a grid says how likely a square of each colour has its centre there, and where its box is. The box decides
the label: the logit of the right cell and class is to rank as high as its box is good.
"""

from __future__ import annotations

import argparse
import itertools

import torch
import torchvision
from torch import Tensor, nn

from rankdet.losses import RankSortLoss

CELL, GRID, CLASSES = 8, 8, 3


class Head(nn.Module):
    """Logits (N, cells, classes) and boxes (N, cells, 4), xyxy pixels, for pictures of 64 pixels."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, 32, 48)
        layers = [
            nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in itertools.pairwise(widths)
        ]
        self.body = nn.Sequential(*layers, nn.Conv2d(48, 48, 3, padding=1), nn.ReLU())
        self.predict = nn.Conv2d(48, CLASSES + 4, 1)
        centre = (torch.arange(GRID) + 0.5) * CELL
        self.register_buffer("centres", torch.cartesian_prod(centre, centre).flip(1))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        out = self.predict(self.body(pictures)).flatten(2).transpose(1, 2)
        logits, sides = out[..., :CLASSES], out[..., CLASSES:].exp() * CELL
        return logits, torch.cat([self.centres - sides[..., :2], self.centres + sides[..., 2:]], -1)


def simulate(number: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures (number, 3, 64, 64) of one square in the colour of its class, their boxes and labels."""
    pictures = torch.rand(number, 3, CELL * GRID, CELL * GRID, generator=generator) * 0.5
    labels = torch.randint(CLASSES, (number,), generator=generator)
    corner = torch.randint(0, 40, (number, 2), generator=generator)
    boxes = torch.cat([corner, corner + torch.randint(10, 24, (number, 1), generator=generator)], 1)
    for picture, label, (x1, y1, x2, y2) in zip(pictures, labels, boxes.tolist(), strict=True):
        picture[label, y1:y2, x1:x2] += 0.5
    return pictures, boxes.float(), labels


def losses(logits: Tensor, boxes: Tensor, truth: Tensor, labels: Tensor) -> Tensor:
    """Rank & Sort Loss with the IoU of the box as quality, and GIoU loss balanced to its value as in the paper."""
    cell = ((truth[:, :2] + truth[:, 2:]) / 2 // CELL).long()
    picture, prior = torch.arange(len(truth)), cell[:, 1] * GRID + cell[:, 0]
    found = boxes[picture, prior]
    quality = torch.zeros_like(logits)
    quality[picture, prior, labels] = torchvision.ops.box_iou(found.detach(), truth).diagonal()
    positives = torch.zeros_like(logits, dtype=torch.bool)
    positives[picture, prior, labels] = True
    ranking = RankSortLoss()(logits, quality, positives=positives)
    box = torchvision.ops.generalized_box_iou_loss(found, truth, reduction="mean")
    return ranking + box * (ranking / box).detach()


def train(*, steps: int) -> tuple[float, float]:
    """After training: how often the best logit of a new picture is of the right class, and the mean IoU of its box."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    head = Head()
    optimiser = torch.optim.Adam(head.parameters(), lr=3e-3)
    for _ in range(steps):
        pictures, truth, labels = simulate(16, generator)
        optimiser.zero_grad()
        losses(*head(pictures), truth, labels).backward()
        optimiser.step()
    pictures, truth, labels = simulate(200, torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits, boxes = head.eval()(pictures)
    best = logits.flatten(1).argmax(1)
    overlap = torchvision.ops.box_iou(boxes[torch.arange(200), best // CLASSES], truth).diagonal()
    return float((best % CLASSES == labels).float().mean()), float(overlap.mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="batches of 16 pictures")
    accuracy, overlap = train(steps=parser.parse_args().steps)
    print(f"right class: {accuracy:.0%} of the pictures; mean IoU of the best box: {overlap:.2f}")
