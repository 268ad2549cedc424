"""Results of other tools on the command line: what is understood, what is suspected, and how to mend it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rankdet.eval import (
    Evaluation,
    PerClass,
    evaluate,
    evaluate_boundaries,
    evaluate_keypoints,
    evaluate_lvis,
    evaluate_panoptic,
)
from rankdet.eval.convert import CONVERSIONS
from tests.cli.test_report import data_of
from tests.eval import test_panoptic as panoptic
from tests.eval.test_keypoints import keypoint_problem
from tests.eval.test_lvis import random_lvis_problem
from tests.reference.coco_sets import random_problem, with_masks

SIZE = 200


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """Two classes, eight images."""
    content = {
        "images": [{"id": i, "file_name": f"photo_{i}.jpg", "height": SIZE, "width": SIZE} for i in range(1, 9)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {
                "id": i,
                "image_id": i,
                "category_id": 1 + i % 2,
                "bbox": [60 + i, 70, 50, 40 + i],
                "area": 2000,
                "iscrowd": 0,
            }
            for i in range(1, 9)
        ],
    }
    (tmp_path / "truth.json").write_text(json.dumps(content))
    return tmp_path / "truth.json"


@pytest.fixture
def results(truth: Path) -> list[dict]:
    """All objects, a pixel off."""
    return [
        {
            **{key: entry[key] for key in ("image_id", "category_id")},
            "bbox": [x + 1, y, w, h],
            "score": 0.9 - 0.01 * place,
        }
        for place, entry in enumerate(json.loads(truth.read_text())["annotations"])
        for x, y, w, h in [entry["bbox"]]
    ]


def write(results: list[dict], path: Path) -> Path:
    path.write_text(json.dumps(results))
    return path


def test_text_ids_are_told_and_right(rankdet, truth: Path, results: list[dict], tmp_path: Path):
    named = [{**entry, "image_id": f"photo_{entry['image_id']}"} for entry in results]
    outcome = rankdet(
        "eval", "--results", write(named, tmp_path / "r.json"), "--annotations", truth, "--json", "o.json"
    )
    assert outcome.code == 0
    assert outcome.err == "note: r.json: image ids are matched by name, such as 'photo_1' with photo_1.jpg\n"
    numbers = json.loads((tmp_path / "o.json").read_text())
    assert numbers["AP"] == pytest.approx(evaluate(truth, results).metrics["AP"])


@pytest.mark.parametrize("command", ["eval", "report"])
def test_suspicions_are_in_words_of_the_command_line(
    rankdet, truth: Path, results: list[dict], tmp_path: Path, command
):
    corners = [
        {**e, "bbox": [*e["bbox"][:2], e["bbox"][0] + e["bbox"][2], e["bbox"][1] + e["bbox"][3]]} for e in results
    ]
    file = write(corners, tmp_path / "r.json")
    given = [*(["--results"] if command == "eval" else []), file, "--annotations", truth]
    outcome = rankdet(command, *given)
    assert outcome.code == 0
    assert outcome.err.startswith("warning: The boxes seem to be x1, y1, x2, y2")
    assert outcome.err.endswith(" Then add: --convert xyxy\n")
    assert rankdet(command, *given, "--convert", "xyxy").err == ""


def test_errors_name_the_option(rankdet, truth: Path, results: list[dict], tmp_path: Path):
    from_0 = [{**entry, "category_id": entry["category_id"] - 1} for entry in results]
    given = ["--results", write(from_0, tmp_path / "r.json"), "--annotations", truth]
    outcome = rankdet("eval", *given)
    assert outcome.code == 2
    assert "the results have 0 to 1, there are 1 to 2. Are they one too low" in outcome.err
    assert outcome.err.endswith(" Then add: --convert category+1\n")
    outcome = rankdet("eval", *given, "--convert", "category+1")
    assert (outcome.code, outcome.err) == (0, "")


def test_where_nothing_is_found_ids_are_explained(rankdet, truth: Path, results: list[dict], tmp_path: Path):
    nowhere = [{**entry, "bbox": [0, 0, 5, 5]} for entry in results]
    outcome = rankdet("eval", "--results", write(nowhere, tmp_path / "r.json"), "--annotations", truth)
    images = "image 1 is photo_1.jpg, 2 is photo_2.jpg, 3 is photo_3.jpg, ..."
    categories = "category 1 is cat, 2 is dog"
    assert outcome.err == f"note: AP is 0. Check that the results have these ids: {images}; {categories}\n"


def test_right_results_are_read_without_a_word(rankdet, truth: Path, results: list[dict], tmp_path: Path):
    assert rankdet("eval", "--results", write(results, tmp_path / "r.json"), "--annotations", truth).err == ""


def test_a_folder_of_txt_files(rankdet, truth: Path, results: list[dict], tmp_path: Path):
    (tmp_path / "labels").mkdir()
    for entry in results:
        x, y, w, h = (value / SIZE for value in entry["bbox"])
        line = f"{entry['category_id'] - 1} {x + w / 2} {y + h / 2} {w} {h} {entry['score']}\n"
        (tmp_path / "labels" / f"photo_{entry['image_id']}.txt").write_text(line)
    outcome = rankdet("eval", "--results", "labels", "--annotations", truth, "--json", "o.json")
    assert outcome.code == 0, outcome.err
    assert "class 0 is cat, 1 is dog" in outcome.err
    numbers = json.loads((tmp_path / "o.json").read_text())
    assert numbers["AP"] == pytest.approx(evaluate(truth, results).metrics["AP"])
    outcome = rankdet("report", "labels", "--annotations", truth)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize("command", ["eval", "report"])
def test_the_help_lists_the_conversions(rankdet, command):
    said = rankdet(command, "--help").out
    assert all(f"  {name} " in said and text in said for name, text in CONVERSIONS.items())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["eval", "--checkpoint", "best.ckpt", "--convert", "xyxy"], "--convert goes with --results"),
        (["eval", "--results", "r.json", "--annotations", "truth.json", "--convert", "xy"], "did you mean xyxy"),
        (["report", "best.ckpt", "--convert", "xyxy"], "--convert goes with a file of results"),
    ],
)
def test_wrong_use(rankdet, truth: Path, results: list[dict], tmp_path: Path, arguments, words):
    write(results, tmp_path / "r.json")
    (tmp_path / "best.ckpt").write_bytes(b"")
    outcome = rankdet(*arguments)
    assert outcome.code == 2
    assert words in outcome.err


def test_two_results_are_compared(rankdet, truth: Path, results: list[dict], tmp_path: Path):
    write(results, tmp_path / "now.json")
    write(results[:5], tmp_path / "before.json")
    given = ["--results", "now.json", "--annotations", truth, "--compare", "before.json", "--resamples", "50"]
    outcome = rankdet("eval", *given, "--json", "out.json")
    assert outcome.code == 0, outcome.err
    after = outcome.out.partition("Compared with before.json")[2]
    assert "objects found at the best thresholds: 5 by both, 3 only by this, 0 only by the other, 0 by neither" in after
    assert "photo_6.jpg" in after
    assert "50 draws of as many images" in after
    content = json.loads((tmp_path / "out.json").read_text())["comparison"]
    now, before = evaluate(truth, results).metrics["AP"], evaluate(truth, results[:5]).metrics["AP"]
    assert (content["metrics"]["AP"]["this"], content["metrics"]["AP"]["other"]) == (now, before)
    assert Evaluation.from_json((tmp_path / "out.json").read_text()) == evaluate(truth, results)


def test_a_run_is_compared_by_the_detections_that_its_report_kept(
    rankdet, truth: Path, results: list[dict], tmp_path: Path
):
    write(results, tmp_path / "now.json")
    (tmp_path / "run").mkdir()
    given = ["--results", "now.json", "--annotations", truth, "--resamples", "5", "--compare", "run"]
    assert "--compare run has no results.json; make it with `rankdet report run`" in rankdet("eval", *given).err
    write(results[:5], tmp_path / "run" / "results.json")
    assert "Compared with run/results.json" in rankdet("eval", *given).out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--compare", "nowhere.json"], "--compare nowhere.json: no such file"),
        (["--compare", "r.json", "--resamples", "0"], "--resamples must be a number from 1, such as 1000, got 0"),
        (["--resamples", "10"], "--resamples goes with --compare OTHER"),
        (["--convert-other", "xyxy"], "--convert-other goes with --compare OTHER"),
    ],
)
def test_wrong_comparisons(rankdet, truth: Path, results: list[dict], tmp_path: Path, arguments, words):
    write(results, tmp_path / "r.json")
    outcome = rankdet("eval", "--results", "r.json", "--annotations", truth, *arguments)
    assert outcome.code == 2
    assert words in outcome.err


def test_a_report_of_two_results(rankdet, truth: Path, results: list[dict], tmp_path: Path):
    write(results, tmp_path / "now.json")
    write(results[:5], tmp_path / "before.json")
    given = ["now.json", "--annotations", truth, "--compare", "before.json", "--resamples", "5"]
    outcome = rankdet("report", *given)
    assert outcome.code == 0, outcome.err
    data = data_of(tmp_path / "report.html")
    assert data["facts"]["Beside"] == "before.json"
    assert data["comparison"]["found"] == {"both": 5, "this": 3, "other": 0, "neither": 0}
    assert len(data["images"]["worst"]["better"]) == 3


def test_sizes_of_ones_own(rankdet, truth: Path, results: list[dict], tmp_path: Path):
    write(results, tmp_path / "r.json")
    given = ["r.json", "--annotations", truth, "--sizes", "tiny:16,mid:48,rest"]
    outcome = rankdet("eval", "--results", *given)
    assert outcome.code == 0, outcome.err
    metrics = evaluate(truth, results).metrics
    assert f"AP_tiny –  AP_mid {metrics['AP']:.3f}  AP_rest –" in outcome.out
    assert f"oLRP_tiny –  oLRP_mid {metrics['oLRP']:.3f}  oLRP_rest –" in outcome.out
    assert rankdet("report", *given).code == 0
    data = data_of(tmp_path / "report.html")
    assert list(data["groups"].values()) == [
        "Tiny, below 16² pixels",
        "Mid, 16² to 48² pixels",
        "Rest, above 48² pixels",
    ]
    assert "AP_mid" in data["metrics"]
    assert "--sizes must rise, but b:2" in rankdet("eval", "--results", *given[:3], "--sizes", "a:3,b:2,c").err


def test_groups_by_properties(rankdet, truth: Path, results: list[dict], tmp_path: Path):
    content = json.loads(truth.read_text())
    for image in content["images"]:
        image["weather"] = "rain" if image["id"] < 4 else "sun"
    truth.write_text(json.dumps(content))
    write(results[:5], tmp_path / "r.json")
    given = ["r.json", "--annotations", truth, "--by", "weather"]
    outcome = rankdet("eval", "--results", *given, "--compare", "r.json", "--resamples", "3", "--json", "o.json")
    assert outcome.code == 0, outcome.err
    numbers = json.loads((tmp_path / "o.json").read_text())
    expected = evaluate(truth, results[:5], properties=["weather"]).metrics
    rain, sun = (expected[f"AP_weather={value}"] for value in ("rain", "sun"))
    assert rain > sun
    assert (numbers["AP_weather=rain"], numbers["AP_weather=sun"]) == (rain, sun)
    lines = [line.split()[:3] for line in outcome.out.splitlines()]
    assert ["rain", "3", f"{rain:.3f}"] in lines
    assert ["AP_weather=sun", f"{sun:.3f}", f"{sun:.3f}"] in lines
    assert rankdet("report", *given).code == 0
    assert data_of(tmp_path / "report.html")["groups"]["weather=rain"] == "weather: rain"
    outcome = rankdet("eval", "--results", *given[:3], "--by", "wether")
    assert outcome.code == 2
    assert "images of truth.json do not have the property 'wether'; the first of the ann" in outcome.err
    assert "--by goes with --results" in rankdet("eval", "--checkpoint", "best.ckpt", "--by", "weather").err
    assert "--by goes with a file of results" in rankdet("report", tmp_path, "--by", "weather").err


def test_keypoints(rankdet, tmp_path: Path):
    truth, found = keypoint_problem(np.random.default_rng(1))
    write(truth, tmp_path / "truth.json")
    write(found, tmp_path / "found.json")
    given = ["--results", "found.json", "--annotations", "truth.json", "--iou-type", "keypoints"]
    outcome = rankdet("eval", *given, "--json", "out.json")
    assert outcome.code == 0, outcome.err
    assert "by the rules of COCO for keypoints" in outcome.out
    expected = evaluate_keypoints(truth, found)
    assert Evaluation.from_json((tmp_path / "out.json").read_text()) == expected
    assert f"AR_20 {expected.metrics['AR_20']:.3f}" in outcome.out
    assert rankdet("eval", *given, "--compare", "found.json", "--resamples", "3").code == 0
    assert "objects of truth.json have 17 keypoints" in rankdet("eval", *given, "--sigmas", "0.1,0.2").err
    assert "--sigmas must be numbers" in rankdet("eval", *given, "--sigmas", "small").err
    assert "--sigmas goes with --iou-type keypoints" in rankdet("eval", *given[:4], "--sigmas", "0.1").err


def test_boundaries(rankdet, tmp_path: Path):
    rng = np.random.default_rng(2)
    truth, found = with_masks(*random_problem(rng), rng)
    write(truth, tmp_path / "truth.json")
    write(found, tmp_path / "found.json")
    given = ["--results", "found.json", "--annotations", "truth.json", "--iou-type", "boundary"]
    outcome = rankdet("eval", *given, "--dilation", "0.01", "--json", "out.json")
    assert outcome.code == 0, outcome.err
    assert "by the rules of COCO, by boundaries" in outcome.out
    expected = evaluate_boundaries(truth, found, dilation=0.01)
    assert Evaluation.from_json((tmp_path / "out.json").read_text()) == expected
    compared = rankdet("eval", *given, "--compare", "found.json", "--resamples", "3").out
    assert "0 only by this, 0 only by the other" in compared


def test_fixed_ap(rankdet, tmp_path: Path):
    truth, found = random_lvis_problem(np.random.default_rng(3))
    write(truth, tmp_path / "lvis.json")
    write(found, tmp_path / "found.json")
    given = ["--results", "found.json", "--annotations", "lvis.json", "--fixed-ap"]
    outcome = rankdet("eval", *given, "--json", "out.json")
    assert outcome.code == 0, outcome.err
    assert "by the rules of LVIS, with Fixed AP" in outcome.out
    expected = evaluate_lvis(truth, found, max_detections=PerClass())
    assert Evaluation.from_json((tmp_path / "out.json").read_text()) == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fixed-ap"], "--fixed-ap is for LVIS, but truth.json is not in its format"),
        (["--dilation", "0.1"], "--dilation goes with --iou-type boundary"),
        (["--iou-type", "keypoints", "--by", "weather"], "leave out --sizes, --by and --fixed-ap"),
        (["--iou-type", "boundary", "--dilation", "wide"], "--dilation must be numbers, got wide"),
        (["--iou-type", "boundary"], "no annotation of truth.json has a 'segmentation'"),
    ],
)
def test_rules_that_do_not_suit(rankdet, truth: Path, results: list[dict], tmp_path: Path, arguments, words):
    write(results, tmp_path / "r.json")
    outcome = rankdet("eval", "--results", "r.json", "--annotations", "truth.json", *arguments)
    assert outcome.code == 2
    assert words in outcome.err


def test_what_goes_with_results_alone(rankdet):
    given = ["eval", "--checkpoint", "best.ckpt"]
    assert "--iou-type keypoints goes with --results" in rankdet(*given, "--iou-type", "keypoints").err
    assert "--fixed-ap goes with --results" in rankdet(*given, "--fixed-ap").err


def test_panoptic_results(rankdet, tmp_path: Path):
    rng = np.random.default_rng(0)
    truth = {number: panoptic.random_segments(rng, crowds=True) for number in range(3)}
    panoptic.write(tmp_path, "truth", truth)
    panoptic.write(tmp_path, "found", {number: panoptic.detected(truth[number], rng) for number in truth})
    given = ["--panoptic", "found.json", "--annotations", "truth.json"]
    outcome = rankdet("eval", *given, "--json", "out.json")
    assert outcome.code == 0, outcome.err
    expected = evaluate_panoptic(tmp_path / "truth.json", tmp_path / "found.json")
    assert (tmp_path / "out.json").read_text() == expected.to_json()
    assert f"{expected.metrics['PQ']:.3f}" in outcome.out
    assert "--threshold does not go with --panoptic" in rankdet("eval", *given, "--threshold", "0.5").err
    assert "nowhere.json" in rankdet("eval", *given[:3], "nowhere.json").err
