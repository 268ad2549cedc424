"""Ids of images and categories that are words: nothing takes them, but what refers to what is plain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rankdet.data.coco_content import CocoContent
from rankdet.data.columns import SOUND, WRONG, Column
from rankdet.doctor.draft import Rewrite
from rankdet.doctor.finding import Finding, Severity, find


@dataclass(frozen=True)
class Ids:
    """The ids of a list and the references to them, words replaced by numbers that no other entry has.

    ``numbers`` has the number of each word, ``places`` the places of the entries that have words.
    """

    key: str
    own: Column
    references: Column
    places: np.ndarray
    numbers: dict[str, int]
    referring: dict[int, str]

    def check(self, content: CocoContent) -> Iterator[Finding]:
        """The words as a finding."""
        reference = _REFERENCES[self.key]
        entries = {place: {"id": int(self.own.values[place])} for place in self.places.tolist()}
        others = {place: {reference: self.numbers[word]} for place, word in self.referring.items()}
        yield from find(
            "id-in-words",
            Severity.ERROR,
            self.places,
            what=f"{{entry/entries}} of '{self.key}' {{has an id that is a word/have ids that are words}}",
            remedy="replace them with numbers, also where annotations refer to them: ids are whole numbers",
            example=lambda place: f"{self.key}[{place}] has the id {content.value(self.key, place, 'id')!r:.60}",
            repair=Rewrite({self.key: entries, "annotations": others}, "{id in words/ids in words} numbered"),
        )


_REFERENCES = {"images": "image_id", "categories": "category_id"}


def number_words(content: CocoContent, key: str) -> Ids:
    """The ids of images or categories.

    >>> content = CocoContent({"images": [{"id": "a"}, {"id": 4}], "annotations": [{"image_id": "a"}]})
    >>> ids = number_words(content, "images")
    >>> ids.own.values.tolist(), ids.references.values.tolist()
    ([5, 4], [5])
    """
    own, references = getattr(content, key)["id"], content.annotations[_REFERENCES[key]]
    words = _words(content, key, "id", own)
    if not words:
        return Ids(key, own, references, np.zeros(0, dtype=np.int64), {}, {})
    free = max(0, int(own.values[own.readable].max(initial=0))) + 1
    numbers = {word: free + place for place, word in enumerate(dict.fromkeys(words.values()))}
    referring = _words(content, "annotations", _REFERENCES[key], references)
    referring = {place: word for place, word in referring.items() if word in numbers}
    return Ids(
        key=key,
        own=_replaced(own, words, numbers),
        references=_replaced(references, referring, numbers),
        places=np.array(list(words), dtype=np.int64),
        numbers=numbers,
        referring=referring,
    )


def _words(content: CocoContent, key: str, name: str, column: Column) -> dict[int, str]:
    """What is text and no number, by place."""
    found: dict[int, Any] = {place: content.value(key, place, name) for place in column.places(WRONG).tolist()}
    return {place: value for place, value in found.items() if isinstance(value, str) and value.strip()}


def _replaced(column: Column, words: dict[int, str], numbers: dict[str, int]) -> Column:
    values, states = column.values.copy(), column.states.copy()
    for place, word in words.items():
        values[place], states[place] = numbers[word], SOUND
    return Column(values, states)
