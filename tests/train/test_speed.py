"""What is measured of loaders and models is what was done."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rankdet.data import DetectionData, KeepSize, Shapes
from rankdet.train import SGD, DataSpeed, Schedule, TrainerOptions, benchmark_data, benchmark_model, random_batch
from tests.train.fakes import TinyDetector

PAUSE = 0.05


class SlowShapes(Shapes):
    """An image takes its time to be read."""

    def __getitem__(self, index: int) -> Any:
        time.sleep(PAUSE)
        return super().__getitem__(index)


def speed_of(train: Shapes, **options: Any) -> DataSpeed:
    val = Shapes(length=2, seed=1, image_size=32, num_classes=3)
    data = DetectionData(train=train, val=val, batch_size=2, workers=0, resize=KeepSize())
    return benchmark_data(
        model=TinyDetector(width=4),
        data=data,
        optimiser=SGD(lr=0.001),
        schedule=Schedule(epochs=2),
        trainer=TrainerOptions(accelerator="cpu"),
        **options,
    )


def test_slow_images_are_seen_everywhere():
    speed = speed_of(SlowShapes(length=6, seed=0, image_size=32, num_classes=3), batches=2)
    assert speed.reading >= PAUSE
    assert speed.transforming < PAUSE
    assert 0.5 / PAUSE / 2 < speed.images_per_second <= 1 / PAUSE
    assert (speed.batches, speed.steps, speed.steady) == (2, 2, True)
    assert speed.waiting >= 2 * PAUSE, "two images are loaded for a step"
    assert speed.waiting_share == speed.waiting / (speed.waiting + speed.computing)
    assert "Most of the time of an image is reading" in speed.advice(cores=4)
    assert "--data.workers, which is 0, on 4 cores" in speed.advice(cores=4)


def test_a_training_of_few_steps_and_no_time_gives_what_it_has():
    speed = speed_of(Shapes(length=2, seed=0, image_size=32, num_classes=3), seconds=1e-9)
    assert (speed.batches, speed.steps, speed.steady) == (1, 1, False)


@pytest.mark.parametrize(("waiting", "workers", "words"), [(0.01, 0, "keeps up"), (0.9, 4, "4 cores already")])
def test_advice(waiting: float, workers: int, words: str):
    speed = DataSpeed(workers, 2, 10.0, 5, 0.1, 0.1, 0.2, 20, waiting, 1 - waiting, True)
    assert words in speed.advice(cores=4)
    assert speed.to_dict()["waiting_share"] == pytest.approx(waiting)


class Counting(TinyDetector):
    """Knows what it was called with; a step takes its time."""

    calls: list[tuple[bool, int]]

    def forward(self, images: list[Tensor], targets: Any = None) -> Any:
        self.calls.append((self.training, len(images)))
        time.sleep(PAUSE if self.training else 0)
        return super().forward(images, targets)


def test_steps_and_predictions_are_counted_and_weights_stay():
    model = Counting(width=4)
    model.calls = []
    before = [value.clone() for value in model.parameters()]
    batch = random_batch(2, height=32, width=32, num_classes=3)
    speed = benchmark_model(model, [batch], optimiser=SGD(lr=1.0), steps=3, warm_up=2, gradient_clip=1.0)
    assert model.calls == [(True, 2)] * 5 + [(False, 1)] * 5
    assert speed.training.repetitions == speed.prediction.repetitions == 3
    assert PAUSE <= speed.training.seconds < 10 * PAUSE
    assert speed.prediction.seconds < speed.training.seconds
    assert speed.images_per_second == 2 / speed.training.seconds
    assert all(torch.equal(value, other) for value, other in zip(model.parameters(), before, strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_time_that_is_up_leaves_one_repetition():
    model = Counting(width=4)
    model.calls = []
    batch = random_batch(1, height=32, width=32, num_classes=3)
    speed = benchmark_model(model, [batch], optimiser=SGD(lr=1.0), seconds=1e-9)
    assert (speed.training.repetitions, speed.prediction.repetitions) == (1, 1)
    assert model.calls == [(True, 1)] * 2 + [(False, 1)] * 2, "one to warm up"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"precision": "half"}, "precision must be one of 32-true"),
        ({"precision": "16-mixed"}, "on a CPU take bf16-mixed"),
        ({"batches": []}, "give at least one"),
    ],
)
def test_wrong_inputs_of_models(wrong: dict[str, Any], words: str):
    batches = wrong.pop("batches", [random_batch(1, height=32, width=32, num_classes=3)])
    with pytest.raises(ValueError, match=words):
        benchmark_model(nn.Linear(1, 1), batches, optimiser=SGD(lr=1.0), **wrong)


@pytest.mark.parametrize("wrong", [{"batches": 0}, {"seconds": 0.0}])
def test_wrong_inputs_of_loaders(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        speed_of(Shapes(length=2, seed=0, image_size=32, num_classes=3), **wrong)


def test_random_images_are_always_the_same_and_sound():
    (images, targets), (again, _) = (random_batch(2, height=48, width=64, num_classes=3, proposals=9) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(images, again, strict=True))
    for target in targets:
        boxes = target["boxes"]
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes <= torch.tensor([63.0, 47, 63, 47])).all()
        assert target["masks"].flatten(1).any(1).all()
        assert target["proposals"].shape == (16, 4)
        assert target["semantic"].shape == (1, 48, 64)
