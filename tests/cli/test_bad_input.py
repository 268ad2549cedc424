"""Each wrong input ends before training, with one message that names what is wrong and how to mend it, and code 2."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rankdet.cli.wording import in_options
from rankdet.data import errors
from tests.cli.conftest import Outcome


def check_refused(outcome: Outcome, *words: str) -> None:
    """One message, which has the words, on the standard error; nothing was begun."""
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("rankdet")
    assert "Traceback" not in outcome.err + outcome.out
    assert "epoch" not in outcome.out, "a training began"
    for jargon in ("Union subtypes", "<class", "Namespace(", "typing.", "=FOLDER", "=False", "=True"):
        assert jargon not in outcome.err
    for word in words:
        assert word in outcome.err


WIDTH = ["--model.init_args.width", "4"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--schedule.epoch", "2"], ["--schedule.epoch", "did you mean epochs?"]),
        (["--model.init_args.widht", "2"], ["model.init_args.widht", "did you mean width?", "TinyDetector takes"]),
        (["--model.width", "2"], ["did you mean model.init_args.width?"]),
        (["--traner.devices", "2"], ["unknown option --traner.devices", "did you mean trainer?"]),
        (["--conifg", "x"], ["unknown option --conifg", "did you mean config?"]),
        (["--optimiser", "SDG", "--optimiser.init_args.lr", "1"], ["no Optimiser called SDG", "did you mean SGD?"]),
        (["--optimiser", "AdamW"], ["AdamW needs optimiser.init_args.lr"]),
        (["--schedule.decay", "Cosin"], ["schedule.decay", "no Decay called Cosin", "did you mean Cosine?"]),
        (["--schedule.decay", "Steps"], ["Steps needs schedule.decay.init_args.milestones"]),
        (["--schedule.epochs", "two"], ["schedule.epochs", "int", "two"]),
        (["--schedule.epochs", "0"], ["epochs must be a whole number >= 1, got 0"]),
        (["--optimiser.init_args.lr", "-1"], ["SGD: lr must be > 0, got -1.0\n"]),
        (
            ["--schedule.decay", "Steps", "--schedule.decay.init_args.milestones", "[5, 3]"],
            ["Steps: milestones are asc"],
        ),
        (
            ["--data.train", "CocoDetection", "--data.train.init_args.annotations", "no.json"],
            ["CocoDetection: no.json"],
        ),
        (["--data.classes", "[no]"], ["data.classes must be of the type str, got False", "quote it"]),
        (["--data.classes", "cat"], ["--data.classes must be of the type list"]),
        (["--fresh", "stem.*"], ["--fresh needs --start-from"]),
        (["--start-from", "tiny.yaml"], ["tiny.yaml cannot be read as a checkpoint"]),
        (
            ["--trainer.precision", "8"],
            ["trainer.precision must be one of '32-true', '16-mixed', 'bf16-mixed', got 8\n"],
        ),
        (["--trainer.accelerator", "tpuu"], ["settings of the trainer do not fit"]),
        (["--trainer.devices", "some"], ["settings of the trainer do not fit"]),
        (["--data.train", "nowhere.json"], ["nowhere.json"]),
        (["--data.train", "nowhere"], ["nowhere"]),
        (["--data.resize", "ResizeLonger"], ["no FixedResize called ResizeLonger"]),
        (["--data.batch_size", "0"], ["batch_size must be at least 1"]),
        (["--data.batch_size", "null"], ["--data.batch_size cannot be null; give it a value, or leave it out"]),
        (["--optimiser.init_args.lr", "null"], ["--optimiser.init_args.lr cannot be null"]),
        (["--seed", "null"], ["--seed cannot be null"]),
        (["--model.init_args.num_classes", "7"], ["num_classes is 7", "data have 3", "follows from the data"]),
        (["--model", "tests.train.fakes.NamedLosses", *WIDTH], ["tests.train.fakes.NamedLosses is no Detector"]),
        (["--model", "no.such.Model", *WIDTH], ["no.such.Model cannot be imported"]),
        (["--output", "tiny.yaml"], ["cannot write to the folder tiny.yaml"]),
        (["--output", "/proc/nowhere"], ["cannot write to the folder /proc/nowhere"]),
        (["--resume", "nowhere.ckpt"], ["there is no checkpoint nowhere.ckpt"]),
        (["--resume", "tiny.yaml"], ["tiny.yaml cannot be read as a checkpoint"]),
        (["--seed"], ["--seed needs a value"]),
        (["extra"], ["unexpected argument 'extra'"]),
    ],
)
def test_wrong_options(rankdet, tiny: Path, arguments: list[str], words: list[str]):
    check_refused(rankdet("train", "--config", tiny, *arguments), *words)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("epochs: 1", "epoch: 1", ["changed.yaml", "schedule.epoch;", "did you mean epochs?"]),
        ("width: 16", "widht: 16", ["changed.yaml", "model.init_args.widht"]),
        ("seed: 0", "sede: 0", ["changed.yaml", "unknown key sede", "did you mean seed?"]),
        ("class_path: SGD", "class_path: SDG", ["changed.yaml: optimiser", "did you mean SGD?"]),
        ("epochs: 1", "epochs: one", ["changed.yaml: schedule.epochs", "one"]),
        ("optimiser:", "optimizer:", ["changed.yaml", "unknown key optimizer", "did you mean optimiser?"]),
        ("epochs: 1", "{", ["changed.yaml is not YAML"]),
    ],
)
def test_wrong_configurations(rankdet, tiny: Path, tmp_path: Path, before: str, after: str, words: list[str]):
    text = tiny.read_text(encoding="utf-8") + "seed: 0\n"
    assert before in text
    (tmp_path / "changed.yaml").write_text(text.replace(before, after))
    check_refused(rankdet("train", "--config", "changed.yaml"), *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["Give --config FILE"]),
        (["--config", "nowhere.yaml"], ["there is no configuration nowhere.yaml", "show presets"]),
        (["--config", "atss/rank_sort_r50_1x_cocoo"], ["did you mean atss/rank_sort_r50_1x_coco?"]),
        (["--config", "atss/rank_sort_r50_1x_coco"], ["needs data.train", "--data.train"]),
        (["--schedule.epochs", "3"], ["Give --config FILE"]),
    ],
)
def test_missing_configurations(rankdet, arguments: list[str], words: list[str]):
    check_refused(rankdet("train", *arguments), *words)


def truncate_an_image_with_objects(coco: Path) -> Path:
    content = json.loads((coco / "annotations.json").read_text())
    wanted = content["annotations"][0]["image_id"]
    broken = coco / "images" / next(image["file_name"] for image in content["images"] if image["id"] == wanted)
    broken.write_bytes(broken.read_bytes()[:100])
    return broken


class TestData:
    """Faults of a COCO dataset."""

    @pytest.fixture
    def train_on(self, rankdet, tiny: Path, coco: Path) -> Callable[..., Outcome]:
        def run(change: Callable[[dict], None] | None = None, *arguments: str) -> Outcome:
            file = coco / "annotations.json"
            content = json.loads(file.read_text())
            if change is not None:
                change(content)
            file.write_text(json.dumps(content))
            (tiny.parent / "on_coco.yaml").write_text(
                tiny.read_text(encoding="utf-8").replace("class_path: Shapes", "class_path: CocoDetection")
            )
            text = tiny.read_text(encoding="utf-8")
            start, end = text.index("  train:"), text.index("  workers:")
            config = text[:start] + f"  train: {file}\n  val: {file}\n" + text[end:]
            (tiny.parent / "on_coco.yaml").write_text(config)
            return rankdet("train", "--config", "on_coco.yaml", "--output", "run", *arguments)

        return run

    def test_none(self, train_on, tmp_path: Path):
        assert train_on().code == 0
        assert (tmp_path / "run" / "best.ckpt").exists()

    def test_a_missing_image(self, train_on, coco: Path):
        missing = sorted((coco / "images").iterdir())[2]
        missing.unlink()
        check_refused(train_on(), missing.name, "add the files, remove them")

    def test_an_image_folder_without_the_images(self, train_on, tmp_path: Path):
        outcome = train_on(None, "--data.train_images", str(tmp_path))
        check_refused(outcome, "give their folder: --data.train_images FOLDER or --data.val_images FOLDER")

    def test_an_annotation_of_no_image(self, train_on):
        check_refused(
            train_on(lambda content: content["annotations"][0].update(image_id=777)), "777", "annotations.json"
        )

    def test_an_annotation_of_no_category(self, train_on):
        check_refused(
            train_on(lambda content: content["annotations"][1].update(category_id=99)), "99", "annotations.json"
        )

    def test_a_box_outside_the_image(self, train_on):
        check_refused(
            train_on(lambda content: content["annotations"][0].update(bbox=[1000, 1000, 10, 10])),
            "annotation 1 of image",
            "annotations.json",
        )

    def test_a_box_beyond_the_border_is_counted_in_the_header(self, train_on):
        outcome = train_on(lambda content: content["annotations"][0].update(bbox=[5, 5, 1000, 1000]))
        assert outcome.code == 0
        assert "1 x box beyond" in outcome.out

    def test_no_images_at_all(self, train_on):
        check_refused(train_on(lambda content: content.update(images=[], annotations=[])), "annotations.json")

    def test_no_objects_at_all(self, train_on):
        check_refused(train_on(lambda content: content.update(annotations=[])), "annotations.json")

    def test_no_json(self, train_on, coco: Path, rankdet):
        assert train_on().code == 0
        (coco / "annotations.json").write_text("{")
        check_refused(rankdet("train", "--config", "on_coco.yaml", "--output", "other"), "annotations.json")

    def test_an_unknown_class(self, train_on):
        check_refused(train_on(None, "--data.classes", "[circel]"), "circel", "did you mean 'circle'?")

    def test_other_classes_in_the_validation(self, train_on, tmp_path: Path, coco: Path, rankdet):
        assert train_on().code == 0
        other = json.loads((coco / "annotations.json").read_text())
        other["categories"][0]["name"] = "disc"
        (coco / "other.json").write_text(json.dumps(other))
        outcome = rankdet("train", "--config", "on_coco.yaml", "--output", "other", "--data.val", coco / "other.json")
        check_refused(outcome, "disc", "circle", "different classes")

    def test_a_truncated_image_is_named_skipped_and_counted(self, train_on, coco: Path):
        broken = truncate_an_image_with_objects(coco)
        outcome = train_on()
        assert outcome.code == 0, outcome.err
        assert f"corrupt images were skipped: {broken}" in outcome.out

    def test_a_truncated_image_met_by_a_loading_process(self, train_on, coco: Path):
        broken = truncate_an_image_with_objects(coco)
        outcome = train_on(None, "--data.workers", "2")
        assert outcome.code == 0, outcome.err
        assert f"corrupt images were skipped: {broken}" in outcome.out

    def test_too_many_corrupt_images_end_the_training_without_a_traceback(self, train_on, coco: Path):
        for image in (coco / "images").iterdir():
            image.write_bytes(image.read_bytes()[:100])
        outcome = train_on(None, "--data.workers", "1")
        assert outcome.code == 2
        assert "corrupt" in outcome.err
        assert "Traceback" not in outcome.err


class TestCheckpoints:
    def test_of_another_model_to_resume(self, rankdet, trained: Path):
        outcome = rankdet(
            "train",
            "--config",
            trained / "config.yaml",
            "--resume",
            trained / "last.ckpt",
            "--model.init_args.width",
            4,
        )
        check_refused(outcome, "last.ckpt is a checkpoint of another model", "stem.0.weight", "config.yaml")

    def test_of_another_model_to_evaluate(self, rankdet, trained: Path):
        outcome = rankdet(
            *("eval", "--config", trained / "config.yaml", "--checkpoint", trained / "best.ckpt"),
            *("--model.init_args.width", 4),
        )
        check_refused(outcome, "best.ckpt is a checkpoint of another model", "stem.0.weight")

    @pytest.mark.parametrize("command", ["eval", "predict"])
    def test_of_a_package_that_is_not_trusted(self, rankdet, trained: Path, exported: Path, command: str):
        more = [exported, "--output", "out"] if command == "predict" else []
        refused = rankdet(command, "--checkpoint", trained / "best.ckpt", *more)
        check_refused(refused, "tests.train.fakes.TinyDetector", "--trust tests\n")

    @pytest.mark.parametrize("command", ["eval", "predict"])
    def test_that_are_none(self, rankdet, exported: Path, tmp_path: Path, command: str):
        torch.save({"weights": torch.zeros(1)}, tmp_path / "other.ckpt")
        (tmp_path / "text.ckpt").write_text("not a checkpoint")
        more = [exported, "--output", "out"] if command == "predict" else ["--data.val", exported]
        for name, words in (
            ("other.ckpt", "not written by rankdet"),
            ("text.ckpt", "cannot be read"),
            ("no.ckpt", "there is no"),
        ):
            check_refused(rankdet(command, "--checkpoint", name, *more), name, words)

    def test_that_would_run_code(self, rankdet, exported: Path, tmp_path: Path):
        class Bomb:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "exploded",))

        torch.save({"state_dict": Bomb(), "rankdet": {}}, tmp_path / "bomb.ckpt")
        check_refused(rankdet("predict", "--checkpoint", "bomb.ckpt", exported, "--output", "out"), "bomb.ckpt")
        assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--threshold", "2"], ["--threshold must be a score from 0 to 1"]),
        (["--threshold", "best"], ["--threshold must be a score from 0 to 1, optimal or none; got best"]),
        (["--batch-size", "0"], ["--batch-size must be a whole number"]),
        (["--device", "quantum"], ["the device quantum cannot be used"]),
        (["--treshold", "1"], ["unknown option --treshold", "did you mean threshold?"]),
        (["--save", "all"], ["--save must be pictures, results, both or none, got all"]),
        (["--list", "nowhere.txt"], ["nowhere.txt"]),
    ],
)
def test_wrong_options_of_predict(rankdet, trained: Path, exported: Path, arguments: list[str], words: list[str]):
    given = ["--checkpoint", trained / "best.ckpt", exported, "--output", "out", "--trust", "tests"]
    check_refused(rankdet("predict", *given, *arguments), *words)


def test_predict_without_images(rankdet, trained: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    given = ["--checkpoint", trained / "best.ckpt", "--output", "out", "--trust", "tests"]
    check_refused(rankdet("predict", *given, "empty"), "the folder empty has no images")
    check_refused(rankdet("predict", *given, "nowhere"), "there is no file or folder nowhere")
    check_refused(rankdet("predict", *given, "*.png"), "no image matches *.png")
    check_refused(rankdet("predict", *given), "no image is named: give files, folders or patterns")
    (tmp_path / "list.txt").write_text("\n", encoding="utf-8")
    check_refused(rankdet("predict", *given, "--list", "list.txt"), "the list names no image")
    (tmp_path / "empty" / "a.heic").write_bytes(b"")
    check_refused(rankdet("predict", *given, "empty"), "1 file that is no image by its name (1 .heic)")
    check_refused(rankdet("predict", "x.jpg"), "--checkpoint FILE is needed")
    check_refused(rankdet("predict", "x.jpg", "--checkpoint", "a.ckpt"), "--output FOLDER is needed")
    (tmp_path / "x.jpg").write_text("no image")
    check_refused(rankdet("predict", *given, "x.jpg"), "x.jpg cannot be read")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            [],
            ["give one thing to evaluate: --checkpoint FILE, or --results, --proposals or --panoptic FILE"],
        ),
        (["--results", "r.json"], ["--results needs --annotations"]),
        (["--results", "r.json", "--annotations", "gt.json"], ["gt.json"]),
        (["--results", "r.json", "--annotations", "coco/annotations.json"], ["r.json"]),
        (["--results", "bad.json", "--annotations", "coco/annotations.json"], ["bad.json", "12345"]),
        (
            ["--results", "bad.json", "--annotations", "coco/annotations.json", "--iou-type", "box"],
            ["--iou-type", "box"],
        ),
        (["--results", "bad.json", "--annotations", "x", "--data.val", "y"], ["leave out --config"]),
    ],
)
def test_wrong_input_of_eval(rankdet, coco: Path, tmp_path: Path, arguments: list[str], words: list[str]):
    wrong = [{"image_id": 12345, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}]
    (tmp_path / "bad.json").write_text(json.dumps(wrong))
    check_refused(rankdet("eval", *arguments), *words)


def test_unknown_commands(rankdet):
    check_refused(rankdet("trian"), "there is no command trian; did you mean train?")
    check_refused(rankdet("show", "detector"), "did you mean detectors?")
    check_refused(rankdet("show", "detectors", "ATS"), "did you mean ATSS?")


def test_the_installed_command_complains_alike(tmp_path: Path):
    command = [sys.executable, "-m", "rankdet", "train", "--config", "demo", "--schedule.epoch", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "did you mean epochs?" in done.stderr


def test_a_traceback_can_be_had(rankdet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANKDET_TRACEBACK", "1")
    with pytest.raises(ValueError, match="Give --config"):
        rankdet("train")


@pytest.mark.parametrize("argument", [text for text in vars(errors).values() if isinstance(text, str) and "=" in text])
@pytest.mark.parametrize("command", ["train", "eval", "report", "check", "data"])
def test_the_command_line_names_options_where_python_names_arguments(argument: str, command: str):
    assert in_options(f"mend it: {argument}", command).startswith("mend it: --")


def test_resuming_without_the_checkpoint_says_that_it_is_not_there(rankdet, tmp_path: Path):
    check_refused(rankdet("train", "--resume", tmp_path / "last.ckpt"), "there is no checkpoint", "last.ckpt")
