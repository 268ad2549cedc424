"""``rankdet eval`` and ``rankdet predict``: the numbers of the training again, and detections in the user's pixels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from rankdet.data import Categories, open_dataset
from rankdet.eval import Evaluation, evaluate, evaluate_proposals, lrp_at, score_iou_correlation
from rankdet.eval.undefined import numbers_as_json
from rankdet.ops.checkpoint import read_checkpoint
from tests.data.files import voc_xml, write_voc

TRUST = ("--trust", "tests")
NAMES = """AP AP50 AP75 AP_small AP_medium AP_large AR_1 AR_10 AR_100 AR_small AR_medium AR_large
oLRP oLRP_Loc oLRP_FP oLRP_FN oLRP_small oLRP_medium oLRP_large"""


@pytest.fixture
def predicted(rankdet, trained: Path, exported: Path, tmp_path: Path):
    def run(place: object = exported, *arguments: object) -> tuple[list[dict], str]:
        given = ["--checkpoint", trained / "best.ckpt", place, "--output", "out", *TRUST, *arguments]
        outcome = rankdet("predict", *given)
        assert outcome.code == 0, outcome.err
        return json.loads((tmp_path / "out" / "results.json").read_text()), outcome.out

    return run


@pytest.fixture
def scored(exported: Path, tmp_path: Path) -> list[object]:
    """Options for results that are right at high scores and shifted at low ones."""
    entries = []
    for place, item in enumerate(json.loads((exported / "annotations.json").read_text())["annotations"]):
        x, y, w, h = item["bbox"]
        shifted = [x + place % 4, y, w, h]
        entries.append({**{key: item[key] for key in ("image_id", "category_id")}, "bbox": shifted})
        entries[-1]["score"] = 0.9 - 0.2 * (place % 4) - 0.001 * place
    (tmp_path / "results.json").write_text(json.dumps(entries))
    return ["--results", tmp_path / "results.json", "--annotations", exported / "annotations.json"]


class TestEval:
    def test_gives_the_numbers_of_the_training(self, rankdet, trained: Path, tmp_path: Path):
        outcome = rankdet("eval", "--checkpoint", trained / "best.ckpt", "--json", "out.json", *TRUST)
        assert outcome.code == 0, outcome.err
        found = Evaluation.from_json((tmp_path / "out.json").read_text())
        assert found == Evaluation.from_json((trained / "best.json").read_text())
        assert "oLRP" in outcome.out
        assert "threshold" in outcome.out

    def test_builds_the_model_of_a_configuration(self, rankdet, trained: Path, tmp_path: Path):
        given = ["--config", trained / "config.yaml", "--checkpoint", trained / "best.ckpt", "--json", "out.json"]
        assert rankdet("eval", *given).code == 0
        found = Evaluation.from_json((tmp_path / "out.json").read_text())
        assert found == Evaluation.from_json((trained / "best.json").read_text())

    def test_other_data(self, rankdet, trained: Path, exported: Path, tmp_path: Path):
        given = ["--data.val", exported, "--save-results", "results.json", "--json", "out.json", *TRUST]
        outcome = rankdet("eval", "--checkpoint", trained / "best.ckpt", *given)
        assert outcome.code == 0, outcome.err
        again = evaluate(exported / "annotations.json", tmp_path / "results.json")
        assert again == Evaluation.from_json((tmp_path / "out.json").read_text())
        assert sum(row.objects for row in again.per_class) > 0

    def test_needs_no_configuration(self, rankdet, trained: Path, exported: Path, tmp_path: Path):
        alone = shutil.copy(trained / "best.ckpt", tmp_path / "alone.ckpt")
        assert rankdet("eval", "--checkpoint", alone, "--data.val", exported, *TRUST).code == 0

    def test_refuses_data_with_other_classes(self, rankdet, trained: Path, coco: Path):
        content = json.loads((coco / "annotations.json").read_text())
        content["categories"][1]["name"] = "cube"
        (coco / "annotations.json").write_text(json.dumps(content))
        outcome = rankdet("eval", "--checkpoint", trained / "best.ckpt", "--data.val", coco, *TRUST)
        assert outcome.code == 2
        assert "was trained on other classes" in outcome.err
        assert "cube" in outcome.err

    @pytest.mark.parametrize(("iou_type", "shape"), [("bbox", "bbox"), ("segm", "segmentation")])
    def test_results_of_any_tool(self, rankdet, exported: Path, tmp_path: Path, iou_type: str, shape: str):
        truth = exported / "annotations.json"
        perfect = [
            {"image_id": item["image_id"], "category_id": item["category_id"], shape: item[shape], "score": 0.9}
            for item in json.loads(truth.read_text())["annotations"]
        ]
        (tmp_path / "perfect.json").write_text(json.dumps(perfect))
        given = ["--results", "perfect.json", "--annotations", truth, "--iou-type", iou_type, "--json", "out.json"]
        outcome = rankdet("eval", *given)
        assert outcome.code == 0, outcome.err
        numbers = json.loads((tmp_path / "out.json").read_text())
        assert numbers["AP"] == pytest.approx(1)
        assert numbers["oLRP"] == pytest.approx(0, abs=1e-9)
        assert numbers["per_class"]["circle"]["threshold"] == 0.9

    def test_the_json_of_boxes_has_these_names_and_no_others(self, rankdet, scored: list, tmp_path: Path):
        assert rankdet("eval", *scored, "--json", "out.json").code == 0
        numbers = json.loads((tmp_path / "out.json").read_text())
        rows = numbers.pop("per_class")
        assert list(numbers) == NAMES.split()
        assert all(value is None or 0 <= value <= 1 for value in numbers.values())
        assert list(rows) == ["circle", "square", "triangle"]
        for row in rows.values():
            assert {"AP", "oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN", "threshold"} <= set(row)

    def test_correlation_and_a_fixed_threshold(self, rankdet, scored: list):
        said = rankdet("eval", *scored, "--threshold", "0.5").out
        evaluation = evaluate(scored[3], scored[1])
        correlation = score_iou_correlation(evaluation.details.matches)
        assert f"Pearson {correlation.pearson:.3f}  Spearman {correlation.spearman:.3f}" in said
        found = lrp_at(evaluation.details.matches, 0.5)
        mean, worst = found.value[:, 0].mean(), found.value[:, 0].max()
        assert mean > evaluation.metrics["oLRP"] + 0.01
        assert f"with the score threshold 0.5: LRP {mean:.3f}" in said
        assert f"{worst:.3f}" in said.partition("worst LRP")[2]
        assert "score threshold" not in rankdet("eval", *scored).out

    def test_without_objects_the_numbers_are_undefined(self, rankdet, scored: list, tmp_path: Path):
        truth = json.loads(Path(scored[3]).read_text())
        (tmp_path / "empty.json").write_text(json.dumps({**truth, "annotations": []}))
        outcome = rankdet("eval", *scored[:3], "empty.json", "--json", "out.json")
        assert outcome.code == 0, outcome.err
        assert "no object that counts, so AP and oLRP are undefined" in outcome.out
        assert "-1" not in outcome.out
        assert "nan" not in outcome.out
        numbers = json.loads((tmp_path / "out.json").read_text())
        assert {value for name, value in numbers.items() if name != "per_class"} == {None}

    def test_proposals(self, rankdet, scored: list, tmp_path: Path):
        outcome = rankdet("eval", "--proposals", *scored[1:], "--json", "out.json")
        assert outcome.code == 0, outcome.err
        numbers = json.loads((tmp_path / "out.json").read_text())
        assert list(numbers) == ["AR_100", "AR_300", "AR_1000", "AR_small", "AR_medium", "AR_large"]
        assert numbers == numbers_as_json(evaluate_proposals(scored[3], scored[1]))
        assert f"AR_1000 {numbers['AR_1000']:.3f}" in outcome.out

    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            (["--threshold", "half"], "--threshold must be a score"),
            (["--json", "nowhere/out.json"], "--json nowhere/out.json cannot be written"),
            (["--save-results", "again.json"], "--save-results goes with --checkpoint"),
            (["--proposals", "results.json"], "give one thing to evaluate: --checkpoint FILE"),
            (["--annotations", "nowhere.json"], "nowhere.json"),
            (["--annotations", "."], "but results.json: name the file and not the folder"),
            (["--iou-type", "mask"], "--iou-type must be one of bbox, segm, boundary, keypoints, got mask"),
            (["--data.batch_size", "2"], "leave out --config and the keys of a configuration"),
        ],
    )
    def test_wrong_inputs(self, rankdet, scored: list, changed: list[str], words: str):
        outcome = rankdet("eval", *scored, *changed)
        assert outcome.code == 2
        assert words in outcome.err
        assert outcome.err.count("\n") == 1

    def test_no_checkpoint(self, rankdet, tmp_path: Path):
        assert "there is no checkpoint nowhere.ckpt" in rankdet("eval", "--checkpoint", "nowhere.ckpt").err
        (tmp_path / "x.ckpt").write_text("{}")
        said = rankdet("eval", "--checkpoint", "x.ckpt").err
        assert "x.ckpt cannot be read as a checkpoint" in said
        assert "weights_only" not in said

    def test_voc_has_its_own_numbers_beside(self, rankdet, tmp_path: Path):
        cats = {"a": [("cat", (1, 1, 20, 20), 0)], "b": [("cat", (5, 5, 30, 30), 0), ("cat", (40, 5, 60, 30), 1)]}
        xml = {name: voc_xml(f"{name}.png", *objects) for name, objects in cats.items()}
        folder = write_voc(tmp_path / "voc", **xml)
        results = [
            {**{key: entry[key] for key in ("image_id", "category_id", "bbox")}, "score": 0.5}
            for entry in open_dataset(folder).ground_truth()["annotations"][::2]  # one is difficult
        ]
        (tmp_path / "results.json").write_text(json.dumps(results))
        outcome = rankdet("eval", "--results", "results.json", "--annotations", folder)
        assert outcome.code == 0, outcome.err
        assert "image ids count its files: 1 is a, 2 is b, ...; category ids are 1 cat" in outcome.out
        assert "VOC's mAP at IoU 0.5: 0.500, at 11 points as in VOC 2007: 0.545" in outcome.out


class TestPredict:
    def test_names_images_and_classes_as_they_were(self, predicted, trained: Path, tmp_path: Path):
        results, said = predicted()
        categories = Categories.from_dict(read_checkpoint(trained / "best.ckpt")["rankdet"]["categories"])
        assert {entry["category_id"] for entry in results} <= set(categories.ids)
        for entry in results:
            assert categories.names[categories.ids.index(entry["category_id"])] == entry["category_name"]
            assert entry["image_id"] == int(Path(entry["file_name"]).stem)
        pictures = sorted(path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.jpg"))
        assert [picture.as_posix() for picture in pictures] == [f"images/{number:06d}.jpg" for number in range(1, 13)]
        assert "12 images" in said

    def test_the_results_can_be_evaluated(self, rankdet, predicted, exported: Path):
        predicted(exported, "--threshold", "none")
        given = ["--results", "out/results.json", "--annotations", exported / "annotations.json"]
        assert rankdet("eval", *given).code == 0

    def test_boxes_are_in_the_pixels_of_the_image(self, predicted, exported: Path, tmp_path: Path):
        small = sorted((exported / "images").iterdir())[0]
        (tmp_path / "large").mkdir()
        Image.open(small).resize((192, 128)).save(tmp_path / "large" / small.name)
        one, _ = predicted(small, "--threshold", "none")
        other, _ = predicted(tmp_path / "large", "--threshold", "none")
        assert len(one) == len(other) == 48
        assert max(entry["bbox"][0] + entry["bbox"][2] for entry in other) > 64

    def test_a_threshold_is_a_lower_bound(self, predicted, exported: Path):
        everything, _ = predicted(exported, "--threshold", "none")
        scores = sorted(entry["score"] for entry in everything)
        chosen = scores[len(scores) // 2]
        some, said = predicted(exported, "--threshold", repr(chosen))
        expected = [entry for entry in everything if entry["score"] >= chosen]
        assert [entry["bbox"] for entry in some] == [entry["bbox"] for entry in expected]
        assert 0 < len(some) < len(everything) == 12 * 48
        assert "score of at least" in said

    def test_unreadable_files_are_named_and_the_others_done(self, predicted, exported: Path, tmp_path: Path):
        folder = Path(shutil.copytree(exported / "images", tmp_path / "folder"))
        (folder / "broken.png").write_bytes((folder / "000001.png").read_bytes()[:90])
        (folder / "notes.txt").write_text("not an image")
        (folder / "deeper").mkdir()
        (folder / "000002.png").rename(folder / "deeper" / "x.png")
        results, said = predicted(folder)
        assert "broken.png cannot be read" in said
        assert "12 images" in said
        assert "1 file could not be read" in said
        assert (tmp_path / "out" / "deeper" / "x.jpg").exists()
        assert not (tmp_path / "out" / "broken.jpg").exists()
        assert results == sorted(results, key=lambda entry: entry["image_id"])

    def test_an_output_in_the_folder_is_not_read_again(self, rankdet, trained: Path, exported: Path, tmp_path: Path):
        folder = Path(shutil.copytree(exported / "images", tmp_path / "folder"))
        for _ in range(2):
            given = ["--checkpoint", trained / "best.ckpt", folder, "--output", folder / "out", *TRUST]
            outcome = rankdet("predict", *given)
            assert "12 images" in outcome.out

    def test_images_of_one_name_do_not_overwrite_one_another(self, predicted, exported: Path, tmp_path: Path):
        folder = tmp_path / "folder"
        folder.mkdir()
        image = Image.open(sorted((exported / "images").iterdir())[0])
        image.save(folder / "a.png")
        image.convert("L").save(folder / "a.jpg")
        predicted(folder)
        assert {path.name for path in (tmp_path / "out").glob("*.jpg")} == {"a.png.jpg", "a.jpg.jpg"}

    def test_photographs_are_turned_as_a_viewer_turns_them(self, predicted, exported: Path, tmp_path: Path):
        exif = Image.Exif()
        exif[274] = 6
        (tmp_path / "photos").mkdir()
        image = Image.open(sorted((exported / "images").iterdir())[0])
        image.save(tmp_path / "photos" / "upright.png")
        image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photos" / "lying.png", exif=exif)
        results, _ = predicted(tmp_path / "photos", "--threshold", "none")
        boxes = {
            name: [entry["bbox"] for entry in results if entry["file_name"] == name]
            for name in ("lying.png", "upright.png")
        }
        assert boxes["lying.png"] == boxes["upright.png"] != []

    def test_optimal_thresholds_are_those_of_the_checkpoint(
        self, rankdet, trained: Path, exported: Path, tmp_path: Path
    ):
        content = torch.load(trained / "best.ckpt", weights_only=True)
        content["rankdet"]["thresholds"] = {"1": 0.0, "2": 1.1, "3": 1.1}
        torch.save(content, tmp_path / "changed.ckpt")
        given = ["--checkpoint", "changed.ckpt", exported, "--output", "out", *TRUST]
        assert "optimal threshold" in rankdet("predict", *given).out
        results = json.loads((tmp_path / "out" / "results.json").read_text())
        assert {entry["category_id"] for entry in results} == {1}
        assert len(results) == 12 * 16

    def test_without_thresholds_optimal_is_refused(self, rankdet, trained: Path, exported: Path, tmp_path: Path):
        content = torch.load(trained / "best.ckpt", weights_only=True)
        del content["rankdet"]["thresholds"]
        torch.save(content, tmp_path / "changed.ckpt")
        given = ["--checkpoint", "changed.ckpt", exported, "--output", "out", *TRUST]
        outcome = rankdet("predict", *given, "--threshold", "optimal")
        assert outcome.code == 2
        assert "has no optimal thresholds" in outcome.err
        assert "score of at least 0.3" in rankdet("predict", *given).out
