"""Opens results from any tool, and says what is wrong with them as a whole: a list, or a list within an object."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rankdet.eval.columns import Columns, Entry
from rankdet.eval.reading import PathLike, load

LISTS = ("annotations", "predictions", "results", "detections")
"""The keys under which an object may have its list of results."""
_PICKLES = (".pkl", ".pickle", ".pth", ".pt")
_NO_TEXT = (b"\x80", b"PK\x03\x04")
"""How pickles, and the archives of torch, begin."""


class ResultsError(ValueError):
    """Results that cannot be evaluated; the message names the file, the entry and the remedy.

    Args:
        complaint: what is wrong.
        convert: the conversion that would fix it, if there is one.
    """

    def __init__(self, complaint: str, convert: str = "") -> None:
        super().__init__(complaint + (f' Then read them with convert="{convert}".' if convert else ""))
        self.complaint, self.convert = complaint, convert


class ResultsNote(UserWarning):
    """How results were understood that are not quite in COCO's format."""


class ResultsWarning(UserWarning):
    """Results that are probably not what they seem.

    Args:
        suspicion: what they may be.
        convert: the conversion that would fix it, if there is one.
    """

    def __init__(self, suspicion: str, convert: str = "") -> None:
        super().__init__(suspicion + (f' Then read them with convert="{convert}".' if convert else ""))
        self.suspicion, self.convert = suspicion, convert


@dataclass(frozen=True)
class LoadedResults:
    """Results that are not looked into yet.

    ``image_names`` and ``category_names`` are those that an object gives to its own ids, beside its list.
    """

    name: str
    columns: Columns
    image_names: Mapping[Any, str] = field(default_factory=dict)
    category_names: Mapping[Any, str] = field(default_factory=dict)


def load_results(source: Sequence[Entry] | Mapping[str, Any] | PathLike, form: Any = Any) -> LoadedResults:
    """Results, not looked into; those of a file in the ``form``, a type, if they have it. Raises ResultsError.

    >>> load_results({"predictions": [{"score": 0.5}]}).columns.numbers("score")
    array([0.5])
    """
    if isinstance(source, str | os.PathLike):
        _refuse_pickles(Path(source))
    name, content = load(source, "results", ResultsError, form)
    entries, key = _unwrapped(name, content) if isinstance(content, Mapping) else (content, "")
    if not isinstance(entries, Sequence) or isinstance(entries, str | bytes):
        hint = "give its .dataset; " if isinstance(getattr(entries, "dataset", None), Mapping) else ""
        raise ResultsError(f"{name} must be a list, not {type(entries).__name__}; {hint}{_accepted()}")
    return LoadedResults(
        name=name,
        columns=Columns(entries, f"entry {{}} of {key}{name}", ResultsError),
        image_names=_names(content, "images", "file_name") if key else {},
        category_names=_names(content, "categories", "name") if key else {},
    )


def _accepted() -> str:
    return (
        "accepted is COCO's results format, [{'image_id', 'category_id', 'bbox' or 'segmentation', 'score'}, ...], "
        f"or an object with such a list under one of the keys {', '.join(LISTS)}"
    )


def _unwrapped(name: str, content: Mapping[str, Any]) -> tuple[Any, str]:
    """The list within an object, and its key for messages."""
    found = [key for key in LISTS if isinstance(content.get(key), list | tuple)]
    if len(found) != 1:
        lists = f"the lists {' and '.join(found)}" if found else f"only {sorted(map(str, content))[:8]}"
        raise ResultsError(f"{name} is an object with {lists}; {_accepted()}")
    entries = content[found[0]]
    if entries and isinstance(entries[0], Mapping) and found == ["annotations"] and "score" not in entries[0]:
        raise ResultsError(f"{name} is a ground truth: its 'annotations' have no 'score', which results have")
    return entries, f"'{found[0]}' of "


def _names(content: Mapping[str, Any], key: str, name: str) -> dict[Any, str]:
    """The names by id in a table beside the results."""
    table = content.get(key)
    rows = table if isinstance(table, list | tuple) else ()
    return {
        row["id"]: row[name]
        for row in rows
        if isinstance(row, Mapping) and isinstance(row.get("id"), int | str) and isinstance(row.get(name), str)
    }


def _refuse_pickles(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError:
        return  # the one who reads it all says why it cannot be read
    if path.suffix.lower() in _PICKLES or start.startswith(_NO_TEXT):
        raise ResultsError(
            f"{path} is a pickle. Opening one runs the code inside, so it is refused; write COCO's JSON instead. "
            "MMDetection does so with --cfg-options test_evaluator.format_only=True "
            "test_evaluator.outfile_prefix=results; Detectron2 writes coco_instances_results.json beside its .pth file"
        )
