"""The classes of COCO, which files of other tools number in ways of their own: 80 names, ids 1 to 90 with gaps."""

from __future__ import annotations

from collections.abc import Sequence

from rankdet.data.categories import Categories

_NAMES = """
person|bicycle|car|motorcycle|airplane|bus|train|truck|boat|traffic light|fire hydrant||stop sign|parking meter|bench|
bird|cat|dog|horse|sheep|cow|elephant|bear|zebra|giraffe||backpack|umbrella|||handbag|tie|suitcase|frisbee|skis|
snowboard|sports ball|kite|baseball bat|baseball glove|skateboard|surfboard|tennis racket|bottle||wine glass|cup|fork|
knife|spoon|bowl|banana|apple|sandwich|orange|broccoli|carrot|hot dog|pizza|donut|cake|chair|couch|potted plant|bed||
dining table|||toilet||tv|laptop|mouse|remote|keyboard|cell phone|microwave|oven|toaster|sink|refrigerator||book|clock|
vase|scissors|teddy bear|hair drier|toothbrush
"""
_BY_ID = dict(enumerate(_NAMES.replace("\n", "").split("|"), start=1))

COCO = Categories(
    names=tuple(name for name in _BY_ID.values() if name), ids=tuple(number for number, name in _BY_ID.items() if name)
)
"""The 80 categories, by the ids of the annotation files."""


def categories_of(names: Sequence[str] | None, num_classes: int) -> Categories:
    """The categories of some names, in the order of the labels: COCO's with their ids, all others as 1, 2, 3, ...

    Without names 80 classes are taken for COCO's, others are numbered.

    >>> categories_of(["person", "car"], 2).ids, categories_of(None, 80).ids[-1]
    ((1, 2), 90)
    """
    if names is None and num_classes == len(COCO):
        return COCO
    if names is None:
        return Categories.from_names([f"class {number + 1}" for number in range(num_classes)])
    return COCO if tuple(names) == COCO.names else Categories.from_names(list(names))
