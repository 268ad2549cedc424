from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from rankdet.data import CocoDetection, ResizeShorter, Shapes, Shuffled, build_loader
from rankdet.data.seeding import seed_for, seeded
from tests.data.files import write_coco


class Jitter(nn.Module):
    """Draws from all three generators, as careless transforms do."""

    def forward(self, image: Any, target: Any) -> Any:
        target = {**target, "drawn": (torch.rand(()).item(), np.random.rand(), random.random())}
        return image, target


def make_loader(**arguments: Any):
    dataset = Shapes(length=9, seed=0, image_size=48)
    transforms = v2.Compose([v2.RandomHorizontalFlip(0.5), Jitter()])
    options = {"batch_size": 2, "order": Shuffled(9), "transforms": transforms, "seed": 5} | arguments
    return build_loader(dataset, **options)


def flatten(loader) -> list[tuple[int, bytes, tuple[float, ...]]]:
    return [
        (target["image_id"], image.numpy().tobytes(), target["drawn"])
        for images, targets in loader
        for image, target in zip(images, targets, strict=True)
    ]


def test_batches_are_lists_of_plain_tensors():
    images, targets = next(iter(make_loader()))
    assert [type(image) for image in images] == [torch.Tensor] * 2
    assert all(type(target["boxes"]) is torch.Tensor for target in targets)
    assert targets[0]["original_size"] == (48, 48)


def test_everything_follows_from_the_seed_on_any_number_of_workers():
    here, workers = make_loader(), make_loader(workers=2)
    for _ in range(2):
        torch.manual_seed(random.randrange(1000))
        mine = flatten(here)
        assert mine == flatten(workers)
        assert len({drawn for _, _, drawn in mine}) == 9, "each sample draws its own numbers"
    assert flatten(make_loader(seed=6)) != flatten(make_loader())


def test_an_epoch_can_be_repeated_by_its_number():
    loader = make_loader()
    first, second = flatten(loader), flatten(loader)
    assert first != second
    other = make_loader()
    other.batch_sampler.set_epoch(1)
    assert flatten(other) == second


def test_loading_here_leaves_the_global_generators_alone():
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    expected = torch.rand(3), np.random.rand(3), random.random()
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    dataset = Shapes(length=4, seed=0, image_size=48)
    loader = build_loader(dataset, batch_size=2, transforms=Jitter())
    iterator = iter(loader.dataset[draw] for batch in loader.batch_sampler for draw in batch)
    for _ in iterator:
        pass
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])
    assert random.random() == expected[2]


def test_seeds_are_independent_of_what_happened_before():
    def draw() -> tuple[float, float, float]:
        with seeded(seed_for(1, 2)):
            return torch.rand(()).item(), np.random.rand(), random.random()

    first = draw()
    torch.rand(7)
    assert draw() == first
    assert seed_for(2**60, 3) != seed_for(3, 2**60)


def test_the_generators_are_restored_after_an_error():
    state = torch.get_rng_state()
    with suppress(KeyError), seeded(3):
        torch.rand(5)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow
def test_spawned_workers_give_the_same_batches(tmp_path):
    dataset = CocoDetection(write_coco(tmp_path))
    arguments: dict[str, Any] = {"batch_size": 2, "transforms": ResizeShorter(short=32, long=64)}
    loader = build_loader(dataset, **arguments, workers=1)
    loader.multiprocessing_context = "spawn"
    expected = [image for images, _ in build_loader(dataset, **arguments) for image in images]
    found = [image.clone() for images, _ in loader for image in images]
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_many_workers_do_not_run_out_of_files():
    import resource

    make_loader(workers=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == hard or soft >= 65536


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="workers"):
        make_loader(workers=-1)
