"""YOLO datasets in the forms that they have in the wild, read alike by training, doctor and evaluation."""

from __future__ import annotations

from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image

from rankdet.cli.layers import read_layers
from rankdet.data import CorruptImageError, DatasetError, DetectionData, KeepSize, YOLODetection, open_dataset
from rankdet.data.yolo_folder import YOLOFolder, label_file, yolo_file

HEIGHT, WIDTH = 40, 80
NAMES = "names: {0: cat, 1: dog}\n"
BOX, POLYGON = "0 0.5 0.5 0.25 0.5", "1 0.1 0.1 0.4 0.1 0.4 0.6"


def put_image(path: Path, *, orientation: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    exif = Image.Exif()
    exif[274] = orientation
    image.save(path, exif=exif)
    return path


def put(home: Path, described: str, labels: dict[str, str | None]) -> Path:
    """A dataset of images by their path, with the text of their labels; None for no label file."""
    home.mkdir(exist_ok=True)
    (home / "data.yaml").write_text(described, encoding="utf-8")
    for name, text in labels.items():
        put_image(home / name)
        if text is not None:
            file = label_file(home / name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    return home / "data.yaml"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    labels = {"images/train/a.jpg": f"{BOX}\n{POLYGON}\n", "images/train/b.jpg": None, "images/val/c.jpg": BOX}
    return put(tmp_path, f"train: images/train\nval: images/val\n{NAMES}", labels)


def test_boxes_and_polygons(file: Path):
    dataset = YOLODetection(file, masks=False)
    image, target = dataset[0]
    assert image.shape == (3, HEIGHT, WIDTH)
    np.testing.assert_allclose(target["boxes"].numpy(), [[30, 10, 50, 30], [8, 4, 32, 24]], atol=1e-4)
    assert target["labels"].tolist() == [0, 1]
    assert dataset.categories.names == ("cat", "dog")
    assert [dataset.labels(index).tolist() for index in range(2)] == [[0, 1], []]
    truth = dataset.ground_truth()
    assert [entry["category_id"] for entry in truth["annotations"]] == [0, 1]
    assert [entry["area"] for entry in truth["annotations"]] == pytest.approx([400, 24 * 20 / 2])


def test_masks_come_from_polygons_and_boxes_are_left_out(file: Path):
    dataset = YOLODetection(file, masks=True)
    target = dataset[0][1]
    assert target["labels"].tolist() == [1]
    assert target["masks"].sum() == pytest.approx(240, rel=0.1)
    assert str(dataset.report.faults[0]).startswith("1 x object without mask, left out (line 1 of a.txt)")


@pytest.mark.parametrize("mark", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_files_in_the_encoding_of_their_byte_order_mark(file: Path, mark: str):
    for path in (file, label_file(file.parent / "images/train/a.jpg")):
        path.write_bytes(path.read_text(encoding="utf-8").replace("cat", "größe").encode(mark))
    dataset = YOLODetection(file)
    assert dataset.categories.names == ("größe", "dog")
    assert dataset.labels(0).tolist() == [0, 1]


def test_a_yaml_file_in_another_encoding_is_refused(file: Path):
    file.write_bytes(file.read_text(encoding="utf-8").replace("cat", "größe").encode("latin-1"))
    with pytest.raises(DatasetError, match=r"data\.yaml is not in UTF-8 .*; save it as UTF-8"):
        YOLODetection(file)


@pytest.mark.parametrize(("listed", "image", "label"), [(*"CDC",), (*"DCD",), (*"CDD",), (*"CCD",)])
def test_accents_may_be_composed_otherwise_in_lists_images_and_labels(
    tmp_path: Path, listed: str, image: str, label: str
):
    listed, image, label = (normalize(f"NF{form}", "Überblick") for form in (listed, image, label))
    file = put(tmp_path, f"train: list.txt\nval: list.txt\n{NAMES}", {f"images/{image}.jpg": None})
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / f"{label}.txt").write_text(BOX, encoding="utf-8")
    (tmp_path / "list.txt").write_text(f"./images/{listed}.jpg\n", encoding="utf-8")
    dataset = YOLODetection(file)
    assert dataset.labels(0).tolist() == [0]
    assert dataset[0][0].shape == (3, HEIGHT, WIDTH)


def test_splits_by_name_and_by_role(file: Path):
    assert [len(YOLODetection(file, split=split)) for split in (None, "train", "val")] == [2, 2, 1]
    assert len(open_dataset(f"{file}:val")) == len(open_dataset(f"{file.parent}:val")) == 1
    assert len(open_dataset(file.parent)) == 2
    data = DetectionData(train=str(file), val=str(file), resize=KeepSize(), batch_size=1, workers=0, min_size=1)
    assert (len(data.train), len(data.val)) == (1, 1)  # a training leaves images without objects out
    with pytest.raises(DatasetError, match=r"no folder or list of images for the split 'test'; it has train, val"):
        YOLODetection(file, split="test")


@pytest.mark.parametrize(
    ("described", "image"),
    [
        ("train: ../train/images\n", "train/images/a.jpg"),  # Roboflow, with a folder too many
        ("path: ../datasets/x\ntrain: images\n", "images/a.jpg"),  # where it was on another machine
        ("path: /no/such/place\ntrain: images\n", "images/a.jpg"),
        ("path: .\ntrain: [images/one, images/two]\n", "images/two/a.jpg"),
        ("train: images\n", "images/deep/er/a.JPG"),
        ("train: photos\n", "photos/a.png"),  # labels beside the images
        ("train: 'images\\train'\n", "images/train/a.jpg"),
        ("train: train.txt\n", "images/a.jpg"),
    ],
)
def test_where_images_may_be(tmp_path: Path, described: str, image: str):
    for folder in ("images/one", "images/two"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "train.txt").write_bytes("\ufeff./images/a.jpg\r\n\r\n".encode())
    put_image(tmp_path / "images" / "._hidden.jpg")
    dataset = YOLODetection(put(tmp_path, described + NAMES, {image: BOX}))
    assert [dataset.image_path(0), dataset.labels(0).tolist()] == [tmp_path / image, [0]]
    assert len(dataset) == 1


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("names: [cat, 7, yes]\n", ("cat", "7", "True")),
        ("names: {1: dog, 0: cat}\nnc: 2\n", ("cat", "dog")),
        ("names: {'0': cat}\n", ("cat",)),
        ("nc: 2\n", ("class 0", "class 1")),
    ],
)
def test_names_of_classes(tmp_path: Path, names: str, found: tuple[str, ...]):
    file = put(tmp_path, f"train: images\n{names}", {"images/a.jpg": BOX})
    assert YOLODetection(file).categories.names == found


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ("train: images\nnames: [cat]\nnc: 2\n", r"'nc' is 2, but 'names' has 1 classes"),
        ("train: images\nnames: {1: cat}\n", r"'names' has no class 0; number the classes 0 to 0"),
        ("train: images\nnames: cat\n", r"'names' must be a list"),
        ("train: images\nnames: [cat, null]\n", r"the name of class 1 is None; give a text, in quotes if it is null"),
        ("train: nowhere\nnames: [cat]\n", r"names nowhere, which is in none of these places; correct it, or 'path'"),
        ("train:\nval: images\nnames: [cat]\n", r"for the split 'train'; it has val"),
        ("train: [[images]]\nnames: [cat]\n", r"names no folder or list of images"),
        ("train: empty\nnames: [cat]\n", r"the split train has no images in empty"),
    ],
)
def test_what_is_wrong_with_the_yaml_file(tmp_path: Path, described: str, words: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=words):
        YOLODetection(put(tmp_path, described, {"images/a.jpg": BOX}))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("2 0.5 0.5 0.25 0.5", r"line 2 of a.txt: the class is 2, but the dataset has the classes 0 to 1"),
        ("0.5 0.5 0.5 0.25 0.5", r"the class is 0.5, not a whole number"),
        ("0 320 240 32 48", r"320 is no share of the image, from 0 to 1"),
        ("0 0.5 0.5 0.25 0.5 0.9", r"it has 6 numbers: a box and a score are a prediction"),
        ("0 0.5 0.5 0.25", r"it has 4 numbers; accepted are 'class x y width height'"),
        ("0 0.5 nan 0.25 0.5", r"nan is no share"),
        ("cat 0.5 0.5 0.25 0.5", r"'cat 0.5 0.5 0.25 0.5' holds something else than numbers"),
        ("0 1.5 0.5 0.25 0.5", r"its object lies outside of the image"),
    ],
)
def test_lines_that_cannot_be_used_are_named(tmp_path: Path, line: str, words: str):
    file = put(tmp_path, f"train: images\n{NAMES}", {"images/a.jpg": f"{BOX}\n{line}\n"})
    with pytest.raises(DatasetError, match=words):
        YOLODetection(file)


def test_lines_that_can(tmp_path: Path):
    text = f"\ufeff{BOX}\r\n\r\n0.0,0.5,0.5,0.25,0.25\r\n{BOX}\r\n0 0.0 0.5 0.5 0.5\r\n"
    dataset = YOLODetection(put(tmp_path, f"train: images\n{NAMES}", {"images/a.jpg": text}))
    boxes = [[30, 10, 50, 30], [30, 15, 50, 25], [0, 10, 20, 30]]
    np.testing.assert_allclose(dataset[0][1]["boxes"].numpy(), boxes, atol=1e-4)
    assert [str(fault) for fault in dataset.report.faults] == [
        "1 x box beyond its image, clipped (line 5 of a.txt)",
        "1 x line that its file has twice, used once (line 4 of a.txt)",
    ]


def test_keypoints_stand_behind_the_box(tmp_path: Path):
    text = f"{BOX} 0.5 0.5 2 0.1 0.1 0\n"
    file = put(tmp_path, f"train: images\nkpt_shape: [2, 3]\n{NAMES}", {"images/a.jpg": text})
    np.testing.assert_allclose(YOLODetection(file)[0][1]["boxes"].numpy(), [[30, 10, 50, 30]], atol=1e-4)


def test_images_are_turned_as_those_who_labelled_them_saw_them(tmp_path: Path):
    file = put(tmp_path, f"train: images\n{NAMES}", {"images/a.jpg": "0 0.5 0.25 1 0.5"})
    put_image(tmp_path / "images" / "a.jpg", orientation=6)
    dataset = YOLODetection(file)
    assert dataset.image_sizes == [(WIDTH, HEIGHT)]
    image, target = dataset[0]
    assert image.shape == (3, WIDTH, HEIGHT)
    np.testing.assert_allclose(target["boxes"].numpy(), [[0, 0, 40, 40]], atol=1e-4)
    data = DetectionData(train=str(file), val=dataset, resize=KeepSize(), batch_size=1, workers=0, min_size=1)
    assert len(data.train) == 1


def test_images_that_are_missing_or_damaged(tmp_path: Path):
    file = put(tmp_path, f"train: list.txt\n{NAMES}", {"images/a.jpg": BOX, "images/b.jpg": BOX})
    (tmp_path / "list.txt").write_text("images/a.jpg\nimages/gone.jpg\n", encoding="utf-8")
    with pytest.raises(
        DatasetError,
        match=r"1 of the 2 images of .*data.yaml are missing in .*: gone.jpg; .*correct the list of images that",
    ):
        YOLODetection(file)
    (tmp_path / "list.txt").write_text("images/a.jpg\nimages/b.jpg\n", encoding="utf-8")
    (tmp_path / "images" / "b.jpg").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"b.jpg cannot be read"):
        YOLODetection(file)
    assert not issubclass(DatasetError, CorruptImageError)


def test_labels_that_are_nowhere(tmp_path: Path):
    file = put(tmp_path, f"train: photos\n{NAMES}", {"photos/a.jpg": None})
    with pytest.raises(DatasetError, match=r"no image has a label file; that of the first would be .*photos/a.txt"):
        YOLODetection(file)


def test_ids_are_the_numbers_of_files_called_by_numbers(tmp_path: Path):
    labels = {"images/0012.jpg": BOX, "images/7.jpg": BOX}
    assert YOLODetection(put(tmp_path, f"train: images\n{NAMES}", labels)).image_ids == [12, 7]
    put_image(tmp_path / "images" / "b.jpg")
    assert YOLODetection(tmp_path / "data.yaml").image_ids == [1, 2, 3]


def test_no_other_yaml_file_is_a_dataset(tmp_path: Path, file: Path):
    (tmp_path / "config.yaml").write_text("model: ATSS\ndata: {train: data.yaml}\n", encoding="utf-8")
    assert yolo_file(tmp_path / "config.yaml") is None
    assert yolo_file(tmp_path) == file
    options = [("data.train", str(file)), ("data.val", f"{file}:val")]
    assert read_layers([], options).tree["data"] == {"train": str(file), "val": f"{file}:val"}
    assert read_layers([str(tmp_path / "config.yaml")], []).tree["data"] == {"train": "data.yaml"}


def test_a_folder_that_holds_itself_ends(tmp_path: Path):
    file = put(tmp_path, f"train: images\n{NAMES}", {"images/a.jpg": BOX})
    (tmp_path / "images" / "again").symlink_to(tmp_path / "images")
    with pytest.raises(DatasetError, match=r"more than 20 levels, perhaps a link to itself"):
        YOLOFolder.find(file)
