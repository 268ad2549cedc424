"""Files and options put on one another."""

from __future__ import annotations

from pathlib import Path

import pytest

from rankdet.cli.errors import CommandError
from rankdet.cli.layers import parse_value, read_layers


@pytest.fixture
def write(tmp_path: Path):
    def file(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    return file


def test_later_layers_win_key_by_key(write):
    first = write("a.yaml", "schedule: {epochs: 1, warmup_iterations: 5}\nseed: 1")
    second = write("b.yaml", "schedule: {epochs: 2}")
    merged = read_layers([first, second], [("seed", "3"), ("data.train", "x.json")])
    assert merged.tree == {"schedule": {"epochs": 2, "warmup_iterations": 5}, "seed": 3, "data": {"train": "x.json"}}
    assert merged.origin("schedule.epochs") == second
    assert merged.origin("schedule.warmup_iterations") == first
    assert merged.origin("seed") == "--seed"


def test_a_key_may_name_a_file_beside_its_own(write):
    write("shared/1x.yaml", "epochs: 12\ndecay: deeper/steps.yaml")
    write("shared/deeper/steps.yaml", "class_path: Steps")
    leaf = write("leaf/leaf.yaml", "schedule: ../shared/1x.yaml")
    assert read_layers([leaf], []).tree == {"schedule": {"epochs": 12, "decay": {"class_path": "Steps"}}}


def test_an_option_may_name_a_file(write):
    schedule = write("2x.yaml", "epochs: 24")
    base = write("base.yaml", "schedule: {epochs: 12, warmup_iterations: 5}")
    assert read_layers([base], [("schedule", schedule)]).tree["schedule"] == {"epochs": 24, "warmup_iterations": 5}


def test_a_class_name_may_stand_alone_and_get_arguments_later(write):
    base = write("base.yaml", "optimiser: SGD")
    tree = read_layers([base], [("optimiser.init_args.lr", "0.1")]).tree
    assert tree == {"optimiser": {"class_path": "SGD", "init_args": {"lr": 0.1}}}


def test_lists_are_replaced_as_a_whole(write):
    base = write("base.yaml", "data: {classes: [a, b, c]}")
    assert read_layers([base], [("data.classes", "[d]")]).tree == {"data": {"classes": ["d"]}}


class TestReplacingAClass:
    BASE = "optimiser: {class_path: SGD, init_args: {lr: 0.1, momentum: 0.8}}"

    def test_is_refused_while_arguments_of_the_other_would_stay(self, write):
        base = write("base.yaml", self.BASE)
        with pytest.raises(CommandError, match=r"replaces SGD by AdamW as optimiser, but lr, momentum of .*base.yaml"):
            read_layers([base], [("optimiser.class_path", "AdamW")])

    def test_by_its_name_alone_is_kept_until_the_types_are_known(self, write):
        merged = read_layers([write("base.yaml", self.BASE)], [("optimiser", "AdamW")])
        assert merged.tree["optimiser"] == "AdamW"
        with pytest.raises(CommandError, match=r"--optimiser replaces SGD by AdamW as optimiser, but lr, momentum of"):
            merged.inherit("optimiser", {"class_path": "AdamW"})

    def test_by_a_text_that_is_no_class_drops_the_object(self, write):
        base = write("base.yaml", "data: {train: {class_path: Shapes, init_args: {length: 5}}}")
        assert read_layers([base], [("data.train", "VOC2007")]).tree == {"data": {"train": "VOC2007"}}

    def test_is_refused_in_a_file_too(self, write):
        other = write("other.yaml", "optimiser: {class_path: AdamW, init_args: {lr: 0.2}}")
        with pytest.raises(
            CommandError, match=r"other.yaml replaces SGD by AdamW as optimiser, but momentum of .*base"
        ):
            read_layers([write("base.yaml", self.BASE), other], [])

    def test_works_when_they_are_stated_anew(self, write):
        base = write("base.yaml", "optimiser: {class_path: SGD, init_args: {lr: 0.1}}")
        options = [("optimiser.class_path", "AdamW"), ("optimiser.init_args.lr", "0.2")]
        assert read_layers([base], options).tree == {"optimiser": {"class_path": "AdamW", "init_args": {"lr": 0.2}}}

    def test_by_the_same_class_under_its_full_path_is_none(self, write):
        base = write("base.yaml", self.BASE)
        tree = read_layers([base], [("optimiser.class_path", "rankdet.train.SGD")]).tree
        assert tree["optimiser"]["init_args"] == {"lr": 0.1, "momentum": 0.8}
        merged = read_layers([base], [("optimiser", "SGD")])
        merged.inherit("optimiser", value := {"class_path": "SGD"})
        assert value["init_args"] == {"lr": 0.1, "momentum": 0.8}

    def test_deep_inside_is_seen(self, write):
        base = write("base.yaml", "model: {class_path: A, init_args: {loss: {class_path: B, init_args: {x: 1}}}}")
        with pytest.raises(CommandError, match=r"replaces B by C as model.init_args.loss, but x"):
            read_layers([base], [("model.init_args.loss.class_path", "C")])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [b", "is not YAML"),
        ("- 1", "must be a mapping of names, .*; got list"),
        ("", "must be a mapping of names"),
        ("1: 2", "must be a mapping of names"),
        ("a: !!python/object/apply:os.system [true]", "is not YAML"),
        ("schedule: other.yaml", "names other.yaml, which does not exist"),
        ("schedule: circle.yaml", "names itself"),
    ],
)
def test_files_that_are_no_configuration(write, text: str, message: str):
    path = write("circle.yaml", text)
    with pytest.raises(CommandError, match=message) as error:
        read_layers([path], [])
    assert "circle.yaml" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1", 1),
        ("true", True),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ("a: b: c", "a: b: c"),
        ("nan", "nan"),
    ],
)
def test_values_of_options(text: str, value):
    assert parse_value(text) == value


def test_numbers_in_files_may_lack_the_point_that_yaml_wants(write):
    assert read_layers([write("a.yaml", "lr: 1e-3")], []).tree == {"lr": 1e-3}
