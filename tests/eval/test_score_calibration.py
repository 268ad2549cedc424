"""The procedure of calibration: thresholds, parts of the images, few detections, numbers before and after."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rankdet.eval import evaluate, read_results, read_rules
from rankdet.eval.calibration import ANY_OVERLAP, calibration_error, operating_thresholds
from rankdet.eval.matching import match
from rankdet.eval.score_calibration import (
    CALIBRATIONS,
    LEAST_DETECTIONS,
    assess_scores,
    in_logits,
    map_scores,
    of_images,
    shift_scores,
    split_images,
)
from rankdet.eval.score_fitting import fit_platt
from rankdet.eval.score_mapping import Affine, MappingError, ScoreMapping, Table, logits_of, scores_of

FITS = {name: calibrate for name, calibrate in CALIBRATIONS.items() if name != "shift"}


def dataset(*, images: int = 60, seed: int = 0):
    """Two classes whose scores mean different things, and an object in three that is found well, badly, or not."""
    rng = np.random.default_rng(seed)
    truth = {
        "images": [{"id": 10 + i, "width": 200, "height": 100} for i in range(images)],
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}, {"id": 9, "name": "owl"}],
        "annotations": [],
    }
    results = []
    for image in truth["images"]:
        for category in (3, 5):
            for place in range(3):
                box = [60 * place, 0, 40, 40]
                truth["annotations"].append({"image_id": image["id"], "category_id": category, "bbox": box})
                overlap = rng.uniform(0.3, 1)
                logit = (3 if category == 3 else 0.5) * (8 * overlap - 5) + rng.normal() - 4
                results.append(_result(image["id"], category, [60 * place, 0, 40 * overlap, 40], logit))
                results.append(_result(image["id"], category, [60 * place, 60, 30, 30], rng.normal() - 6))
    return truth, results


def _result(image: int, category: int, box: list[float], logit: float) -> dict:
    score = float(scores_of(np.array([logit]))[0])
    return {"image_id": image, "category_id": category, "bbox": [float(side) for side in box], "score": score}


@pytest.fixture(scope="module")
def read():
    truth, results = dataset()
    rules = read_rules(truth)
    return rules, in_logits(read_results(results, rules.truth))


@pytest.mark.parametrize("method", FITS)
def test_errors_on_other_images_fall(read, method):
    rules, detections = read
    chosen = split_images(60, share=0.5)
    fitted = FITS[method](*of_images(rules, detections, chosen))
    before = assess_scores(*of_images(rules, detections, ~chosen), fitted.before).metrics
    after = assess_scores(*of_images(rules, map_scores(detections, fitted.mapping), ~chosen), fitted.after).metrics
    assert after["LaECE_0"] < 0.8 * before["LaECE_0"]
    if method != "temperature":
        assert after["LaECE_0"] < 0.06
        assert after["LaACE_0"] < before["LaACE_0"]
    if method != "isotonic":  # the order is the same, and the threshold at the same place in it
        for name in ("AP", "oLRP", "AP_deployed", "LRP", "LRP_0"):
            assert after[name] == pytest.approx(before[name], abs=1e-12)


@pytest.mark.parametrize("method", FITS)
def test_order_within_a_class_stays(read, method):
    rules, detections = read
    after = map_scores(detections, FITS[method](rules, detections).mapping)
    for category in (0, 1):
        rows = np.flatnonzero(detections.categories == category)
        steps = np.diff(after.logits[rows[np.argsort(detections.logits[rows])]])
        assert (steps >= 0).all() if method == "isotonic" else (steps > 0).all()


def test_platt_sees_what_is_deployed_and_isotonic_everything(read):
    rules, detections = read
    matches = match(rules.truth, replace(detections, scores=detections.logits, logits=None), max_detections=100)
    limit = operating_thresholds(matches)
    kept = detections.logits >= np.nan_to_num(limit)[detections.categories]
    expected = np.bincount(detections.categories[kept], minlength=3)
    assert FITS["platt"](rules, detections).seen == tuple(expected.tolist())
    assert FITS["isotonic"](rules, detections).seen == (360, 360, 0)


def test_platt_of_a_class_is_that_of_its_detections_and_their_overlaps(read):
    rules, detections = read
    fitted = FITS["platt"](rules, detections)
    loose = match(rules.truth, detections, iou_thresholds=(ANY_OVERLAP,)).outcomes()
    rows = (loose.categories == 1) & (logits_of(loose.scores) >= fitted.before[1])
    slow = fit_platt(logits_of(loose.scores[rows]), np.where(loose.true_positive, loose.overlaps, 0.0)[rows])
    assert fitted.mapping.classes[1].slope == pytest.approx(slow.slope)
    assert fitted.mapping.classes[1].bias == pytest.approx(slow.bias)


def test_isotonic_scores_are_the_mean_overlap_of_their_bins(read):
    rules, detections = read
    after = map_scores(detections, FITS["isotonic"](rules, detections).mapping)
    errors = calibration_error(match(rules.truth, after, iou_thresholds=(ANY_OVERLAP,)))
    assert errors.la_ece < 1e-5


@pytest.mark.parametrize("method", FITS)
def test_classes_with_little_to_fit_to_keep_their_scores(read, method):
    rules, detections = read
    dogs = np.flatnonzero(detections.categories == 1)
    few = detections.take(np.setdiff1d(np.arange(len(detections)), dogs[: len(dogs) - (LEAST_DETECTIONS - 1)]))
    fitted = FITS[method](rules, few)
    assert not isinstance(fitted.mapping.classes[0], Affine) or fitted.mapping.classes[0] != Affine()
    assert fitted.mapping.classes[1:] == (Affine(), Affine())
    assert fitted.notes[0] == ""
    assert "fewer than" in fitted.notes[1]
    assert "no object of it" in fitted.notes[2]


def test_nothing_found_is_said(read):
    rules, detections = read
    for calibrate in CALIBRATIONS.values():
        with pytest.raises(ValueError, match="no object was found"):
            calibrate(rules, detections.take(np.zeros(0, np.int64)))


def test_shift_puts_the_thresholds_at_a_half(read):
    rules, detections = read
    fitted = shift_scores(rules, detections)
    assert fitted.mapping.thresholds == (0.5, 0.5, 0.5)
    after = assess_scores(rules, map_scores(detections, fitted.mapping), fitted.after).metrics
    before = assess_scores(rules, detections, fitted.before).metrics
    assert after["LRP"] == before["LRP"] == pytest.approx(before["oLRP"], abs=1e-12)


def test_numbers_are_those_of_the_plain_functions(read):
    rules, detections = read
    truth, results = dataset()
    found = assess_scores(rules, detections, np.full(3, -np.inf))
    assert found.metrics["AP"] == pytest.approx(evaluate(truth, results).metrics["AP"])
    for suffix in ("", "_all"):
        loose = calibration_error(match(rules.truth, detections, iou_thresholds=(ANY_OVERLAP,)))
        strict = match(rules.truth, detections)
        assert found.metrics[f"LaECE_0{suffix}"] == pytest.approx(loose.la_ece)
        assert found.metrics[f"LaACE_0{suffix}"] == pytest.approx(loose.la_ace)
        assert found.metrics[f"D_ECE{suffix}"] == pytest.approx(calibration_error(strict, bins=10).pooled_d_ece)
        assert found.metrics[f"D_ECE_per_class{suffix}"] == pytest.approx(calibration_error(strict).d_ece)


def test_lrp_at_any_overlap_by_hand():
    box = {"image_id": 1, "category_id": 3}
    truth = {"images": [{"id": 1}], "categories": [{"id": 3, "name": "cat"}], "annotations": [
        {**box, "bbox": [0, 0, 10, 10]}, {**box, "bbox": [50, 0, 10, 10]},
    ]}  # fmt: skip
    rules = read_rules(truth)
    results = [
        {**box, "bbox": [0, 0, 10, 3], "score": 0.9},
        {**box, "bbox": [0, 90, 1, 1], "score": 0.8},
        {**box, "bbox": [50, 0, 10, 10], "score": 0.1},
    ]
    found = assess_scores(rules, read_results(results, rules.truth), np.zeros(1)).metrics
    assert found["LRP_0"] == pytest.approx((0.7 + 1 + 1) / 3)
    assert found["LRP"] == 1  # the first is too loose at 0.5
    assert found["LaACE_0"] == pytest.approx((0.6 + 0.8) / 2)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.99])
def test_parts_are_seeded_and_never_empty(share):
    chosen = split_images(7, share=share, seed=3)
    assert 1 <= chosen.sum() <= 6
    assert (chosen == split_images(7, share=share, seed=3)).all()
    assert any((chosen != split_images(7, share=share, seed=seed)).any() for seed in range(10))


@pytest.mark.parametrize(("number", "share", "words"), [(5, 0.0, "share"), (5, 1.5, "share"), (1, 0.5, "1 images")])
def test_wrong_parts_are_refused(number, share, words):
    with pytest.raises(ValueError, match=words):
        split_images(number, share=share)


def test_a_part_has_the_objects_and_detections_of_its_images(read):
    rules, detections = read
    chosen = split_images(60, share=0.2)
    some, found = of_images(rules, detections, chosen)
    assert len(some.truth) == 12 * 6
    assert set(found.images.tolist()) <= set(np.flatnonzero(chosen).tolist())


def test_scores_outside_of_probabilities_are_refused(read):
    rules, detections = read
    wrong = replace(detections, scores=detections.scores + 2, logits=None)
    with pytest.raises(ValueError, match=r"entry 0 has the score 2\.\d+"):
        shift_scores(rules, wrong)


def test_thresholds_do_not_part_equal_scores():
    box = {"image_id": 1, "category_id": 3}
    truth = {"images": [{"id": 1}], "categories": [{"id": 3, "name": "cat"}], "annotations": [
        {**box, "bbox": [20 * i, 0, 10, 10]} for i in range(3)]}  # fmt: skip
    places = [(0, 0.9), (20, 0.5), (500, 0.5), (40, 0.2)]
    rules = read_rules(truth)
    found = read_results([{**box, "bbox": [x, 0, 10, 10], "score": score} for x, score in places], rules.truth)
    assert operating_thresholds(match(rules.truth, found)) == pytest.approx([0.19])


MAPPING = ScoreMapping(
    "isotonic", (3, 5), ("cat", "dog"), (Affine(2.0, -1.0), Table((-2.0, 1.0), (0.1, 0.4))), (0.1, 0.2), (0.3, 0.4)
)


def test_mappings_are_saved_and_read(tmp_path):
    import json

    file = tmp_path / "m.json"
    file.write_text(json.dumps(MAPPING.to_dict()))
    assert ScoreMapping.load(file) == MAPPING
    turned = MAPPING.of_categories([5, 3])
    assert turned.classes == MAPPING.classes[::-1]
    logits, categories = np.array([0.3, -1.0, 4.0]), np.array([0, 1, 0])
    np.testing.assert_array_equal(turned(logits, 1 - categories), MAPPING(logits, categories))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content.pop("rankdet_score_mapping"), "is no mapping"),
        (lambda content: content["classes"].reverse(), "must ascend"),
        (lambda content: content["classes"][0].pop("threshold"), "threshold"),
        (lambda content: content["classes"][0].pop("bias"), "category 3: it lacks 'bias'"),
        (lambda content: content["classes"][0].update(slope=-1), "category 3: .* slope above 0"),
        (lambda content: content["classes"][1].update(scores=[0.4, 0.1]), "category 5: .* never fall"),
        (lambda content: content["classes"][1].update(scores=[0.4]), "category 5: .* as many scores as logits"),
        (lambda content: content["classes"][1].update(logits=[1, 1]), "category 5: .* rise strictly"),
        (lambda content: content["classes"][1].update(logits="no"), "category 5"),
        (lambda content: content["classes"].append(7), "a class needs"),
    ],
)
def test_wrong_mappings_are_refused(change, words):
    content = MAPPING.to_dict()
    change(content)
    with pytest.raises(MappingError, match=words):
        ScoreMapping.from_dict(content, source="m.json")


def test_files_that_are_no_mapping_are_refused(tmp_path):
    (tmp_path / "text.json").write_text("no")
    for name in ("text.json", "none.json"):
        with pytest.raises(MappingError, match=name):
            ScoreMapping.load(tmp_path / name)
    with pytest.raises(MappingError, match="no category 4"):
        MAPPING.of_categories([4])
