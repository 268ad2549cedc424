"""Datasets in the PASCAL VOC format: one XML file for each image.

M. Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010. The corners in a file are the
first and the last pixel of the object, both inclusive, and pixels are counted from 1 (section 3.2 of the development
kit). A box covers its pixels from edge to edge, so that ours is ``(xmin - 1, ymin - 1, xmax, ymax)``: its width is the
number of pixel columns. Converters that copy the corners (BCCD's COCO file is one) give boxes one pixel smaller.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from rankdet.data.annotated import AnnotatedImages
from rankdet.data.categories import Categories
from rankdet.data.errors import CLASSES, DatasetError
from rankdet.data.files import images_not_found, missing_files, voc_image_folders
from rankdet.data.packed import PackedStrings
from rankdet.data.raster import read_size
from rankdet.data.report import EXAMPLES, Fault
from rankdet.data.table import Annotations, clean_boxes, filter_images, make_fault, make_report
from rankdet.data.voc_folder import VOCFolder, locate_images
from rankdet.data.voc_xml import VOCFile, read_voc


class VOCDetection(AnnotatedImages):
    """Images and objects of a folder of VOC annotation files.

    Objects marked difficult are regions to ignore in training: ``difficult`` and ``iscrowd`` are both True for them.
    Image ids are the numbers in the file names if all names in the folder are numbers, as in VOC 2007 (``000012.xml``
    has 12); otherwise 1, 2, ... in the order of `split`, or of the file names. `numbered` says which.
    Category ids are 1, 2, ... in the order of the classes. A box whose corners coincide is degenerate, not an object of
    one pixel.

    Args:
        root: a VOC folder (with ``Annotations``, ``JPEGImages``, ``ImageSets/Main``), or a folder of XML files.
        images: the folder of the images. None finds it automatically (``JPEGImages`` or ``images`` in or next to
            `root`, or `root` itself). How an image is found: :class:`rankdet.data.voc_folder.VOCImages`.
        split: the annotation files to use, without extension: a list, or the name of a file in ``ImageSets/Main`` such
            as ``"trainval"``, see :meth:`rankdet.data.voc_folder.VOCFolder.split`; None for all.
        classes: the classes, in label order; objects of other classes count as background. Names must occur in the
            folder; a class map is taken as it is. None: the classes that the folder names, sorted; those of VOC
            2007 and 2012 are their 20 in the customary order.
        origin: coordinate of the first pixel: 1 by the standard; 0 for files whose corners are edges counted from 0,
            which are then used as they are.
        skip_empty: leave out images without objects (difficult ones do not count), as in training.
        min_size: leave out images whose shorter side is below this many pixels.

    Raises:
        DatasetError: a file that is missing or malformed, missing images, unknown `classes`, no images left.
    """

    def __init__(
        self,
        root: str | Path,
        images: str | Path | None = None,
        *,
        split: str | Sequence[str] | None = None,
        classes: Sequence[str] | Categories | None = None,
        origin: int = 1,
        skip_empty: bool = False,
        min_size: int = 0,
    ) -> None:
        if origin not in (0, 1):
            raise ValueError(f"origin must be 0 or 1, got {origin!r}")
        place = VOCFolder.find(Path(root))
        stems = _stems(place, split)
        everything = _read_folder(place, wanted=stems)
        files = [everything[stem] for stem in stems]
        folder, names = _locate(place.home, stems, files, images)
        sizes = _sizes(folder, names, files)
        categories = _categories(place.home, everything.values(), classes)
        table, faults = _table(files, stems, sizes, categories, origin=origin)
        keep, left_out = filter_images(
            sizes, table, names=stems, source=place.home, min_size=min_size, skip_empty=skip_empty, faults=faults
        )
        table = table.select_images(keep)
        super().__init__(
            folder=folder,
            files=PackedStrings([names[index] for index in keep]),
            ids=place.image_ids(stems)[keep],
            sizes=sizes[keep],
            annotations=table,
            categories=categories,
            report=make_report(str(place.home), table, [*faults, *left_out]),
        )
        self.numbered = place.numbered

    def ids_in_words(self) -> str:
        """How images and classes are called in results; VOC has no ids, so results of other tools may have others."""
        shown = [f"{number} is {Path(self.files[place]).stem}" for place, number in enumerate(self.image_ids[:2])]
        images = "are the numbers of its files" if self.numbered else f"count its files: {', '.join(shown)}, ..."
        pairs = list(zip(self.categories.ids, self.categories.names, strict=True))
        classes = ", ".join(f"{number} {name}" for number, name in pairs[:EXAMPLES])
        return f"image ids {images}; category ids are {classes}" + (", ..." if len(pairs) > EXAMPLES else "")


def _read_folder(place: VOCFolder, *, wanted: Sequence[str]) -> dict[str, VOCFile]:
    """All annotation files that can be read, so that every split of a folder has the same classes.

    :class:`DatasetError` if one that is wanted cannot.
    """
    read: dict[str, VOCFile] = {}
    errors: dict[str, DatasetError] = {}
    for stem in place.files:
        try:
            read[stem] = read_voc(place.path(stem))
        except DatasetError as error:
            errors[stem] = error
    problems = [errors[stem] for stem in wanted if stem in errors]
    if problems:
        more = f"; {len(problems)} of the {len(wanted)} files cannot be used" if len(problems) > 1 else ""
        way_out = f"`rankdet check {place.root} --fix FOLDER` writes a copy without what cannot be used"
        raise DatasetError(f"{problems[0]}{more}. {way_out}")
    return read


def _stems(place: VOCFolder, split: str | Sequence[str] | None) -> list[str]:
    """The annotation files to use, without ending."""
    if split is None:
        return list(place.files)
    stems, absent = place.split(split) if isinstance(split, str) else _known(place, split)
    if absent:
        shown = ", ".join(absent[:EXAMPLES]) + (", ..." if len(absent) > EXAMPLES else "")
        total = len(absent) + len(stems)
        raise DatasetError(
            f"{len(absent)} of the {total} annotation files of the split are not in {place.home}: {shown}"
        )
    if not stems:
        raise DatasetError(f"the split {split!r} of {place.root} is empty; name at least one annotation file")
    return stems


def _known(place: VOCFolder, stems: Sequence[str]) -> tuple[list[str], list[str]]:
    wanted = list(dict.fromkeys(stems))
    return [stem for stem in wanted if stem in place.files], [stem for stem in wanted if stem not in place.files]


def _locate(
    home: Path, stems: Sequence[str], files: Sequence[VOCFile], images: str | Path | None
) -> tuple[Path, list[str]]:
    """The folder of the images and the name of each image in it."""
    candidates = voc_image_folders(home) if images is None else [Path(images)]
    found, names = locate_images(candidates, stems, [file.file_name for file in files])
    expected = [file.file_name or f"{stem}.jpg" for stem, file in zip(stems, files, strict=True)]
    if found is None:
        raise images_not_found(candidates, expected[0], wanted_by=home)
    lacking = [name for name, image in zip(expected, names, strict=True) if image is None]
    if lacking:
        raise missing_files(found.folder, lacking, total=len(names), wanted_by=home)
    return found.folder, [name for name in names if name is not None]


def _sizes(folder: Path, names: Sequence[str], files: Sequence[VOCFile]) -> np.ndarray:
    """(N, 2) height and width: of the XML file, else from the header of the image."""
    sizes = [file.size or read_size(folder / name) for file, name in zip(files, names, strict=True)]
    return np.array(sizes, dtype=np.int64)


def _categories(home: Path, files: Iterable[VOCFile], classes: Sequence[str] | Categories | None) -> Categories:
    if isinstance(classes, Categories):
        return classes
    found = sorted({item.name for file in files for item in file.objects})
    if classes is None:
        if not found:
            raise DatasetError(f"no file in {home} names an object, so the classes are unknown; name them: {CLASSES}")
        return Categories.from_names(found)
    try:
        Categories.from_names(found).select(classes)
    except DatasetError as error:
        raise DatasetError(f"{home}: {error}") from None
    return Categories.from_names(classes)


def _table(
    files: Sequence[VOCFile], stems: Sequence[str], sizes: np.ndarray, categories: Categories, *, origin: int
) -> tuple[Annotations, tuple[Fault, ...]]:
    labels_of = {name: label for label, name in enumerate(categories.names)}
    rows = [
        (image, labels_of[item.name], bool(item.difficult), item.difficult is None, *item.corners)
        for image, file in enumerate(files)
        for item in file.objects
        if item.name in labels_of
    ]
    columns = np.array(rows, dtype=np.float64).reshape(len(rows), 8)
    owners, labels = columns[:, 0].astype(np.int64), columns[:, 1].astype(np.int64)
    difficult, unclear = columns[:, 2].astype(bool), columns[:, 3].astype(bool)
    xywh, names = _xywh(columns[:, 4:], origin), [f"{stems[image]}.xml" for image in owners]
    clean = clean_boxes(xywh, sizes[owners], names=names)
    fault = make_fault("<difficult> that is neither 0 nor 1", names, unclear, action="read as 0")
    table = Annotations(
        starts=np.searchsorted(owners, np.arange(len(files) + 1)),
        ids=np.arange(1, len(rows) + 1),
        labels=labels,
        xywh=xywh,
        area=(xywh[:, 2] * xywh[:, 3]).clip(min=0),
        iscrowd=difficult,
        boxes=clean.boxes,
        usable=clean.usable,
        difficult=difficult,
    )
    return table, (*clean.faults, fault) if fault.count else clean.faults


def _xywh(corners: np.ndarray, origin: int) -> np.ndarray:
    """Corner pixels (M, 4), counted from `origin`, as boxes from edge to edge."""
    sides = corners[:, 2:] - corners[:, :2]
    return np.concatenate([corners[:, :2] - origin, np.where(sides > 0, sides + origin, 0)], axis=1)
