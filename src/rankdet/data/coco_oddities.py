"""What is not written as it should be in a COCO file, and is read nevertheless, since it can mean one thing only."""

from __future__ import annotations

from collections.abc import Iterator

from rankdet.data.coco_content import CocoContent
from rankdet.data.columns import IN_TEXT, NOT_FINITE
from rankdet.data.report import EXAMPLES, Fault

_TEXTS = {"file_name": "text", "coco_url": "text", "name": "text on one line"}
_WITHOUT = {"bbox": "taken for an empty box", "area": "taken for not stated"}


def read_nevertheless(content: CocoContent) -> Iterator[Fault]:
    r"""Each kind with what it is read as, for reports and warnings.

    >>> truth = {"images": [], "annotations": [{"id": 3, "image_id": "7", "area": float("nan")}], "categories": []}
    >>> print(*read_nevertheless(CocoContent(truth)), sep="\n")
    1 x 'image_id' of annotations in text, read as a number (annotation 3 of image 7)
    1 x 'area' of annotations that is not finite, taken for not stated (annotation 3 of image 7)
    """
    for state in (IN_TEXT, NOT_FINITE):
        for key, name, places in content.in_state(state):
            kind, action = _not_finite(name) if state == NOT_FINITE else _in_text(name)
            examples = tuple(content.called(key, place) for place in places[:EXAMPLES].tolist())
            yield Fault(f"'{name}' of {key} {kind}", len(places), action, examples)


def _in_text(name: str) -> tuple[str, str]:
    if name in _TEXTS:
        return f"that is not {_TEXTS[name]}", f"read as {_TEXTS[name]}"
    return "in text", "read as a number"


def _not_finite(name: str) -> tuple[str, str]:
    return "that is not finite", _WITHOUT.get(name, "refused")
