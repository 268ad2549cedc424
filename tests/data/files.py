"""Small datasets on disk, for the tests of this folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def write_image(path: Path, *, height: int = 48, width: int = 64, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def coco(**changes: Any) -> dict[str, Any]:
    """Three images (one empty) of 64 x 48, four objects of sparse, unsorted categories, one of them a crowd."""
    content: dict[str, Any] = {
        "images": [
            {"id": 7, "file_name": "a.png", "height": 48, "width": 64},
            {"id": 0, "file_name": "b.png", "height": 48, "width": 64},
            {"id": 3, "file_name": "c.png", "height": 48, "width": 64},
        ],
        "annotations": [
            annotation(10, 7, 90, [4, 5, 10, 20]),
            annotation(11, 3, 0, [0, 0, 64, 48]),
            annotation(12, 7, 5, [30.5, 10.25, 8, 9]),
            annotation(13, 7, 5, [1, 1, 40, 40], iscrowd=1),
        ],
        "categories": [{"id": 90, "name": "cat"}, {"id": 5, "name": "dog"}, {"id": 0, "name": "cow"}],
    }
    return content | changes


def annotation(number: int, image: int, category: int, box: list[float], **more: Any) -> dict[str, Any]:
    area = box[2] * box[3]
    return {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": area, "iscrowd": 0} | more


def write_coco(folder: Path, content: Any = None, *, name: str = "instances_train.json", images: str = "") -> Path:
    """The annotation file, and its images in the subfolder `images`."""
    content = coco() if content is None else content
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(content, dict):
        for seed, image in enumerate(content.get("images", [])):
            if isinstance(image, dict) and {"file_name", "height", "width"} <= image.keys():
                size = {"height": max(int(image["height"]), 1), "width": max(int(image["width"]), 1)}
                write_image(folder / images / image["file_name"], **size, seed=seed)
    (folder / name).write_text(json.dumps(content))
    return folder / name


VOC_OBJECT = """
  <object>
    <name>{name}</name><difficult>{difficult}</difficult>
    <bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox>
    <part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>
  </object>"""


def voc_xml(name: str, *objects: tuple[str, tuple[float, ...], int | str], size: str | None = None) -> str:
    size = "<size><width>64</width><height>48</height><depth>3</depth></size>" if size is None else size
    body = "".join(VOC_OBJECT.format(name=label, box=box, difficult=flag) for label, box, flag in objects)
    return f"<annotation><filename>{name}</filename>{size}{body}</annotation>"


def write_voc(folder: Path, **files: str) -> Path:
    """A VOC folder with the given XML files, each with an image of 64 x 48."""
    (folder / "Annotations").mkdir(parents=True)
    for stem, text in files.items():
        (folder / "Annotations" / f"{stem}.xml").write_text(text)
        write_image(folder / "JPEGImages" / f"{stem}.png")
    return folder
