"""The result of an evaluation: its table, its JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from rankdet.eval import Evaluation, evaluate

NAMES = (
    "AP AP50 AP75 AP_small AP_medium AP_large AR_1 AR_10 AR_100 AR_small AR_medium AR_large "
    "oLRP oLRP_Loc oLRP_FP oLRP_FN oLRP_small oLRP_medium oLRP_large"
).split()


def evaluation_of(num_classes: int, names: list[str] | None = None) -> Evaluation:
    """Class c has c + 1 objects, all found with score 0.8768 but that of class 1."""
    names = names or [f"class {c}" for c in range(num_classes)]
    truth = {
        "images": [{"id": i} for i in range(num_classes)],
        "categories": [{"id": c + 1, "name": name} for c, name in enumerate(names)],
        "annotations": [
            {"image_id": i, "category_id": c + 1, "bbox": [0, 0, 50, 50]}
            for c in range(num_classes)
            for i in range(c + 1)
        ],
    }
    results = [{**a, "score": 0.8768} for a in truth["annotations"] if a["category_id"] != 2]
    return evaluate(truth, results)


def printed(evaluation: Evaluation, width: int = 80, **options) -> str:
    console = Console(width=width, record=True, quiet=False, file=open("/dev/null", "w", encoding="utf-8"))
    console.print(evaluation.table(**options))
    return console.export_text()


def test_json_is_flat_with_the_agreed_names():
    content = json.loads(evaluation_of(4).to_json())
    assert list(content) == [*NAMES, "per_class"]
    assert all(value is None or 0 <= value <= 1 for name, value in content.items() if name != "per_class")
    assert list(content["per_class"]) == ["class 0", "class 1", "class 2", "class 3"]
    expected = {"AP", "oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN", "threshold"}
    assert all(expected <= set(row) for row in content["per_class"].values())
    assert content["per_class"]["class 1"]["threshold"] is None


def test_json_comes_back():
    evaluation = evaluation_of(4)
    again = Evaluation.from_json(evaluation.to_json())
    assert again == evaluation
    assert again.details is None
    assert again.thresholds == evaluation.thresholds == {1: 0.8768, 3: 0.8768, 4: 0.8768}


def test_json_of_earlier_versions_has_a_number_for_what_is_undefined():
    text = evaluation_of(4).to_json().replace("null", "-1.0")
    assert Evaluation.from_json(text) == evaluation_of(4)


def test_classes_of_one_name_stay_apart():
    evaluation = evaluation_of(3, ["cat", "dog", "cat"])
    assert list(json.loads(evaluation.to_json())["per_class"]) == ["cat (1)", "dog", "cat (3)"]
    assert Evaluation.from_json(evaluation.to_json()) == evaluation


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"AP": 1, "per_class": {"cat": {"AP": 1}}}', '{"per_class": {"cat": 3}}']
)
def test_other_json_is_refused(text):
    with pytest.raises(ValueError, match="not the JSON of an evaluation"):
        Evaluation.from_json(text)


def test_saving_writes_all_or_nothing(tmp_path, monkeypatch):
    file = evaluation_of(2).save(tmp_path / "metrics.json")
    before = file.read_text()

    def breaks_off(path: Path, text: str, **_: object) -> None:
        path.write_bytes(text[:10].encode())
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_text", breaks_off)
    with pytest.raises(OSError, match="disk full"):
        evaluation_of(3).save(file)
    assert file.read_text() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.json"]


def test_the_table_has_the_main_numbers_and_the_thresholds_rounded_down():
    lines = [line.split() for line in printed(evaluation_of(4)).splitlines() if line.strip()]
    assert " ".join(lines[0]) == "class objects AP AP50 AP75 oLRP Loc FP rate FN rate threshold"
    assert lines[2] == ["all", "10", "0.750", "0.750", "0.750", "0.250", "0.000", "0.000", "0.250"]
    assert lines[3] == ["class", "0", "1", "1.000", "1.000", "1.000", "0.000", "0.000", "0.000", "0.000", "0.876"]
    assert lines[4] == ["class", "1", "2", "0.000", "0.000", "0.000", "1.000", "–", "–", "1.000", "–"]


def test_the_table_of_many_classes_shows_those_with_most_objects():
    lines = printed(evaluation_of(30), max_classes=5).splitlines()
    shown = [line.split()[1] for line in lines if line.strip().startswith("class ") and "objects" not in line]
    assert shown == ["25", "26", "27", "28", "29"]
    assert any("25 more" in line for line in lines)


@pytest.mark.parametrize("count", [4, 80])
def test_the_table_fits_80_columns(count):
    lines = printed(evaluation_of(count)).splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    assert sum(line.strip().startswith("class ") for line in lines) == count + 1
