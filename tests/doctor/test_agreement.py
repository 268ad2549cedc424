"""Check, training and evaluation say the same of a file, whatever is in it; and a repaired copy loses nothing."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankdet.data import CocoDetection, DatasetError
from rankdet.doctor import Diagnosis, Part, Severity, Source, diagnose, write_repaired
from rankdet.eval import GroundTruth, GroundTruthError, read_ground_truth
from tests.doctor.broken import FAULTS, Home, sound, with_masks
from tests.doctor.test_doctor import spoil

VALUES = (
    *(None, True, False, -1, 0, 1, 2.5, 1e300, 2**70, float("nan"), float("inf"), "", "x", "0", " 7 ", "1.0", "-3"),
    *("1e999", "true", [], {}, [1], ["1", 2], "[1, 2, 3, 4]", "a\nb", "Ü", [[0, 0, 5, 0, 5, 5]], {"size": [48, 64]}),
)


def masked(folder: Path) -> Home:
    home = with_masks(sound(folder, 0))
    home.objects[0]["segmentation"] = {"size": [48, 64], "counts": [100, 50, 48 * 64 - 150]}
    return home


def changed(content: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """The same with another value for a key of some entries, or without it."""
    content = copy.deepcopy(content)
    entries = content[["images", "annotations", "annotations", "categories"][rng.integers(4)]]
    keys = [key for key in (*entries[0], "ignore") if key != "file_name" or rng.random() < 0.3]
    key, value = keys[rng.integers(len(keys))], VALUES[rng.integers(len(VALUES))]
    for place in rng.choice(len(entries), rng.integers(1, 3), replace=False).tolist():
        if key == "bbox" and rng.random() < 0.5:
            entries[place][key] = [value, *entries[place][key][1:]]
        elif rng.random() < 0.1:
            entries[place].pop(key, None)
        else:
            entries[place][key] = value if rng.random() < 0.7 else str(entries[place].get(key))
    return content


def refusal(read: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read()
        except (DatasetError, GroundTruthError) as error:
            return str(error)
    return ""


def errors(diagnosis: Diagnosis) -> list[str]:
    return [finding.name for finding in diagnosis.findings if finding.severity is Severity.ERROR]


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("seed", range(120))
def test_what_stops_a_training_is_an_error_of_check(seed: int, masks: bool, tmp_path: Path):
    home = masked(tmp_path / "train")
    home.content = changed(home.content, np.random.default_rng(seed))
    diagnosis = diagnose(home.save(), workers=1)
    refused = refusal(lambda: CocoDetection(home.file, masks=masks))
    assert not refused or errors(diagnosis), refused
    if not refused:
        kind = "segm" if masks else "bbox"
        assert not refusal(lambda: read_ground_truth(home.file, iou_type=kind))
    [changes] = write_repaired([Part(diagnosis.train.table, diagnosis.train.findings)], tmp_path / "copy")
    left = errors(diagnose(Source(str(tmp_path / "copy")), workers=1))
    assert left or not refusal(lambda: CocoDetection(tmp_path / "copy" / "annotations.json", masks=masks)), changes


@pytest.mark.parametrize("seed", range(30))
def test_junk_is_refused_in_words(seed: int, tmp_path: Path):
    rng = np.random.default_rng(seed)
    home = masked(tmp_path / "train")
    for _ in range(rng.integers(1, 4)):
        home.content = spoil(home.content, rng)
    home.file.write_text(json.dumps(home.content))
    refused = refusal(lambda: CocoDetection(home.file, masks=bool(seed % 2)))
    assert not refused or errors(diagnose(Source(str(home.file)), workers=1)), refused
    kind = "segm" if seed % 2 else "bbox"
    assert refused or not refusal(lambda: read_ground_truth(home.file, iou_type=kind))
    assert refused or not refusal(lambda: read_ground_truth(home.content, iou_type=kind))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_any_encoding_is_read_or_refused(encoding: str, tmp_path: Path):
    home = sound(tmp_path / "train", 0)
    home.content["info"] = {"contributor": "Käfer"}
    home.categories[0]["name"] = "Käfer"
    home.file.write_bytes(json.dumps(home.content, ensure_ascii=False).encode(encoding))
    unknown = encoding == "cp1252"
    if unknown:
        with pytest.raises(DatasetError, match=r"'name' in 'categories' .* 'K\\udce4fer' .*; save the file as UTF-8"):
            CocoDetection(home.file)
    else:
        assert CocoDetection(home.file).categories.names[0] == "Käfer"
    diagnosis = diagnose(Source(str(home.file)), workers=1)
    assert [finding.name for finding in diagnosis.findings] == ["malformed-category"] * unknown
    write_repaired([Part(diagnosis.train.table, diagnosis.train.findings)], tmp_path / "copy")
    copy = CocoDetection(tmp_path / "copy" / "annotations.json")
    assert copy.categories.names == ("K fer" if unknown else "Käfer", *(entry["name"] for entry in home.categories[1:]))


UNDERSTOOD = (
    *("numbers_in_text", "everything_in_text", "ids_in_words", "categories_in_words", "annotations_as_an_object"),
    *("class_names_that_are_numbers", "class_name_with_a_line_break", "masks_in_other_forms", "annotations_of_one_id"),
    *("accents_composed_otherwise", "category_without_name"),
)


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_a_copy_has_all_that_could_be_understood(name: str, tmp_path: Path):
    home = sound(tmp_path / "train", 0)
    if name == "masks_in_other_forms":
        with_masks(home)
    right = read_ground_truth(home.save().path)
    FAULTS[name](home)
    diagnosis = diagnose(home.save(), workers=1)
    write_repaired([Part(diagnosis.train.table, diagnosis.train.findings)], tmp_path / "copy")
    file = tmp_path / "copy" / "annotations.json"
    again = diagnose(Source(str(file)), workers=1)
    assert {finding.name for finding in again.findings} <= {"unused-class"}
    written = read_ground_truth(file)
    assert owners(written) == owners(right)
    assert repr(written.shapes) == repr(right.shapes)
    assert written.areas.tolist() == right.areas.tolist()
    dataset = CocoDetection(file, masks=name == "masks_in_other_forms")
    assert len(dataset) == 20
    assert dataset.report.objects == 60
    assert {fault.kind for fault in dataset.report.faults} == set()


def owners(truth: GroundTruth) -> list[tuple[str, int]]:
    """The file of each object, and its class by the order in which classes occur: the same whatever ids are."""
    files = [truth.image_names[image][-6:] for image in truth.images.tolist()]
    order = list(dict.fromkeys(truth.categories.tolist()))
    return list(zip(files, map(order.index, truth.categories.tolist()), strict=True))


def test_masks_in_other_forms_are_the_masks(tmp_path: Path):
    home = with_masks(sound(tmp_path / "train", 0))
    right = [image_masks(CocoDetection(home.save().path, masks=True), index) for index in range(20)]
    FAULTS["masks_in_other_forms"](home)
    diagnosis = diagnose(home.save(), workers=1)
    write_repaired([Part(diagnosis.train.table, diagnosis.train.findings)], tmp_path / "copy")
    for file in (home.file, tmp_path / "copy" / "annotations.json"):
        dataset = CocoDetection(file, masks=True)
        assert all(np.array_equal(image_masks(dataset, index), right[index]) for index in range(20))
    written = json.loads((tmp_path / "copy" / "annotations.json").read_text())["annotations"]
    assert all(isinstance(each["segmentation"], dict) or isinstance(each["segmentation"][0], list) for each in written)


def image_masks(dataset: CocoDetection, index: int) -> np.ndarray:
    return dataset[index][1]["masks"].numpy()
