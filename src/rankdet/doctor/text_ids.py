"""Ids of images and categories that are words: nothing takes them, but what refers to what is plain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from rankdet.data.coco_content import SINGULAR, CocoContent
from rankdet.data.columns import SOUND, WRONG, Column
from rankdet.doctor.draft import Rewrite
from rankdet.doctor.finding import Finding, Severity, find

_REFERENCES = {"images": "image_id", "categories": "category_id"}
_NAMES = {"images": "file_name", "categories": "name"}


@dataclass(frozen=True)
class Ids:
    """The ids of a list and the references to them, words replaced by numbers.

    ``entries`` has the number of each entry whose id is a word, by its place; ``by_word`` those of the annotations that
    refer to such entries; and ``by_name`` those of the annotations that have the name of an entry in place of its id.
    """

    key: str
    own: Column
    references: Column
    entries: Mapping[int, int]
    by_word: Mapping[int, int]
    by_name: Mapping[int, int]

    def check(self, content: CocoContent) -> Iterator[Finding]:
        """The words as findings."""
        reference, one = _REFERENCES[self.key], SINGULAR[self.key]
        entries = {place: {"id": number} for place, number in self.entries.items()}
        annotations = {place: {reference: number} for place, number in self.by_word.items()}
        yield from find(
            "id-in-words",
            Severity.ERROR,
            np.array(list(self.entries), dtype=np.int64),
            what=f"{{entry/entries}} of '{self.key}' {{has an id that is a word/have ids that are words}}",
            remedy="replace them with numbers, also where annotations refer to them: ids are whole numbers",
            example=lambda place: f"{self.key}[{place}] has the id {content.value(self.key, place, 'id')!r:.60}",
            repair=Rewrite({self.key: entries, "annotations": annotations}, "{id in words/ids in words} numbered"),
        )
        named = {place: {reference: number} for place, number in self.by_name.items()}
        yield from find(
            "reference-by-name",
            Severity.ERROR,
            np.array(list(self.by_name), dtype=np.int64),
            what=f"{{annotation has/annotations have}} the name of the {one} for '{reference}'",
            remedy=f"write the id of the {one}",
            example=lambda place: f"annotations[{place}]: {content.value('annotations', place, reference)!r:.60}",
            repair=Rewrite({"annotations": named}, "{name/names} replaced with ids"),
        )


def number_words(content: CocoContent, key: str) -> Ids:
    """The ids of images or categories; words get numbers that no other entry has.

    >>> images = [{"id": "a"}, {"id": 4, "file_name": "b.jpg"}]
    >>> content = CocoContent({"images": images, "annotations": [{"image_id": "a"}, {"image_id": "b.jpg"}]})
    >>> ids = number_words(content, "images")
    >>> ids.own.values.tolist(), ids.references.values.tolist()
    ([5, 4], [5, 4])
    """
    own, references = getattr(content, key)["id"], content.annotations[_REFERENCES[key]]
    words, referring = _words(content, key, "id", own), _words(content, "annotations", _REFERENCES[key], references)
    free = max(0, int(own.values[own.readable].max(initial=0))) + 1
    numbers = {word: free + place for place, word in enumerate(dict.fromkeys(words.values()))}
    entries = {place: numbers[word] for place, word in words.items()}
    own = _replaced(own, entries)
    called = _ids_by_name(content, key, own) if referring else {}
    by_word = {place: numbers[word] for place, word in referring.items() if word in numbers}
    by_name = {place: called[word] for place, word in referring.items() if word in called and word not in numbers}
    return Ids(key, own, _replaced(references, {**by_word, **by_name}), entries, by_word, by_name)


def _words(content: CocoContent, key: str, name: str, column: Column) -> dict[int, str]:
    """What is text and no number, by place."""
    found = {place: content.value(key, place, name) for place in column.places(WRONG).tolist()}
    return {place: value for place, value in found.items() if isinstance(value, str) and value.strip()}


def _ids_by_name(content: CocoContent, key: str, own: Column) -> dict[str, int]:
    """The ids of the entries by their names; none for a name that several have."""
    names = getattr(content, key)[_NAMES[key]].values.tolist()
    once = {name for name, times in Counter(names).items() if times == 1}
    columns = zip(names, own.values.tolist(), own.readable.tolist(), strict=True)
    return {name: number for name, number, has_id in columns if has_id and name in once}


def _replaced(column: Column, numbers: Mapping[int, int]) -> Column:
    if not numbers:
        return column
    values, states = column.values.copy(), column.states.copy()
    places = list(numbers)
    values[places], states[places] = list(numbers.values()), SOUND
    return Column(values, states)
