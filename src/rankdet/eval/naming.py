"""Which image and which category the ids in results mean.

Ids are those of the ground truth. Where tools write something else, it is understood as long as it can mean one thing
only: file names of images, with or without folder and ending, names of categories, and numbers that are file names.
What was understood is told; what cannot be understood is an error that names the suspicion.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NoReturn

import numpy as np

from rankdet.eval.convert import ResultsReading
from rankdet.eval.instances import GroundTruth
from rankdet.eval.results_file import LoadedResults, ResultsError, ResultsNote
from rankdet.eval.shapes import Ints

NOWHERE, AMBIGUOUS = -1, -2
_EXAMPLES = 3
_FEWEST_IMAGES = 2
"""From so many on, a shift that makes all ids known is more than chance."""


def image_places(results: LoadedResults, truth: GroundTruth, conversion: ResultsReading) -> Ints:
    """(D,) the places of the images of results in the ground truth. Raises ResultsError."""
    known = images_of(truth)
    if conversion.by_name:
        numbers = results.columns.whole_numbers("image_id")
        places = known.of_numbers(numbers)
        if (places < 0).any():
            place = int(np.argmax(places < 0))
            results.columns.fail(place, f"image_id {numbers[place]} is not the number in a file name of {known.where}")
        return places
    return _find(results, known, results.image_names, shift=conversion.image_shift)


def category_places(results: LoadedResults, truth: GroundTruth, conversion: ResultsReading) -> Ints:
    """(D,) the places of the categories of results in the ground truth. Raises ResultsError."""
    known = Known("category_id", truth.category_ids, truth.category_names, f"'categories' of {truth.source}")
    if conversion.by_index:
        known = replace(known, ids=np.arange(truth.num_categories), where=f"places, from 0, in the {known.where}")
    return _find(results, known, results.category_names, shift=conversion.category_shift)


@dataclass(frozen=True)
class Known:
    """The images or the categories of a ground truth.

    ``key`` is that of results, ``ids`` ascend, ``where`` is for messages. ``files`` says that names are those of files,
    with or without folders and ending. Places are indices of ids, or NOWHERE, or AMBIGUOUS where several have a name.
    """

    key: str
    ids: Ints
    names: tuple[str, ...]
    where: str
    files: bool = False

    def of_ids(self, ids: Ints) -> Ints:
        """(D,) the places of ids."""
        if not len(self.ids):
            return np.full(len(ids), NOWHERE)
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[places] == ids, places, NOWHERE)

    def of_numbers(self, numbers: Ints) -> Ints:
        """(D,) the places of the images whose file names are these numbers."""
        distinct, inverse = np.unique(numbers, return_inverse=True)
        return np.array([self._by_number.get(number, NOWHERE) for number in distinct.tolist()], np.int64)[inverse]

    def of_value(self, value: Any) -> int:
        """The place of a name, or of a number that is one."""
        if not isinstance(value, str):
            return self._by_number.get(value, NOWHERE)
        name = _normal(value)
        shorter = [(tail, names) for tail in _tails(name) for names in self._by_name[:2]] if self.files else []
        for written, names in (*((name, names) for names in self._by_name), *shorter):
            if written in names:
                return names[written]
        return self._by_number.get(int(name), NOWHERE) if _is_number(name) else NOWHERE

    @cached_property
    def _by_name(self) -> list[dict[str, int]]:
        """Whole names, then those without ending, then what is left without folders."""
        names = [(_normal(name), place) for place, name in enumerate(self.names) if name]
        if not self.files:
            return [_places(names)]
        stems = [(_without_ending(name), place) for name, place in names]
        tails = [
            [(tail, place) for name, place in whole for tail in list(_tails(name))[1:]] for whole in (names, stems)
        ]
        return list(map(_places, (names, stems, *tails)))

    @cached_property
    def _by_number(self) -> dict[Any, int]:
        names = enumerate(self.names if self.files else ())
        stems = [(_without_ending(_normal(name).rpartition("/")[2]), place) for place, name in names]
        return _places((int(stem), place) for stem, place in stems if _is_number(stem))


def images_of(truth: GroundTruth) -> Known:
    """The images."""
    return Known("image_id", truth.image_ids, truth.image_names, f"'images' of {truth.source}", files=True)


def _find(results: LoadedResults, known: Known, own_names: Mapping[Any, str], *, shift: int) -> Ints:
    columns = results.columns
    if not shift and _contradict(own_names, known):
        return _by_names(results, known, [own_names.get(value, value) for value in columns.values(known.key)])
    try:
        ids = columns.whole_numbers(known.key) + shift
    except ResultsError:
        values = columns.values(known.key)
        if not any(isinstance(value, str) for value in values):
            raise
        return _by_names(results, known, values, shift=shift)
    places = known.of_ids(ids)
    if (places >= 0).all():
        return places
    by_number = places if shift else known.of_numbers(ids)
    if (by_number < 0).any():
        _refuse(results, known, ids, shift=shift)
    note(f"{results.name}: image ids are read as the numbers in file names, because not all of them are ids")
    return by_number


def _contradict(own_names: Mapping[Any, str], known: Known) -> bool:
    """Whether results number images or categories in their own way, which their names tell."""
    place_of = dict(zip(known.ids.tolist(), range(len(known.ids)), strict=True))
    return any(known.of_value(name) >= 0 and known.of_value(name) != place_of.get(i) for i, name in own_names.items())


def _by_names(results: LoadedResults, known: Known, values: Sequence[Any], *, shift: int = 0) -> Ints:
    """The places of values of which some are texts: all of them by name, or all by the ids that they spell."""
    for place, value in enumerate(values):
        if not isinstance(value, str | int | float):
            results.columns.fail(place, f"{known.key!r} is {value!r:.60}; accepted are ids and names")
    distinct = dict.fromkeys(values)
    by_name = {value: NOWHERE if shift else known.of_value(value) for value in distinct}
    by_id = {value: _place_of_spelt_id(known, value, shift) for value in distinct}
    named, spelt = (all(place >= 0 for place in found.values()) for found in (by_name, by_id))
    if named and spelt and by_name != by_id:
        value = next(value for value in distinct if by_name[value] != by_id[value])
        results.columns.fail(
            values.index(value), f"{known.key} {value!r} is the id of one and the name of another of the {known.where}"
        )
    if not (named or spelt):
        value = next(value for value in distinct if max(by_name[value], by_id[value]) < 0)
        results.columns.fail(values.index(value), _unknown_name(known, value, by_name[value]))
    if named:
        value = next(iter(distinct))
        what, such = known.key.removesuffix("_id"), known.names[by_name[value]]
        note(f"{results.name}: {what} ids are matched by name, such as {value!r} with {such}")
    found = by_name if named else by_id
    return np.array([found[value] for value in values], np.int64)


def _place_of_spelt_id(known: Known, value: str | float, shift: int) -> int:
    if isinstance(value, str):
        number = int(value) if _is_number(value) else None
    else:
        number = int(value) if value == value // 1 else None
    return NOWHERE if number is None else int(known.of_ids(np.array([number + shift]))[0])


def _unknown_name(known: Known, value: Any, place: int) -> str:
    if place == AMBIGUOUS:
        return f"{known.key} {value!r} is the name of several of the {known.where}; write it with its folder and ending"
    examples = ", ".join(filter(None, known.names[:_EXAMPLES]))
    such = f", such as {examples}" if examples else ", which have no names"
    return f"{known.key} {value!r} is neither an id nor a name of the {known.where}{such}"


def note(message: str) -> None:
    """Tells how results were understood."""
    warnings.warn(ResultsNote(message), stacklevel=2)


def _refuse(results: LoadedResults, known: Known, ids: Ints, *, shift: int) -> NoReturn:
    """The error for the first unknown id, with a suspicion if another way of counting makes all of them known."""
    place = int(np.argmax(known.of_ids(ids) < 0))
    entry = results.columns.label.format(place)
    complaint = f"{entry}: {known.key} {ids[place] - shift} is not among the {known.where}"
    distinct = np.unique(ids)
    for convert, (question, otherwise) in ({} if shift else _counted_otherwise(known, distinct)).items():
        if (known.of_ids(otherwise) >= 0).all():
            have = f"the results have {distinct[0]} to {distinct[-1]}, there are {known.ids[0]} to {known.ids[-1]}"
            raise ResultsError(f"{complaint}: {have}. Are they {question}?", convert)
    raise ResultsError(f"{complaint}; leave the entry out or add the id there")


def _counted_otherwise(known: Known, ids: Ints) -> dict[str, tuple[str, Ints]]:
    """By conversion, a question, and the ids that should have been."""
    if known.key == "image_id" and len(ids) < _FEWEST_IMAGES:
        return {}
    what = known.key.removesuffix("_id")
    ways = {
        f"{what}+1": ("one too low, as if counted from 0", ids + 1),
        f"{what}-1": ("one too high, as if counted from 1", ids - 1),
    }
    if known.key == "category_id" and 0 <= ids[0] and ids[-1] < len(known.ids):
        ways["category-index"] = ("places in that list, counted from 0", known.ids[ids])
    return ways


def _places(pairs: Iterable[tuple[Any, int]]) -> dict[Any, int]:
    """Place by name; AMBIGUOUS where several have it."""
    found: dict[Any, int] = {}
    for name, place in pairs:
        found[name] = AMBIGUOUS if name in found else place
    return found


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name).replace("\\", "/")


def _tails(name: str) -> Iterator[str]:
    """A path, and what is left of it without its folders, one after the other.

    >>> list(_tails("val/street/1.jpg"))
    ['val/street/1.jpg', 'street/1.jpg', '1.jpg']
    """
    while name:
        yield name
        name = name.partition("/")[2]


def _without_ending(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return stem if dot and "/" not in ending else name


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()
