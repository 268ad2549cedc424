"""Rank & Sort Loss for torchvision's own RetinaNet, in a plain loop that patches nothing.

    python examples/ranking_in_torchvision.py

The model is used by its public parts (transform, backbone, head, anchors, matcher, box coder), and the loss is computed
beside it. Its detections come from the model as ever.
"""

from __future__ import annotations

import argparse

import torch
import torchvision
from torch import Tensor
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from rankdet.losses import RankSortLoss


def simulate(number: int, generator: torch.Generator) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Pictures of 128 pixels with one bright square, of class 0 or 1 by its colour."""
    pictures, targets = [], []
    for _ in range(number):
        picture = torch.rand(3, 128, 128, generator=generator) * 0.3
        label = int(torch.randint(2, (), generator=generator))
        x, y = torch.randint(0, 80, (2,), generator=generator).tolist()
        side = int(torch.randint(30, 48, (), generator=generator))
        picture[2 * label, y : y + side, x : x + side] += 0.7
        pictures.append(picture)
        targets.append({"boxes": torch.tensor([[x, y, x + side, y + side]]).float(), "labels": torch.tensor([label])})
    return pictures, targets


def build() -> RetinaNet:
    """A RetinaNet small enough for a CPU; any other, pretrained or not, does as well."""
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18",
        weights=None,
        norm_layer=torch.nn.BatchNorm2d,
        trainable_layers=5,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    return RetinaNet(backbone, num_classes=2, min_size=128, max_size=128, score_thresh=0.0)


def losses(model: RetinaNet, pictures: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The terms of Rank & Sort Loss over all anchors and classes of the batch, and a box loss balanced to them."""
    images, targets = model.transform(pictures, targets)
    features = list(model.backbone(images.tensors).values())
    outputs = model.head(features)
    logits = outputs["cls_logits"]  # (N, anchors, classes)
    quality, positives = torch.zeros_like(logits), torch.zeros_like(logits, dtype=torch.bool)
    box_losses = []
    for i, (anchors, target) in enumerate(zip(model.anchor_generator(images, features), targets, strict=True)):
        matched = model.proposal_matcher(torchvision.ops.box_iou(target["boxes"], anchors))
        quality[i, matched == model.proposal_matcher.BETWEEN_THRESHOLDS] = -1  # ignored
        found = (matched >= 0).nonzero().squeeze(1)
        truth, labels = target["boxes"][matched[found]], target["labels"][matched[found]]
        boxes = model.box_coder.decode_single(outputs["bbox_regression"][i, found], anchors[found])
        box_losses.append(torchvision.ops.generalized_box_iou_loss(boxes, truth))
        quality[i, found, labels] = torchvision.ops.box_iou(boxes.detach(), truth).diagonal()
        positives[i, found, labels] = True
    terms = RankSortLoss().terms(logits, quality, positives=positives)
    box, ranking = torch.cat(box_losses).mean(), sum(terms.values())
    return {**terms, "box": box * (ranking / box).detach()}


def train(*, steps: int, batch: int = 4) -> tuple[list[float], float]:
    """The value of the ranking in every step; and the mean IoU of the best detection with the truth, afterwards."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    model = build()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-4)
    history = []
    for _ in range(steps):
        terms = losses(model, *simulate(batch, generator))
        optimiser.zero_grad()
        sum(terms.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimiser.step()
        history.append((terms["ranking"] + terms["sorting"]).item())
    pictures, targets = simulate(8, torch.Generator().manual_seed(2))
    with torch.no_grad():
        detections = model.eval()(pictures)
    best = [d["boxes"][:1] for d in detections]
    overlaps = [float(torchvision.ops.box_iou(b, t["boxes"])) for b, t in zip(best, targets, strict=True) if len(b)]
    return history, sum(overlaps) / len(pictures)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="batches of 4 pictures")
    history, overlap = train(steps=parser.parse_args().steps)
    print(f"ranking and sorting: {history[0]:.3f} at first, {history[-1]:.3f} at last")
    print(f"mean IoU of the best detection with the truth: {overlap:.2f}")
