"""Panoptic results against a count pixel by pixel."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rankdet.eval import GroundTruthError, ResultsError, evaluate_panoptic
from tests.reference.panoptic import counts_of_image, measures

CATEGORIES = [
    {"id": 1, "name": "cat", "isthing": 1},
    {"id": 7, "name": "dog", "isthing": 1},
    {"id": 90, "name": "sky", "isthing": 0},
    {"id": 91, "name": "sea", "isthing": 0},
]
Panoptic = tuple[np.ndarray, list[dict]]


def random_segments(rng: np.random.Generator, *, crowds: bool) -> Panoptic:
    """Rectangles on each other, some pixels of no segment."""
    pixels = np.zeros((12, 16), np.int64)
    ids = rng.choice(2**24 - 1, 6, replace=False) + 1
    for number in ids:
        top, left = rng.integers(0, 10), rng.integers(0, 13)
        pixels[top : top + rng.integers(2, 8), left : left + rng.integers(2, 9)] = number
    return describe(pixels, rng, crowds=crowds)


def describe(pixels: np.ndarray, rng: np.random.Generator, *, crowds: bool) -> Panoptic:
    segments = []
    for number in sorted(set(pixels.ravel().tolist()) - {0}):
        category = int(rng.choice([1, 7, 90]))
        crowd = int(crowds and category == 1 and rng.random() < 0.3)
        area = int((pixels == number).sum())
        segments.append({"id": number, "category_id": category, "iscrowd": crowd, "area": area})
    return pixels, segments


def detected(truth: Panoptic, rng: np.random.Generator) -> Panoptic:
    """The segments of the truth, moved or merged, with other ids, some as another class."""
    pixels = np.roll(truth[0], rng.integers(-1, 2, 2), axis=(0, 1))
    renamed = {segment["id"]: int(rng.integers(1, 2**24)) for segment in truth[1]}
    pixels = np.vectorize(lambda number: renamed.get(number, 0))(pixels)
    found = describe(pixels, rng, crowds=False)
    classes = {renamed[segment["id"]]: segment["category_id"] for segment in truth[1]}
    for segment in found[1]:
        if rng.random() < 0.8:
            segment["category_id"] = classes[segment["id"]]
    return found


def write(folder: Path, name: str, images: dict[int, Panoptic]) -> Path:
    (folder / name).mkdir(exist_ok=True)
    annotations = []
    for number, (pixels, segments) in images.items():
        colours = np.stack([pixels % 256, pixels // 256 % 256, pixels // 256**2], axis=-1).astype(np.uint8)
        Image.fromarray(colours).save(folder / name / f"{number}.png")
        annotations.append({"image_id": number, "file_name": f"{number}.png", "segments_info": segments})
    content = {"annotations": annotations, "categories": CATEGORIES}
    (folder / f"{name}.json").write_text(json.dumps(content))
    return folder / f"{name}.json"


@pytest.mark.parametrize("seed", range(5))
def test_random_problems_equal_the_definition(tmp_path, seed):
    rng = np.random.default_rng(seed)
    truth = {number: random_segments(rng, crowds=True) for number in range(6)}
    found = {
        number: detected(truth[number], rng) if rng.random() < 0.8 else random_segments(rng, crowds=False)
        for number in truth
    }
    evaluation = evaluate_panoptic(write(tmp_path, "truth", truth), write(tmp_path, "found", found))
    rows = {row.category_id: row for row in evaluation.per_class}
    expected = {
        category: measures([counts_of_image(truth[number], found[number], category) for number in truth])
        for category in rows
    }
    for category, row in rows.items():
        for name, value in expected[category].items():
            assert getattr(row, name) == pytest.approx(value, abs=1e-12, nan_ok=True)
        owned = [s for _, segments in truth.values() for s in segments if s["category_id"] == category]
        assert row.segments == sum(not segment["iscrowd"] for segment in owned)
    for end, classes in (("", [1, 7, 90]), ("_things", [1, 7]), ("_stuff", [90])):
        for name in ("PQ", "SQ", "RQ", "LRP"):
            mean = np.mean([expected[category][name] for category in classes])
            assert evaluation.metrics[name + end] == pytest.approx(mean)
    assert np.isnan(rows[91].PQ)
    assert 0.1 < evaluation.metrics["PQ"] < 0.9


def test_perfect_results(tmp_path):
    truth = {1: random_segments(np.random.default_rng(0), crowds=False)}
    file = write(tmp_path, "truth", truth)
    for _, segments in truth.values():
        segments[0]["iscrowd"] = "0"
    evaluation = evaluate_panoptic(write(tmp_path, "truth", truth), file)
    assert evaluation.metrics["PQ"] == 1
    assert evaluation.metrics["LRP"] == evaluation.metrics["LRP_FN"] == 0
    content = json.loads(evaluation.to_json())
    assert content["per_class"]["sea"]["PQ"] is None
    assert evaluation.table().row_count == 3 + len(CATEGORIES)


def one(number: int = 1, **changes: object) -> dict[int, Panoptic]:
    pixels = np.zeros((4, 4), np.int64)
    pixels[:2] = 5
    return {number: (pixels, [{"id": 5, "category_id": 1, "iscrowd": 0, "area": 8, **changes}])}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (one(number=2), "found.json has nothing for image 1, which the ground truth has"),
        (one(id=6), "1.png of found.json: segment 5 is in the PNG file and not in 'segments_info'"),
        (one(iscrowd=2), "1.png of found.json: segment 5 has iscrowd 2; write 0 or 1"),
        (one(category_id=3), "1.png of found.json: category_id 3 is not among the 'categories' of the ground truth"),
        ({1: (np.full((3, 4), 5), one()[1][1])}, r"1.png of found.json is 3 x 4 pixels, 1.png of truth.json is 4 x 4"),
        ({1: (np.zeros((4, 4), np.int64), one()[1][1])}, "segment 5 is in 'segments_info' and not in the PNG file"),
    ],
)
def test_faulty_results_are_named(tmp_path, found, message):
    truth, results = write(tmp_path, "truth", one()), write(tmp_path, "found", found)
    with pytest.raises(ResultsError, match=message):
        evaluate_panoptic(truth, results)


def test_faulty_files_are_named(tmp_path):
    truth = write(tmp_path, "truth", one())
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ResultsError, match=r"other.json is no panoptic file"):
        evaluate_panoptic(truth, tmp_path / "other.json")
    with pytest.raises(GroundTruthError, match=r"there is no folder .*nowhere"):
        evaluate_panoptic(truth, truth, truth_folder=tmp_path / "nowhere")
    (tmp_path / "truth" / "1.png").write_bytes(b"no picture")
    with pytest.raises(GroundTruthError, match=r"1\.png"):
        evaluate_panoptic(truth, truth)
