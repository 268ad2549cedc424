"""Strong augmentation in a training: partners, the last epochs, seeds, what is checked before."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from rankdet.data import (
    AffineJitter,
    Alternatives,
    CocoDetection,
    ConcatDetection,
    CopyBlend,
    CopyPaste,
    DatasetError,
    DetectionData,
    KeepSize,
    LargeScaleJitter,
    MixingTransform,
    MixUp,
    Mosaic,
    ObjectErasing,
    Sample,
    Shapes,
    Shuffled,
    StrongAugmentation,
    TransformsByEpoch,
    build_loader,
)
from rankdet.data.canvas import filled
from rankdet.data.seeding import seeded
from tests.data.coloured import check_sound
from tests.data.files import annotation, coco, write_coco
from tests.train.fakes import KeptShapes

PLAIN = v2.Identity()
STRONG = [Mosaic(probability=0.5), AffineJitter(degrees=20, shear=5), MixUp(), LargeScaleJitter(scale=(0.5, 1.5))]


def augmented(dataset: Shapes, transforms: list[v2.Transform]) -> Callable[..., Sample]:
    return StrongAugmentation(transforms=transforms).after(PLAIN, dataset)


class TestPipeline:
    SHAPES = KeptShapes(length=6, seed=0, image_size=(48, 64), masks=True, empty=0.3)

    def test_no_degenerate_boxes(self):
        transforms = augmented(self.SHAPES, [*STRONG, CopyBlend(), CopyPaste(), ObjectErasing()])
        counts = []
        for seed in range(16):
            with seeded(seed):
                image, target = transforms(*self.SHAPES[seed % 6])
            assert image.dtype == torch.uint8
            check_sound(image, target)
            counts.append(len(target["labels"]))
        assert max(counts) > 8

    def test_partners_have_been_through_what_stands_before(self):
        grey = tv_tensors.Image(filled((8, 8), (100, 100, 100)))

        class Brighter(v2.Transform):
            def forward(self, image, target):
                return image + 10, target

        class Beside(MixingTransform):
            def mix(self, image, target, draw):
                assert torch.equal(draw()[0], image)
                return image + 1, target

        class Grey(Shapes):
            def __getitem__(self, index):
                return grey, super().__getitem__(index)[1]

        dataset = Grey(length=3, seed=0, image_size=16)
        strong = [Brighter(), Beside(), Brighter(), Beside()]
        image, _ = StrongAugmentation(transforms=strong).after(Brighter(), dataset)(*dataset[0])
        assert image.unique().tolist() == [132]

    def test_they_pickle(self):
        transforms = augmented(self.SHAPES, STRONG)
        with seeded(3):
            expected = transforms(*self.SHAPES[0])[0]
        with seeded(3):
            assert torch.equal(pickle.loads(pickle.dumps(transforms))(*self.SHAPES[0])[0], expected)


def seen(loader: Any) -> list[tuple[int, bytes, list[list[float]]]]:
    return [
        (target["image_id"], image.numpy().tobytes(), target["boxes"].tolist())
        for images, targets in loader
        for image, target in zip(images, targets, strict=True)
    ]


TRAIN, VAL = KeptShapes(length=6, seed=0, image_size=32, masks=True), Shapes(length=2, seed=1, image_size=32)


def strong(*transforms: v2.Transform, opening_epochs: int = 0, closing_epochs: int = 0) -> StrongAugmentation:
    return StrongAugmentation(transforms=list(transforms), opening_epochs=opening_epochs, closing_epochs=closing_epochs)


EITHER = Alternatives(transforms=[Mosaic(), AffineJitter()], otherwise=[CopyBlend()], until=0.5)
ALL = [*STRONG, EITHER, CopyPaste(probability=0.5), v2.ColorJitter(0.4, 0.4), ObjectErasing()]


def make_data(**arguments: Any) -> DetectionData:
    options = {
        "train": TRAIN,
        "val": VAL,
        "batch_size": 2,
        "workers": 0,
        "resize": KeepSize(),
        "strong": strong(*ALL),
    }
    return DetectionData(**options | arguments)


class TestData:
    def test_a_sample_follows_from_seed_and_epoch_on_any_number_of_workers(self):
        here, workers = (
            make_data().train_loader(seed=3),
            make_data(workers=2, strong=strong(*ALL, closing_epochs=1)).train_loader(seed=3, epochs=2),
        )
        first, second = seen(here), seen(here)
        assert seen(workers) == first
        assert seen(workers) != second, "the last epoch is closed there"
        again = make_data().train_loader(seed=3)
        again.batch_sampler.set_epoch(1, start=2)
        assert seen(again) == second[4:]
        assert seen(make_data().train_loader(seed=4)) != first

    def test_the_first_and_last_epochs_go_without(self):
        data = make_data(strong=strong(*ALL, opening_epochs=1, closing_epochs=2))
        sometimes, plain = data.train_loader(seed=3, epochs=4), make_data(strong=None).train_loader(seed=3)
        always = make_data().train_loader(seed=3)
        for epoch in range(4):
            found, usual, other = seen(sometimes), seen(plain), seen(always)
            assert found == (other if epoch == 1 else usual), epoch
            assert usual != other

    def test_alternatives_come_to_their_end(self):
        """As in DEIM's schedule of 132 epochs: mosaic and mixup from epoch 4 to 64, the others to 120."""
        mosaic = Alternatives(transforms=[Mosaic(), AffineJitter()], otherwise=[ObjectErasing()], until=0.5)
        mixup = Alternatives(transforms=[MixUp()], until=0.5)
        grey = v2.RandomGrayscale()
        dense = strong(grey, mosaic, mixup, opening_epochs=4, closing_epochs=12)
        found = [dense.in_epoch(epoch, epochs=132) for epoch in (3, 4, 63, 64, 119, 120)]
        rest = [grey, *mosaic.otherwise]
        assert found == [[], [grey, mosaic, mixup], [grey, mosaic, mixup], rest, rest, []]
        assert dense.describe(132) == (
            "RandomGrayscale, (Mosaic + AffineJitter or ObjectErasing), (MixUp or nothing); "
            "not in the first 4 epochs and the last 12 epochs"
        )

    def test_one_alternative_is_drawn_for_each_image(self):
        black = tv_tensors.Image(filled((8, 8), (0, 0, 0)))
        _, target = Shapes(length=1, seed=0)[0]
        either = Alternatives(
            transforms=[v2.Lambda(lambda x: x + 1, tv_tensors.Image)],
            otherwise=[v2.Lambda(lambda x: x + 3, tv_tensors.Image)],
            probability=0.25,
        )
        torch.manual_seed(0)
        values = [int(either.mix(black, target, lambda: (black, target))[0].max()) for _ in range(400)]
        assert set(values) == {1, 3}
        assert values.count(1) == pytest.approx(100, abs=30)

    def test_it_says_so(self):
        assert strong(Mosaic(), MixUp(), closing_epochs=2).describe(4) == "Mosaic, MixUp; not in the last 2 epochs"
        assert strong(Mosaic(), closing_epochs=2).describe(2) == "none: Mosaic would not be in the last 2 epochs"
        assert strong(Mosaic(), closing_epochs=1).describe(2) == "Mosaic; not in the last epoch"
        assert strong(MixUp()).describe(2) == "MixUp"

    def test_a_loader_of_its_own_has_other_transforms_in_other_epochs(self):
        class Later(TransformsByEpoch):
            def in_epoch(self, epoch):
                return v2.RandomHorizontalFlip(1.0 if epoch >= 1 else 0.0)

        dataset = Shapes(length=4, seed=0, image_size=32)
        loader = build_loader(dataset, batch_size=4, order=Shuffled(4), transforms=Later())
        for flips in (False, True, True):
            images, targets = next(iter(loader))
            for image, target in zip(images, targets, strict=True):
                original = dataset[target["image_id"] - 1][0].as_subclass(Tensor)
                assert torch.equal(image, original.flip(-1) if flips else original)

    def test_crowds_of_a_file_stay_crowds(self, tmp_path):
        quarters = Mosaic(scale=(0.5, 0.5), centre=(0.5, 0.5))
        file = write_coco(tmp_path, coco(annotations=[annotation(1, 7, 90, [5, 5, 30, 30], iscrowd=1)] + [
            annotation(number + 2, image, 5, [10, 10, 20, 20]) for number, image in enumerate((7, 0, 3))
        ]))  # fmt: skip
        data = make_data(train=str(file), val=str(file), strong=strong(quarters))
        for _, targets in data.train_loader(seed=0):
            for target in targets:
                labels = target["labels"].tolist()
                assert labels.count(data.categories.names.index("dog")) == 4
                crowds = target["iscrowd"].tolist()
                assert [label == data.categories.names.index("cat") for label in labels] == crowds

    def test_masks_are_asked_for_before_the_training(self, tmp_path):
        file = str(write_coco(tmp_path))
        with pytest.raises(DatasetError, match=r"CopyPaste needs masks, and .* without them; set masks=True"):
            make_data(train=file, val=file)
        bare = ConcatDetection([Shapes(length=2, seed=0, image_size=32), Shapes(length=2, seed=1, image_size=32)])
        with pytest.raises(DatasetError, match="CopyPaste needs masks"):
            make_data(train=bare)
        assert CocoDetection(file)[0][1].keys() >= {"boxes"}

    def test_mixing_has_a_place_of_its_own(self):
        with pytest.raises(TypeError, match=r"Mosaic needs other images: put it into a StrongAugmentation"):
            make_data(train_transforms=[Mosaic()])

    def test_learning_by_heart_is_without(self):
        assert make_data().to_learn_by_heart(2).strong is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mosaic(size=0), "height must be a whole number of pixels"),
        (lambda: Mosaic(scale=(1.0, 0.5)), r"scale must be \(least, most\) with 0 < least <= most; got \(1.0, 0.5\)"),
        (lambda: Mosaic(centre=(0.5, 1.5)), "centre must be .* <= 1; got"),
        (lambda: Mosaic(probability=2.0), "probability must be a share, 0 to 1; got 2.0"),
        (lambda: MixUp(alpha=0.0), "alpha must be > 0"),
        (lambda: CopyPaste(share=-1.0), "share must be a share"),
        (lambda: AffineJitter(degrees=270), r"degrees must lie in \[0, 180\]; got 270"),
        (lambda: AffineJitter(translate=1.5), "translate must be a share"),
        (lambda: LargeScaleJitter(scale=(0.0, 1.0)), "scale must be"),
        (lambda: ObjectErasing(aspect=0.5), "aspect must be at least 1"),
        (strong, "at least one transform"),
        (lambda: strong(MixUp(), closing_epochs=-1), "closing_epochs must be at least 0"),
        (lambda: strong(MixUp(), opening_epochs=-1), "opening_epochs must be at least 0"),
        (lambda: Alternatives(transforms=[]), "at least one transform"),
        (lambda: Alternatives(transforms=[EITHER]), "must not end before them; got 0.5 and None"),
        (lambda: CopyBlend(objects=0), "objects must be at least 1"),
        (lambda: CopyBlend(margin=(0.3, 0.1)), "margin must be"),
    ],
)
def test_arguments_are_checked(make: Callable[[], Any], message: str):
    with pytest.raises(ValueError, match=message):
        make()
