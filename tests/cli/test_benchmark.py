"""``rankdet benchmark``: what it prints and writes, and wrong inputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SMALL = ("--model.init_args.backbone", "test_resnet", "--model.init_args.channels", 16, "--data.batch_size", 2)
QUICK = (*SMALL, "--size", "64x96", "--steps", 1, "--device", "cpu")
PRESETS = ("atss/rank_sort_r50_1x_coco", "fast_rcnn/rank_sort_r50_1x_coco", "mask_rcnn/softmax_r50_1x_coco")


def test_data(rankdet, tiny: Path, tmp_path: Path):
    outcome = rankdet("benchmark", "data", "--config", tiny, "--batches", 2, "--json", "speed.json")
    assert outcome.code == 0, outcome.err
    assert "images/s with no workers, from 2 batches of 4;" in outcome.out
    found = json.loads((tmp_path / "speed.json").read_text())
    assert (found["benchmark"], found["configuration"], found["workers"]) == ("data", [str(tiny)], 0)
    assert found["images_per_second"] > 0
    assert 0 <= found["waiting_share"] <= 1
    assert f"wait for data ({found['waiting_share']:.0%})" in outcome.out
    assert found["advice"] in outcome.out
    assert "torch" in found["environment"]
    assert not (tmp_path / "runs").exists(), "nothing is kept"


def test_model_with_the_images_of_the_data(rankdet, tiny: Path, tmp_path: Path):
    line = ("benchmark", "model", "--config", tiny, "--device", "cpu", "--steps", 2, "--json", "speed.json")
    outcome = rankdet(*line, "--precision", "32-true,bf16-mixed")
    assert outcome.code == 0, outcome.err
    found = json.loads((tmp_path / "speed.json").read_text())
    assert [speed["precision"] for speed in found["speeds"]] == ["32-true", "bf16-mixed"]
    for speed in found["speeds"]:
        assert speed["training"]["repetitions"] == speed["prediction"]["repetitions"] == 2
        assert speed["images_per_second"] == pytest.approx(4 / speed["training"]["seconds"])
        assert speed["training"]["memory"] > 10e6
    assert found["images"] == "images of the data"
    assert "bf16-mixed" in outcome.out
    assert "medians of 2 steps and 2 predictions" in outcome.out


@pytest.mark.parametrize("name", PRESETS)
def test_presets_with_random_images_need_no_data(rankdet, tmp_path: Path, name: str):
    outcome = rankdet("benchmark", "model", "--config", name, *QUICK, "--json", "speed.json")
    assert outcome.code == 0, outcome.err
    found = json.loads((tmp_path / "speed.json").read_text())
    assert found["images"] == "random images of 64 x 96"
    assert (found["classes"], found["speeds"][0]["batch_size"]) == (80, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("speed",), "there is no `rankdet benchmark speed` (there are `benchmark data` and `benchmark model`)"),
        (("dat",), "did you mean data?"),
        (("model",), "what is to be measured? Give --config FILE, as in rankdet benchmark model --config demo"),
        (("data", "--config", "demo", "--size", "8x8"), "unknown option --size"),
        (("data", "--config", "demo", "--seconds", "0"), "--seconds must be a number of seconds above 0"),
        (("data", "--config", "demo", "--batches", "none"), "--batches must be a whole number from 1 on; got none"),
        (("data", "--config", PRESETS[0]), "data.train"),
        (("model", "--config", PRESETS[0], "--device", "cpu"), "or measure with random images: --size 800x1333"),
        (("model", "--config", "demo", "--json", "no/such.json"), "give a file in an existing folder"),
        (("model", "--config", "demo", "--size", "640"), "--size must be HEIGHTxWIDTH in pixels"),
        (("model", "--config", "demo", "--size", "8x64", "--device", "cpu"), "at least 32 x 32 pixels, got 8 x 64"),
        (
            ("model", "--config", "demo", "--device", "cpu", "--precision", "bf16-mixd"),
            "--precision must be one of 32-true, 16-mixed, bf16-mixed; got bf16-mixd",
        ),
        (("model", "--config", "demo", "--device", "cpu", "--precision", "16-mixed"), "on a CPU take bf16-mixed"),
    ],
)
def test_wrong_inputs(rankdet, arguments: tuple[str, ...], words: str):
    outcome = rankdet("benchmark", *arguments)
    assert outcome.code == 2, outcome.out
    assert words in outcome.err


def test_help(rankdet):
    outcome = rankdet("benchmark")
    assert outcome.code == 0
    assert "--seconds SECONDS" in outcome.out
    assert "--precision NAMES" in outcome.out
