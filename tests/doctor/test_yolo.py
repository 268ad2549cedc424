"""YOLO datasets checked and repaired; datasets of one format written in another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rankdet.cli import main
from rankdet.data import DatasetError, Shapes, VOCDetection, YOLODetection, open_dataset
from rankdet.doctor import Part, Source, diagnose, write_repaired
from rankdet.doctor.conversion import FORMS, convert
from tests.data.test_yolo import BOX, NAMES, POLYGON, put, put_image


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images with masks, as a COCO file; not to be written to."""
    folder = tmp_path_factory.mktemp("coco") / "shapes"
    return Path(Shapes(length=6, seed=3, image_size=64, num_classes=3, masks=True).export(folder))


def shapes_of(dataset: object) -> list[np.ndarray]:
    return [np.asarray(dataset[row][1]["boxes"]) for row in range(len(dataset))]  # type: ignore[index, arg-type]


def test_faults_are_found_and_mended(tmp_path: Path):
    labels = {
        "images/a.jpg": f"{BOX}\n{BOX}\n5 0.5 0.5 0.1 0.1\n{POLYGON}\n",
        "images/b.jpg": "0 0.5 0.5 0.25 0\n1 0.9 0.5 0.4 0.5\n",
        "images/c.jpg": None,
    }
    file = put(tmp_path / "yolo", f"train: images\nval: images\n{NAMES}", labels)
    put_image(tmp_path / "yolo" / "images" / "c.jpg", orientation=6)
    diagnosis = diagnose(Source(str(file)), workers=1)
    found = {finding.name: finding for finding in diagnosis.findings}
    assert diagnosis.train.table is not None
    assert diagnosis.train.table.format == "YOLO"
    assert "line 3 of a.txt: the class is 5" in found["malformed-annotation"].examples[0]
    assert found["duplicate-box"].examples == ("line 2 of the labels of a.jpg: 20 x 20 at (30, 10)",)
    assert "annotated-after-turning" not in found
    [changes] = write_repaired([Part(diagnosis.train.table, diagnosis.findings)], tmp_path / "copy")
    assert "1 label line left out (cannot be used)" in changes
    again = diagnose(Source(str(tmp_path / "copy")), workers=1)
    assert [finding.name for finding in again.findings if finding.severity.value == "error"] == []
    dataset = YOLODetection(tmp_path / "copy" / "data.yaml")
    assert dataset.report.objects == 3
    assert (tmp_path / "copy" / "labels" / "a.txt").read_text() == f"{BOX}\n{POLYGON}\n"


def test_check_says_what_cannot_be_read(tmp_path: Path, capsys):
    file = put(tmp_path, f"train: nowhere\n{NAMES}", {})
    assert main(["check", str(file)]) == 1
    assert "names nowhere, which is in none of these places" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("form", ["coco", "voc", "yolo"])
def test_a_dataset_stays_the_same_in_every_format(coco: Path, tmp_path: Path, form: str):
    said = convert({"train": Source(str(coco))}, tmp_path / "out", form=FORMS[form])
    right, written = open_dataset(coco), open_dataset(tmp_path / "out")
    assert len(written) == 6
    assert said["train"][0] == f"6 images, {right.report.objects} objects"
    for index in range(6):
        names = [[dataset.categories.names[label] for label in dataset.labels(index)] for dataset in (right, written)]
        assert names[0] == names[1]
    for expected, found in zip(shapes_of(right), shapes_of(written), strict=True):
        np.testing.assert_allclose(found, expected, atol=0.01)


def test_masks_survive_in_yolo_as_well_as_they_can(tmp_path: Path):
    file = put(tmp_path / "a", f"train: images\n{NAMES}", {"images/a.jpg": POLYGON})
    convert({"x": Source(str(file))}, tmp_path / "coco", form=FORMS["coco"])
    content = json.loads((tmp_path / "coco" / "annotations.json").read_text())
    polygon = content["annotations"][0]["segmentation"][0]
    content["annotations"][0]["segmentation"].append([value + 30 for value in polygon])
    content["annotations"][0]["bbox"] = [8, 4, 54, 36]
    content["annotations"].append({**content["annotations"][0], "id": 2, "iscrowd": 1})
    (tmp_path / "coco" / "annotations.json").write_text(json.dumps(content))
    said = convert({"x": Source(str(tmp_path / "coco"))}, tmp_path / "yolo", form=FORMS["yolo"])
    assert said["x"][1:] == ["1 crowd regions left out: the format has none"]
    masks = [open_dataset(tmp_path / name, masks=True)[0][1]["masks"][0] for name in ("coco", "yolo")]
    assert int((masks[0] != masks[1]).sum()) <= 2
    assert masks[0].sum() > 300


def test_pairs_and_what_is_refused(coco: Path, tmp_path: Path, capsys):
    pair = ["--val", str(coco), "--to", "yolo", "--output", str(tmp_path / "yolo")]
    assert main(["data", "convert", str(coco), *pair]) == 0
    assert "(val): 6 images" in capsys.readouterr().out
    described = tmp_path / "yolo" / "data.yaml"
    assert [len(YOLODetection(described, split=split)) for split in ("train", "val")] == [6, 6]
    assert main(["data", "convert", str(described), "--to", "coco", "--output", str(tmp_path / "back"), "--copy"]) == 0
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["train", "val"]
    assert main(["data", "convert", str(described), "--to", "voc", "--output", str(tmp_path / "back")]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["data", "convert", str(coco), "--to", "yoolo", "--output", "x"]) == 2
    assert "did you mean yolo?" in capsys.readouterr().err
    convert({"a": Source(str(coco))}, tmp_path / "voc", form=FORMS["voc"])
    other = put(tmp_path / "other", f"train: images\n{NAMES}", {"images/a.jpg": BOX})
    with pytest.raises(DatasetError, match="a YOLO dataset has the same in all splits"):
        convert({"a": Source(str(coco)), "b": Source(str(other))}, tmp_path / "both", form=FORMS["yolo"])
    assert VOCDetection(tmp_path / "voc").report.objects == open_dataset(coco).report.objects
    assert not (tmp_path / "both").exists()


def test_results_are_scored_against_it(tmp_path: Path, capsys):
    file = put(tmp_path, f"train: images\nval: images\n{NAMES}", {"images/im0.jpg": BOX, "images/im1.jpg": BOX})
    results = [{"image_id": name, "category_id": 0, "bbox": [30, 10, 20, 20], "score": 0.9} for name in ("im0", "im1")]
    (tmp_path / "predictions.json").write_text(json.dumps(results))
    json_file = tmp_path / "out.json"
    command = ("eval", "--results", str(tmp_path / "predictions.json"), "--annotations", str(file))
    assert main([*command, "--json", str(json_file)]) == 0
    assert json.loads(json_file.read_text())["AP50"] == 1
    assert "matched by name" in capsys.readouterr().err
