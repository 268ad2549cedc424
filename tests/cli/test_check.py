"""`rankdet check`: its report, its exit codes, and what it writes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console

from rankdet.assign import Assigner, ATSSAssigner, BestPriors, MaxIoU
from rankdet.assign.ground_truth import GroundTruth
from rankdet.cli.anchor_fit import fit_anchors
from rankdet.cli.check_report import DiagnosisPrinter
from rankdet.cli.preview import draw_batch
from rankdet.data import KeepSize, ResizeExactly
from rankdet.doctor import Diagnosis, diagnose, read_table
from rankdet.models import RetinaNet
from rankdet.nn.anchors import AnchorGenerator
from rankdet.ops.priors import Priors
from tests.cli.conftest import TINY, Outcome
from tests.data.files import write_coco
from tests.doctor.broken import FAULTS, Home, sound, with_val

BCCD = Path(__file__).parents[2].parent / "shared" / "data" / "bccd"
Run = Callable[..., Outcome]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return sound(tmp_path / "train", seed=0)


def broken(home: Home, *names: str) -> str:
    """The path of the dataset after some faults were put into it."""
    for name in names:
        FAULTS[name](home)
    return home.save().path


# ------------------------------------------------------------------------------------------------ report, exit codes


def test_a_sound_dataset(rankdet: Run, home: Home):
    outcome = rankdet("check", broken(home))
    assert (outcome.code, outcome.err) == (0, "")
    assert "nothing is wrong with it" in outcome.out
    assert "0 errors, 0 warnings, 0 notes" in outcome.out
    assert "20 images of 64 x 48" in outcome.out
    assert "60 objects: 100% small" in outcome.out


def test_errors_exit_with_1_and_are_told_with_examples_and_remedy(rankdet: Run, home: Home):
    outcome = rankdet("check", broken(home, "box_without_extent", "class_never_used"))
    assert outcome.code == 1
    assert "error  3 boxes have no width or no height" in outcome.out
    assert outcome.out.count(": 0 x 0 at (") == 3
    assert "→ draw them again" in outcome.out
    assert "1 error, 1 warning, 0 notes" in outcome.out
    assert "--fix FOLDER writes a copy in which 1 of these 2 are repaired." in outcome.out


def test_warnings_alone_exit_with_0(rankdet: Run, home: Home):
    assert rankdet("check", broken(home, "class_never_used")).code == 0


def test_training_and_validation_data(rankdet: Run, home: Home):
    train = broken(home, "image_copied_into_both")
    assert home.val is not None
    outcome = rankdet("check", train, "--val", home.val.save().path)
    assert outcome.code == 1
    assert "Training and validation data together" in outcome.out
    assert "1 training image is also among the validation images" in outcome.out


def test_images_are_decoded_on_demand(rankdet: Run, home: Home):
    file = broken(home, "image_cut_short")
    assert rankdet("check", file).code == 0
    outcome = rankdet("check", "--images", file, "--workers", 2)
    assert outcome.code == 1
    assert "1 image file cannot be read" in outcome.out


def test_the_folder_of_the_images_can_be_named(rankdet: Run, home: Home):
    file = broken(home, "images_somewhere_else")
    assert "images-not-found" not in rankdet("check", file, "--image-folder", home.folder / "elsewhere").out
    assert rankdet("check", file).code == 1
    assert rankdet("check", file, "--image-folder", home.folder / "elsewhere").code == 0


def test_json_has_all_findings(rankdet: Run, home: Home, tmp_path: Path):
    outcome = rankdet("check", broken(home, "box_outside"), "--json", tmp_path / "found.json")
    content = json.loads((tmp_path / "found.json").read_text())
    assert f"All findings are in {tmp_path / 'found.json'}" in outcome.out
    assert [finding["name"] for finding in content["train"]["findings"]] == ["box-outside-image"]
    assert (content["errors"], content["anchors"]) == (1, [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a dataset to check:"),
        (("nothing.json",), "there is no file or folder nothing.json"),
        (("FILE", "more"), "unexpected argument 'more'"),
        (("FILE", "--imges"), "unknown option --imges; did you mean images?"),
        (("FILE", "--preset", "atss"), "there is no configuration atss"),
        (("FILE", "--fix", "."), "--fix . exists already"),
        (("FILE", "--preview", "."), "--preview . exists already"),
        (("FILE", "--copy"), "give --fix FOLDER too"),
        (("FILE", "--json", "no/such.json"), "there is no folder no"),
        (("FILE", "--workers", "0"), "--workers must be a whole number from 1 on; got 0"),
        (("FILE", "--val-image-folder", "."), "give --val too"),
        (("FILE", "--data.classes", "[cat]"), "--data.classes is a key of a configuration"),
        (("FILE", "--val", "nothing.json"), "there is no file or folder nothing.json"),
        (("atss/rank_sort_r50_1x_coco",), "give --data.train and --data.val"),
        (("tiny.yaml", "--val", "FILE"), "in a configuration it is --data.val"),
    ],
)
def test_a_wrong_input_is_told_in_one_line(arguments: tuple, message: str, rankdet: Run, home: Home, tiny: Path):
    file = broken(home)
    outcome = rankdet("check", *(file if argument == "FILE" else argument for argument in arguments))
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


def test_help_names_every_option(rankdet: Run):
    outcome = rankdet("check", "--help")
    assert outcome.code == 0
    for name in ("--val", "--images", "--preset", "--fix", "--preview", "--json", "--copy", "--image-folder"):
        assert f"  {name} " in outcome.out


def report_of(diagnosis: Diagnosis, width: int) -> str:
    console = Console(width=width, record=True, highlight=False, file=io.StringIO())
    report = DiagnosisPrinter(console=console)
    report.diagnosis(diagnosis)
    report.verdict(diagnosis.findings, repairable=True)
    return console.export_text()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_report_fits_the_terminal(width: int, home: Home):
    broken(home, "box_without_extent", "class_never_used", "image_in_capitals")
    text = report_of(diagnose(home.save()), width)
    assert max(map(len, text.splitlines())) <= width
    assert "1 error" in text or "2 errors" in text


def test_names_are_no_markup(home: Home):
    home.categories[0]["name"] = "[red]cat[/blue]"
    assert "[red]cat[/blue]" in report_of(diagnose(home.save()), 100)


def test_of_many_classes_the_ends_and_the_middle_are_shown(home: Home):
    home.content["categories"] += [{"id": 1000 + number, "name": f"class {number}"} for number in range(1200)]
    text = report_of(diagnose(home.save()), 100)
    assert "1203 classes" in text
    assert len(text.splitlines()) < 50


# ----------------------------------------------------------------------------------------------------- configurations


def configuration(folder: Path, train: Any, val: Any, **data: Any) -> Path:
    content = {**TINY, "data": {**TINY["data"], "train": train, "val": val, **data}}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(content))
    return folder / "experiment.yaml"


def test_a_configuration_names_its_data(rankdet: Run, home: Home, tmp_path: Path):
    with_val(home)
    assert home.val is not None
    file = configuration(tmp_path, broken(home, "box_without_extent"), home.val.save().path, classes=["cat", "dog"])
    outcome = rankdet("check", file)
    assert outcome.code == 1
    assert "Training data" in outcome.out
    assert "Validation data" in outcome.out
    assert "2 classes" in outcome.out


def test_datasets_stated_as_objects(rankdet: Run, home: Home, tmp_path: Path):
    train = {"class_path": "CocoDetection", "init_args": {"annotations": broken(home, "box_without_extent")}}
    outcome = rankdet("check", configuration(tmp_path, train, "shapes"))
    assert outcome.code == 1
    assert "data.val is shapes, which is made" in outcome.out
    assert "3 boxes have no width or no height" in outcome.out


def test_keys_of_the_configuration_are_options(rankdet: Run, home: Home, tiny: Path):
    file = broken(home, "box_without_extent")
    assert rankdet("check", tiny).code == 0
    assert rankdet("check", tiny, "--data.train", file, "--data.val", file).code == 1


# ------------------------------------------------------------------------------------------------------------ repairs


def test_the_copy_is_repaired_and_trains(rankdet: Run, home: Home, tmp_path: Path):
    train = broken(home, "box_without_extent", "annotation_of_no_image", "image_missing")
    outcome = rankdet("check", train, "--fix", tmp_path / "fixed")
    assert outcome.code == 1  # it is about the original
    assert "- 3 objects left out (no width or height)" in outcome.out
    assert "- 2 objects left out (no such image)" in outcome.out
    assert "No errors are left in it." in outcome.out
    assert rankdet("check", tmp_path / "fixed").code == 0


def test_a_pair_is_repaired_together(rankdet: Run, home: Home, tmp_path: Path):
    train = broken(home, "image_copied_into_both")
    assert home.val is not None
    outcome = rankdet("check", train, "--val", home.val.save().path, "--fix", tmp_path / "fixed", "--copy")
    assert "1 image left out (among the validation images)" in outcome.out
    assert not any(path.is_symlink() for path in (tmp_path / "fixed").rglob("*"))
    assert rankdet("check", tmp_path / "fixed/train", "--val", tmp_path / "fixed/val").code == 0


def test_what_cannot_be_repaired_is_told(rankdet: Run, home: Home, tmp_path: Path):
    outcome = rankdet("check", broken(home, "file_cut_short"), "--fix", tmp_path / "fixed")
    assert outcome.code == 1
    assert "No copy was written" in outcome.out
    assert not (tmp_path / "fixed").exists()


def test_errors_that_are_left_are_named(rankdet: Run, home: Home, tmp_path: Path):
    outcome = rankdet("check", broken(home, "image_without_size"), "--fix", tmp_path / "fixed")
    assert "Errors left in it: missing-size" in outcome.out


# ------------------------------------------------------------------------------------------------------------ anchors


class Stage(torch.nn.Module):
    """Anchors and an assigner, as the doctor looks for them."""

    def __init__(self, assigner: object) -> None:
        super().__init__()
        self.anchors = AnchorGenerator(strides=(8, 16), scales=(2.0,))
        self.assigner = assigner


def objects_of_sides(home: Home, *sides: tuple[float, float]) -> Home:
    for item, (width, height) in zip(home.objects, sides, strict=False):
        item["bbox"] = [2, 2, width, height]
    del home.objects[len(sides) :]
    return home


@pytest.mark.parametrize(
    ("assigner", "weak", "unmatched"),
    [
        (MaxIoU(positive_iou=0.5, negative_iou=0.4), 0, 3),
        (MaxIoU(positive_iou=0.5, negative_iou=0.4, low_quality=BestPriors(min_iou=0.2)), 1, 2),
        (MaxIoU(positive_iou=0.5, negative_iou=0.4, low_quality=BestPriors()), 3, 0),
        (ATSSAssigner(), 0, 2),
    ],
)
def test_objects_that_no_anchor_matches_are_counted(assigner: object, weak: int, unmatched: int, home: Home):
    """Anchors of 16 and 32 pixels; best IoUs 1, 0.25 (8 x 8), 0.1 (5 x 5), 0.12 (60 x 2)."""
    home = objects_of_sides(home, (16, 16), (8, 8), (5, 5), (60, 2))
    table, _ = read_table(home.save())
    assert table is not None
    [fit] = fit_anchors(Stage(assigner), table, KeepSize())
    [size] = fit.sizes
    assert (size.objects, size.weak, size.unmatched) == (4, weak, unmatched)
    assert [finding.count for finding in fit.findings] == ([unmatched] if unmatched else [])


def test_the_count_is_that_of_the_assigner(home: Home):
    """Objects centred on a cell: the anchors reach the best overlap, so the assigner matches what is counted."""
    sides = np.random.default_rng(5).integers(2, 20, (15, 2)) * 2
    boxes = torch.tensor([[32 - w / 2, 16 - h / 2, 32 + w / 2, 16 + h / 2] for w, h in sides.tolist()])
    for item, box in zip(home.objects, boxes.tolist(), strict=False):
        item["bbox"] = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    del home.objects[15:]
    stage = Stage(MaxIoU(positive_iou=0.5, negative_iou=0.4))
    table, _ = read_table(home.save())
    assert table is not None
    [fit] = fit_anchors(stage, table, KeepSize())
    maps = [torch.zeros(1, 1, 6, 8), torch.zeros(1, 1, 3, 4)]
    priors = stage.anchors(maps, sizes=[(48, 64)], padded_sizes=[(64, 64)])
    lonely = 0
    for box in boxes:
        truth = GroundTruth((box[None],), (torch.tensor([0]),), (torch.empty(0, 4),))
        lonely += int((stage.assigner(Priors(priors.boxes, priors.valid), truth).labels == 0).sum() == 0)
    assert 0 < lonely == sum(size.unmatched for size in fit.sizes) < 15


def test_what_is_not_known_is_said_to_be_unknown(home: Home, tmp_path: Path):
    class Silent(MaxIoU):
        def reach(self, boxes, grids):
            return Assigner.reach(self, boxes, grids)

    table, _ = read_table(home.save())
    assert table is not None
    [fit] = fit_anchors(Stage(Silent()), table, KeepSize())
    assert (fit.sizes, fit.findings) == ((), ())
    assert "Silent does not say" in fit.rule


@pytest.mark.parametrize("preset", ["fovea_box/focal_r50_100e_ssd512_coco", "solov2/rank_sort_r101_3x_coco"])
def test_objects_of_no_level_are_found_without_anchors(rankdet: Run, home: Home, preset: str):
    """Objects of half a pixel: none is positive in FoveaBox or SOLOv2."""
    file = broken(objects_of_sides(home, *[(0.5, 0.5)] * 4))
    outcome = rankdet("check", file, "--preset", preset, "--data.resize", "KeepSize")
    assert "out of the reach of every cell" in outcome.out
    assert "4 objects" in outcome.out


def test_sizes_are_those_at_the_scale_of_the_network(home: Home):
    home = objects_of_sides(home, (4, 8))
    table, _ = read_table(home.save())
    assert table is not None
    stage = Stage(MaxIoU(positive_iou=0.9, negative_iou=0.4))
    for resize, unmatched in ((KeepSize(), 1), (ResizeExactly(height=96, width=256), 0)):
        [fit] = fit_anchors(stage, table, resize)
        assert fit.sizes[0].unmatched == unmatched


def test_a_detector_on_meta_has_anchors(home: Home):
    table, _ = read_table(home.save())
    assert table is not None
    with torch.device("meta"):
        model = RetinaNet(num_classes=3, backbone="resnet18", channels=32)
    [fit] = fit_anchors(model, table, KeepSize())
    assert fit.stage == "stage"


def test_a_preset_is_compared_with_the_objects(rankdet: Run, home: Home, tmp_path: Path):
    file = broken(objects_of_sides(home, *[(10 + 0.1 * n, 10) for n in range(60)], (1.5, 1.5)))
    arguments = ("--preset", "faster_rcnn/rank_sort_r50_1x_coco", "--data.resize", "KeepSize")
    outcome = rankdet("check", file, *arguments, "--json", tmp_path / "found.json")
    assert "Anchors  FasterRCNN of rank_sort_r50_1x_coco" in outcome.out
    assert "else its best one does, from 0.3 on" in outcome.out
    [fit] = json.loads((tmp_path / "found.json").read_text())["anchors"]
    assert fit["sizes"][0]["unmatched"] == fit["findings"][0]["count"] > 0


# ----------------------------------------------------------------------------------------------------------- pictures


def test_pictures_show_the_first_batches(rankdet: Run, home: Home, tmp_path: Path):
    outcome = rankdet("check", broken(home), "--preview", tmp_path / "pictures")
    assert outcome.code == 0
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["batch-1.jpg", "batch-2.jpg"]
    assert f"{tmp_path / 'pictures' / 'batch-1.jpg'}" in outcome.out.replace("\n", "")
    assert min(Image.open(tmp_path / "pictures" / "batch-1.jpg").size) > 600


def test_pictures_of_made_data(rankdet: Run, tiny: Path, tmp_path: Path):
    assert rankdet("check", tiny, "--preview", tmp_path / "pictures").code == 0
    assert (tmp_path / "pictures" / "batch-2.jpg").is_file()


def test_data_that_cannot_be_trained_on_have_no_pictures(rankdet: Run, home: Home, tmp_path: Path):
    outcome = rankdet("check", broken(home, "annotation_of_no_image"), "--preview", tmp_path / "pictures")
    assert outcome.code == 1
    assert "There are no pictures of batches" in outcome.out
    assert not (tmp_path / "pictures").exists()


def test_a_batch_is_drawn_with_boxes_and_masks_where_they_are():
    """One object in an image twice as large as a cell: its mask is coloured inside and nowhere else."""
    image = torch.full((3, 640, 1280), 128, dtype=torch.uint8)
    mask = torch.zeros(1, 640, 1280, dtype=torch.bool)
    mask[0, 100:500, 200:800] = True
    target = {
        "boxes": torch.tensor([[200.0, 100.0, 800.0, 500.0]]),
        "labels": torch.tensor([0]),
        "iscrowd": torch.tensor([False]),
        "masks": mask,
        "image_id": 5,
    }
    sheet = np.asarray(draw_batch(([image, image], [target, {**target, "masks": mask & False}]), names=("cat",)))
    left, right = np.split(sheet[:, : sheet.shape[1] // 2 * 2], 2, axis=1)
    coloured = (np.abs(left.astype(int) - 128).max(2) > 20) & (np.abs(right.astype(int) - 128).max(2) <= 20)
    rows, columns = np.nonzero(coloured[24:])
    assert abs(rows.min() - 75) <= 4
    assert abs(rows.max() - 375) <= 4
    assert abs(columns.min() - 150) <= 4
    assert abs(columns.max() - 600) <= 4
    assert coloured[24 + 225, 375]
    rows, columns = np.nonzero(np.abs(right[24:].astype(int) - 128).max(2)[:480, :960] > 60)  # the box and its name
    assert abs(rows.max() - 375) <= 4
    assert abs(columns.max() - 600) <= 4


def test_a_folder_with_annotation_files_of_other_names(rankdet: Run, tmp_path: Path):
    write_coco(tmp_path / "data", name="instances_train.json")
    outcome = rankdet("check", "data")
    assert outcome.code == 1
    assert "no XML files, but instances_train.json: name the file" in " ".join(outcome.out.split())


# ---------------------------------------------------------------------------------------------------------- real data


@pytest.mark.skipif(not BCCD.is_dir(), reason="the BCCD dataset is not here")
def test_the_two_faults_of_bccd_are_found_and_nothing_else(rankdet: Run, tmp_path: Path):
    found = tmp_path / "found.json"
    files = BCCD / "instances_train.json", "--val", BCCD / "instances_val.json"
    assert rankdet("check", *files, "--images", "--json", found, "--fix", tmp_path / "fixed").code == 1
    content = json.loads(found.read_text())
    findings = [*content["train"]["findings"], *content["val"]["findings"], *content["between"]]
    assert [(finding["name"], finding["count"]) for finding in findings] == [("degenerate-box", 1)] * 2
    assert rankdet("check", tmp_path / "fixed/train", "--val", tmp_path / "fixed/val").code == 0
    assert rankdet("check", BCCD / "annotations_voc", "--json", found).code == 1
    [finding] = json.loads(found.read_text())["train"]["findings"]
    assert (finding["name"], finding["count"]) == ("degenerate-box", 2)
