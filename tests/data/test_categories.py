from __future__ import annotations

import pytest

from rankdet.data import Categories, DatasetError


def test_labels_follow_the_position_and_ids_may_be_sparse():
    categories = Categories(names=("a", "b", "c"), ids=(90, 0, 7))
    assert [categories.label_of(number) for number in (90, 0, 7)] == [0, 1, 2]
    assert categories.to_coco() == [{"id": 90, "name": "a"}, {"id": 0, "name": "b"}, {"id": 7, "name": "c"}]


def test_plain_types_round_trip():
    categories = Categories.from_names(["x", "y"])
    assert categories.ids == (1, 2)
    assert categories.to_dict() == {"names": ["x", "y"], "ids": [1, 2]}
    assert Categories.from_dict(categories.to_dict()) == categories
    assert hash(Categories.from_dict(categories.to_dict())) == hash(categories)


def test_select_keeps_ids_in_the_order_asked_for():
    assert Categories(("a", "b", "c"), (5, 6, 7)).select(["c", "a"]) == Categories(("c", "a"), (7, 5))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["platelet"], "did you mean 'Platelets'"),
        (["zebra"], "unknown class 'zebra'.*RBC"),
        (["RBC", "RBC"], "2 times"),
        (["twin"], "2 categories are called 'twin'"),
        ("RBC", r"write \['RBC'\]"),
    ],
)
def test_select_says_what_is_wrong(classes, message):
    with pytest.raises(DatasetError, match=message):
        Categories(("RBC", "Platelets", "twin", "twin"), (0, 1, 2, 3)).select(classes)


@pytest.mark.parametrize(
    ("names", "ids", "message"),
    [
        (("a",), (1, 2), "1 category names but 2 ids"),
        (("a", "b"), (1, 1), r"distinct, got \[1\]"),
        ((3,), (1,), "strings, got 3"),
        (("a",), ("1",), "integers, got '1'"),
        (("a",), (True,), "integers, got True"),
    ],
)
def test_a_class_map_is_checked(names, ids, message):
    with pytest.raises(DatasetError, match=message):
        Categories(names, ids)


def test_unknown_ids_and_foreign_dictionaries_are_refused():
    with pytest.raises(DatasetError, match="id 3; there are 1, 2"):
        Categories.from_names(["x", "y"]).label_of(3)
    with pytest.raises(DatasetError, match="'names' and 'ids'"):
        Categories.from_dict({"names": ["x"]})


def test_difference_in_words():
    first = Categories(("a", "b"), (1, 2))
    assert first.difference(Categories(("a", "b"), (1, 2))) == ""
    assert first.difference(Categories(("b", "a"), (2, 1))) == "the same classes in another order: a, b and b, a"
    assert first.difference(Categories(("a",), (1,))) == "only the first has 'b' (id 2)"
