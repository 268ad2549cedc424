"""A draft as a YOLO dataset."""

from __future__ import annotations

from pathlib import Path

from rankdet.data.write_yolo import write_labels
from rankdet.doctor.draft import Draft
from rankdet.doctor.write_coco import repaired


def write_yolo(draft: Draft, folder: Path) -> None:
    """Write ``data.yaml`` and ``labels``: what the original says but for what the draft changes."""
    write_labels(repaired(draft), folder)
