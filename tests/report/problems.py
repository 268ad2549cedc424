"""Small problems to report on."""

from __future__ import annotations

import numpy as np

from rankdet.report import Problem, read_problem
from tests.reference.coco_sets import random_problem

NASTY = "</script><img src=x onerror=alert(1)>&\u2028"


def two_cats_and_a_dog() -> tuple[dict, list[dict]]:
    """Cat 1 is found, cat 2 is taken for a dog, the dog is missed, and a dog is seen where nothing is."""
    truth = {
        "images": [
            {"id": 5, "file_name": "a.jpg", "height": 100, "width": 200},
            {"id": 9, "file_name": "b.jpg", "height": 100, "width": 200},
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 3, "bbox": [0, 0, 10, 10]},
            {"id": 2, "image_id": 9, "category_id": 3, "bbox": [50, 0, 20, 20]},
            {"id": 3, "image_id": 9, "category_id": 7, "bbox": [100, 50, 20, 20]},
            {"id": 4, "image_id": 5, "category_id": 7, "bbox": [150, 50, 20, 20]},
        ],
    }
    results = [
        {"image_id": 5, "category_id": 3, "bbox": [0, 0, 10, 8], "score": 0.9},
        {"image_id": 9, "category_id": 7, "bbox": [50, 0, 20, 20], "score": 0.8},
        {"image_id": 9, "category_id": 7, "bbox": [0, 80, 20, 20], "score": 0.7},
        {"image_id": 5, "category_id": 7, "bbox": [150, 50, 20, 20], "score": 0.6},
        {"image_id": 5, "category_id": 3, "bbox": [0, 60, 10, 8], "score": 0.1},
    ]
    return truth, results


def random_report_problem(seed: int) -> Problem:
    """Crowds, ties, empty images."""
    return read_problem(*random_problem(np.random.default_rng(seed)))
