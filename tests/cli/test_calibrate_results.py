"""``rankdet calibrate --results``: files from any tool, the mapping beside them, and its use on other files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rankdet.cli.calibrating import METHODS
from rankdet.eval import read_results, read_rules
from rankdet.eval.calibration import ANY_OVERLAP, calibration_error
from rankdet.eval.matching import match
from rankdet.eval.score_calibration import CALIBRATIONS, assess_scores, of_images, split_images
from rankdet.eval.score_mapping import ScoreMapping, logits_of
from tests.eval.test_score_calibration import dataset


@pytest.fixture
def files(tmp_path: Path) -> Path:
    truth, results = dataset()
    _, others = dataset(seed=1)
    for name, content in (("gt", truth), ("r", results), ("others", others)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def read(folder: Path, name: str):
    return json.loads((folder / name).read_text())


def error(folder: Path, name: str) -> float:
    rules = read_rules(folder / "gt.json")
    return calibration_error(
        match(rules.truth, read_results(folder / name, rules.truth), iou_thresholds=(ANY_OVERLAP,))
    ).la_ece


GIVEN = ("--annotations", "gt.json", "--output", "out.json")


def test_the_methods_are_those_of_the_library():
    assert tuple(CALIBRATIONS) == METHODS


@pytest.mark.parametrize("method", METHODS)
def test_scores_change_and_nothing_else(rankdet, files, method):
    outcome = rankdet("calibrate", "--results", "r.json", *GIVEN, "--method", method)
    assert outcome.code == 0, outcome.err
    assert "Fitted to 30 images (seed 0), reported on the other 30" in outcome.out
    assert "no object of it was found" in outcome.out or method == "shift"
    before, after = read(files, "r.json"), read(files, "out.json")
    assert [{**entry, "score": 0} for entry in before] == [{**entry, "score": 0} for entry in after]
    assert all(0 <= entry["score"] <= 1 for entry in after)
    for category in (3, 5):
        pairs = [(b["score"], a["score"]) for b, a in zip(before, after, strict=True) if b["category_id"] == category]
        scores = [after for _, after in sorted(pairs)]
        assert scores == sorted(scores)
    assert (files / "out.svg").read_text().startswith("<?xml")
    if method == "isotonic":
        assert error(files, "out.json") < 0.5 * error(files, "r.json")


def test_a_mapping_is_applied_to_other_results(rankdet, files):
    assert rankdet("calibrate", "--results", "r.json", *GIVEN, "--method", "isotonic").code == 0
    given = ("--results", "others.json", "--mapping", "out.mapping.json")
    plain = rankdet("calibrate", *given, "--output", "plain.json")
    assert plain.code == 0, plain.err
    assessed = rankdet("calibrate", *given, "--annotations", "gt.json", "--output", "assessed.json")
    assert assessed.code == 0, assessed.err
    assert "LaECE_0" in assessed.out
    assert read(files, "plain.json") == read(files, "assessed.json")
    assert error(files, "plain.json") < 0.5 * error(files, "others.json")
    summary = read(files, "out.mapping.json")["calibration"]
    assert (summary["method"], summary["fit_share"], summary["seed"]) == ("isotonic", 0.5, 0)
    assert summary["after"]["LaECE_0"] < summary["before"]["LaECE_0"]
    rules = read_rules(files / "gt.json")
    others = of_images(rules, read_results(files / "r.json", rules.truth), ~split_images(60, share=0.5))
    limits = logits_of(np.array(ScoreMapping.load(files / "out.mapping.json").thresholds_before))
    assert summary["before"]["AP"] == pytest.approx(assess_scores(*others, limits).metrics["AP"])
    errors = [row["LaECE_0"] for row in summary["after"]["per_class"].values()]
    assert errors[2] is None  # an owl has neither objects nor detections
    assert summary["after"]["LaECE_0"] == pytest.approx((errors[0] + errors[1]) / 2)
    assert ScoreMapping.load(files / "out.mapping.json").category_names == ("cat", "dog", "owl")


def test_the_same_results_and_mapping_give_the_same_scores(rankdet, files):
    assert rankdet("calibrate", "--results", "r.json", *GIVEN, "--method", "platt").code == 0
    given = ("--mapping", "out.mapping.json", "--output", "again.json")
    assert rankdet("calibrate", "--results", "r.json", *given).code == 0
    assert read(files, "again.json") == read(files, "out.json")


def test_other_seeds_fit_to_other_images(rankdet, files):
    slopes = []
    for seed in ("0", "1"):
        assert rankdet("calibrate", "--results", "r.json", *GIVEN, "--method", "platt", "--seed", seed).code == 0
        slopes.append(read(files, "out.mapping.json")["classes"][0]["slope"])
    assert slopes[0] != slopes[1]


def test_results_of_another_form_become_those_of_coco(rankdet, files):
    entries = read(files, "r.json")
    for entry in entries:
        x, y, width, height = entry["bbox"]
        entry |= {"bbox": [x, y, x + width, y + height], "category_id": entry["category_id"] - 1, "by": "me"}
        entry["score"] *= 100
    (files / "odd.json").write_text(json.dumps({"detections": entries}))
    given = ("--convert", "xyxy,category+1,percent", "--method", "platt")
    outcome = rankdet("calibrate", "--results", "odd.json", *GIVEN, *given)
    assert outcome.code == 0, outcome.err
    converted = read(files, "out.json")
    assert {entry.pop("by") for entry in converted} == {"me"}
    assert rankdet("calibrate", "--results", "r.json", *GIVEN, "--method", "platt").code == 0
    for entry, other in zip(converted, read(files, "out.json"), strict=True):
        assert entry == {**other, "bbox": pytest.approx(other["bbox"]), "score": pytest.approx(other["score"])}


def test_a_folder_of_txt_files_becomes_one_file(rankdet, files):
    folder = files / "labels"
    folder.mkdir()
    truth = read(files, "gt.json")
    for image in truth["images"]:
        image["file_name"] = f"{image['id']:04}.jpg"
    (files / "gt.json").write_text(json.dumps(truth))
    for entry in read(files, "r.json"):
        x, y, width, height = entry["bbox"]
        numbers = [(x + width / 2) / 200, (y + height / 2) / 100, width / 200, height / 100, entry["score"]]
        label = {3: 0, 5: 1}[entry["category_id"]]
        with (folder / f"{entry['image_id']:04}.txt").open("a") as file:
            print(label, *numbers, file=file)
    outcome = rankdet("calibrate", "--results", "labels", *GIVEN, "--method", "platt")
    assert outcome.code == 0, outcome.err
    found = sorted(read(files, "out.json"), key=lambda entry: (entry["image_id"], entry["bbox"], entry["category_id"]))
    assert rankdet("calibrate", "--results", "r.json", *GIVEN, "--method", "platt").code == 0
    assert len(found) == len(read(files, "out.json"))
    assert {entry["category_id"] for entry in found} == {3, 5}
    scores = sorted(entry["score"] for entry in read(files, "out.json"))
    assert sorted(entry["score"] for entry in found) == pytest.approx(scores)


def test_masks_with_scores_of_their_own_get_those_calibrated(rankdet, files):
    truth, entries = read(files, "gt.json"), read(files, "r.json")
    for entry in (*truth["annotations"], *entries):
        x, y, width, height = entry["bbox"]
        entry["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    (files / "gt.json").write_text(json.dumps(truth))
    for kind, own, other in (("segm", "mask_score", "score"), ("bbox", "score", "mask_score")):
        changed = [{**entry, own: entry["score"], other: 0.5} for entry in entries]
        (files / "masks.json").write_text(json.dumps(changed))
        outcome = rankdet("calibrate", "--results", "masks.json", *GIVEN, "--method", "platt", "--iou-type", kind)
        assert outcome.code == 0, outcome.err
        after = read(files, "out.json")
        assert {entry[other] for entry in after} == {0.5}
        assert any(a[own] != b[own] for a, b in zip(after, changed, strict=True))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--results", "r.json", "--output", "x.json"], ["--annotations", "--mapping"]),
        (["--results", "none.json", "--annotations", "gt.json", "--output", "x.json"], ["none.json"]),
        (["--results", "r.json", "--annotations", "gt.json", "--output", "r.json"], ["what is to be calibrated"]),
        (
            ["--results", "r.json", "--annotations", "gt.json", "--output", "x.json", "--device", "cpu"],
            ["--checkpoint"],
        ),
        (["--results", "r.json", "--mapping", "gt.json", "--output", "x.json"], ["gt.json is no mapping"]),
        (["--results", "r.json", "--mapping", "m.json", "--output", "x.json", "--method", "platt"], ["--method"]),
        (["--results", "r.json", "--mapping", "m.json", "--output", "x.json"], ["category_id 5", "not in the mapping"]),
        (["--results", "r.json", "--mapping", "m.json", "--output", "x.json", "--convert", "xyxy"], ["--annotations"]),
        (
            ["--results", "r.json", "--mapping", "m.json", "--annotations", "gt.json", "--output", "x.json"],
            ["category 5"],
        ),
        (
            ["--results", "r.json", "--annotations", "gt.json", "--output", "x.json", "--iou-type", "keypoints"],
            ["segm"],
        ),
        (["--results", "high.json", "--annotations", "gt.json", "--output", "x.json"], ["score", "0..1"]),
        (["--results", "empty.json", "--annotations", "gt.json", "--output", "x.json"], ["no results"]),
        (["--results", "far.json", "--annotations", "gt.json", "--output", "x.json"], ["no object was found"]),
    ],
)
def test_wrong_input_is_one_message(rankdet, files, arguments, words):
    entries = read(files, "r.json")
    for name, content in (
        ("high", [{**entry, "score": entry["score"] * 20} for entry in entries]),
        ("empty", []),
        ("far", [{**entry, "bbox": [1000, 1000, 5, 5]} for entry in entries]),
        ("m", {"rankdet_score_mapping": 1, "classes": [
            {"id": 3, "slope": 1, "bias": 0, "threshold": 0.5, "threshold_before": 0.5}]}),
    ):  # fmt: skip
        (files / f"{name}.json").write_text(json.dumps(content))
    outcome = rankdet("calibrate", *arguments)
    assert outcome.code == 2, outcome
    assert len([line for line in outcome.err.strip().splitlines() if not line.startswith(("note", "warning"))]) == 1
    for word in words:
        assert word in outcome.err
    assert not (files / "x.json").exists()
