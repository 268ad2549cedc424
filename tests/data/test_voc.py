from __future__ import annotations

import pytest

from rankdet.data import Categories, DatasetError, VOCDetection
from tests.data.files import voc_xml, write_image, write_voc

FILES = {
    "b": voc_xml("b.png", ("mug", (1, 1, 64, 48), 0), ("jar", (5, 6, 14, 25), 1)),
    "a": voc_xml("a.png", ("cup", (5.5, 6, 14, 25), 0)),
    "c": voc_xml("c.png"),
}


def test_corners_are_pixels_counted_from_one(tmp_path):
    dataset = VOCDetection(write_voc(tmp_path / "voc", **FILES))
    assert dataset.categories == Categories.from_names(["cup", "jar", "mug"])
    assert [dataset.image_path(i).name for i in range(3)] == ["a.png", "b.png", "c.png"]
    assert dataset.image_ids == [1, 2, 3]
    assert dataset[0][1]["boxes"].tolist() == [[4.5, 5, 14, 25]]
    assert dataset[1][1]["boxes"].tolist() == [[0, 0, 64, 48], [4, 5, 14, 25]]
    assert dataset[1][1]["labels"].tolist() == [2, 1]
    assert dataset[1][1]["difficult"].tolist() == dataset[1][1]["iscrowd"].tolist() == [False, True]
    assert dataset[2][1]["difficult"].shape == (0,)
    assert dataset.labels(1).tolist() == [2]


def test_corners_from_zero_are_edges(tmp_path):
    dataset = VOCDetection(write_voc(tmp_path / "voc", **FILES), origin=0)
    assert dataset[0][1]["boxes"].tolist() == [[5.5, 6, 14, 25]]
    with pytest.raises(ValueError, match="origin must be 0 or 1, got 2"):
        VOCDetection(tmp_path / "voc", origin=2)


def test_ground_truth_is_a_coco_dictionary(tmp_path):
    truth = VOCDetection(write_voc(tmp_path / "voc", **FILES)).ground_truth()
    assert [(item["id"], item["image_id"], item["category_id"]) for item in truth["annotations"]] == [
        (1, 1, 1),
        (2, 2, 3),
        (3, 2, 2),
    ]
    assert truth["annotations"][1]["bbox"] == [0, 0, 64, 48]
    assert truth["annotations"][1]["area"] == 64 * 48
    flags = ("iscrowd", "ignore", "difficult")
    assert [[item[flag] for flag in flags] for item in truth["annotations"]] == [[0, 0, 0], [0, 0, 0], [1, 1, 1]]
    assert truth["images"][1] == {"id": 2, "file_name": "b.png", "height": 48, "width": 64}


def test_faulty_boxes_are_counted(tmp_path):
    boxes = [(7, 7, 7, 7), (9, 9, 5, 20), (0, 0, 70, 20), (3, 3, 4, 4)]
    text = voc_xml("a.png", *(("cup", box, 0) for box in boxes))
    dataset = VOCDetection(write_voc(tmp_path / "voc", a=text))
    assert dataset[0][1]["boxes"].tolist() == [[0, 0, 64, 20], [2, 2, 4, 4]]
    assert dataset.report.count("degenerate box") == 2
    assert dataset.report.count("box beyond its image") == 1
    assert "(a.xml, a.xml)" in dataset.report.summary()


def test_classes_are_on_one_line_and_unclear_difficulties_are_counted(tmp_path):
    box = (3, 3, 9, 9)
    text = voc_xml("a.png", ("round\n  cell", box, 0), ("round cell", box, 2), ("round cell", box, "TRUE"))
    dataset = VOCDetection(write_voc(tmp_path / "voc", a=text))
    assert dataset.categories.names == ("round cell",)
    assert dataset[0][1]["difficult"].tolist() == [False, False, True]
    assert "1 x <difficult> that is neither 0 nor 1, read as 0 (a.xml)" in dataset.report.summary()


def test_a_box_outside_of_its_image_is_refused(tmp_path):
    text = voc_xml("a.png", ("cup", (100, 1, 120, 9), 0))
    with pytest.raises(DatasetError, match=r"1 boxes lie outside .* a.xml: .* 64 wide and 48 high"):
        VOCDetection(write_voc(tmp_path / "voc", a=text))


def test_splits_by_name_and_by_list(tmp_path):
    root = write_voc(tmp_path / "voc", **FILES)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("b  1\nc -1\n\n")
    by_name, by_list = VOCDetection(root, split="train"), VOCDetection(root, split=["b", "c"])
    for dataset in (by_name, by_list, VOCDetection(root / "Annotations", split="train")):
        assert [dataset.image_path(i).name for i in range(len(dataset))] == ["b.png", "c.png"]
        assert dataset.categories.names == ("cup", "jar", "mug"), "classes of the folder, whatever the split"
    (root / "Annotations" / "b (1).xml").write_bytes(b"\0")
    assert len(VOCDetection(root, split="train")) == 2, "what a split does not name may be broken"
    with pytest.raises(DatasetError, match=r"b \(1\)\.xml is not valid XML"):
        VOCDetection(root)
    with pytest.raises(DatasetError, match=r"no test\.txt; there are \['train'\]"):
        VOCDetection(root, split="test")
    with pytest.raises(DatasetError, match=r"1 of the 2 annotation files of the split are not in .*: z"):
        VOCDetection(root, split=["a", "z"])
    with pytest.raises(DatasetError, match="is empty"):
        VOCDetection(root, split=[])


def test_classes_are_those_that_the_folder_names_whatever_they_are_called(tmp_path):
    root = write_voc(tmp_path / "voc", a=voc_xml("a.png", ("dog", (1, 1, 9, 9), 0), ("car", (1, 1, 9, 9), 1)))
    dataset = VOCDetection(root)
    assert dataset.categories.names == ("car", "dog")
    assert dataset[0][1]["labels"].tolist() == [1, 0]


def test_classes_may_be_chosen(tmp_path):
    root = write_voc(tmp_path / "voc", **FILES)
    dataset = VOCDetection(root, classes=["mug", "cup"])
    assert dataset[1][1]["labels"].tolist() == [0]
    assert dataset[0][1]["labels"].tolist() == [1]
    assert VOCDetection(root, classes=Categories.from_names(["mug", "absent"])).categories.names == ("mug", "absent")
    with pytest.raises(DatasetError, match="unknown class 'mugs'; did you mean 'mug'"):
        VOCDetection(root, classes=["mugs"])


def test_empty_and_small_images_are_left_out_when_asked(tmp_path):
    root = write_voc(tmp_path / "voc", **FILES)
    dataset = VOCDetection(root, skip_empty=True)
    assert dataset.image_ids == [1, 2]
    assert dataset.report.count("image without objects") == 1
    with pytest.raises(DatasetError, match="leaves no image to use"):
        VOCDetection(root, min_size=49)


@pytest.mark.parametrize("where", ["../JPEGImages", "../images", ".", "images", ".."])
def test_the_image_folder_is_found(tmp_path, where):
    home = tmp_path / "xml"
    home.mkdir()
    (home / "a.xml").write_text(voc_xml("a.png", ("cup", (1, 1, 9, 9), 0)))
    write_image(home / where / "a.png")
    assert VOCDetection(home)[0][0].shape == (3, 48, 64)


def test_file_names_that_lead_nowhere_fall_back_to_the_name_of_the_annotation(tmp_path):
    root = write_voc(tmp_path / "voc", a=voc_xml("C:/other/machine.jpg", ("cup", (1, 1, 9, 9), 0)))
    write_image(root / "JPEGImages" / "a2.png")
    (root / "JPEGImages" / "a.txt").write_text("no image")
    assert VOCDetection(root).image_path(0).name == "a.png"


@pytest.mark.parametrize("size", ["", "<size></size>", "<size><width>0</width><height>0</height></size>"])
def test_missing_sizes_come_from_the_image(tmp_path, size):
    dataset = VOCDetection(write_voc(tmp_path / "voc", a=voc_xml("a.png", ("cup", (1, 1, 9, 9), 0), size=size)))
    assert dataset.image_sizes == [(48, 64)]


BOMB = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>'
BAD_FILES = {
    "xml": ("<annotation>", "is not valid XML: .* line 1"),
    "doctype": (BOMB, "document type declaration"),
    "no name": (voc_xml("a.png", ("", (1, 1, 2, 2), 0)), "<object> without <name>"),
    "no box": (voc_xml("a.png", ("cup", (1, 1, 2, 2), 0)).replace("bndbox", "box"), "class 'cup' has no <bndbox>"),
    "words": (voc_xml("a.png", ("cup", ("x", 1, 2, 2), 0)), "<bndbox> must hold numbers, got 'x'"),
    "infinite": (voc_xml("a.png", ("cup", ("inf", 1, 2, 2), 0)), "must hold numbers, got 'inf'"),
    "no object": (voc_xml("a.png"), "names an object, so the classes are unknown"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_refused_by_name(tmp_path, case):
    text, message = BAD_FILES[case]
    root = write_voc(tmp_path / "voc", a=text)
    with pytest.raises(DatasetError, match=message) as error:
        VOCDetection(root)
    assert str(root / "Annotations") in str(error.value)


def test_the_document_type_is_refused_in_any_encoding(tmp_path):
    root = write_voc(tmp_path / "voc", a="")
    (root / "Annotations" / "a.xml").write_bytes(BOMB.encode("utf-16"))
    with pytest.raises(DatasetError, match="document type declaration"):
        VOCDetection(root)


def test_missing_images_and_missing_folders(tmp_path):
    root = write_voc(tmp_path / "voc", **FILES)
    (root / "JPEGImages" / "b.png").unlink()
    with pytest.raises(DatasetError, match=r"1 of the 3 images of .* are missing in .*JPEGImages: b\.png"):
        VOCDetection(root)
    (root / "JPEGImages").rename(tmp_path / "moved")
    with pytest.raises(DatasetError, match="were not found"):
        VOCDetection(root)
    with pytest.raises(DatasetError, match="has no XML files"):
        VOCDetection(tmp_path / "moved")
