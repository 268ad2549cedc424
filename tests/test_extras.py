"""What works without which library, and what is said where one is missing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rankdet.extras import _LIBRARIES
from tests.test_layers import SOURCE

SETTINGS = (SOURCE.parent.parent / "pyproject.toml").read_text()
LIBRARIES = {library: extra for extra, libraries in _LIBRARIES.items() for library in libraries}
BEYOND_THE_CORE = sorted({*LIBRARIES, "typing_extensions", "sklearn"})


def without(libraries: list[str], program: str, folder: Path) -> str:
    """What a program prints for which some libraries are not installed."""
    hide = f"import sys\nsys.modules |= dict.fromkeys({libraries})\n"
    done = subprocess.run(
        [sys.executable, "-c", hide + program],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(SOURCE.parent)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A ground truth of two images, and detections that are right."""
    entries = [{"image_id": number, "category_id": 1, "bbox": [4, 4, 20 + number, 20]} for number in (1, 2)]
    names = [{"id": number, "file_name": f"{number}.png", "width": 48, "height": 32} for number in (1, 2)]
    truth = [entry | {"id": place, "area": 400, "iscrowd": 0} for place, entry in enumerate(entries, start=1)]
    content = {"images": names, "annotations": truth, "categories": [{"id": 1, "name": "cell"}]}
    (tmp_path / "truth.json").write_text(json.dumps(content))
    (tmp_path / "found.json").write_text(json.dumps([entry | {"score": 0.6} for entry in entries]))
    for entry in names:
        noise = np.random.default_rng(entry["id"]).integers(0, 255, (32, 48, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / entry["file_name"])
    return tmp_path


FILES_ONLY = """
--help
--version
show environment
show losses
show presets
eval --help
eval --results found.json --annotations truth.json --json numbers.json
eval --results found.json --annotations truth.json --compare found.json
eval --results found.json --annotations voc/Annotations
check truth.json --images --fix fixed
check voc
data convert truth.json --to yolo --output yolo
data convert truth.json --to voc --output voc
data convert yolo --to coco --output coco
calibrate --results found.json --annotations truth.json --output calibrated.json
report found.json --annotations truth.json --output page.html
train --config demo
check truth.json --preset atss/rank_sort_r50_1x_coco
check truth.json --preview pictures
predict --checkpoint best.ckpt photos --output out
show config --config demo
"""
NEED_TRAINING = ("train", "check truth.json --pre", "predict", "show config")
RUN_EACH = """
from rankdet.cli import main
for command in {commands}:
    print(command, "gives", main(command.split()), flush=True)
assert not [name for name in sys.modules if name.startswith(("torch.", "timm.", "matplotlib.", "lightning."))]
"""


def test_files_are_evaluated_checked_converted_and_reported_without_torch(folder: Path):
    commands = sorted(FILES_ONLY.strip().splitlines(), key=lambda line: not line.startswith("data"))
    program = "sys.stderr = sys.stdout\n" + RUN_EACH.format(commands=commands)
    said = without(BEYOND_THE_CORE, program, folder)
    assert said.count(" gives ") == len(commands)
    for command, code in re.findall(r"^(.*) gives (\d)$", said, re.M):
        assert int(code) == (2 if command.startswith(NEED_TRAINING) else 0), said
    refused = [command for command in commands if command.startswith(NEED_TRAINING)]
    named = re.findall(r'needs \w+, which is not installed: pip install "rankdet\[train\]"', said)
    assert len(named) == 1 + len(refused)
    assert "there is no diagram: a reliability diagram needs matplotlib" in said
    assert json.loads((folder / "numbers.json").read_text())["AP"] == 1
    assert (folder / "page.html").stat().st_size > 10_000


IN_PYTHON = {
    "from rankdet.losses import RankSortLoss": ("rankdet.losses.RankSortLoss", "losses"),
    "from rankdet.ops import pairwise_iou": ("rankdet.ops.pairwise_iou", "losses"),
    "import rankdet.assign": ("rankdet.assign", "losses"),
    "import rankdet.criteria": ("rankdet.criteria", "losses"),
    "from rankdet.models import ATSS": ("rankdet.models", "train"),
    "import rankdet.nn": ("rankdet.nn", "train"),
    "from rankdet.train import SGD": ("rankdet.train.SGD", "train"),
    "from rankdet.eval import predict": ("rankdet.eval.predict", "train"),
    "from rankdet.data import CopyPaste": ("rankdet.data.CopyPaste", "train"),
    "from rankdet import Predictor": ("rankdet.Predictor", "train"),
    "import rankdet.export": ("rankdet.export", "train"),
    "import rankdet.convert": ("rankdet.convert", "train"),
}
SAY_EACH = """
for statement in {statements}:
    try:
        exec(statement)
    except ImportError as error:
        print(error)
"""


def test_in_python_the_extra_is_named(tmp_path: Path):
    said = without(["torch"], SAY_EACH.format(statements=list(IN_PYTHON)), tmp_path).splitlines()
    assert said == [
        f'{purpose} needs torch, which is not installed: pip install "rankdet[{extra}]"'
        for purpose, extra in IN_PYTHON.values()
    ]


def test_extras_are_those_of_the_package():
    extras = SETTINGS.partition("[project.optional-dependencies]")[2].partition("\n\n")[0]
    brought = {extra: text for extra, text in re.findall(r"^(\w+) = \[(.*?)\]$", extras, re.M | re.S)}
    names = {"cv2": "opencv-python-headless", "docstring_parser": "jsonargparse[signatures]"}
    names["jsonargparse"] = names["docstring_parser"]
    for library, extra in LIBRARIES.items():
        if library != "torchcodec":  # which decodes videos as well, where it is
            assert f'"{names.get(library, library)}>=' in brought[extra]
    for extra in set(_LIBRARIES) - {"losses", "train"}:
        assert '"rankdet[train]"' in brought[extra], "an extra has what those within it have"
