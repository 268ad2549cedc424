"""Small objects in large images: what tiles find beside one look at the image, and what they cost.

    python benchmarks/tiles.py > benchmarks/results/tiles.md

A small ATSS learns shapes of 12 to 38 pixels in images of 128 pixels of the built-in dataset. Then it looks at images
of 512 pixels with objects of the same size: shrunk to 128 pixels, as the resizing rule of its training has it; as they
are; and by tiles of 128 pixels. One thread; takes two to three minutes.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from rankdet import Predictor
from rankdet.cli.experiment import Experiment
from rankdet.data import KeepSize, Shapes
from rankdet.environment import facts
from rankdet.eval import Evaluator
from rankdet.train import fit

SMALL, LARGE, IMAGES = 128, 512, 16
TRAINING = {
    "model.init_args.backbone": "test_resnet",
    "data.train": "{class_path: Shapes, init_args: {length: 800, seed: 0, image_size: 128, num_classes: 3, "
    "sizes: [0.1, 0.3], objects: [1, 4], clutter: 2}}",
    "data.val": "{class_path: Shapes, init_args: {length: 40, seed: 1, image_size: 128, num_classes: 3, "
    "sizes: [0.1, 0.3], objects: [1, 4], clutter: 2}}",
    "data.resize": "{class_path: ResizeShorter, init_args: {short: 128, long: 192}}",
    "data.workers": "0",
    "schedule.epochs": "5",
    "trainer.evaluate_every": "1000",
    "trainer.pictures": "0",
}
WAYS: dict[str, Callable[[Predictor], Predictor]] = {
    "the image, shrunk to 128": lambda predictor: predictor,
    "the image as it is": lambda predictor: Predictor(
        predictor.model, categories=predictor.categories, resize=KeepSize(), batch_size=1
    ),
    "tiles of 128, overlap 0": lambda predictor: predictor.tiled(size=SMALL, overlap=0.0),
    "tiles of 128, overlap 0.2": lambda predictor: predictor.tiled(size=SMALL, overlap=0.2),
    "tiles of 128, overlap 0.4": lambda predictor: predictor.tiled(size=SMALL, overlap=0.4),
    "the same and the whole image": lambda predictor: predictor.tiled(size=SMALL, overlap=0.4, whole=True),
}


def train(folder: Path) -> Predictor:
    experiment = Experiment(files=["demo"], overrides=list(TRAINING.items()))
    torch.manual_seed(0)
    parts = experiment.build()
    run = fit(
        model=parts.model,
        data=parts.data,
        optimiser=parts.optimiser,
        schedule=parts.schedule,
        trainer=parts.trainer,
        output=folder,
    )
    return Predictor.load(run.best_checkpoint)


def row(title: str, predictor: Predictor, data: Shapes) -> str:
    images = [data[number][0] for number in range(len(data))]
    began = time.process_time()
    found = list(predictor.stream(images, threshold=None))
    seconds = time.process_time() - began
    results = [entry for number, of_image in enumerate(found, start=1) for entry in of_image.to_results(number)]
    metrics = Evaluator(data.ground_truth())(results).metrics
    numbers = " | ".join(f"{100 * metrics[name]:.1f}" for name in ("AP", "AP50", "oLRP"))
    return f"| {title} | {numbers} | {1000 * seconds / len(images):.0f} |"


def main() -> None:
    torch.set_num_threads(1)
    sizes = (0.1 * SMALL / LARGE, 0.3 * SMALL / LARGE)
    data = Shapes(
        length=IMAGES, seed=2, image_size=LARGE, num_classes=3, sizes=sizes, objects=(16, 40), clutter=20, empty=0.0
    )
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(sys.stderr):
            predictor = train(Path(folder) / "run")
        rows = [row(title, way(predictor), data) for title, way in WAYS.items()]
    known = dict(facts())
    print(f"# Small objects in large images\n\n`python benchmarks/tiles.py`, one thread, on {known['processor']};")
    print(f"rankdet {known['rankdet']}, torch {known['torch']}, Python {known['python']}.\n")
    print(f"{IMAGES} images of {LARGE} pixels, objects of {SMALL * 0.1:.0f} to {SMALL * 0.3:.0f} pixels.\n")
    print("| what is looked at | AP | AP50 | oLRP | CPU ms an image |\n|---|---:|---:|---:|---:|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
