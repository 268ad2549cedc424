from __future__ import annotations

import json

import pytest
import torch
from torchvision.transforms import v2

from rankdet.data import (
    CocoDetection,
    DatasetError,
    DetectionData,
    KeepSize,
    ResizeShorter,
    Shapes,
    VOCDetection,
    open_dataset,
)
from tests.data.files import annotation, coco, voc_xml, write_coco, write_image, write_voc


def make_data(**arguments) -> DetectionData:
    options = {
        "train": Shapes(length=8, seed=0, image_size=48),
        "val": Shapes(length=5, seed=1, image_size=48),
        "batch_size": 2,
        "workers": 0,
        "resize": KeepSize(),
    }
    return DetectionData(**options | arguments)


def test_training_images_are_shuffled_and_flipped_validation_images_are_not():
    data = make_data()
    train = {target["image_id"]: image for images, targets in data.train_loader(seed=0)
             for image, target in zip(images, targets, strict=True)}  # fmt: skip
    assert set(train) == set(range(1, 9))
    assert list(train) != list(range(1, 9))
    originals = {number: data.train[number - 1][0].as_subclass(torch.Tensor) for number in train}
    flipped = {number for number in train if torch.equal(train[number], originals[number].flip(-1))}
    assert 0 < len(flipped) < 8
    assert all(torch.equal(train[number], originals[number]) for number in set(train) - flipped)
    val = [target["image_id"] for _, targets in data.val_loader() for target in targets]
    assert val == [1, 2, 3, 4, 5]


def test_the_default_is_the_rule_of_the_published_experiments():
    images, targets = next(iter(make_data(resize=None).val_loader()))
    assert images[0].shape == (3, 800, 800)
    assert targets[0]["original_size"] == (48, 48)


def test_own_transforms_are_followed_by_the_clean_up():
    data = make_data(train_transforms=[v2.RandomCrop((24, 24))])
    for images, targets in data.train_loader(seed=0):
        assert all(image.shape == (3, 24, 24) for image in images)
        for target in targets:
            boxes = target["boxes"]
            assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
            assert boxes.numel() == 0 or (boxes.min() >= 0 and boxes.max() <= 24)
            assert len(boxes) == len(target["labels"]) == len(target["iscrowd"])


def test_processes_share_the_images():
    data = make_data()
    seen = [
        target["image_id"]
        for rank in range(2)
        for _, targets in data.train_loader(seed=0, rank=rank, world_size=2)
        for target in targets
    ]
    assert sorted(seen) == list(range(1, 9))
    assert len(data.val_loader(rank=1, world_size=2)) == 2


def test_files_are_opened_with_the_rules_of_training(tmp_path):
    file = str(write_coco(tmp_path))
    data = make_data(train=file, val=file)
    assert (len(data.train), len(data.val)) == (2, 3)
    assert len(make_data(train=file, val=file, skip_empty=False).train) == 3
    assert make_data(train=file, val=file, classes=["dog"]).categories.names == ("dog",)
    assert data.num_classes == 3
    assert data.summary() == ""


def test_categories_must_agree(tmp_path):
    other = coco(categories=[{"id": 90, "name": "cat"}, {"id": 5, "name": "wolf"}, {"id": 0, "name": "cow"}])
    train, val = write_coco(tmp_path / "a"), write_coco(tmp_path / "b", other)
    with pytest.raises(DatasetError, match=r"only the first has 'dog' \(id 5\); only the second has 'wolf' \(id 5\);"):
        make_data(train=str(train), val=str(val))
    make_data(train=str(train), val=str(val), classes=["cow", "cat"])


def test_validation_folders_in_the_voc_format_take_the_classes_of_the_training(tmp_path):
    train = write_voc(tmp_path / "a", a=voc_xml("a.png", ("cup", (1, 1, 9, 9), 0), ("mug", (1, 1, 9, 9), 0)))
    val = write_voc(tmp_path / "b", a=voc_xml("a.png", ("mug", (1, 1, 9, 9), 0)))
    data = make_data(train=str(train), val=str(val))
    assert data.val.categories == data.train.categories
    assert data.val[0][1]["labels"].tolist() == [1]
    foreign = write_voc(tmp_path / "c", a=voc_xml("a.png", ("jar", (1, 1, 9, 9), 0)))
    with pytest.raises(DatasetError, match="different classes"):
        make_data(train=str(train), val=str(foreign))


def test_several_datasets_count_as_one(tmp_path):
    first = write_voc(tmp_path / "2007", a=voc_xml("a.png", ("cup", (1, 1, 9, 9), 0)))
    second = write_voc(tmp_path / "2012", a=voc_xml("a.png", ("cup", (2, 2, 9, 9), 0)))
    data = make_data(train=[str(first), str(second)], val=[str(second), str(first)])
    assert len(data.train) == len(data.val) == 2
    assert [target["boxes"][0, 0].item() for _, target in data.val] == [1, 0]
    third = write_voc(tmp_path / "other", a=voc_xml("a.png", ("jar", (1, 1, 9, 9), 0)))
    with pytest.raises(DatasetError, match="have different categories"):
        make_data(train=[str(first), str(third)], val=str(first))
    with pytest.raises(DatasetError, match=r"one folder of images, .*, cannot be that of 2 datasets"):
        make_data(train=[str(first), str(second)], val=str(first), train_images=str(first))


def test_training_without_objects_is_refused(tmp_path):
    file = write_coco(tmp_path, coco(annotations=[annotation(1, 7, 5, [1, 1, 9, 9], iscrowd=1)]))
    with pytest.raises(DatasetError, match="no objects to learn from"):
        make_data(train=str(file), val=str(file), skip_empty=False)


def test_sizes_that_are_wrong_throughout_show_before_the_training(tmp_path):
    images = [{"id": n, "file_name": f"{n}.png", "height": 48, "width": 64} for n in range(9)]
    file = str(write_coco(tmp_path, coco(images=images)))
    write_image(tmp_path / "0.png", height=64, width=48)
    make_data(train=file, val=file)
    for number in range(9):
        write_image(tmp_path / f"{number}.png", height=64, width=48)
    with pytest.raises(
        DatasetError, match=r"images of .* are unusable, the first: .*\.png is 48 x 64, .* says 64 x 48"
    ):
        make_data(train=file, val=file)


def test_corrupt_training_images_are_listed_afterwards(tmp_path):
    file = write_coco(tmp_path)
    data = make_data(train=str(file), val=str(file))
    (tmp_path / "c.png").write_bytes(b"")
    ids = [target["image_id"] for _, targets in data.train_loader(seed=0) for target in targets]
    assert ids == [7, 7]
    assert data.summary() == f"1 corrupt images were skipped: {tmp_path / 'c.png'}"
    images = [image for images, _ in data.val_loader() for image in images]
    assert [bool(image.any()) for image in images] == [True, True, False]
    assert data.summary().count(str(tmp_path / "c.png")) == 2


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"workers": -1}, {"classes": ["circle"]}, {"train_images": "images"}]
)
def test_arguments_are_checked(wrong):
    with pytest.raises(ValueError, match=r"batch_size|a dataset object has its own"):
        make_data(**wrong)


def test_any_source_is_opened(tmp_path):
    file = write_coco(tmp_path / "coco")
    assert isinstance(open_dataset(file), CocoDetection)
    file.rename(file.parent / "annotations.json")
    assert isinstance(open_dataset(tmp_path / "coco", classes=["dog"]), CocoDetection)
    (tmp_path / "coco" / "annotations.json").rename(tmp_path / "coco" / "_annotations.coco.json")
    assert isinstance(open_dataset(str(tmp_path / "coco")), CocoDetection)
    root = write_voc(tmp_path / "voc", a=voc_xml("a.png", ("cup", (1, 1, 9, 9), 0)), b=voc_xml("b.png"))
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    assert isinstance(open_dataset(root), VOCDetection)
    assert len(open_dataset(f"{root}:train")) == 1
    shapes = open_dataset("shapes", shapes_seed=1, masks=True)
    assert "masks" in shapes[0][1]
    assert not torch.equal(shapes[0][0], open_dataset("shapes")[0][0])


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("nowhere", {}, "nowhere does not exist, and is neither a COCO annotation file"),
        ("nowhere.json", {}, "cannot be read"),
        ("shapes", {"classes": ["circle"]}, "built-in dataset takes neither"),
        ("{voc}", {"masks": True}, "VOC format, which has no masks"),
        ("{voc}:absent", {}, r"has no absent\.txt"),
        ("{empty}", {}, "has no XML files"),
    ],
)
def test_what_is_no_dataset_is_refused(tmp_path, source, options, message):
    voc = write_voc(tmp_path / "voc", a=voc_xml("a.png", ("cup", (1, 1, 9, 9), 0)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=message):
        open_dataset(source.format(voc=voc, empty=tmp_path / "empty"), **options)


def test_the_description_of_the_resize_is_plain():
    assert json.loads(json.dumps(make_data(resize=ResizeShorter()).resize.to_dict())) == {
        "rule": "shorter",
        "short": 800,
        "long": 1333,
    }
