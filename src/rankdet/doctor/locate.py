"""Which image files of a table are there, and which other images lie beside them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from rankdet.data.files import Listing
from rankdet.data.image_file import is_image
from rankdet.doctor.draft import LeaveOutImages, SetFiles
from rankdet.doctor.finding import Finding, Severity, find
from rankdet.doctor.table import Files, Table

_ANOTHER_FILE = "add the files, or remove the images from the annotations"


def locate(table: Table, candidates: Sequence[Path]) -> Table:
    """The table with its `Files`: the first candidate folder that has all of them, or the one that has most."""
    listing = Listing()
    best = Files(None, np.zeros(len(table.images), dtype=bool))
    for folder in dict.fromkeys(candidates):
        found = _look_in(folder, table.images.files, listing)
        if found.present.sum() > best.present.sum():
            best = found
        if found.present.all():
            break
    if best.folder is None:
        return replace(table, files=best)
    others, found_as = _beside(table, best, listing)
    return replace(table, files=replace(best, others=others, found_as={**best.found_as, **found_as}))


def _look_in(folder: Path, names: Sequence[str], listing: Listing) -> Files:
    """Which files are in a folder; those whose accents are composed otherwise there are, by another name."""
    missing = set(listing.missing(folder, names))
    present = np.array([name not in missing for name in names], dtype=bool)
    spelt = {
        row: there
        for row in np.flatnonzero(~present).tolist()
        if not names[row].isascii() and (there := listing.find(folder, names[row])) is not None
    }
    present[list(spelt)] = True
    return Files(folder, present, found_as=spelt)


def check_files(table: Table) -> Iterator[Finding]:
    """Images that are missing, misspelt or not listed."""
    if len(table.images) and table.files.folder is None:
        what = f"the images are nowhere near {table.source.name}: {table.images.files[0]} and all others are missing"
        remedy = "say where they are: --image-folder FOLDER (data.train_images, data.val_images in a configuration)"
        yield Finding("images-not-found", Severity.ERROR, what, len(table.images), remedy)
        return
    found_as = table.files.found_as
    composed = np.array([row for row in found_as if table.files.present[row]], dtype=np.int64)
    yield from find(
        "other-unicode-form",
        Severity.WARNING,
        composed,
        what="file {name/names} on disk {composes its/compose their} accents differently from the annotations",
        remedy="write the names as they are on disk; rankdet accepts both, other tools do not find the files",
        example=table.image_name,
        repair=SetFiles({row: found_as[row] for row in composed.tolist()}),
    )
    missing = np.flatnonzero(~table.files.present)
    misspelt = np.array([row for row in missing.tolist() if row in found_as], dtype=np.int64)
    gone = np.setdiff1d(missing, misspelt)
    yield from find(
        "missing-image",
        Severity.ERROR,
        gone,
        what=f"image {{file/files}} {{is/are}} missing in {table.files.folder}",
        remedy=_ANOTHER_FILE,
        example=table.image_name,
        repair=LeaveOutImages(gone, "no file"),
    )
    yield from find(
        "misspelt-file",
        Severity.ERROR,
        misspelt,
        what="image {is/are} there under a slightly other name (capitals, ending)",
        remedy="write the names as they are on disk; capitals matter on Linux and in archives",
        example=lambda row: f"{table.image_name(row)} is there as {found_as[row]}",
        repair=SetFiles({row: found_as[row] for row in misspelt.tolist()}),
    )


def check_unlisted(*tables: Table) -> Iterator[Finding]:
    """Images in the folders of some tables that none of them lists."""
    named = {path for table in tables for path in table.paths}
    folders = {os.path.realpath(table.files.folder): table for table in tables if table.files.folder is not None}
    others = sorted(
        path
        for folder, table in folders.items()
        for name in table.files.others
        if (path := os.path.join(folder, name)) not in named
    )
    yield from find(
        "unlisted-image",
        Severity.NOTE,
        np.arange(len(others)),
        what="image {file is/files are} not in the annotations",
        remedy="fine if they belong to another split; otherwise training does not see them",
        example=lambda row: others[row],
    )


def _beside(table: Table, files: Files, listing: Listing) -> tuple[list[str], dict[int, str]]:
    """Images of the same folders that no row names; and among them, what a missing file may be called instead."""
    named = {*table.images.files, *files.found_as.values()}
    parents = dict.fromkeys(name.rpartition("/")[0] for name in named)
    others = sorted(
        path
        for parent in parents
        for base in listing.names(str(files.folder / parent if files.folder else parent))
        if (path := f"{parent}/{base}" if parent else base) not in named and is_image(base)
    )
    by_stem = defaultdict(list)
    for name in others:
        by_stem[_plain(name)].append(name)
    rows = np.flatnonzero(~files.present).tolist()
    found_as = {
        row: by_stem[key][0] for row in rows if len(by_stem.get(key := _plain(table.images.files[row]), ())) == 1
    }
    return [name for name in others if name not in set(found_as.values())], found_as


def _plain(name: str) -> str:
    """A path without capitals and ending."""
    return str(PurePosixPath(name.lower()).with_suffix(""))
