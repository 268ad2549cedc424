"""Results of other tools: what they may look like, and which image and class their ids mean."""

from __future__ import annotations

import json
import pickle
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from rankdet.eval import ResultsError, ResultsNote, evaluate, read_ground_truth, read_results
from rankdet.eval.convert import CONVERSIONS, ResultsReading

NAMES = ("BloodImage_00000.jpg", "val/000007.png", "val/rgb.jpg", "train/rgb.jpg", "Überblick.jpg")
IDS = (10, 20, 30, 40, 50)
TRUTH = {
    "images": [{"id": i, "file_name": n, "height": 100, "width": 200} for i, n in zip(IDS, NAMES, strict=True)],
    "categories": [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}],
    "annotations": [
        {"image_id": 10, "category_id": 9, "bbox": [20, 10, 40, 20], "segmentation": [[20, 10, 60, 10, 60, 30]]}
    ],
}
RESULT = {"image_id": 10, "category_id": 9, "bbox": [20, 10, 40, 20], "score": 0.5}
pytestmark = pytest.mark.filterwarnings("ignore::rankdet.eval.ResultsNote")


def read(results: object, **options):
    return read_results(results, read_ground_truth(TRUTH), **options)


def images_of(*image_ids: object) -> list[int]:
    """The ids of the images that are meant."""
    return [IDS[place] for place in read([{**RESULT, "image_id": i} for i in image_ids]).images]


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("BloodImage_00000", 10),
        ("BloodImage_00000.jpg", 10),
        ("/data/images/BloodImage_00000.jpg", 10),
        ("C:\\data\\BloodImage_00000.jpg", 10),
        ("000007", 20),
        ("7", 20),
        ("val/000007.png", 20),
        ("val\\rgb.jpg", 30),
        ("val/rgb", 30),
        ("train/rgb.jpg", 40),
        ("../coco/train/rgb.jpg", 40),
        (unicodedata.normalize("NFD", "Überblick"), 50),
    ],
)
def test_images_are_known_by_their_file_names(name, image):
    assert images_of(name) == [image]


@pytest.mark.parametrize("name", ["rgb", "rgb.jpg", "test/rgb.jpg"])
def test_a_name_of_several_images_is_refused(name):
    what = "is the name of several" if "/" not in name else "is neither an id nor a name"
    with pytest.raises(
        ResultsError, match=f"entry 1 of results: image_id '{name}' {what} of the 'images' of ground truth"
    ):
        images_of("val/rgb", name)


def test_what_is_neither_id_nor_name_is_refused_with_examples():
    with pytest.raises(
        ResultsError, match=r"entry 1 .* 'x.jpg' is neither an id nor a name .*, such as BloodImage_00000.jpg"
    ):
        images_of("BloodImage_00000", "x.jpg")
    with pytest.raises(ResultsError, match=r"entry 0 of results: 'image_id' is \['a'\]; accepted are ids and names"):
        images_of(["a"], "b")


def test_names_and_numbers_of_names_may_come_together_as_ultralytics_writes_them():
    assert images_of("BloodImage_00000", 7, "val/rgb") == [10, 20, 30]


def test_ids_may_be_spelt():
    assert images_of("10", "50") == [10, 50]


def test_numbers_that_are_no_ids_but_all_file_names_are_these():
    with pytest.warns(ResultsNote, match="image ids are read as the numbers in file names, because not all"):
        assert images_of(7, 7) == [20, 20]


def test_ids_come_first():
    truth = {**TRUTH, "images": [{"id": 1, "file_name": "2.jpg"}, {"id": 2, "file_name": "1.jpg"}], "annotations": []}
    known = read_ground_truth(truth)
    assert read_results([{**RESULT, "image_id": 1}], known).images.tolist() == [0]
    assert read_results([{**RESULT, "image_id": 1}], known, convert="image-name").images.tolist() == [1]
    with pytest.raises(ResultsError, match="image_id '1' is the id of one and the name of another"):
        read_results([{**RESULT, "image_id": "1"}], known)


def test_a_number_in_no_file_name_is_refused():
    with pytest.raises(ResultsError, match="entry 1 of results: image_id 8 is not the number in a file name"):
        read([{**RESULT, "image_id": 7}, {**RESULT, "image_id": 8}], convert="image-name")


def test_classes_may_be_names():
    assert read([{**RESULT, "category_id": "cat"}]).categories.tolist() == [0]
    with pytest.raises(ResultsError, match=r"category_id 'bird' is neither an id nor a name .*, such as cat, dog"):
        read([{**RESULT, "category_id": "bird"}])


def test_what_was_understood_is_told():
    with pytest.warns(ResultsNote, match="results: image ids are matched by name, such as 'val/rgb' with val/rgb.jpg"):
        images_of("val/rgb")


@pytest.mark.parametrize("key", ["annotations", "predictions", "results", "detections"])
def test_a_list_within_an_object(key, tmp_path):
    file = tmp_path / "r.json"
    file.write_text(json.dumps({"info": {}, key: [RESULT]}))
    for source in (file, {key: [RESULT]}):
        assert evaluate(TRUTH, source).metrics == evaluate(TRUTH, [RESULT]).metrics
    file.write_text(json.dumps({key: [RESULT, {**RESULT, "score": "high"}]}))
    with pytest.raises(ResultsError, match=f"entry 1 of '{key}' of r.json: 'score' is 'high'"):
        read(file)


def test_a_ground_truth_is_no_results(tmp_path):
    (tmp_path / "truth.json").write_text(json.dumps(TRUTH))
    with pytest.raises(ResultsError, match=r"truth.json is a ground truth: its 'annotations' have no 'score'"):
        read(tmp_path / "truth.json")


@pytest.mark.parametrize("content", [{"boxes": [RESULT]}, {"annotations": [], "predictions": []}])
def test_an_object_without_one_list_of_results_is_refused(content):
    with pytest.raises(ResultsError, match=r"results is an object with .*annotations, predictions, results"):
        read(content)


def test_an_object_may_number_images_and_classes_in_its_own_way():
    exported = {
        "images": [{"id": 0, "file_name": "rgb.jpg"}, {"id": 1, "file_name": "BloodImage_00000.jpg"}],
        "categories": [{"id": 4, "name": "dog"}, {"id": 9, "name": "cat"}],
        "annotations": [{**RESULT, "image_id": 1, "category_id": 4}],
    }
    found = read(exported)
    assert (found.images.tolist(), found.categories.tolist()) == ([0], [1])


def test_names_of_the_same_numbering_change_nothing():
    exported = {"images": TRUTH["images"], "categories": TRUTH["categories"], "annotations": [RESULT]}
    found = read(exported)
    assert (found.images.tolist(), found.categories.tolist()) == ([0], [1])


@pytest.mark.parametrize("name", ["results.pkl", "results.json"])
def test_pickles_are_refused_unopened_with_the_way_out(tmp_path, name):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "opened",))

    (tmp_path / name).write_bytes(pickle.dumps([Evil()]))
    with pytest.raises(ResultsError, match=r"is a pickle\. Opening one runs .*format_only=True"):
        read(tmp_path / name)
    assert not (tmp_path / "opened").exists()


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def test_a_folder_of_txt_files(tmp_path):
    write(tmp_path, BloodImage_00000="1 0.2 0.2 0.2 0.2 0.5\n\n0 0.5 0.5 1 1 0.25\n")
    found = read(tmp_path)
    np.testing.assert_allclose(found.shapes.xywh, [[20, 10, 40, 20], [0, 0, 200, 100]])
    assert found.images.tolist() == [0, 0]
    assert found.categories.tolist() == [1, 0]  # of cat and dog, by ascending id
    assert found.scores.tolist() == [0.5, 0.25]
    with pytest.warns(
        ResultsNote, match=r"class 0 is cat, 1 is dog \(the categories of ground truth by ascending id\)"
    ):
        read(tmp_path)


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16"])
def test_txt_files_in_the_encoding_of_their_byte_order_mark(tmp_path, mark):
    (tmp_path / "BloodImage_00000.txt").write_bytes("1 0.2 0.2 0.2 0.2 0.5\r\n\r\n0 0.5 0.5 1 1 0.25\r\n".encode(mark))
    assert read(tmp_path).categories.tolist() == [1, 0]
    (tmp_path / "BloodImage_00000.txt").write_bytes("\n\n1 ü".encode(mark))
    with pytest.raises(ResultsError, match=r"line 3 of .*BloodImage_00000\.txt: could not convert"):
        read(tmp_path)


def test_polygons_in_txt_files(tmp_path):
    write(tmp_path, BloodImage_00000="1 0.1 0.1 0.3 0.1 0.3 0.3 0.5\n")
    np.testing.assert_allclose(read(tmp_path).shapes.xywh, [[20, 10, 40, 20]])
    truth = read_ground_truth({**TRUTH, "images": TRUTH["images"]}, iou_type="segm")
    found = read_results(tmp_path, truth, iou_type="segm")
    assert evaluate(TRUTH, tmp_path, iou_type="segm").metrics["AP"] == pytest.approx(1)
    assert found.shapes.areas == truth.shapes.areas


def test_classes_of_txt_files_may_be_counted_otherwise(tmp_path):
    write(tmp_path, BloodImage_00000="3 0.2 0.2 0.2 0.2 0.5")
    assert read(tmp_path, convert="category+1").categories.tolist() == [0]
    with pytest.raises(ResultsError, match="category_id 3 is not among the places, from 0, in the 'categories'"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "1 0.2 0.2 0.2 0.2",
            "line 1 of .*BloodImage_00000.txt: 5 numbers .* without a score; predict with save_conf=True",
        ),
        ("1 0.1 0.1 0.3 0.1 0.3 0.3", "7 numbers are a class and a shape without a score"),
        ("1 0.2", "2 numbers; accepted are"),
        ("\n1 0.2 0.2 0.2 high 0.5", "line 2 of .*: could not convert string to float: 'high'"),
        ("1.5 0.2 0.2 0.2 0.2 0.5", "'category_id' is 1.5; accepted are whole numbers"),
        ("1 0.2 0.2 0.2 0.2 nan", "'score' is nan"),
    ],
)
def test_faulty_lines_are_named(tmp_path, text, message):
    with pytest.raises(ResultsError, match=message):
        read(write(tmp_path, BloodImage_00000=text))


def test_faulty_folders_are_named(tmp_path):
    with pytest.raises(ResultsError, match="has no txt files; accepted are a JSON file"):
        read(tmp_path)
    with pytest.raises(ResultsError, match=r"other\.txt belongs to no image of ground truth"):
        read(write(tmp_path, other="1 0.2 0.2 0.2 0.2 0.5"))


@pytest.mark.parametrize("name", CONVERSIONS)
def test_every_conversion_does_something(name):
    assert ResultsReading.named(name) != ResultsReading()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("xyx", "no conversion xyx; did you mean xyxy"),
        ("xyxy,cxcywh", "xyxy and cxcywh exclude each other"),
        ("category-index, category+1", r"category\+1 and category-index exclude each other"),
    ],
)
def test_impossible_conversions_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        read([RESULT], convert=names)


def test_conversions_of_boxes_do_not_go_with_masks():
    truth = read_ground_truth(TRUTH, iou_type="segm")
    result = {**RESULT, "segmentation": TRUTH["annotations"][0]["segmentation"]}
    with pytest.raises(ValueError, match="do not go with masks"):
        read_results([result], truth, iou_type="segm", convert="xyxy")


def test_corners_that_are_none_are_named():
    with pytest.raises(ResultsError, match="entry 0 of results: 'bbox' ends before it begins if read as xyxy"):
        read([RESULT | {"bbox": [20, 10, 15, 20]}], convert="xyxy")
