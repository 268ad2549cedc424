"""Rank & Sort Loss in the Trainer of Hugging Face's transformers, for its own RT-DETRv2: `rankdet.losses` alone.

    pip install transformers accelerate scipy
    python examples/huggingface_trainer.py

Matching and box losses stay the library's, and so do its processors and its saving. Denoising queries are left out.
(`rankdet.models.RTDETRv2` has them, and balances boxes and ranking.)
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor
from transformers import RTDetrResNetConfig, RTDetrV2Config, RTDetrV2ForObjectDetection, Trainer, TrainingArguments
from transformers.image_transforms import center_to_corners_format
from transformers.loss.loss_rt_detr import RTDetrLoss

from rankdet.losses import RankSortLoss
from rankdet.ops import aligned_iou


class RankedLoss(RTDetrLoss):
    """The library's loss with a ranking of all queries and classes of the batch in place of varifocal loss."""

    def loss_labels_vfl(self, outputs, targets, indices, num_boxes, log=True) -> dict[str, Tensor]:  # noqa: ARG002
        """Positives are sorted by IoU; a quality of 0 means background, so theirs is a little more."""
        rows = self._get_source_permutation_idx(indices)
        labels = torch.cat([target["class_labels"][found] for target, (_, found) in zip(targets, indices, strict=True)])
        boxes = torch.cat([target["boxes"][found] for target, (_, found) in zip(targets, indices, strict=True)])
        found = outputs["pred_boxes"].detach()[rows]
        quality = torch.zeros_like(outputs["logits"])
        overlaps = aligned_iou(center_to_corners_format(found), center_to_corners_format(boxes))
        quality[(*rows, labels)] = overlaps.clamp(min=1e-3).to(quality.dtype)
        return {"loss_vfl": RankSortLoss()(outputs["logits"].flatten(), quality.flatten())}


def loss_function(logits, labels, device, boxes, config, classes, coordinates, **more: Any) -> Any:
    """What RT-DETR calls with its outputs: (loss, named losses, nothing). A function: a module would be ignored."""
    layers = [{"logits": a, "pred_boxes": b} for a, b in zip(classes.unbind(1), coordinates.unbind(1), strict=True)]
    layers.append({"logits": more["enc_topk_logits"], "pred_boxes": more["enc_topk_bboxes"]})
    outputs = {"logits": logits, "pred_boxes": boxes, "auxiliary_outputs": [*layers[:-2], layers[-1]]}
    named = RankedLoss(config).to(device)(outputs, labels)
    return sum(named.values()), named, None


def build() -> RTDetrV2ForObjectDetection:
    """A small one with random weights; `RTDetrV2ForObjectDetection.from_pretrained(...)` does as well."""
    backbone = {"embedding_size": 16, "hidden_sizes": [16, 16, 32, 32], "depths": [1] * 4, "layer_type": "basic"}
    widths = {"d_model": 32, "encoder_hidden_dim": 32, "decoder_in_channels": [32] * 3, "decoder_layers": 2}
    config = RTDetrV2Config(
        **widths,
        backbone_config=RTDetrResNetConfig(**backbone, out_features=["stage2", "stage3", "stage4"]),
        encoder_in_channels=[16, 32, 32],
        freeze_backbone_batch_norms=False,
        num_denoising=0,
        num_labels=2,
        num_queries=20,
    )
    model = RTDetrV2ForObjectDetection(config)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_parameters()
    model.loss_function = loss_function
    return model


def simulate(number: int) -> list[dict[str, Any]]:
    """Pictures of 64 pixels with one bright square, of class 0 or 1 by its colour."""
    generator = torch.Generator().manual_seed(0)
    examples = []
    for _ in range(number):
        label, x, y = (int(torch.randint(most, (), generator=generator)) for most in (2, 40, 40))
        picture = torch.rand(3, 64, 64, generator=generator) * 0.3
        picture[2 * label, y : y + 20, x : x + 20] += 0.7
        box = torch.tensor([[x + 10, y + 10, 20, 20]]) / 64
        examples.append({"picture": picture, "target": {"class_labels": torch.tensor([label]), "boxes": box}})
    return examples


def collate(examples: list[dict[str, Any]]) -> dict[str, Any]:
    """What an image processor and its collator would make."""
    pictures = torch.stack([example["picture"] for example in examples])
    return {"pixel_values": pictures, "labels": [example["target"] for example in examples]}


def train(steps: int, output: str) -> list[float]:
    """The loss, every ten steps."""
    torch.manual_seed(0)
    arguments = TrainingArguments(
        output, max_steps=steps, learning_rate=1e-3, logging_steps=10, remove_unused_columns=False, report_to="none"
    )
    trainer = Trainer(build(), arguments, data_collator=collate, train_dataset=simulate(64))
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--output", default="runs/huggingface")
    given = parser.parse_args()
    print(train(given.steps, given.output))
