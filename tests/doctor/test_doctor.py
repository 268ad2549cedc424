"""Every fault of `tests/doctor/broken.py` is found, named, and nothing else is; sound datasets have none."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from rankdet.data import open_dataset
from rankdet.doctor import Copies, Diagnosis, Links, Part, Severity, Source, diagnose, write_repaired
from tests.doctor.broken import FAULTS, Home, as_voc, sound, with_lists, with_masks, with_val

SEED = 0


def examine(home: Home) -> Diagnosis:
    return diagnose(home.save(), home.val and home.val.save(), scan=home.scan, workers=1)


def parts_of(diagnosis: Diagnosis) -> list[Part]:
    """Each dataset that can be read, with what was found in it."""
    train, val = diagnosis.train, diagnosis.val
    parts = [Part(train.table, [*train.findings, *diagnosis.between], "train")] if train.table else []
    return parts + ([Part(val.table, val.findings, "val")] if val and val.table else [])


def contents(folder: Path) -> dict[str, str]:
    return {
        str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.rglob("*")) if file.is_file()
    }


@pytest.mark.parametrize("change", [lambda home: home, with_masks, with_lists, with_val, as_voc])
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_found_in_a_sound_dataset(change, seed: int, tmp_path: Path):
    assert examine(change(sound(tmp_path / "train", seed))).findings == ()


def test_there_are_enough_faults():
    assert len(FAULTS) >= 20


@pytest.mark.parametrize("name", FAULTS)
def test_the_fault_is_found_and_named_and_nothing_else(name: str, tmp_path: Path):
    home = sound(tmp_path / "train", SEED)
    expected = FAULTS[name](home)
    findings = {finding.name: finding for finding in examine(home).findings}
    assert expected.name in findings
    assert set(findings) <= {expected.name, *expected.also}
    found = findings[expected.name]
    assert found.count == expected.count
    assert str(expected.mention) in " | ".join([*found.examples, found.what])
    assert found.remedy


@pytest.mark.parametrize("name", FAULTS)
def test_a_repaired_copy_has_the_fault_no_more(name: str, tmp_path: Path):
    home = sound(tmp_path / "data" / "train", SEED)
    expected = FAULTS[name](home)
    diagnosis = examine(home)
    before = contents(tmp_path / "data")
    parts = parts_of(diagnosis)
    if not parts:
        assert not expected.repaired
        return
    changes = write_repaired(parts, tmp_path / "copy")
    copies = [Source(str(tmp_path / "copy" / part.subfolder)) for part in parts]
    left = diagnose(*copies, scan=home.scan, workers=1).findings
    assert contents(tmp_path / "data") == before
    assert (expected.name in {finding.name for finding in left}) != expected.repaired
    offered = any(finding.repair for finding in diagnosis.findings)
    assert any(map(any, changes)) == offered
    new = {finding.name for finding in left} - {finding.name for finding in diagnosis.findings}
    assert new <= {"image-without-objects", "missing-mask"}


@pytest.mark.parametrize("change", [with_masks, with_lists, as_voc])
def test_a_copy_of_a_sound_dataset_is_the_same(change, tmp_path: Path):
    home = change(sound(tmp_path / "train", SEED))
    [part] = parts_of(examine(home))
    assert write_repaired([part], tmp_path / "copy", placement=Copies()) == [[]]
    old, new = open_dataset(home.save().path), open_dataset(tmp_path / "copy" / "train")
    assert old.ground_truth() == new.ground_truth()
    assert all(np.array_equal(old[index][0], new[index][0]) for index in range(len(old))), (
        "images differ from their copies"
    )
    if home.content:
        assert json.loads((tmp_path / "copy/train/annotations.json").read_text()) == home.content


def test_what_is_not_repaired_stays_as_it_is(tmp_path: Path):
    home = sound(tmp_path / "train", SEED)
    home.content["licenses"] = [{"id": 1, "name": "none"}]
    home.objects[0] |= {"score": 0.5, "bbox": [1, 1, 0, 5]}
    home.objects[1]["attributes"] = {"occluded": True}
    [part] = parts_of(examine(home))
    assert write_repaired([part], tmp_path / "copy") == [["1 object left out (no width or height)"]]
    written = json.loads((tmp_path / "copy/train/annotations.json").read_text())
    assert written == home.content | {"annotations": home.objects[1:]}


def test_images_are_linked_or_copied(tmp_path: Path):
    home = sound(tmp_path / "train", SEED)
    [part] = parts_of(examine(home))
    for placement, linked in ((Links(), True), (Copies(), False)):
        folder = tmp_path / type(placement).__name__
        write_repaired([part], folder, placement=placement)
        images = list((folder / "train" / "images").iterdir())
        assert len(images) == 20
        assert all(image.is_symlink() is linked for image in images)


def test_names_that_lead_out_of_the_folder_stay_within_the_copy(tmp_path: Path):
    home = sound(tmp_path / "train", SEED)
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(home.path(home.images[0]).read_bytes())
    home.images[0]["file_name"] = str(outside)
    home.images[1]["file_name"] = "../../outside.jpg"
    [part] = parts_of(examine(home))
    [changes] = write_repaired([part], tmp_path / "deep" / "copy", placement=Copies())
    assert "2 file names that lead out of the image folder changed" in changes
    assert len(open_dataset(tmp_path / "deep" / "copy" / "train")) == 20
    assert {path.name for path in tmp_path.iterdir()} == {"train", "outside.jpg", "deep"}


def test_a_folder_that_exists_is_not_touched(tmp_path: Path):
    home = sound(tmp_path / "train", SEED)
    parts = parts_of(examine(home))
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"train exists already; name a folder"):
        write_repaired(parts, tmp_path / "train")
    assert contents(tmp_path) == before


def test_an_error_leaves_no_half_of_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = sound(tmp_path / "train", SEED)
    parts = parts_of(examine(home))
    monkeypatch.setattr(Links, "place", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_repaired(parts, tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["train"]


def test_corner_boxes_are_turned_back(tmp_path: Path):
    home = sound(tmp_path / "train", SEED)
    right = [list(item["bbox"]) for item in home.objects]
    FAULTS["boxes_as_corners"](home)
    write_repaired(parts_of(examine(home)), tmp_path / "copy")
    written = json.loads((tmp_path / "copy/train/annotations.json").read_text())
    assert np.allclose([item["bbox"] for item in written["annotations"]], right)


def test_voc_corners_count_from_one(tmp_path: Path):
    home = sound(tmp_path / "train", SEED)
    home.objects[0]["bbox"] = [60, 10, 30, 5]
    write_repaired(parts_of(examine(as_voc(home))), tmp_path / "copy")
    root = ElementTree.parse(tmp_path / "copy" / "train" / "Annotations" / "00.xml").getroot()
    corners = [root.findtext(f"object/bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
    assert corners == ["61", "11", "64", "15"]


def test_objects_of_classes_not_in_use_stay_in_the_copy(tmp_path: Path):
    home = sound(tmp_path / "train", SEED)
    home.objects[0]["bbox"][2] = 0  # a cat
    path = home.save().path
    diagnosis = diagnose(Source(path, classes=["dog", "cat"]))
    assert [entry.name for entry in diagnosis.train.census.classes] == ["dog", "cat"]
    write_repaired(parts_of(diagnosis), tmp_path / "copy")
    written = json.loads((tmp_path / "copy/train/annotations.json").read_text())
    assert written["annotations"] == home.objects[1:]
    assert written["categories"] == home.categories


def test_objects_of_classes_not_in_use_go_with_their_images(tmp_path: Path):
    home = sound(tmp_path / "train", SEED)
    home.path(home.images[0]).unlink()
    diagnosis = diagnose(Source(home.save().path, classes=["dog"]))
    write_repaired(parts_of(diagnosis), tmp_path / "copy")
    written = json.loads((tmp_path / "copy/train/annotations.json").read_text())
    assert written["annotations"] == home.objects[3:]


def test_a_class_that_is_not_there_is_named(tmp_path: Path):
    home = sound(tmp_path / "train", SEED)
    [finding] = diagnose(Source(home.save().path, classes=["dog", "lion"])).findings
    assert (finding.name, finding.examples) == ("unknown-class", ("'lion'",))


def test_no_module_needs_torch(tmp_path: Path):
    file = sound(tmp_path / "train", SEED).save().path
    program = f"""
import sys
from rankdet.cli import main
assert main(["check", {file!r}, "--fix", {str(tmp_path / "copy")!r}]) == 0
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_census_counts(tmp_path: Path):
    home = sound(tmp_path / "train", SEED)
    home.objects[0]["iscrowd"] = 1
    home.objects[2]["bbox"] = [0, 0, 40, 40]
    census = examine(home).train.census
    assert census is not None
    assert (census.images, census.objects, census.ignored, census.masks) == (20, 59, 1, 0)
    assert (census.small, census.medium, census.large, census.most_objects) == (58, 1, 0, 3)
    assert [(item.name, item.objects, item.images) for item in census.classes] == [
        ("dog", 20, 20),
        ("emu", 20, 20),
        ("cat", 19, 19),
    ]


def test_a_diagnosis_is_plain_data(tmp_path: Path):
    home = with_val(sound(tmp_path / "train", SEED))
    FAULTS["box_without_extent"](home)
    plain = json.loads(json.dumps(examine(home).to_dict()))
    assert (plain["errors"], plain["warnings"], plain["notes"]) == (1, 0, 0)
    [finding] = plain["train"]["findings"]
    assert (finding["name"], finding["count"], finding["repaired_by_fix"]) == ("degenerate-box", 3, True)
    assert plain["val"]["findings"] == plain["between"] == []


def test_errors_come_first(tmp_path: Path):
    home = sound(tmp_path / "train", SEED)
    for name in ("image_without_objects", "class_never_used", "box_outside"):
        FAULTS[name](home)
    severities = [finding.severity for finding in examine(home).findings]
    assert severities == sorted(severities, key=list(Severity).index)
    assert set(severities) == set(Severity)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"images": 3}', "[" * 100_000, '{"images": [null], "x": 1}'])
def test_no_file_makes_the_doctor_fail(text: str, tmp_path: Path):
    (tmp_path / "a.json").write_text(text)
    diagnosis = diagnose(Source(str(tmp_path / "a.json")))
    assert diagnosis.count(Severity.ERROR) >= 1


@pytest.mark.parametrize("path", ["nothing.json", "nothing", "."])
def test_no_path_makes_the_doctor_fail(path: str, tmp_path: Path):
    [finding] = diagnose(Source(str(tmp_path / path))).findings
    assert finding.name == "unreadable-file"


JUNK = (
    None,
    "x",
    "",
    -1,
    0,
    1e30,
    float("nan"),
    float("inf"),
    True,
    2**80,
    [],
    [[]],
    {},
    {"size": 3},
    [None, 1],
    [1, "2"],
)


def spoil(value: Any, rng: np.random.Generator) -> Any:
    """The same with a piece of junk somewhere within it."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = list(value)[rng.integers(len(value))]
        return {**value, key: spoil(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.95:
        place = int(rng.integers(len(value)))
        return [*value[:place], spoil(value[place], rng), *value[place + 1 :]]
    return JUNK[rng.integers(len(JUNK))]


@pytest.mark.parametrize("seed", range(60))
def test_no_junk_makes_the_doctor_fail(seed: int, tmp_path: Path):
    rng = np.random.default_rng(seed)
    home = with_masks(with_lists(sound(tmp_path / "train", seed)))
    home.objects[0]["segmentation"] = {"size": [48, 64], "counts": [100, 50, 48 * 64 - 150]}
    home.objects[1]["segmentation"] = {"size": [48, 64], "counts": "PPYo0"}
    for _ in range(rng.integers(1, 40)):
        home.content = spoil(home.content, rng)
    home.file.write_text(json.dumps(home.content))
    diagnosis = diagnose(Source(str(home.file)), workers=1)
    json.dumps(diagnosis.to_dict())
    for part in parts_of(diagnosis):
        write_repaired([part], tmp_path / "copy")
        again = diagnose(Source(str(tmp_path / "copy" / "train")), workers=1)
        assert again.count(Severity.ERROR) <= diagnosis.count(Severity.ERROR)
