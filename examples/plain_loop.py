"""A whole training in plain PyTorch: RS-ATSS on the built-in dataset, without the engine.

The models are ordinary modules of torchvision's calling convention, so that any loop can train them. This one leaves
out what the engine adds: several devices, mixed precision, resuming, logs and pictures.

    python examples/plain_loop.py --epochs 8
"""

from __future__ import annotations

import argparse

import torch

from rankdet.data import DetectionData, KeepSize, Shapes
from rankdet.eval import Evaluation, evaluate, predict, to_results
from rankdet.models import ATSS
from rankdet.train import AdamW, Cosine, Schedule, end_epoch


def train(*, epochs: int, images: int, size: int = 128, seed: int = 0) -> Evaluation:
    """Train RS-ATSS on `images` shapes of `size` pixels; the evaluation on others after the last epoch."""
    torch.manual_seed(seed)
    data = DetectionData(
        train=Shapes(length=images, seed=0, image_size=size),
        val=Shapes(length=max(1, images // 5), seed=1, image_size=size),
        batch_size=16,
        resize=KeepSize(),
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = ATSS(num_classes=data.num_classes, backbone="resnet18", channels=64).to(device)
    loader = data.train_loader(seed=seed)
    schedule = Schedule(epochs=epochs, warmup_iterations=50, decay=Cosine())
    settings = AdamW(lr=1e-3)
    optimiser = settings.build(model, lr=settings.lr)
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: schedule.factor(step, steps_per_epoch=len(loader))
    )
    for epoch in range(epochs):
        model.train()
        for images_of_batch, targets in loader:
            losses = model([image.to(device) for image in images_of_batch], targets)
            optimiser.zero_grad()
            sum(losses.values()).backward()
            optimiser.step()
            rates.step()
        end_epoch(model)
        print(f"epoch {epoch + 1}: " + ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items()))

    found = predict(model.eval(), (image for image, _ in data.val), resize=data.resize)
    results = [
        row
        for image_id, detection in zip(data.val.image_ids, found, strict=True)
        for row in to_results(detection, image_id=image_id, categories=data.categories)
    ]
    return evaluate(data.val.ground_truth(), results)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8, help="times that the training set is gone through")
    parser.add_argument("--images", type=int, default=1000, help="images to train on")
    arguments = parser.parse_args()
    evaluation = train(epochs=arguments.epochs, images=arguments.images)
    print({name: round(evaluation.metrics[name], 3) for name in ("AP", "AP50", "AP75", "oLRP")})
