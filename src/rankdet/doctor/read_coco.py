"""A COCO or LVIS annotation file as a table, whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from rankdet.data.coco_content import LISTS, CocoContent, UnreadableError
from rankdet.data.columns import ABSENT, WRONG
from rankdet.data.files import coco_image_folders
from rankdet.data.lvis import FREQUENCY, NEGATIVE, NOT_EXHAUSTIVE
from rankdet.data.packed import PackedJSON
from rankdet.data.references import rows_of
from rankdet.doctor.draft import LeaveOutEntries, RenumberObjects, Rewrite
from rankdet.doctor.finding import Finding, Severity, find
from rankdet.doctor.locate import locate
from rankdet.doctor.table import Classes, Images, Objects, Table
from rankdet.doctor.text_ids import Ids, number_words
from rankdet.doctor.writing import check_writing

_SHOWN = 80  # characters of a malformed entry


def read_coco(
    file: Path, *, images: Path | None = None, classes: Sequence[str] | None = None
) -> tuple[Table | None, list[Finding]]:
    """The table of an annotation file, and what was wrong while reading; no table when nothing can be read.

    Args:
        file: the JSON file.
        images: the folder of the images; None to look for it.
        classes: the classes in use; objects of others are left out. None for all.
    """
    content, problem = _parse(file)
    if content is None:
        remedy = "name a COCO annotation file: an object with the lists 'images', 'annotations' and 'categories'"
        return None, [Finding("unreadable-file", Severity.ERROR, problem, 1, remedy, (str(file),))]
    candidates = coco_image_folders(file) if images is None else [images]
    return table_of(content, source=file, candidates=candidates, classes=classes)


def table_of(
    content: CocoContent, *, source: Path, candidates: Sequence[Path], classes: Sequence[str] | None
) -> tuple[Table, list[Finding]]:
    """The table of what an annotation file holds, whose images are in one of some folders, and what is wrong in it."""
    image_ids, category_ids = number_words(content, "images"), number_words(content, "categories")
    image_columns, flat_names = _read_images(content, image_ids)
    every_class = class_columns = _read_classes(content, category_ids)
    findings = [*_missing_lists(content), *check_writing(content)]
    if classes is not None:
        findings += _unknown_classes(classes, class_columns)
        class_columns = _choose(class_columns, classes)
    kept = _sound_annotations(content, image_ids, category_ids)
    chosen = kept if classes is None else kept[np.isin(category_ids.references.values[kept], class_columns.ids)]
    objects = _read_objects(content, chosen, image_ids, category_ids, image_columns, class_columns)
    findings += [*image_ids.check(content), *category_ids.check(content)]
    findings += _check_entries(content, "images", image_columns.entries, "have a whole number 'id' and a 'file_name'")
    findings += _check_entries(content, "annotations", kept, "have whole numbers 'image_id' and 'category_id'")
    findings += _check_entries(content, "categories", every_class.entries, "have a whole number 'id' and a 'name'")
    findings += [*_nameless(content, every_class), *_check_objects(content, objects)]
    table = Table(
        source=source,
        format="COCO" if image_columns.lists is None else "LVIS",
        images=image_columns,
        objects=objects,
        classes=class_columns,
        content=content,
    )
    return _locate(table, candidates, flat_names), findings


def _parse(file: Path) -> tuple[CocoContent | None, str]:
    """What a file holds, or what is wrong with it."""
    try:
        content = CocoContent.read(file)
    except OSError as error:
        return None, f"{file.name} cannot be read: {error.strerror}"
    except UnreadableError as error:
        return None, f"{file.name} {error}"
    if not any(map(content.has_entries, LISTS)):
        return None, f"{file.name} has none of the lists 'images', 'annotations' and 'categories'"
    return content, ""


def _missing_lists(content: CocoContent) -> Iterator[Finding]:
    missing = {key: content.what_is(key) for key in LISTS if not content.has_entries(key)}
    if missing:
        found = " and ".join(f"{key!r} ({what})" for key, what in missing.items())
        remedy = "add what is missing; training needs annotations and categories"
        yield Finding("missing-list", Severity.ERROR, f"the file lacks the list {found}", len(missing), remedy)


def _read_images(content: CocoContent, ids: Ids) -> tuple[Images, list[str]]:
    """The images; and their names without folders where all names come from URLs, else nothing."""
    names, urls = content.images["file_name"], content.images["coco_url"]
    from_url = bool((names.states == ABSENT).all())
    files = [
        name.replace("\\", "/") or "/".join(PurePosixPath(url).parts[-2:])
        for name, url in zip(names.values, urls.values, strict=True)
    ]
    kept = np.flatnonzero(ids.own.readable & np.array([bool(name) for name in files], dtype=bool))
    files = [files[place] for place in kept.tolist()]
    sides = [content.images[key].values[kept].clip(min=0) for key in ("height", "width")]
    negative, not_exhaustive = (content.images[key] for key in (NEGATIVE, NOT_EXHAUSTIVE))
    is_lvis = bool((negative.states != ABSENT).any())
    lists = list(zip(negative.values[kept], not_exhaustive.values[kept], strict=True)) if is_lvis else None
    return (
        Images(ids.own.values[kept], files, np.stack(sides, axis=1), kept, lists),
        [PurePosixPath(name).name for name in files] if from_url else [],
    )


def _read_classes(content: CocoContent, ids: Ids) -> Classes:
    """Those with an id; the id is the name of those that have none."""
    kept = np.flatnonzero(ids.own.readable)
    names = content.categories["name"].values[kept].tolist()
    numbers = ids.own.values[kept]
    frequencies = [content.value("categories", place, FREQUENCY) for place in kept.tolist()]
    is_lvis = any(frequency is not None for frequency in frequencies)
    return Classes(
        numbers,
        [name or str(number) for name, number in zip(names, numbers.tolist(), strict=True)],
        kept,
        frequencies if is_lvis else None,
    )


def _sound_annotations(content: CocoContent, image_ids: Ids, category_ids: Ids) -> np.ndarray:
    """The places of the annotations that refer to something."""
    sound = image_ids.references.readable & category_ids.references.readable
    return np.flatnonzero(content.annotations.is_object & sound)


def _read_objects(
    content: CocoContent, places: np.ndarray, image_ids: Ids, category_ids: Ids, images: Images, classes: Classes
) -> Objects:
    columns = {key: content.annotations[key].take(places) for key in ("id", "bbox", "area", "iscrowd", "ignore")}
    of_images, of_classes = image_ids.references.values[places], category_ids.references.values[places]
    masks = content.segmentations(places)
    has_mask = masks.nonempty() if isinstance(masks, PackedJSON) else np.array([bool(mask) for mask in masks], bool)
    return Objects(
        ids=np.where(columns["id"].readable, columns["id"].values, places),
        images=rows_of(of_images, images.ids),
        image_ids=of_images,
        labels=rows_of(of_classes, classes.ids),
        category_ids=of_classes,
        xywh=columns["bbox"].values,
        areas=columns["area"].values,
        ignored=columns["iscrowd"].values | columns["ignore"].values,
        entries=places,
        segmentations=masks if has_mask.any() else None,
        has_mask=has_mask,
    )


def _check_entries(content: CocoContent, key: str, kept: np.ndarray, needs: str) -> Iterator[Finding]:
    """The entries of a list that are in no table."""
    lost = np.delete(np.arange(len(getattr(content, key))), kept)
    yield from find(
        f"malformed-{ {'images': 'image', 'annotations': 'annotation', 'categories': 'category'}[key] }",
        Severity.ERROR,
        lost,
        what=f"{{entry/entries}} of '{key}' {{is/are}} malformed: each must be an object and {needs}",
        remedy="complete the entries or remove them",
        example=lambda place: f"{key}[{place}] is {str(content.entry(key, place))[:_SHOWN]}",
        repair=LeaveOutEntries(key, lost),
    )


def _nameless(content: CocoContent, classes: Classes) -> Iterator[Finding]:
    names = content.categories["name"]
    nameless = [place for place in classes.entries.tolist() if not names.values[place] or names.states[place] == WRONG]
    named = dict(zip(classes.entries.tolist(), classes.names, strict=True))
    yield from find(
        "malformed-category",
        Severity.ERROR,
        np.array(nameless, dtype=np.int64),
        what="{entry/entries} of 'categories' {has/have} no 'name' that is text",
        remedy="name the classes in UTF-8; the copy has what can be read of the name, or else the id",
        example=lambda place: f"categories[{place}] is {str(content.entry('categories', place))[:_SHOWN]}",
        repair=Rewrite({"categories": {place: {"name": named[place]} for place in nameless}}, "{class/classes} named"),
    )


def _check_objects(content: CocoContent, objects: Objects) -> Iterator[Finding]:
    """Annotations without an id, which the reading gave the number of their place; and those to be ignored by some."""
    annotations, places = content.annotations, objects.entries
    yield from find(
        "annotation-without-id",
        Severity.WARNING,
        np.flatnonzero(~annotations["id"].readable[places]),
        what="{annotation has/annotations have} no 'id' that is a whole number",
        remedy="number them 1, 2, ...; pycocotools and most tools need ids",
        example=lambda row: f"annotations[{places[row]}] of image {objects.image_ids[row]}",
        repair=RenumberObjects(),
    )
    yield from find(
        "ignored-object",
        Severity.NOTE,
        np.flatnonzero(annotations["ignore"].values[places] & ~annotations["iscrowd"].values[places]),
        what="{annotation has/annotations have} 'ignore' and not 'iscrowd'",
        remedy="training leaves them out; COCO's evaluation overwrites 'ignore', so they count as objects there",
        example=lambda row: f"annotation {objects.ids[row]} of image {objects.image_ids[row]}",
    )


def _choose(classes: Classes, names: Sequence[str]) -> Classes:
    rows = [row for row, name in enumerate(classes.names) if name in set(names)]
    frequencies = classes.frequencies
    return Classes(
        classes.ids[rows],
        [classes.names[row] for row in rows],
        classes.entries[rows],
        None if frequencies is None else [frequencies[row] for row in rows],
    )


def _unknown_classes(chosen: Sequence[str], classes: Classes) -> Iterator[Finding]:
    unknown = [name for name in chosen if name not in set(classes.names)]
    yield from find(
        "unknown-class",
        Severity.ERROR,
        np.arange(len(unknown)),
        what="chosen {class is/classes are} not in the annotations",
        remedy=f"choose among {', '.join(classes.names[:10])}{', ...' if len(classes) > 10 else ''}",
        example=lambda row: repr(unknown[row]),
    )


def _locate(table: Table, candidates: Sequence[Path], flat_names: list[str]) -> Table:
    located = locate(table, candidates)
    if not flat_names or located.files.present.all():
        return located
    flat = locate(replace(table, images=replace(table.images, files=flat_names)), candidates)
    return max(located, flat, key=lambda each: each.files.present.sum())
