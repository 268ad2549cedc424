"""`Predictor` finds what the commands find, whatever the form in which it is given the images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rankdet import Predictor
from rankdet.data import KeepSize, ResizeShorter, Shapes
from rankdet.data.image import read_upright
from rankdet.eval import evaluate
from rankdet.predictor import OPTIMAL


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that finds something, at another size than its images have."""
    from rankdet.cli import main
    from tests.cli.conftest import TINY

    folder = tmp_path_factory.mktemp("resized")
    resize = {"class_path": "ResizeShorter", "init_args": {"short": 96, "long": 160}}
    settings = {**TINY, "data": {**TINY["data"], "resize": resize}}
    model = {"class_path": "ATSS", "init_args": {"backbone": "test_resnet", "channels": 16}}
    (folder / "c.yaml").write_text(json.dumps({**settings, "model": model}))
    assert main(["train", "--config", str(folder / "c.yaml"), "--output", str(folder / "run")]) == 0
    return folder / "run" / "best.ckpt"


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "photos"
    Shapes(length=4, seed=1, image_size=64, num_classes=3).export(folder)
    return sorted((folder / "images").iterdir()) if (folder / "images").is_dir() else sorted(folder.rglob("*.png"))


def test_it_is_what_predict_is_and_eval_too(rankdet, checkpoint, photos, tmp_path):
    predictor = Predictor.load(checkpoint)
    assert isinstance(predictor.resize, ResizeShorter)
    assert predictor.thresholds
    shown = rankdet("predict", "--checkpoint", checkpoint, *photos, "--output", "out", "--save", "results")
    assert shown.code == 0, shown.err
    written = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    written = written["annotations"] if isinstance(written, dict) else written
    found = predictor(photos)
    assert sum(len(of_image["boxes"]) for of_image in found) == len(written)
    assert [row["score"] for of_image in found for row in of_image.to_results(0)] == pytest.approx(
        [row["score"] for row in written]
    )
    truth = Shapes(length=4, seed=1, image_size=64, num_classes=3)
    everything = [
        row
        for number, of_image in zip(range(len(truth)), predictor(photos, threshold=None), strict=True)
        for row in of_image.to_results(int(truth.ground_truth()["images"][number]["id"]))
    ]
    evaluated = rankdet("eval", "--checkpoint", checkpoint, "--save-results", "all.json", "--data.batch_size", 4)
    assert evaluated.code == 0, evaluated.err
    mine, theirs = (
        evaluate(truth.ground_truth(), rows).metrics for rows in (everything, json.loads(Path("all.json").read_text()))
    )
    assert mine == pytest.approx(theirs, abs=1e-6, nan_ok=True)


def test_without_its_resizing_rule_the_model_finds_something_else(checkpoint, photos):
    predictor = Predictor.load(checkpoint)
    plain = Predictor(predictor.model, categories=predictor.categories, resize=KeepSize())
    assert not torch.equal(plain(photos[0], threshold=None)["logits"], predictor(photos[0], threshold=None)["logits"])


def test_images_in_any_form_give_the_same(checkpoint, photos):
    predictor = Predictor.load(checkpoint)
    expected = predictor(photos[0], threshold=None)
    tensor = read_upright(photos[0])
    array = tensor.permute(1, 2, 0).numpy()
    for image in (str(photos[0]), tensor, array, Image.open(photos[0])):
        found = predictor(image, threshold=None)
        torch.testing.assert_close(dict(found), dict(expected))
    floating = predictor([tensor.float() / 255, array.astype(np.float32) / 255], threshold=None)
    for found in floating:
        torch.testing.assert_close(found["logits"][:5], expected["logits"][:5], atol=5e-2, rtol=0)
    grey = np.full((40, 50), 128, dtype=np.uint8)
    torch.testing.assert_close(predictor(grey)["boxes"], predictor(np.stack([grey] * 3, 2))["boxes"])
    batch = torch.stack([tensor, tensor])
    assert len(predictor(batch)) == 2
    assert expected.names == [predictor.categories.names[label] for label in expected["labels"].tolist()]


def test_thresholds_are_of_the_class_or_of_all(checkpoint, photos):
    predictor = Predictor.load(checkpoint)
    everything = predictor(photos[0], threshold=None)
    least = torch.tensor(predictor.class_thresholds)[everything["labels"]]
    assert len(predictor(photos[0])["scores"]) == int((everything["scores"] >= least - 1e-7).sum())
    assert predictor.least_score(OPTIMAL) == predictor.class_thresholds
    middle = float(everything["scores"].median())
    assert (predictor(photos[0], threshold=middle)["scores"] >= middle - 1e-7).all()
    predictor.thresholds = {}
    assert predictor.least_score(OPTIMAL) == 0.3


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        (3.5, TypeError, "float"),
        (np.zeros((4, 4, 4), np.uint8), ValueError, r"\(4, 4, 4\)"),
        (torch.zeros(4, 4), ValueError, r"\(4, 4\)"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), TypeError, "int64"),
        (torch.full((3, 40, 40), 200.0), ValueError, "divide by 255"),
        (Image.new("I;16", (4, 4)), ValueError, "I;16"),
    ],
)
def test_what_is_no_image_is_named(checkpoint, image, error, words):
    with pytest.raises(error, match=words):
        Predictor.load(checkpoint)([torch.zeros(3, 40, 40), image])


def test_its_place_is_said(checkpoint):
    with pytest.raises(ValueError, match=r"images\[1\]"):
        Predictor.load(checkpoint)([torch.zeros(3, 40, 40), np.zeros((4, 4, 4), np.uint8)])


def test_a_model_from_elsewhere_needs_its_classes():
    with pytest.raises(ValueError, match="how many classes"):
        Predictor(torch.nn.Linear(1, 1))
