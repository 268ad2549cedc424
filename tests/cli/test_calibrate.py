"""``rankdet calibrate`` of a checkpoint: 0.5 as the best threshold, folded weights, and tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from rankdet import Predictor
from rankdet.data import KeepSize, Shapes
from rankdet.eval.score_mapping import ScoreMapping, Table
from rankdet.models import FasterRCNN, Postprocess, RetinaNet, load, softmax_criterion
from rankdet.ops.checkpoint import CheckpointError, read_checkpoint

TRUST = ("--trust", "tests")


def save(model, path: Path, dataset: Shapes) -> Path:
    """As a training does."""
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    record = {
        "version": 1,
        "model": model.plan(),
        "categories": dataset.categories.to_dict(),
        "thresholds": {"1": 0.02},
        "image_size": KeepSize().to_dict(),
    }
    torch.save({"state_dict": weights, "rankdet": record, "optimizer_states": [1], "epoch": 3}, path)
    return path


@pytest.fixture(scope="module")
def shapes_on_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibration") / "coco"
    Shapes(length=8, seed=3, image_size=64, num_classes=3, sizes=(0.3, 0.9), empty=0.0).export(folder)
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    keep_all = Postprocess(max_detections=10**5, pre_nms=10**5)
    model = RetinaNet(num_classes=3, backbone="resnet18", channels=32, postprocess=keep_all)
    torch.nn.init.normal_(model.stage.head.classify.weight, std=0.5)  # classes of different levels
    with torch.no_grad():
        model.stage.head.classify.bias += torch.tensor([0.0, -2.0, 8.0]).repeat(9)
    return save(model, tmp_path / "model.ckpt", Shapes(length=1, seed=0, num_classes=3))


def test_half_becomes_the_operating_point_of_every_class(rankdet, checkpoint, shapes_on_disk, tmp_path: Path):
    data = ["--data.val", shapes_on_disk, "--data.workers", "0"]
    given = ["--fit-share", "1", *data]
    outcome = rankdet("calibrate", "--checkpoint", checkpoint, "--output", "calibrated.ckpt", *given)
    assert outcome.code == 0, outcome.err
    assert "LaECE_0" in outcome.out
    assert "flatters" in outcome.out
    assert (tmp_path / "calibrated.svg").read_text().startswith("<?xml")
    content = read_checkpoint(tmp_path / "calibrated.ckpt")
    assert "optimizer_states" not in content
    assert set(content["rankdet"]["thresholds"].values()) == {0.5}
    numbers = {}
    for name in ("model", "calibrated"):
        assert rankdet("eval", "--checkpoint", f"{name}.ckpt", "--json", f"{name}.json", *data).code == 0
        numbers[name] = json.loads((tmp_path / f"{name}.json").read_text())
    classes = numbers["calibrated"]["per_class"]
    assert any(row["threshold"] > 0 for row in classes.values())
    for name, row in classes.items():
        old = numbers["model"]["per_class"][name]
        assert [row[key] for key in ("AP", "AP50", "AP75", "oLRP")] == pytest.approx(
            [old[key] for key in ("AP", "AP50", "AP75", "oLRP")], abs=1e-4
        )
        if row["threshold"] >= 0:
            assert 0.5 <= row["threshold"] < 0.503
            assert not 0.49 < old["threshold"] < 0.51
    assert isinstance(load(tmp_path / "calibrated.ckpt"), RetinaNet)
    assert read_checkpoint(checkpoint)["rankdet"]["thresholds"] == {"1": 0.02}


def test_predict_takes_the_new_thresholds(rankdet, checkpoint, shapes_on_disk, tmp_path: Path):
    data = ["--data.val", shapes_on_disk, "--data.workers", "0"]
    assert rankdet("calibrate", "--checkpoint", checkpoint, "--output", "calibrated.ckpt", *data).code == 0
    assert rankdet("predict", "--checkpoint", "calibrated.ckpt", shapes_on_disk / "images", "--output", "out").code == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found
    assert min(entry["score"] for entry in found) >= 0.5


def logits_by_class(path: Path, image: torch.Tensor) -> dict[int, torch.Tensor]:
    with torch.no_grad():
        found = load(path)([image])[0]
    return {label: found["logits"][found["labels"] == label].double() for label in range(3)}


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_folded_weights_give_the_mapped_logits(rankdet, checkpoint, shapes_on_disk, tmp_path: Path, method):
    given = ["--method", method, "--data.val", shapes_on_disk, "--data.workers", "0"]
    outcome = rankdet("calibrate", "--checkpoint", checkpoint, "--output", "calibrated.ckpt", *given)
    assert outcome.code == 0, outcome.err
    assert "Fitted to 4 images (seed 0), reported on the other 4" in outcome.out
    record = read_checkpoint(tmp_path / "calibrated.ckpt")["rankdet"]
    assert "score_mapping" not in record
    mapping = ScoreMapping.from_dict(record["calibration"]["mapping"])
    assert any(of_class.slope != 1 for of_class in mapping.classes)
    assert record["thresholds"] == {str(n): limit for n, limit in zip((1, 2, 3), mapping.thresholds, strict=True)}
    image = torch.rand(3, 64, 64)
    before, after = (logits_by_class(path, image) for path in (checkpoint, tmp_path / "calibrated.ckpt"))
    for label, of_class in enumerate(mapping.classes):
        assert len(before[label]) == len(after[label]) > 0
        expected = of_class.slope * before[label] + of_class.bias
        torch.testing.assert_close(after[label], expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", ["RetinaNet", "softmax"])
def test_a_table_goes_with_the_checkpoint(rankdet, checkpoint, shapes_on_disk, tmp_path: Path, kind):
    if kind == "softmax":
        torch.manual_seed(0)
        model = FasterRCNN(num_classes=3, backbone="resnet18", channels=32, criterion=softmax_criterion())
        save(model, checkpoint, Shapes(length=1, seed=0, num_classes=3))
    data = ["--data.val", shapes_on_disk, "--data.workers", "0"]
    given = ["--method", "isotonic", "--fit-share", "1", *data]
    outcome = rankdet("calibrate", "--checkpoint", checkpoint, "--output", "calibrated.ckpt", *given)
    assert outcome.code == 0, outcome.err
    old, new = Predictor.load(checkpoint), Predictor.load(tmp_path / "calibrated.ckpt")
    assert old.mapping is None
    assert any(isinstance(of_class, Table) for of_class in new.mapping.classes)
    picture = torch.rand(3, 64, 64)
    before, after = (predictor(picture, threshold=None) for predictor in (old, new))
    assert (after["scores"][:-1] >= after["scores"][1:]).all()
    expected = new.mapping(before["logits"].double().numpy(), before["labels"].numpy())
    sorted_logits = after["logits"].double().sort().values.numpy()
    assert sorted_logits == pytest.approx(sorted(expected), abs=1e-4)
    assert after["scores"] == pytest.approx(after["logits"].sigmoid(), abs=1e-6)
    limit = new(picture)
    assert (limit["scores"].double() >= torch.tensor(new.class_thresholds)[limit["labels"]] - 1e-6).all()

    new.save_pretrained(tmp_path / "saved")
    assert Predictor.load(tmp_path / "saved").mapping == new.tiled(size=32).mapping == new.mapping
    if kind == "softmax":
        return
    # The command line takes it as well: what eval finds are the numbers in the checkpoint.
    assert rankdet("eval", "--checkpoint", "calibrated.ckpt", "--json", "numbers.json", *data).code == 0
    metrics = read_checkpoint(tmp_path / "calibrated.ckpt")["rankdet"]["metrics"]
    assert json.loads((tmp_path / "numbers.json").read_text())["AP"] == pytest.approx(metrics["AP"], abs=1e-6)
    again = rankdet("calibrate", "--checkpoint", "calibrated.ckpt", "--output", "x.ckpt", *given)
    assert again.code == 2
    assert "has a table of scores already" in again.err


def test_a_spoilt_table_is_named(checkpoint, tmp_path: Path):
    content = read_checkpoint(checkpoint)
    content["rankdet"]["score_mapping"] = {"classes": []}
    torch.save(content, tmp_path / "spoilt.ckpt")
    with pytest.raises(CheckpointError, match=r"score_mapping of .*spoilt\.ckpt is no mapping"):
        Predictor.load(tmp_path / "spoilt.ckpt")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--output", "x.ckpt"], ["--checkpoint FILE", "--results FILE"]),
        (["--checkpoint", "{model}"], ["--output FILE is needed"]),
        (["--checkpoint", "{model}", "--output", "{model}"], ["is what is to be calibrated"]),
        (["--checkpoint", "{model}", "--output", "no/where.ckpt"], ["cannot be written"]),
        (["--checkpoint", "none.ckpt", "--output", "x.ckpt", "--data.val", "shapes"], ["none.ckpt"]),
        (["--checkpoint", "{tiny}", "--output", "x.ckpt", *TRUST], ["TinyDetector", "class_layers", "isotonic"]),
        (["--checkpoint", "{model}", "--output", "x.ckpt", "--method", "plat"], ["did you mean", "platt", "isotonic"]),
        (["--checkpoint", "{model}", "--output", "x.ckpt", "--fit-share", "2"], ["--fit-share", "at most 1"]),
        (["--checkpoint", "{model}", "--output", "x.ckpt", "--seed", "-1"], ["--seed"]),
        (["--checkpoint", "{model}", "--output", "x.ckpt", "--annotations", "a.json"], ["goes with --results"]),
        (
            ["--checkpoint", "{softmax}", "--output", "x.ckpt", "--data.val", "{data}"],
            ["softmax", "thresholds", "--method isotonic"],
        ),
    ],
)
def test_wrong_input_is_one_message(rankdet, trained, checkpoint, shapes_on_disk, tmp_path, arguments, words):
    softmax = FasterRCNN(num_classes=3, backbone="resnet18", channels=32, criterion=softmax_criterion())
    names = {
        "model": checkpoint,
        "tiny": trained / "best.ckpt",
        "softmax": save(softmax, tmp_path / "softmax.ckpt", Shapes(length=1, seed=0, num_classes=3)),
        "data": shapes_on_disk,
    }
    outcome = rankdet("calibrate", *(argument.format(**names) for argument in arguments))
    assert outcome.code == 2, outcome
    assert len(outcome.err.strip().splitlines()) == 1
    for word in words:
        assert word in outcome.err
    assert not (tmp_path / "x.ckpt").exists()
