"""Do the image files open, have the annotated size, stand upright, and occur once?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from rankdet.data.pixel_limit import max_pixels, remedy
from rankdet.data.raster import Header
from rankdet.doctor.draft import LeaveOutImages, SetSizes, TurnUpright
from rankdet.doctor.finding import Finding, Severity, find
from rankdet.doctor.groups import codes, later
from rankdet.doctor.scan import Look
from rankdet.doctor.table import Table

SMALL_SIDE = 32
"""Pixels of the shorter side below which a training leaves an image out by default."""


def check_sizes(table: Table) -> Iterator[Finding]:
    """Images whose size the annotations do not say."""
    unknown = np.flatnonzero((table.images.sizes < 1).any(1))
    yield from find(
        "missing-size",
        Severity.ERROR,
        unknown,
        what="{image has/images have} no 'height' or 'width' that is a whole number of pixels",
        remedy="add both, of the file as it is stored",
        example=table.image_name,
    )
    sides = table.images.sizes.min(1)
    yield from find(
        "small-image",
        Severity.NOTE,
        (sides >= 1) & (sides < SMALL_SIDE),
        what=f"{{image has/images have}} a side below {SMALL_SIDE} pixels",
        remedy="training leaves them out by default: data.min_size",
        example=table.image_name,
    )


def check_pictures(table: Table, looks: Mapping[int, Look]) -> Iterator[Finding]:
    """What was seen of the image files against what the annotations say of them."""
    corrupt = np.array([row for row, look in looks.items() if look.problem], dtype=np.int64)
    yield from find(
        "corrupt-image",
        Severity.ERROR,
        corrupt,
        what="image {file/files} cannot be read",
        remedy="replace the files, or leave the images out; training uses others in their place",
        example=lambda row: f"{table.image_name(row)}: {looks[row].problem}",
        repair=LeaveOutImages(corrupt, "cannot be read"),
    )
    yield from _check_headers(table, looks)
    yield from _check_limit(table, looks)
    yield from _check_pixels(table, looks)


def _check_headers(table: Table, looks: Mapping[int, Look]) -> Iterator[Finding]:
    headers = {row: look.header for row, look in looks.items() if look.header is not None}
    stated = {row: (int(table.images.sizes[row, 0]), int(table.images.sizes[row, 1])) for row in headers}
    wrong = [row for row, header in headers.items() if min(stated[row]) > 0 and stated[row] != header.size]
    turned = np.array([row for row in wrong if headers[row].turned_size == stated[row]], dtype=np.int64)
    if table.format == "YOLO":  # whose images are turned when they are read
        headers, wrong, turned = {}, [row for row in wrong if row not in set(turned.tolist())], turned[:0]
    other = np.setdiff1d(np.array(wrong, dtype=np.int64), turned)
    yield from find(
        "annotated-after-turning",
        Severity.ERROR,
        turned,
        what="{image is/images are} stored sideways and annotated upright: viewers turn {it/them} by an EXIF tag",
        remedy="store them upright; training does not apply the tag, so the boxes do not fit",
        example=lambda row: f"{table.image_name(row)}: {_sizes_text(headers[row].size, stated[row])}",
        repair=TurnUpright(turned),
    )
    yield from _check_stated(table, other, {row: header.size for row, header in headers.items()}, stated)
    yield from find(
        "exif-rotation",
        Severity.WARNING,
        np.array([row for row, header in headers.items() if not header.upright and row not in set(wrong)], dtype=int),
        what="{image has an EXIF tag that turns it/images have an EXIF tag that turns them} in viewers",
        remedy="check with --preview whether the boxes fit: training does not apply the tag. Then remove the tag",
        example=lambda row: f"{table.image_name(row)}: orientation {headers[row].orientation}",
    )


def _check_limit(table: Table, looks: Mapping[int, Look]) -> Iterator[Finding]:
    """Images that a training leaves out since they are so large; nothing else is wrong with them."""
    large = {row: look.header for row, look in looks.items() if look.too_large}
    pixels = [math.prod(header.size) for header in large.values() if header is not None]
    raising = remedy(math.ceil(max(pixels, default=300_000_000) / 1e6))
    yield from find(
        "oversized-image",
        Severity.ERROR,
        np.array(list(large), dtype=np.int64),
        what=f"{{image has/images have}} more pixels than the limit of {max_pixels() / 1e6:g} megapixels",
        remedy=f"{raising} to use them, or cut them into tiles; training uses others in their place",
        example=lambda row: f"{table.image_name(row)}: {_dimensions(large[row])}",
    )


def _dimensions(header: Header | None) -> str:
    return f"{header.size[1]} x {header.size[0]}" if header is not None else "more than can be opened"


def _check_stated(
    table: Table, rows: np.ndarray, found: Mapping[int, tuple[int, int]], stated: Mapping[int, tuple[int, int]]
) -> Iterator[Finding]:
    """Images of another size than stated; where all boxes lie within the file, the statement is what is wrong."""
    if not len(rows):
        return
    sizes = table.images.sizes.copy()
    for row in rows.tolist():
        sizes[row] = found[row]
    xywh, owners = table.objects.xywh, table.objects.images
    with np.errstate(invalid="ignore"):
        beyond = (xywh[:, :2] + xywh[:, 2:] > sizes[owners][:, ::-1] + 1).any(1) & (owners >= 0)
    fits = np.setdiff1d(rows, owners[beyond])
    yield from find(
        "image-of-another-size",
        Severity.ERROR,
        rows,
        what="image {file has/files have} another size than the annotations say",
        remedy="find out which size the boxes were drawn on; images are refused while the sizes differ",
        example=lambda row: f"{table.image_name(row)}: {_sizes_text(found[row], stated[row])}",
        repair=SetSizes(fits, sizes[fits]) if len(fits) else None,
    )


def _check_pixels(table: Table, looks: Mapping[int, Look]) -> Iterator[Finding]:
    rows = np.array([row for row, look in looks.items() if look.digest], dtype=np.int64)
    yield from find(
        "plain-image",
        Severity.WARNING,
        np.array([row for row in rows.tolist() if looks[row].plain], dtype=np.int64),
        what="{image has/images have} a single colour throughout",
        remedy="look at them: this is what a failed export looks like",
        example=table.image_name,
    )
    digests = codes(looks[row].digest.hex() for row in rows.tolist())
    files = codes(table.images.files[row] for row in rows.tolist())
    first = {int(code): int(row) for code, row in zip(digests[::-1], rows[::-1], strict=True)}
    of_row = dict(zip(rows.tolist(), digests.tolist(), strict=True))
    yield from find(
        "duplicate-image",
        Severity.WARNING,
        rows[later(digests) & ~later(files)],
        what="{image has/images have} the same pixels as an earlier one",
        remedy="keep one, with the objects of all: objects missing from a copy are learnt as background",
        example=lambda row: f"{table.image_name(row)} is {table.image_name(first[of_row[row]])}",
    )


def _sizes_text(found: tuple[int, int], stated: tuple[int, int]) -> str:
    return f"the file is {found[1]} x {found[0]}, annotated {stated[1]} x {stated[0]}"
