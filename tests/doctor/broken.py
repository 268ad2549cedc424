"""Datasets with one fault each, made from a seed; and sound ones. What the doctor must find in them is said beside.

A fault is a function that takes a sound `Home`, breaks it, and returns what is `Expected`. `FAULTS` has all of them.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from rankdet.doctor import Headers, Pixels, Scan, Source
from tests.data.files import voc_xml

HEIGHT, WIDTH, IMAGES = 48, 64, 20
NAMES = {7: "cat", 3: "dog", 12: "emu"}


@dataclass(frozen=True)
class Expected:
    """The name of the finding, its count, and what its examples must mention; ``also`` may be found beside it."""

    name: str
    count: int
    mention: object = ""
    also: tuple[str, ...] = ()
    repaired: bool = True
    """Whether a repaired copy has the fault no more."""


@dataclass
class Home:
    """A dataset in the making: ``content`` is written by :meth:`save`, images are there already."""

    folder: Path
    rng: np.random.Generator
    content: dict[str, Any] = field(default_factory=dict)
    val: Home | None = None
    scan: Scan = field(default_factory=Headers)
    split: str = ""

    @property
    def images(self) -> list[dict[str, Any]]:
        return self.content["images"]

    @property
    def objects(self) -> list[dict[str, Any]]:
        return self.content["annotations"]

    @property
    def categories(self) -> list[dict[str, Any]]:
        return self.content["categories"]

    @property
    def file(self) -> Path:
        return self.folder / "instances_train.json"

    def some(self, key: str, number: int = 1) -> list[dict[str, Any]]:
        """Entries of a list drawn at random, in their order."""
        rows = sorted(self.rng.choice(len(self.content[key]), number, replace=False).tolist())
        return [self.content[key][row] for row in rows]

    def path(self, image: dict[str, Any]) -> Path:
        return self.folder / "images" / image["file_name"]

    def save(self) -> Source:
        if self.content:
            self.file.write_text(json.dumps(self.content))
        return Source(f"{self.folder}{self.split}" if (self.folder / "Annotations").is_dir() else str(self.file))


def sound(folder: Path, seed: int) -> Home:
    """Twenty images with an object of each of three classes, none of which touches another."""
    home = Home(folder, np.random.default_rng(seed))
    (folder / "images").mkdir(parents=True)
    images = [
        {"id": 100 + 3 * number, "file_name": f"{number:02d}.jpg", "height": HEIGHT, "width": WIDTH}
        for number in range(IMAGES)
    ]
    objects = [_object(home.rng, image, place) for image in images for place in range(len(NAMES))]
    for number, item in enumerate(objects, start=1):
        item["id"] = number
    categories = [{"id": number, "name": name} for number, name in NAMES.items()]
    home.content = {"info": {"year": seed}, "images": images, "annotations": objects, "categories": categories}
    for image in images:
        noise(home.rng).save(home.path(image), quality=95)
    return home


def noise(rng: np.random.Generator, *, height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def _object(rng: np.random.Generator, image: dict[str, Any], place: int) -> dict[str, Any]:
    box = [round(20.0 * place + rng.uniform(1, 3), 2), *rng.uniform((2, 8, 10), (10, 14, 30)).round(2).tolist()]
    category = list(NAMES)[place]
    return {"image_id": image["id"], "category_id": category, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}


def with_masks(home: Home) -> Home:
    """A rectangle for each object."""
    for item in home.objects:
        x, y, w, h = item["bbox"]
        item["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    return home


def with_lists(home: Home) -> Home:
    """As LVIS has it."""
    for image in home.images:
        image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    for category in home.categories:
        category["frequency"] = "f"
    return home


def as_voc(home: Home) -> Home:
    """The same as a folder of VOC files."""
    (home.folder / "Annotations").mkdir()
    for image in home.images:
        objects = [
            (NAMES[item["category_id"]], _corners(item["bbox"]), 0)
            for item in home.objects
            if item["image_id"] == image["id"]
        ]
        _xml(home, image).write_text(voc_xml(image["file_name"], *objects))
    (home.folder / "images").rename(home.folder / "JPEGImages")
    home.content = {}
    return home


def with_val(home: Home) -> Home:
    """Another sound dataset for validation."""
    home.val = sound(home.folder.parent / "val", seed=10_000)
    return home


def _corners(box: list[float]) -> tuple[float, ...]:
    return box[0] + 1, box[1] + 1, box[0] + box[2], box[1] + box[3]


def _xml(home: Home, image: dict[str, Any]) -> Path:
    return home.folder / "Annotations" / f"{Path(image['file_name']).stem}.xml"


Break = Callable[[Home], Expected]
FAULTS: dict[str, Break] = {}


def fault(breaks: Break) -> Break:
    FAULTS[breaks.__name__] = breaks
    return breaks


# ------------------------------------------------------------------------------------------------------------- boxes


@fault
def box_without_extent(home: Home) -> Expected:
    broken = home.some("annotations", 3)
    for item in broken:
        item["bbox"][2:] = [0, 0]
    return Expected("degenerate-box", 3, broken[0]["id"])


@fault
def box_of_negative_width(home: Home) -> Expected:
    [item] = home.some("annotations")
    item["bbox"][2] *= -1
    return Expected("degenerate-box", 1, item["id"])


@fault
def box_thinner_than_a_pixel(home: Home) -> Expected:
    [item] = home.some("annotations")
    item["bbox"][3] = 0.5
    item["area"] = item["bbox"][2] * 0.5
    return Expected("tiny-box", 1, item["id"], repaired=False)


@fault
def box_outside(home: Home) -> Expected:
    broken = home.some("annotations", 2)
    broken[0]["bbox"][0] = WIDTH + 1
    broken[1]["bbox"][1] = -100
    return Expected("box-outside-image", 2, broken[1]["id"])


@fault
def box_beyond_the_border(home: Home) -> Expected:
    [item] = home.some("annotations")
    item["bbox"][1] = HEIGHT - 5
    return Expected("box-beyond-image", 1, item["id"], also=("wrong-area",))


@fault
def box_twice(home: Home) -> Expected:
    [item] = home.some("annotations")
    home.objects.append({**item, "id": 1000})
    return Expected("duplicate-box", 1, 1000)


@fault
def box_of_two_classes(home: Home) -> Expected:
    [item] = home.some("annotations")
    other = next(number for number in NAMES if number != item["category_id"])
    home.objects.append({**item, "id": 1000, "category_id": other})
    return Expected("conflicting-boxes", 2, 1000, repaired=False)


@fault
def box_of_text(home: Home) -> Expected:
    broken = home.some("annotations", 3)
    broken[0]["bbox"], broken[1]["bbox"] = "1 2 3 4", [1, 2, 3]
    broken[2]["bbox"] = [0, 0, float("nan"), 4]
    return Expected("malformed-box", 3, broken[0]["id"])


@fault
def boxes_as_fractions(home: Home) -> Expected:
    for item in home.objects:
        item["bbox"] = (np.array(item["bbox"]) / [WIDTH, HEIGHT, WIDTH, HEIGHT]).tolist()
    return Expected("fractional-boxes", 60)


@fault
def boxes_as_corners(home: Home) -> Expected:
    for item in home.objects:
        x, y, w, h = item["bbox"]
        item["bbox"] = [x, y, x + w, y + h]
    return Expected("corner-boxes", 60)


@fault
def annotation_without_area(home: Home) -> Expected:
    [item] = home.some("annotations")
    del item["area"]
    return Expected("missing-area", 1, item["id"])


@fault
def area_larger_than_the_box(home: Home) -> Expected:
    [item] = home.some("annotations")
    item["area"] *= 3
    return Expected("wrong-area", 1, item["id"])


@fault
def area_of_a_mask_not_stated(home: Home) -> Expected:
    """What it should be is in the mask, and is not guessed from the box."""
    [item] = with_masks(home).some("annotations")
    del item["area"]
    return Expected("missing-area", 1, item["id"], repaired=False)


# --------------------------------------------------------------------------------------------------------------- ids


@fault
def image_listed_twice(home: Home) -> Expected:
    [image] = home.some("images")
    home.images.append(dict(image))
    return Expected("image-id-collision", 2, image["id"], also=("image-without-objects",))


@fault
def two_images_of_one_id(home: Home) -> Expected:
    first, second = home.some("images", 2)
    second["id"] = first["id"]
    return Expected(
        "image-id-collision", 2, first["id"], also=("annotation-without-image", "image-without-objects"), repaired=False
    )


@fault
def file_of_two_images(home: Home) -> Expected:
    first, second = home.some("images", 2)
    second["file_name"] = first["file_name"]
    return Expected("repeated-file", 1, second["id"], also=("unlisted-image",), repaired=False)


@fault
def two_categories_of_one_id(home: Home) -> Expected:
    home.categories.append({"id": 7, "name": "owl"})
    return Expected("category-id-collision", 2, "owl", also=("unused-class",), repaired=False)


@fault
def category_listed_twice(home: Home) -> Expected:
    home.categories.append({"id": 7, "name": "cat"})
    return Expected("category-id-collision", 2, "cat", also=("unused-class", "class-name-collision"))


@fault
def annotation_of_no_image(home: Home) -> Expected:
    broken = home.some("annotations", 2)
    for item in broken:
        item["image_id"] = 5
    return Expected("annotation-without-image", 2, broken[0]["id"])


@fault
def categories_counted_from_0(home: Home) -> Expected:
    known = {entry["id"] for entry in home.categories}
    for item in home.objects:
        item["category_id"] -= 1
    lost = sum(item["category_id"] not in known for item in home.objects)
    also = ("unused-class", "no-objects")
    return Expected("annotation-without-category", lost, also=also, repaired=False)


@fault
def annotation_of_no_category(home: Home) -> Expected:
    [item] = home.some("annotations")
    item["category_id"] = 90
    return Expected("annotation-without-category", 1, item["id"])


@fault
def annotations_of_one_id(home: Home) -> Expected:
    first, second = home.some("annotations", 2)
    second["id"] = first["id"]
    return Expected("annotation-id-collision", 2, first["id"])


@fault
def annotation_zero(home: Home) -> Expected:
    home.objects[0]["id"] = 0
    return Expected("annotation-id-zero", 1, "annotation 0 ")


@fault
def annotation_without_id(home: Home) -> Expected:
    del home.objects[4]["id"]
    return Expected("annotation-without-id", 1, "annotations[4]", also=("annotation-id-collision",))


# ---------------------------------------------------------------------------- what can be understood, written otherwise


@fault
def numbers_in_text(home: Home) -> Expected:
    for image in home.images[:2]:
        image |= {"height": str(image["height"]), "width": f" {image['width']}.0 "}
    for item in home.objects[3:6]:
        item |= {"image_id": str(item["image_id"]), "category_id": str(item["category_id"]), "iscrowd": "0"}
    home.objects[6]["bbox"] = list(map(str, home.objects[6]["bbox"]))
    return Expected("number-in-text", 14, "image 100: 'height' is '48'")


@fault
def everything_in_text(home: Home) -> Expected:
    def in_text(value: object) -> object:
        return list(map(in_text, value)) if isinstance(value, list) else str(value)

    for entry in [*home.images, *home.objects, *home.categories]:
        entry |= {key: in_text(value) for key, value in entry.items()}
    return Expected("number-in-text", 3 * len(home.images) + 6 * len(home.objects) + len(home.categories), "'id' is '")


@fault
def ids_in_words(home: Home) -> Expected:
    for image in home.images[4:9]:
        for item in home.objects:
            if item["image_id"] == image["id"]:
                item["image_id"] = f"frame {image['id']}"
        image["id"] = f"frame {image['id']}"
    return Expected("id-in-words", 5, "images[4] has the id 'frame 112'")


@fault
def categories_in_words(home: Home) -> Expected:
    for entry in [*home.categories, *home.objects]:
        key = "category_id" if "category_id" in entry else "id"
        entry[key] = f"class-{entry[key]}"
    return Expected("id-in-words", 3, "'class-7'")


@fault
def names_for_ids(home: Home) -> Expected:
    names = {category["id"]: category["name"] for category in home.categories}
    for item in home.objects[1:4]:
        item["category_id"] = names[item["category_id"]]
    return Expected("reference-by-name", 3, "annotations[1]: '")


@fault
def annotations_as_an_object(home: Home) -> Expected:
    home.content["annotations"] = {str(item["id"]): item for item in home.objects}
    return Expected("list-as-object", 1, "'annotations': '1', '2', '3', ...")


@fault
def class_names_that_are_numbers(home: Home) -> Expected:
    for name, category in zip((0, True, 2.5), home.categories, strict=True):
        category["name"] = name
    return Expected("name-not-in-text", 3, "category 7: 'name' is 0, read as '0'")


@fault
def class_name_with_a_line_break(home: Home) -> Expected:
    home.categories[1]["name"] = "big\ndog\r\n"
    return Expected("name-not-in-text", 1, "read as 'big dog'")


@fault
def crowd_of_words(home: Home) -> Expected:
    home.objects[2]["iscrowd"] = "perhaps"
    return Expected("malformed-crowd", 1, "annotation 3 of image 100: 'iscrowd' is 'perhaps'", repaired=False)


@fault
def area_of_words(home: Home) -> Expected:
    home.objects[2]["area"] = "large"
    return Expected("malformed-area", 1, "'area' is 'large'")


@fault
def ignored_object(home: Home) -> Expected:
    home.objects[2]["ignore"] = 1
    return Expected("ignored-object", 1, "annotation 3 ", repaired=False)


@fault
def masks_in_other_forms(home: Home) -> Expected:
    first, second, third, fourth, fifth = with_masks(home).some("annotations", 5)
    first["segmentation"] = first["segmentation"][0]
    second["segmentation"] = [second["segmentation"][0][place : place + 2] for place in (0, 2, 4, 6)]
    third["segmentation"] = json.dumps(third["segmentation"])
    fourth["segmentation"] = [list(map(str, fourth["segmentation"][0]))]
    fifth["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": str(_run_lengths(fifth["segmentation"]))}
    return Expected("mask-in-another-form", 5, f"annotation {first['id']} ")


@fault
def masks_that_are_empty(home: Home) -> Expected:
    for item in home.objects:
        item["segmentation"] = []
    return Expected("empty-segmentations", 60, "annotation 1 ", repaired=False)


def _run_lengths(polygons: list[list[float]]) -> bytes:
    return coco_mask.merge(coco_mask.frPyObjects(polygons, HEIGHT, WIDTH))["counts"]


@fault
def accents_composed_otherwise(home: Home) -> Expected:
    for image in home.images[:3]:
        path = home.path(image)
        path.rename(path.with_name(unicodedata.normalize("NFD", f"Überblick {path.name}")))
        image["file_name"] = f"Überblick {path.name}"
    return Expected("other-unicode-form", 3, "Überblick 00.jpg")


# ------------------------------------------------------------------------------------------------- the file as a whole


@fault
def file_cut_short(home: Home) -> Expected:
    home.file.write_text(json.dumps(home.content)[: home.rng.integers(10, 2000)])
    home.content = {}
    return Expected("unreadable-file", 1, home.file, repaired=False)


@fault
def file_of_results(home: Home) -> Expected:
    home.file.write_text(json.dumps(home.objects))
    home.content = {}
    return Expected("unreadable-file", 1, home.file, repaired=False)


@fault
def file_without_categories(home: Home) -> Expected:
    del home.content["categories"]
    also = ("no-categories", "annotation-without-category", "no-objects")
    return Expected("missing-list", 1, also=also, repaired=False)


@fault
def file_without_objects(home: Home) -> Expected:
    home.objects.clear()
    return Expected("no-objects", 1, repaired=False)


@fault
def entries_that_are_none(home: Home) -> Expected:
    home.images.append("20.jpg")
    return Expected("malformed-image", 1, "images[20]")


@fault
def annotation_without_image_id(home: Home) -> Expected:
    del home.objects[5]["image_id"]
    return Expected("malformed-annotation", 1, "annotations[5]")


@fault
def category_without_name(home: Home) -> Expected:
    home.categories.append({"id": 90})
    return Expected("malformed-category", 1, "categories[3]", also=("unused-class",))


# ------------------------------------------------------------------------------------------------------------ images


@fault
def images_somewhere_else(home: Home) -> Expected:
    (home.folder / "images").rename(home.folder / "elsewhere")
    return Expected("images-not-found", IMAGES, repaired=False)


@fault
def image_missing(home: Home) -> Expected:
    broken = home.some("images", 2)
    for image in broken:
        home.path(image).unlink()
    return Expected("missing-image", 2, broken[0]["file_name"])


@fault
def image_in_capitals(home: Home) -> Expected:
    [image] = home.some("images")
    home.path(image).rename(home.path(image).with_suffix(".JPG"))
    return Expected("misspelt-file", 1, image["file_name"])


@fault
def image_not_listed(home: Home) -> Expected:
    noise(home.rng).save(home.folder / "images" / "new.png")
    return Expected("unlisted-image", 1, "new.png")


@fault
def image_without_size(home: Home) -> Expected:
    [image] = home.some("images")
    del image["height"]
    return Expected("missing-size", 1, image["id"], repaired=False)


@fault
def image_annotated_at_another_size(home: Home) -> Expected:
    [image] = home.some("images")
    noise(home.rng, height=HEIGHT + 2, width=WIDTH + 2).save(home.path(image))
    return Expected("image-of-another-size", 1, image["file_name"])


@fault
def image_of_text(home: Home) -> Expected:
    [image] = home.some("images")
    home.path(image).write_text("<html>404</html>")
    return Expected("corrupt-image", 1, image["file_name"])


@fault
def image_cut_short(home: Home) -> Expected:
    [image] = home.some("images")
    content = home.path(image).read_bytes()
    home.path(image).write_bytes(content[: len(content) // 2])
    home.scan = Pixels()
    return Expected("corrupt-image", 1, image["file_name"])


@fault
def image_turned_by_exif(home: Home) -> Expected:
    """Stored lying, annotated as a viewer shows it."""
    [image] = home.some("images")
    _save_turned(home, image, height=WIDTH, width=HEIGHT, orientation=6)
    return Expected("annotated-after-turning", 1, image["file_name"])


@fault
def image_with_exif_rotation(home: Home) -> Expected:
    [image] = home.some("images")
    _save_turned(home, image, height=HEIGHT, width=WIDTH, orientation=8)
    return Expected("exif-rotation", 1, image["file_name"], repaired=False)


def _save_turned(home: Home, image: dict[str, Any], *, height: int, width: int, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    noise(home.rng, height=height, width=width).save(home.path(image), quality=95, exif=exif)


@fault
def image_of_one_colour(home: Home) -> Expected:
    [image] = home.some("images")
    Image.new("RGB", (WIDTH, HEIGHT), "grey").save(home.path(image))
    home.scan = Pixels()
    return Expected("plain-image", 1, image["file_name"], repaired=False)


@fault
def image_copied(home: Home) -> Expected:
    """The same pixels in another format under another name."""
    first, second = home.some("images", 2)
    Image.open(home.path(first)).save(home.path(second).with_suffix(".png"))
    home.path(second).unlink()
    second["file_name"] = Path(second["file_name"]).with_suffix(".png").name
    home.scan = Pixels()
    return Expected("duplicate-image", 1, first["file_name"], repaired=False)


@fault
def image_too_small(home: Home) -> Expected:
    [image] = home.some("images")
    image["height"] = 30
    noise(home.rng, height=30).save(home.path(image))
    for item in home.objects:
        if item["image_id"] == image["id"]:
            item["bbox"] = [item["bbox"][0], 2.0, 10.0, 10.0]
            item["area"] = 100.0
    return Expected("small-image", 1, image["file_name"], repaired=False)


# ------------------------------------------------------------------------------------------------------------- masks


@fault
def mask_of_text(home: Home) -> Expected:
    broken = with_masks(home).some("annotations", 2)
    broken[0]["segmentation"], broken[1]["segmentation"] = "polygon", [[1, 2, 3, 4, 5]]
    return Expected("malformed-mask", 2, broken[1]["id"], also=("missing-mask",))


@fault
def mask_of_broken_run_lengths(home: Home) -> Expected:
    [item] = with_masks(home).some("annotations")
    item["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": "zzz"}
    return Expected("malformed-mask", 1, item["id"])


@fault
def mask_of_the_turned_image(home: Home) -> Expected:
    [item] = with_masks(home).some("annotations")
    item["segmentation"] = {"size": [WIDTH, HEIGHT], "counts": [100, 50, WIDTH * HEIGHT - 150]}
    return Expected("mask-of-another-size", 1, item["id"])


@fault
def mask_missing(home: Home) -> Expected:
    [item] = with_masks(home).some("annotations")
    del item["segmentation"]
    return Expected("missing-mask", 1, item["id"], repaired=False)


@fault
def mask_without_pixels(home: Home) -> Expected:
    broken = with_masks(home).some("annotations", 2)
    broken[0]["segmentation"] = [[1, 1, 5, 5]]
    broken[1]["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}
    return Expected("empty-mask", 2, broken[0]["id"])


@fault
def mask_elsewhere(home: Home) -> Expected:
    [item] = with_masks(home).some("annotations")
    item["segmentation"] = [[value + 12 for value in item["segmentation"][0]]]
    return Expected("mask-beside-box", 1, item["id"], repaired=False)


# ----------------------------------------------------------------------------------------------------------- classes


@fault
def class_name_with_blanks(home: Home) -> Expected:
    home.categories[1]["name"] = "dog "
    return Expected("blanks-in-class-name", 1, "'dog '")


@fault
def class_name_twice(home: Home) -> Expected:
    home.categories[1]["name"] = "cat"
    return Expected("class-name-collision", 2, "(id 3)", repaired=False)


@fault
def class_names_alike(home: Home) -> Expected:
    home.categories[0]["name"], home.categories[2]["name"] = "red cell", "Red-Cell"
    return Expected("similar-class-names", 2, "Red-Cell", repaired=False)


@fault
def class_never_used(home: Home) -> Expected:
    home.categories.insert(0, {"id": 0, "name": "background"})
    return Expected("unused-class", 1, "background", repaired=False)


@fault
def class_hardly_used(home: Home) -> Expected:
    emus = [item for item in home.objects if item["category_id"] == 12]
    for item in emus[4:]:
        home.objects.remove(item)
    return Expected("rare-class", 1, "emu", repaired=False)


@fault
def classes_of_a_long_tail(home: Home) -> Expected:
    for item in home.objects[3:]:
        item["category_id"] = 7
    home.objects[:] = [item for item in home.objects if item["category_id"] == 7] * 6 + home.objects[1:2]
    for number, item in enumerate(home.objects, start=1):
        box = [*home.rng.uniform(0, 20, 2).tolist(), 20.0, 20.0]
        home.objects[number - 1] = {**item, "id": number, "bbox": box, "area": 400.0}
    return Expected("long-tail", 2, also=("unused-class", "rare-class", "duplicate-box"), repaired=False)


@fault
def crowds_everywhere(home: Home) -> Expected:
    for item in home.objects[10:]:
        item["iscrowd"] = 1
    also = ("rare-class", "image-without-objects")
    return Expected("mostly-ignored", 50, also=also, repaired=False)


@fault
def image_without_objects(home: Home) -> Expected:
    [image] = home.some("images")
    home.objects[:] = [item for item in home.objects if item["image_id"] != image["id"]]
    return Expected("image-without-objects", 1, image["id"], repaired=False)


@fault
def image_with_a_crowd(home: Home) -> Expected:
    [image] = home.some("images")
    for number in range(120):
        x, y = divmod(number, 12)
        more = {"image_id": image["id"], "category_id": 7, "bbox": [6.0 * x, 4.0 * y, 3, 3], "area": 9, "iscrowd": 0}
        home.objects.append({"id": 1000 + number, **more})
    return Expected("crowded-image", 1, image["id"], repaired=False)


# -------------------------------------------------------------------------------------------------------------- LVIS


@fault
def category_without_frequency(home: Home) -> Expected:
    del with_lists(home).categories[1]["frequency"]
    return Expected("malformed-frequency", 1, "dog", repaired=False)


@fault
def image_without_lists(home: Home) -> Expected:
    [image] = with_lists(home).some("images")
    del image["not_exhaustive_category_ids"]
    return Expected("malformed-lists", 1, image["id"], repaired=False)


@fault
def unknown_category_in_a_list(home: Home) -> Expected:
    [image] = with_lists(home).some("images")
    image["neg_category_ids"] = [90]
    return Expected("unknown-listed-category", 1, image["id"], repaired=False)


@fault
def object_that_is_said_not_to_be_there(home: Home) -> Expected:
    [item] = with_lists(home).some("annotations")
    image = next(image for image in home.images if image["id"] == item["image_id"])
    image["neg_category_ids"] = [item["category_id"]]
    return Expected("contradictory-negative", 1, item["id"], repaired=False)


# --------------------------------------------------------------------------------------------------------------- VOC


@fault
def voc_box_without_extent(home: Home) -> Expected:
    [item] = home.some("annotations")
    image = next(image for image in home.images if image["id"] == item["image_id"])
    item["bbox"][2:] = [-2, -2]
    as_voc(home)
    return Expected("degenerate-box", 1, _xml(home, image).name)


@fault
def voc_file_cut_short(home: Home) -> Expected:
    [image] = home.some("images")
    file = _xml(as_voc(home), image)
    file.write_text(file.read_text()[:100])
    return Expected("unreadable-annotation", 1, file.name, also=("unlisted-image",))


@fault
def voc_file_with_entities(home: Home) -> Expected:
    [image] = home.some("images")
    file = _xml(as_voc(home), image)
    file.write_text('<!DOCTYPE a [<!ENTITY b "c">]>' + file.read_text())
    return Expected("unreadable-annotation", 1, file.name, also=("unlisted-image",))


@fault
def voc_object_without_name(home: Home) -> Expected:
    [image] = home.some("images")
    file = _xml(as_voc(home), image)
    file.write_text(file.read_text().replace("<name>dog</name>", "<name> </name>"))
    return Expected("malformed-annotation", 1, f"object 2 of {file.name}")


@fault
def voc_object_of_unclear_difficulty(home: Home) -> Expected:
    image = home.images[4]
    file = _xml(as_voc(home), image)
    file.write_text(file.read_text().replace("<difficult>0", "<difficult>2", 1))
    return Expected("unclear-difficult", 1, f"object 1 of {file.name}", repaired=False)


@fault
def voc_image_missing(home: Home) -> Expected:
    [image] = home.some("images")
    as_voc(home)
    (home.folder / "JPEGImages" / image["file_name"]).unlink()
    return Expected("missing-image", 1, image["file_name"])


@fault
def voc_split_with_a_name_too_many(home: Home) -> Expected:
    stems = [Path(image["file_name"]).stem for image in home.images]
    as_voc(home)
    (home.folder / "ImageSets" / "Main").mkdir(parents=True)
    (home.folder / "ImageSets" / "Main" / "train.txt").write_text("\n".join([*stems, "77"]))
    home.split = ":train"
    return Expected("missing-annotation", 1, "77.xml")


# ------------------------------------------------------------------------------------------- training and validation


@fault
def image_in_both(home: Home) -> Expected:
    """The same file: the annotations of both lead to one folder."""
    val = with_val(home).val
    assert val is not None
    [image] = home.some("images")
    val.images[3]["file_name"] = f"../../{home.folder.name}/images/{image['file_name']}"
    return Expected("image-in-both", 1, image["file_name"], also=("unlisted-image",))


@fault
def image_copied_into_both(home: Home) -> Expected:
    """A copy of the file under the same name."""
    val = with_val(home).val
    assert val is not None
    [image] = home.some("images")
    val.path(image).write_bytes(home.path(image).read_bytes())
    return Expected("image-in-both", 1, image["file_name"])


@fault
def pixels_in_both(home: Home) -> Expected:
    """Another file, another format, the same pixels: seen when decoding only."""
    val = with_val(home).val
    assert val is not None
    [image] = home.some("images")
    val.images[3]["file_name"] = "copy.png"
    Image.open(home.path(image)).save(val.path(val.images[3]))
    home.scan = Pixels()
    return Expected("image-in-both", 1, image["file_name"], also=("unlisted-image",))


@fault
def class_of_validation_only(home: Home) -> Expected:
    with_val(home)
    home.objects[:] = [item for item in home.objects if item["category_id"] != 3]
    return Expected("class-not-learnt", 1, "dog", also=("unused-class",), repaired=False)


@fault
def classes_that_differ(home: Home) -> Expected:
    val = with_val(home).val
    assert val is not None
    val.categories[0]["name"] = "lion"
    return Expected("different-classes", 1, "lion", also=("class-not-learnt",), repaired=False)


@fault
def masks_in_training_only(home: Home) -> Expected:
    with_masks(with_val(home))
    return Expected("different-masks", 1, "validation data have no masks", repaired=False)


@fault
def classes_in_another_order(home: Home) -> Expected:
    val = with_val(home).val
    assert val is not None
    val.categories.reverse()
    return Expected("different-classes", 1, repaired=False)
