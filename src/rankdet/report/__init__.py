"""The report: one self-contained HTML page that shows how good detections are, and where they fail.

>>> from rankdet.report import read_problem, render, report_content
>>> truth = {"images": [{"id": 1}], "categories": [{"id": 3, "name": "cat"}],
...          "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10]}]}
>>> found = [{"image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 8], "score": 0.9}]
>>> page = render(report_content(read_problem(truth, found), title="Cats"))
>>> page.startswith("<!doctype html>")
True
"""

from __future__ import annotations

from rankdet.report.content import report_content
from rankdet.report.images import Limits, OpenImage, dataset_images, folder_images, no_images
from rankdet.report.page import render
from rankdet.report.problem import Problem, read_problem

__all__ = [
    "Limits",
    "OpenImage",
    "Problem",
    "dataset_images",
    "folder_images",
    "no_images",
    "read_problem",
    "render",
    "report_content",
]
