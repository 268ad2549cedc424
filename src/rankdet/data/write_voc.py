"""The content of a COCO file as VOC annotation files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from rankdet.data.voc_xml import CORNERS
from rankdet.data.write_yolo import is_crowd

IMAGES, ANNOTATIONS = "JPEGImages", "Annotations"


def write_annotations(content: Mapping[str, Any], folder: Path) -> list[str]:
    """Write ``Annotations`` for images that will lie in ``JPEGImages``; what the format cannot hold, in words.

    The first and the last pixel of a box are counted from 1. Crowd regions become difficult objects.
    """
    names = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
    objects: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in content["annotations"]:
        objects[entry["image_id"]].append(entry)
    (folder / ANNOTATIONS).mkdir()
    for image in content["images"]:
        root = _root(image)
        for entry in objects[image["id"]]:
            _add(root, entry, names[entry["category_id"]])
        indent(root)
        file = folder / ANNOTATIONS / PurePosixPath(image["file_name"]).with_suffix(".xml")
        file.parent.mkdir(parents=True, exist_ok=True)
        ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)
    masks = sum(bool(entry.get("segmentation")) for entry in content["annotations"])
    return [f"{masks:,} masks left out: the format has none"] if masks else []


def _root(image: Mapping[str, Any]) -> Element:
    root = Element("annotation")
    SubElement(root, "filename").text = image["file_name"]
    size = SubElement(root, "size")
    for key, value in (("width", image["width"]), ("height", image["height"]), ("depth", 3)):
        SubElement(size, key).text = str(value)
    return root


def _add(root: Element, entry: Mapping[str, Any], name: str) -> None:
    item = SubElement(root, "object")
    SubElement(item, "name").text = name
    SubElement(item, "difficult").text = str(int(is_crowd(entry)))
    x, y, width, height = entry["bbox"]
    box = SubElement(item, "bndbox")
    for key, value in zip(CORNERS, (x + 1, y + 1, x + width, y + height), strict=True):
        SubElement(box, key).text = f"{value:.10g}"
