"""Groups of objects by properties of objects and images, against pycocotools and against the images alone."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from rankdet.eval import GroundTruthError, compare, evaluate, read_results, read_rules
from tests.eval.test_coco import undefined_as_nan
from tests.eval.test_lvis import random_lvis_problem
from tests.reference.coco_sets import pycocotools_evaluation, random_problem

WEATHER, OCCLUDED = ("fog", "rain", "sun"), (False, True)
NAMES = ("weather", "occluded")


def with_properties(truth: dict, rng: np.random.Generator) -> dict:
    """The same, every image with a weather, every object occluded or not."""
    images = [{**image, "weather": str(rng.choice(WEATHER))} for image in truth["images"]]
    annotations = [{**each, "occluded": bool(rng.choice(OCCLUDED))} for each in truth["annotations"]]
    return {**truth, "images": images, "annotations": annotations}


def grouped_problem(rng: np.random.Generator) -> tuple[dict, list[dict]]:
    """One with an object at least."""
    truth, results = random_problem(rng)
    return (with_properties(truth, rng), results) if truth["annotations"] else grouped_problem(rng)


def only(truth: dict, results: list[dict], weather: str) -> tuple[dict, list[dict]]:
    """The part of the images with a weather."""
    images = [image for image in truth["images"] if image["weather"] == weather]
    ids = {image["id"] for image in images}
    chosen = [[entry for entry in entries if entry["image_id"] in ids] for entries in (truth["annotations"], results)]
    return {**truth, "images": images, "annotations": chosen[0]}, chosen[1]


def test_a_group_of_images_has_the_numbers_of_these_images_alone():
    rng = np.random.default_rng(0)
    for _ in range(40):
        truth, results = grouped_problem(rng)
        found = evaluate(truth, results, properties=NAMES).metrics
        for weather in {image["weather"] for image in truth["images"]}:
            alone = evaluate(*only(truth, results, weather)).metrics
            for name, of_limit in (("AP", "AP"), ("AR", "AR_100"), ("oLRP", "oLRP")):
                assert found[f"{name}_weather={weather}"] == pytest.approx(alone[of_limit], abs=1e-12, nan_ok=True)


def test_a_group_of_images_is_counted_by_the_rules_of_lvis():
    rng = np.random.default_rng(1)
    for _ in range(10):
        truth, results = random_lvis_problem(rng)
        truth = with_properties(truth, rng)
        rules = read_rules(truth, properties=["weather"])
        found = rules.evaluate(read_results(results, rules.truth)).metrics
        for weather in {image["weather"] for image in truth["images"]}:
            part, some = only(truth, results, weather)
            alone = read_rules(part)
            expected = alone.evaluate(read_results(some, alone.truth)).metrics
            assert found[f"AP_weather={weather}"] == pytest.approx(expected["AP"], abs=1e-12, nan_ok=True)


def test_objects_of_other_groups_are_ignored_as_in_pycocotools():
    rng = np.random.default_rng(2)
    everything = (0.0, 1e5)
    for _ in range(40):
        truth, results = grouped_problem(rng)
        evaluation = evaluate(truth, results, properties=["occluded"])
        groups = evaluation.details.matches.groups
        for occluded in {each["occluded"] for each in truth["annotations"]}:
            outside = copy.deepcopy(truth)  # an area beyond the range is pycocotools' way to ignore an object
            for entry in outside["annotations"]:
                entry["area"] = 10.0 if entry["occluded"] == occluded else 1e6
            reference = pycocotools_evaluation(outside, results, area_ranges=(everything,) * 4)
            place = groups.index(f"occluded={str(occluded).lower()}")
            found = evaluation.details.recall_precision.precision[..., place]
            expected = undefined_as_nan(reference.eval["precision"])[..., 0, -1]
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_all_other_numbers_stay_as_they_are():
    rng = np.random.default_rng(3)
    truth, results = grouped_problem(rng)
    plain, grouped = evaluate(truth, results), evaluate(truth, results, properties=NAMES)
    assert {name: value for name, value in grouped.metrics.items() if "=" not in name} == plain.metrics
    assert grouped.per_class == plain.per_class


def test_groups_are_compared_with_intervals():
    truth, _ = random_problem(np.random.default_rng(0))
    box = [10.0, 10, 50, 50]
    truth["images"] = [{"id": number, "weather": WEATHER[number % 2]} for number in range(20)]
    category = truth["categories"][0]["id"]
    truth["annotations"] = [{"image_id": number, "category_id": category, "bbox": box} for number in range(20)]
    good = [{**entry, "score": 0.5 + entry["image_id"] / 100} for entry in truth["annotations"]]
    worse = [{**entry, "bbox": [10.0, 10, 50, 35]} if entry["image_id"] % 2 else entry for entry in good]
    this, other = (evaluate(truth, results, properties=["weather"]) for results in (good, worse))
    changes = compare(this, other, resamples=50).metrics
    assert changes["AP_weather=rain"].is_certain
    assert changes["AP_weather=rain"].difference == pytest.approx(0.5)
    assert (changes["AP_weather=fog"].difference, changes["oLRP_weather=fog"].high) == (0, 0)


def values_of(images: list[dict], name: str = "weather", **annotation: object) -> tuple[str, ...]:
    """The groups that a property of images, or of the only annotation, makes."""
    truth = {
        "images": [{"id": number, **image} for number, image in enumerate(images)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"image_id": 0, "category_id": 1, "bbox": [0, 0, 9, 9], **annotation}],
    }
    return read_rules(truth, properties=[name]).truth.properties[0].values


def test_what_values_are():
    assert values_of([{"weather": "rain "}, {}, {"weather": "rain"}]) == ("none", "rain")
    assert values_of([{"weather": 10}, {"weather": 2.0}, {"weather": True}]) == ("2", "10", "true")
    assert values_of([{}], "occluded", attributes={"occluded": False}) == ("false",)
    assert values_of([{"weather": "sun"}], "images.weather", weather="fog") == ("sun",)
    assert values_of([{"weather": "sun"}], "annotations.weather", weather="fog") == ("fog",)


@pytest.mark.parametrize(
    ("images", "name", "message"),
    [
        ([{"wether": 1}], "weather", "do not have the property 'weather'; the first of the annotations has image_id"),
        ([{"wether": 1}], "images.weather", "the images of ground truth do not .*; the first of the images has id"),
        ([{"area": 1}], "area", "both annotations and images of ground truth .*; say annotations.area or images.area"),
        ([{"weather": ["rain"]}], "weather", r"image 0 of ground truth: 'weather' is \['rain'\]; groups need text"),
        ([{"weather": number} for number in range(51)], "weather", "has 51 values, such as 0 and 1; groups need .* 50"),
    ],
)
def test_properties_that_give_no_groups(images, name, message):
    with pytest.raises(GroundTruthError, match=message):
        values_of(images, name, area=81)
