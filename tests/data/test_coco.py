from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from rankdet.data import CocoDetection, DatasetError
from tests.data.files import annotation, coco, write_coco, write_image


def test_ids_of_any_kind_become_labels_in_file_order(tmp_path):
    dataset = CocoDetection(write_coco(tmp_path))
    assert dataset.categories.names == ("cat", "dog", "cow")
    assert dataset.categories.ids == (90, 5, 0)
    assert dataset.image_ids == [7, 0, 3]
    assert dataset.image_sizes == [(48, 64)] * 3
    assert dataset.image_path(0) == tmp_path / "a.png"
    image, target = dataset[0]
    assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(Image.open(tmp_path / "a.png")))
    assert target["boxes"].tolist() == [[4, 5, 14, 25], [30.5, 10.25, 38.5, 19.25], [1, 1, 41, 41]]
    assert target["labels"].tolist() == [0, 1, 1]
    assert target["iscrowd"].tolist() == [False, False, True]
    assert target["image_id"] == 7
    assert target["original_size"] == (48, 64)
    assert "masks" not in target
    assert dataset.labels(0).tolist() == [0, 1]
    assert dataset[1][1]["boxes"].shape == (0, 4)
    assert dataset[2][1]["labels"].tolist() == [2]
    with pytest.raises(IndexError):
        dataset[3]


def test_annotations_in_any_order_reach_their_images(tmp_path):
    content = coco()
    reverse = coco(annotations=content["annotations"][::-1], images=content["images"][::-1])
    first, second = (
        CocoDetection(write_coco(tmp_path / "a", content)),
        CocoDetection(write_coco(tmp_path / "b", reverse)),
    )
    for index in range(3):
        mine = {tuple(box) for box in first[index][1]["boxes"].tolist()}
        assert mine == {tuple(box) for box in second[2 - index][1]["boxes"].tolist()}


def test_ground_truth_says_what_the_file_says(tmp_path):
    file = write_coco(tmp_path)
    truth, written = CocoDetection(file).ground_truth(), coco()
    assert sorted(truth["annotations"], key=lambda item: item["id"]) == written["annotations"]
    assert truth["categories"] == written["categories"]
    assert truth["images"] == [{**image} for image in written["images"]]
    json.dumps(truth)


def test_ground_truth_keeps_faulty_boxes_for_the_evaluation(tmp_path):
    boxes = [annotation(1, 7, 5, [3, 3, 0, 0]), annotation(2, 7, 5, [60, 40, 20, 20])]
    dataset = CocoDetection(write_coco(tmp_path, coco(annotations=boxes)))
    assert [item["bbox"] for item in dataset.ground_truth()["annotations"]] == [[3, 3, 0, 0], [60, 40, 20, 20]]


@pytest.mark.parametrize("ids", [[0, 1, 2, 3], [-4, 1, 2, 3], [None, 8, None, 9]])
def test_missing_and_unusable_annotation_ids_are_numbered_anew(tmp_path, ids):
    content = coco()
    for item, number in zip(content["annotations"], ids, strict=True):
        item.pop("id") if number is None else item.update(id=number)
    truth = CocoDetection(write_coco(tmp_path, content)).ground_truth()
    assert sorted(item["id"] for item in truth["annotations"]) == [1, 2, 3, 4]


def test_missing_area_and_iscrowd_are_filled_in(tmp_path):
    content = coco(annotations=[{"image_id": 3, "category_id": 5, "bbox": [1, 2, 3, 4]}])
    [item] = CocoDetection(write_coco(tmp_path, content)).ground_truth()["annotations"]
    assert (item["area"], item["iscrowd"], item["id"]) == (12, 0, 1)


def test_ignore_counts_as_crowd(tmp_path):
    content = coco(annotations=[annotation(1, 7, 5, [1, 2, 30, 4], ignore=1)])
    dataset = CocoDetection(write_coco(tmp_path, content))
    assert dataset[0][1]["iscrowd"].tolist() == [True]
    assert dataset.report.crowd == 1
    assert dataset.report.objects == 0


def test_faulty_boxes_are_mended_or_left_out_and_counted(tmp_path):
    boxes = [
        [3, 3, 0, 0],  # degenerate
        [3, 3, 0.9, 30],  # degenerate
        [3, 3, -5, 10],  # degenerate
        [float("nan"), 3, 5, 10],  # degenerate
        [-9.5, 3, 10, 10],  # half a pixel inside
        [50, 40, 20, 20],  # clipped
        [-0.5, 0, 64.9, 48],  # rounding: clipped, not counted
        [1, 1, 2, 2],
    ]
    content = coco(annotations=[annotation(n, 7, 5, box) for n, box in enumerate(boxes, start=1)])
    dataset = CocoDetection(write_coco(tmp_path, content))
    assert dataset[0][1]["boxes"].tolist() == [[50, 40, 64, 48], [0, 0, 64, 48], [1, 1, 3, 3]]
    report = dataset.report
    assert report.count("degenerate box") == 4
    assert report.count("box with less than a pixel inside of its image") == 1
    assert report.count("box beyond its image") == 1
    assert report.objects == 3
    assert report.images_without_objects == 2
    assert "4 x degenerate box, left out (annotation 1 of image 7, " in report.summary()


@pytest.mark.parametrize("box", [[70, 3, 5, 10], [-20, 3, 20, 10], [3, 48, 5, 10]])
def test_a_box_outside_of_its_image_is_refused(tmp_path, box):
    content = coco(annotations=[annotation(1, 7, 5, [1, 1, 2, 2]), annotation(2, 7, 5, box)])
    with pytest.raises(DatasetError, match=r"json: 1 boxes .* annotation 2 of image 7: .* 64 wide and 48 high.*check"):
        CocoDetection(write_coco(tmp_path, content))


def test_empty_and_small_images_are_left_out_when_asked(tmp_path):
    content = coco()
    content["images"].append({"id": 99, "file_name": "small.png", "height": 20, "width": 200})
    content["annotations"].append(annotation(20, 99, 5, [1, 1, 9, 9]))
    content["annotations"].append(annotation(21, 0, 5, [1, 1, 9, 9], iscrowd=1))
    file = write_coco(tmp_path, content)
    assert CocoDetection(file).image_ids == [7, 0, 3, 99]
    dataset = CocoDetection(file, skip_empty=True, min_size=32)
    assert dataset.image_ids == [7, 3]
    assert dataset.report.count("image without objects") == 1
    assert dataset.report.count("image with a side below 32 pixels") == 1
    assert [item["image_id"] for item in dataset.ground_truth()["annotations"]] == [7, 7, 7, 3]
    assert dataset[1][1]["boxes"].tolist() == [[0, 0, 64, 48]]
    assert dataset.image_path(1).name == "c.png"


def test_chosen_classes_are_labels_in_their_order(tmp_path):
    dataset = CocoDetection(write_coco(tmp_path), classes=["cow", "cat"])
    assert dataset.categories.ids == (0, 90)
    assert dataset[0][1]["labels"].tolist() == [1]
    assert dataset[2][1]["labels"].tolist() == [0]
    assert {item["category_id"] for item in dataset.ground_truth()["annotations"]} == {0, 90}


def square(height: int, width: int, top: int, left: int, side: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def test_masks_in_all_forms(tmp_path):
    truth = square(48, 64, 5, 4, 20)
    rle = coco_mask.encode(np.asfortranarray(truth))
    flat = truth.flatten(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    polygon = [4, 5, 24, 5, 24, 25, 4, 25]
    halves = [[4, 5, 14, 5, 14, 25, 4, 25], [14, 5, 24, 5, 24, 25, 14, 25], [1, 1, 2, 2]]
    forms = [
        [polygon],
        halves,
        {"size": [48, 64], "counts": rle["counts"].decode()},
        {"size": [48, 64], "counts": counts},
    ]
    items = [annotation(n, 7, 5, [4, 5, 20, 20], segmentation=form) for n, form in enumerate(forms, start=1)]
    items[3]["iscrowd"] = 1
    items.append(annotation(9, 7, 5, [4, 5, 20, 20], segmentation=[[1, 2, 3, 4]]))
    items.append(annotation(10, 7, 5, [4, 5, 20, 20]))
    items.append(annotation(11, 7, 5, [4, 5, 20, 20], segmentation={"size": [48, 64], "counts": [48 * 64]}))
    dataset = CocoDetection(write_coco(tmp_path, coco(annotations=items)), masks=True)
    masks = dataset[0][1]["masks"]
    assert masks.shape == (4, 48, 64)
    assert masks.dtype == torch.uint8
    for mask in masks:
        assert np.array_equal(mask.numpy(), truth)
    assert dataset.report.count("object without mask") == 3
    assert dataset[1][1]["masks"].shape == (0, 48, 64)


def test_masks_equal_those_of_pycocotools(tmp_path):
    rng = np.random.default_rng(0)
    items = []
    for number in range(1, 20):
        points = (rng.random((rng.integers(3, 9), 2)) * [64, 48]).round(2)
        low, high = points.min(0), points.max(0)
        box = [*low.tolist(), *(high - low).tolist()]
        items.append(annotation(number, 7, 5, box, segmentation=[points.flatten().tolist()]))
    file = write_coco(tmp_path, coco(annotations=items))
    reference = COCO(str(file))
    expected = [reference.annToMask(item) for item in reference.loadAnns(reference.getAnnIds(imgIds=[7]))]
    assert np.array_equal(CocoDetection(file, masks=True)[0][1]["masks"].numpy(), np.stack(expected))
    assert CocoDetection(file, masks=True).ground_truth()["annotations"] == items


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [10, 10], "counts": [100]}, r"size \[10, 10\] in an image of \[48, 64\]"),
        ({"size": [48, 64], "counts": [5, 5]}, r"\[48, 64\] add up to 10 pixels"),
        ({"size": [48, 64], "counts": "ooooooooooooooo"}, "cannot be decoded: the run lengths of a mask break off"),
        ([["a", "b", "c", "d", "e", "f"]], "cannot be decoded"),
    ],
)
def test_broken_masks_are_named(tmp_path, segmentation, message):
    items = [annotation(42, 7, 5, [4, 5, 20, 20], segmentation=segmentation)]
    file = write_coco(tmp_path, coco(annotations=items))
    with pytest.raises(DatasetError, match=rf"{file.name}: annotation 42 of image 7 .*{message}"):
        CocoDetection(file, masks=True)


def test_masks_of_a_file_without_any_are_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"no segmentations.*masks=False"):
        CocoDetection(write_coco(tmp_path), masks=True)


@pytest.mark.parametrize(
    "where", ["", "images", "train", "images/train", "../train", "../images", "../images/train", ".."]
)
def test_the_image_folder_is_found(tmp_path, where):
    dataset = CocoDetection(write_coco(tmp_path / "annotations", images=where))
    assert dataset[0][0].shape == (3, 48, 64)


def test_images_may_lie_in_subfolders_and_anywhere(tmp_path):
    content = coco()
    content["images"][0]["file_name"] = "deep/er/a.png"
    content["images"][1]["file_name"] = "deep\\b.png"
    for name in ("deep/er/a.png", "deep/b.png", "c.png"):
        write_image(tmp_path / "elsewhere" / name)
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps(content))
    dataset = CocoDetection(file, images=tmp_path / "elsewhere")
    assert dataset.image_path(0) == tmp_path / "elsewhere" / "deep" / "er" / "a.png"
    assert dataset[1][0].shape == (3, 48, 64)


@pytest.mark.parametrize("given", [False, True])
def test_lvis_images_are_found_by_their_url(tmp_path, given):
    content = coco()
    for number, image in enumerate(content["images"]):
        image.pop("file_name")
        image["coco_url"] = f"http://images.cocodataset.org/val2017/{number:012d}.png"
        write_image(tmp_path / "val2017" / f"{number:012d}.png")
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations" / "lvis_v1_val.json"
    file.write_text(json.dumps(content))
    dataset = CocoDetection(file, images=tmp_path / "val2017" if given else None)
    assert dataset.image_path(2) == tmp_path / "val2017" / "000000000002.png"


def test_a_folder_that_is_not_found_lists_where_it_was_looked_for(tmp_path):
    file = write_coco(tmp_path / "annotations", images="hidden")
    with pytest.raises(DatasetError, match=r"has a\.png; give their folder: images=FOLDER") as error:
        CocoDetection(file)
    for tried in (tmp_path / "annotations" / "images", tmp_path / "train", tmp_path / "images" / "train"):
        assert str(tried) in str(error.value)


def test_missing_images_are_counted_and_named(tmp_path):
    file = write_coco(tmp_path)
    (tmp_path / "b.png").unlink()
    with pytest.raises(DatasetError, match=r"1 of the 3 images of .* are missing in .*: b\.png"):
        CocoDetection(file)
    assert len(CocoDetection(file, skip_empty=True)) == 2


def broken(**changes):
    return coco(**changes)


def without(key: str, where: str):
    content = coco()
    content[where][1].pop(key)
    return content


BAD_FILES = {
    "list": ([], "holds a list, as a file of results does"),
    "no dictionary": (3, "must hold the lists 'images', 'annotations' and 'categories', got int"),
    "no annotations": ({"images": [], "categories": []}, r"no 'annotations', only the keys \['categories', 'images'\]"),
    "no images": (coco(images=[], annotations=[]), "no images: the list 'images' is empty"),
    "no categories": (coco(categories=[], annotations=[]), "no categories"),
    "image key": (without("height", "images"), r"images\[1\] has no 'height': {'id': 0"),
    "file name": (without("file_name", "images"), "has no 'file_name'"),
    "annotation key": (
        without("bbox", "annotations"),
        r"annotations\[1\] has no 'bbox': {.*Add it",
    ),
    "category key": (without("name", "categories"), r"categories\[1\] has no 'name'"),
    "null": (
        coco(categories=[{"id": 5, "name": None}, {"id": 6, "name": None}], annotations=[]),
        r"categories\[0\] has null for 'name', and 1 more categories",
    ),
    "no list": (coco(annotations=None), r"but 'annotations' is null; write \[{...}, {...}, ...\]$"),
    "no object": (coco(annotations=[5]), r"annotations\[0\] is 5; accepted are objects with keys such as 'image_id'"),
    "string id": (coco(categories=[{"id": "x", "name": "a"}]), "must be an integer, got 'x'"),
    "huge id": (coco(images=[{"id": 2**70, "file_name": "a.png", "height": 4, "width": 4}]), "not fit into 64 bits"),
    "box": (
        coco(annotations=[annotation(6, 7, 5, [1, 2, 3, 4]) | {"bbox": [1, 2, 3]}]),
        r"annotation 6 has the bbox \[1,",
    ),
    "box of words": (
        coco(annotations=[annotation(6, 7, 5, [1, 2, 3, 4]) | {"bbox": "1 2"}]),
        "annotation 6 has the bbox",
    ),
    "area": (
        coco(annotations=[annotation(6, 7, 5, [1, 2, 3, 4], area="big")]),
        "'area' .* must be a number, got 'big'",
    ),
    "crowd": (
        coco(annotations=[annotation(6, 7, 5, [1, 2, 3, 4], iscrowd=2)]),
        r"'iscrowd' .* must be 0 or 1, got 2 \(annotation 6 of image 7\)",
    ),
    "size": (
        coco(images=[{"id": 7, "file_name": "a.png", "height": 0, "width": 4}], annotations=[]),
        "image 7 is 4 wide and 0 high; write",
    ),
    "orphans": (
        coco(annotations=[annotation(n, 100 + n, 77, [1, 1, 2, 2]) for n in range(1, 9)]),
        r"8 annotations point to an image that the file does not have: 101, 102, 103, 104, 105, \.\.\.; .*"
        "8 annotations point to a category that the file does not have: 77;",
    ),
    "one off": (
        coco(annotations=[annotation(n, 7, (-1, 4)[n % 2], [1, 1, 2, 2]) for n in range(1, 9)]),
        "8 annotations point .* 4, -1; all seem to be one too low, as if counted from 0",
    ),
    "image twice": (
        coco(images=[*coco()["images"], coco()["images"][0]]),
        "'images' has 1 id more than once: 7;",
    ),
    "category twice": (
        coco(categories=[{"id": 5, "name": "a"}, {"id": 5, "name": "b"}]),
        "'categories' has 1 id more than once: 5;",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_refused_with_one_message(tmp_path, case):
    content, message = BAD_FILES[case]
    file = write_coco(tmp_path, content)
    with pytest.raises(DatasetError, match=message) as error:
        CocoDetection(file)
    assert str(file) in str(error.value)


def test_what_is_no_json_is_refused(tmp_path):
    file = tmp_path / "a.json"
    file.write_text('{"images": [')
    with pytest.raises(DatasetError, match=r"a\.json is not valid JSON: .*line 1"):
        CocoDetection(file)
    with pytest.raises(DatasetError, match="cannot be read: No such file"):
        CocoDetection(tmp_path / "absent.json")
    file.write_bytes(b"\x00\xff\xfe garbage")
    with pytest.raises(DatasetError, match="not valid JSON"):
        CocoDetection(file)


def test_a_byte_order_mark_is_no_obstacle(tmp_path):
    file = write_coco(tmp_path)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert len(CocoDetection(file)) == 3


def test_a_class_name_in_an_unknown_encoding_is_refused(tmp_path):
    file = write_coco(tmp_path, coco(categories=[{"id": 5, "name": "größe"}, {"id": 6, "name": "x"}], annotations=[]))
    file.write_bytes(json.dumps(json.loads(file.read_text()), ensure_ascii=False).encode("latin-1"))
    with pytest.raises(DatasetError, match=r"'name' in 'categories' must be text, .*; save the file as UTF-8"):
        CocoDetection(file)


def test_unknown_classes_are_refused_with_a_hint(tmp_path):
    with pytest.raises(DatasetError, match=r"instances_train\.json: unknown class 'dogs'; did you mean 'dog'"):
        CocoDetection(write_coco(tmp_path), classes=["dogs"])


def test_a_dataset_that_leaves_nothing_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="leaves no image to use: 3 x image without objects"):
        CocoDetection(write_coco(tmp_path, coco(annotations=[])), skip_empty=True)
    with pytest.raises(DatasetError, match="leaves no image to use: 3 x image with a side below 500"):
        CocoDetection(write_coco(tmp_path), min_size=500)


def test_why_no_image_is_left_and_how_to_keep_them(tmp_path):
    thin = [annotation(1, 7, 5, [1, 1, 0, 9])]
    with pytest.raises(
        DatasetError,
        match=r"left out by skip_empty .*; 1 x degenerate box, left out .*correct these .*skip_empty=False",
    ):
        CocoDetection(write_coco(tmp_path, coco(annotations=thin)), skip_empty=True)


@pytest.mark.parametrize("mark", [{"iscrowd": 1}, {"iscrowd": "1"}, {"iscrowd": True}, {"ignore": 1}])
def test_that_all_objects_are_crowd_is_said_where_no_image_is_left(tmp_path, mark):
    crowd = [annotation(1, 7, 5, [1, 1, 9, 9]) | mark]
    with pytest.raises(DatasetError, match="1 x crowd, difficult or ignored region, not an object"):
        CocoDetection(write_coco(tmp_path, coco(annotations=crowd)), skip_empty=True)


def test_a_dataset_without_annotations_is_a_dataset(tmp_path):
    dataset = CocoDetection(write_coco(tmp_path, coco(annotations=[])))
    assert len(dataset[0][1]["labels"]) == 0
    assert dataset.ground_truth()["annotations"] == []
    assert dataset.report.images_without_objects == 3


def test_datasets_pickle_for_spawned_workers(tmp_path):
    dataset = CocoDetection(write_coco(tmp_path))
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[0][1]["boxes"], dataset[0][1]["boxes"])
    assert again.report == dataset.report


def test_an_image_of_another_size_is_named(tmp_path):
    file = write_coco(tmp_path)
    write_image(tmp_path / "a.png", height=50)
    with pytest.raises(DatasetError, match=r"a\.png is 64 x 50 pixels, its annotation says 64 x 48"):
        CocoDetection(file)[0]
