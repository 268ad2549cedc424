"""Groups of objects by what the ground truth says of them, or of their images: occlusion, weather, scanner, ...

A group is evaluated as a size class is. Objects of other groups count for nothing, and neither do detections that match
them. An unmatched detection counts in every group of a property of objects, since nobody knows which group it was meant
for; in a group of images it counts where its image is one of them, so the numbers are those of these images alone.

G objects, N images, D detections, V values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rankdet.data.coco_content import SINGULAR, CocoContent
from rankdet.eval.shapes import Bools, Ints
from rankdet.eval.truth import GroundTruthError

NO_VALUE = "none"
"""The group of the entries that do not have the property, or null for it."""
MOST_VALUES = 50
_LISTS = ("annotations", "images")
_NESTED = "attributes"  # where CVAT and others write what their users define


@dataclass(frozen=True)
class Property:
    """What groups objects, called ``name``: a group has those with one of the ``values`` (V,).

    ``of_objects`` (G,) are indices into the values, and so are ``of_images`` (N,), None for a property of objects.
    """

    name: str
    values: tuple[str, ...]
    of_objects: Ints
    of_images: Ints | None = None

    @property
    def groups(self) -> tuple[str, ...]:
        """(V,) what the metrics of the groups end in."""
        return tuple(f"{self.name}={value}" for value in self.values)

    def take(self, objects: Ints) -> Property:
        """That of the same images with some of the objects alone, given by their indices."""
        return replace(self, of_objects=self.of_objects[objects])

    def excluded_objects(self) -> Bools:
        """(G, V) true for the objects outside a group."""
        return self._differ(self.of_objects)

    def excluded_detections(self, images: Ints) -> Bools:
        """(D, V) true for detections that count for nothing in a group when unmatched; ``images`` (D,) are theirs."""
        if self.of_images is None:
            return np.zeros((len(images), len(self.values)), np.bool_)
        return self._differ(self.of_images[images])

    def _differ(self, places: Ints) -> Bools:
        return places[:, None] != np.arange(len(self.values))


def read_properties(content: CocoContent, names: Sequence[str], *, images: Ints, source: str) -> tuple[Property, ...]:
    """The named properties of the annotations or images of a COCO file.

    An entry has a property under that key, or under it in its ``attributes``; entries without it form the group "none".
    If both annotations and images have it, the name must be ``annotations.NAME`` or ``images.NAME``. ``images``
    (G,) are those of the annotations, by ascending id; ``source`` names the file in messages.

    >>> content = CocoContent({"images": [{"id": 1, "weather": "rain"}, {"id": 2}], "annotations": []})
    >>> read_properties(content, ["weather"], images=np.zeros(0, int), source="a.json")[0].groups
    ('weather=none', 'weather=rain')

    Raises:
        GroundTruthError: for a property that no entry has, with another value than text, numbers and truth values, or
            with so many values that they are no groups.
    """
    return tuple(_read(content, name, images, source) for name in dict.fromkeys(names))


def _read(content: CocoContent, name: str, images: Ints, source: str) -> Property:
    where, key, found = _found(content, name, source)
    texts = [_text(value, f"{SINGULAR[where]} {place} of {source}", key) for place, value in enumerate(found)]
    values = tuple(sorted(set(texts), key=_order))
    if len(values) > MOST_VALUES:
        raise GroundTruthError(
            f"the property {key!r} of the {where} of {source} has {len(values)} values, such as {values[0]} and "
            f"{values[1]}; groups need a property with at most {MOST_VALUES}"
        )
    places = np.array([values.index(text) for text in texts], np.int64)
    if where == "annotations":
        return Property(name, values, places)
    of_images = places[np.argsort(content.images["id"].values)]
    return Property(name, values, of_images[images], of_images)


def _found(content: CocoContent, name: str, source: str) -> tuple[str, str, list[Any]]:
    """The list that has a property, the key in its entries, and what each of them has."""
    section, _, rest = name.partition(".")
    lists, key = ((section,), rest) if section in _LISTS else (_LISTS, name)
    found = {where: [_properties(entry).get(key) for entry in content.each(where)] for where in lists}
    there = [where for where, values in found.items() if any(value is not None for value in values)]
    if not there:
        raise GroundTruthError(
            f"the {' and '.join(lists)} of {source} do not have the property {key!r}; {_accepted(content, lists)}"
        )
    if len(there) > 1:
        raise GroundTruthError(
            f"both annotations and images of {source} have the property {key!r}; say annotations.{key} or images.{key}"
        )
    return there[0], key, found[there[0]]


def _properties(entry: Any) -> Mapping[str, Any]:
    """What an entry says, the attributes that it nests first."""
    if not isinstance(entry, Mapping):
        return {}
    nested = entry.get(_NESTED)
    return {**entry, **nested} if isinstance(nested, Mapping) else entry


def _text(value: Any, where: str, key: str) -> str:
    if value is None:
        return NO_VALUE
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, str):
        return value.strip()
    raise GroundTruthError(f"{where}: {key!r} is {value!r:.60}; groups need text, a number, true or false")


def _order(text: str) -> tuple[bool, float, str]:
    """Numbers by size, before words in alphabetical order."""
    try:
        return False, float(text), text
    except ValueError:
        return True, 0.0, text


def _accepted(content: CocoContent, lists: Sequence[str]) -> str:
    """What the first entries have."""
    firsts = {where: _properties(next(content.each(where), None)) for where in lists}
    return "; ".join(
        f"the first of the {where} has {', '.join(map(str, each)) or 'none'}" for where, each in firsts.items()
    )
