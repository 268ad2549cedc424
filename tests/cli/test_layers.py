"""Files and options put on one another."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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

    def test_drops_the_arguments_of_the_other(self, write):
        base = write("base.yaml", self.BASE)
        merged = read_layers([base], [("optimiser.class_path", "AdamW"), ("optimiser.init_args.lr", "0.2")])
        assert merged.tree == {"optimiser": {"class_path": "AdamW", "init_args": {"lr": 0.2}}}
        assert not any(name.endswith("momentum") for name in merged.origins)

    def test_in_a_file_too(self, write):
        other = write("other.yaml", "optimiser: {class_path: AdamW, init_args: {lr: 0.2}}")
        merged = read_layers([write("base.yaml", self.BASE), other], [])
        assert merged.tree == {"optimiser": {"class_path": "AdamW", "init_args": {"lr": 0.2}}}
        assert merged.origin("optimiser.init_args.lr") == other

    def test_by_its_name_alone_drops_them_too(self, write):
        merged = read_layers([write("base.yaml", self.BASE)], [("optimiser", "AdamW")])
        assert merged.tree["optimiser"] == "AdamW"
        merged.inherit("optimiser", value := {"class_path": "AdamW"})
        assert value == {"class_path": "AdamW"}

    def test_takes_later_arguments_whatever_their_order(self, write):
        base, lr = write("base.yaml", self.BASE), ("optimiser.init_args.lr", "0.2")
        for options in ([("optimiser", "AdamW"), lr], [lr, ("optimiser", "AdamW")]):
            tree = read_layers([base], options).tree
            assert tree == {"optimiser": {"class_path": "AdamW", "init_args": {"lr": 0.2}}}

    def test_there_and_back_brings_nothing_back(self, write):
        files = [write("base.yaml", self.BASE), write("other.yaml", "optimiser: AdamW")]
        for last in ("optimiser: SGD", "optimiser: {class_path: SGD, init_args: {lr: 0.3}}"):
            merged = read_layers([*files, write("last.yaml", last)], [])
            merged.inherit("optimiser", value := {"class_path": "SGD"})
            assert value == {"class_path": "SGD"}

    def test_by_a_text_that_is_no_class_drops_the_object(self, write):
        base = write("base.yaml", "data: {train: {class_path: Shapes, init_args: {length: 5}}}")
        assert read_layers([base], [("data.train", "VOC2007")]).tree == {"data": {"train": "VOC2007"}}

    def test_by_the_same_class_under_its_full_path_is_none(self, write):
        base = write("base.yaml", self.BASE)
        tree = read_layers([base], [("optimiser.class_path", "rankdet.train.SGD")]).tree
        assert tree["optimiser"]["init_args"] == {"lr": 0.1, "momentum": 0.8}
        merged = read_layers([base], [("optimiser", "SGD")])
        merged.inherit("optimiser", value := {"class_path": "SGD"})
        assert value["init_args"] == {"lr": 0.1, "momentum": 0.8}

    def test_deep_inside_leaves_what_is_around_it(self, write):
        inner = "loss: {class_path: B, init_args: {x: 1}}"
        base = write("base.yaml", f"model: {{class_path: A, init_args: {{width: 3, {inner}}}}}")
        tree = read_layers([base], [("model.init_args.loss.class_path", "C")]).tree
        assert tree == {"model": {"class_path": "A", "init_args": {"width": 3, "loss": {"class_path": "C"}}}}

    def test_by_one_from_a_file_drops_them_though_the_class_is_the_same(self, write):
        write("sgd.yaml", "class_path: SGD\ninit_args: {lr: 0.2}")
        files = [write("base.yaml", self.BASE), write("above.yaml", "optimiser: sgd.yaml")]
        wanted = {"class_path": "SGD", "init_args": {"lr": 0.2}}
        assert read_layers(files, []).tree["optimiser"] == wanted
        option = ("optimiser", str(Path(files[0]).parent / "sgd.yaml"))
        assert read_layers(files[:1], [option]).tree["optimiser"] == wanted


class TestABase:
    def test_lies_below_the_file_that_names_it(self, write):
        base = write("shared/base.yaml", "seed: 1\nschedule: {epochs: 12, warmup_iterations: 5}")
        leaf = write("leaf/leaf.yaml", "base: ../shared/base.yaml\nschedule: {epochs: 36}")
        merged = read_layers([leaf], [])
        assert merged.tree == {"seed": 1, "schedule": {"epochs": 36, "warmup_iterations": 5}}
        assert merged.origin("schedule.epochs") == leaf
        assert merged.origin("schedule.warmup_iterations") == base

    def test_may_have_a_base_and_be_that_of_a_part(self, write):
        write("1x.yaml", "epochs: 12\ndecay: {class_path: Steps, init_args: {milestones: [8, 11]}}")
        write("2x.yaml", "base: 1x.yaml\nepochs: 24")
        write("cosine.yaml", "base: 2x.yaml\ndecay: Cosine")
        leaf = write("leaf.yaml", "schedule: cosine.yaml")
        assert read_layers([leaf], []).tree == {"schedule": {"epochs": 24, "decay": "Cosine"}}

    @pytest.mark.parametrize(
        ("base", "message"),
        [("leaf.yaml", "names itself"), ("none.yaml", "does not exist"), ("[a, b]", "must name a YAML file")],
    )
    def test_that_is_none_is_refused(self, write, base: str, message: str):
        with pytest.raises(CommandError, match=message):
            read_layers([write("leaf.yaml", f"base: {base}")], [])


def test_an_option_may_name_a_shared_part(write):
    base = write("base.yaml", "schedule: {epochs: 3}")
    assert read_layers([base], [("schedule", "schedules/1x.yaml")]).tree["schedule"]["epochs"] == 12


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


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16"])
def test_a_configuration_in_the_encoding_of_its_byte_order_mark(write, mark: str):
    path = write("a.yaml", "")
    Path(path).write_bytes("data: {train: größe.json}".encode(mark))
    assert read_layers([path], []).tree == {"data": {"train": "größe.json"}}
    Path(path).write_bytes("data: {train: größe.json}".encode("latin-1"))
    with pytest.raises(CommandError, match=r"a\.yaml is not in UTF-8 .*; save it as UTF-8"):
        read_layers([path], [])


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


class TestNull:
    """Where null is stated it counts, whatever stands before it."""

    STEPS = "schedule: {epochs: 9, decay: {class_path: Steps, init_args: {milestones: [8]}}}"

    @pytest.mark.parametrize(
        "options",
        [
            [("schedule.decay", "null")],
            [("schedule.epochs", "3"), ("schedule.decay", "null")],
            [("schedule.decay", "null"), ("schedule.epochs", "3")],
            [("schedule", "{epochs: 3, decay: null}")],
            [("schedule.epochs", "3"), ("schedule", "{decay: null}")],
            [("schedule.epochs", "3"), ("schedule.decay.init_args.gamma", "0.5"), ("schedule.decay", "~")],
            [("schedule.epochs", "3"), ("schedule.decay", "NULL")],
        ],
    )
    def test_among_options(self, write, options: list[tuple[str, str]]):
        tree = read_layers([write("base.yaml", self.STEPS)], options).tree
        assert "decay" in tree["schedule"]
        assert tree["schedule"]["decay"] is None

    @pytest.mark.parametrize("above", ["base: base.yaml\nschedule: {decay: null}", "schedule: part.yaml"])
    def test_in_files(self, write, above: str):
        write("part.yaml", "base: deeper.yaml\nwarmup_iterations: 1")
        write("deeper.yaml", "decay: null")
        base, leaf = write("base.yaml", self.STEPS), write("leaf.yaml", above)
        assert read_layers([base, leaf], []).tree["schedule"]["decay"] is None

    def test_takes_what_was_below_it_away_from_what_comes_later(self, write):
        base = write("base.yaml", self.STEPS)
        for later in ("{init_args: {gamma: 0.5}}", "{class_path: Steps, init_args: {gamma: 0.5}}"):
            tree = read_layers([base], [("schedule.decay", "null"), ("schedule.decay", later)]).tree
            assert "milestones" not in tree["schedule"]["decay"]["init_args"]

    def test_of_a_whole_section_takes_its_keys(self, write):
        base = write("base.yaml", "trainer: {log_every: 5, pictures: 3}")
        tree = read_layers([base], [("trainer", "null"), ("trainer.log_every", "7")]).tree
        assert tree == {"trainer": {"log_every": 7}}


def test_true_over_one_is_a_change(write):
    assert read_layers([write("base.yaml", "a: 1")], [("a", "true")]).tree["a"] is True


NAMES = st.sampled_from(["one", "two", "three"])
PLAIN = st.sampled_from([None, 0, 1, True, 1.5, "text", [1, None]])
TREES = st.dictionaries(
    NAMES, st.recursive(PLAIN, lambda inner: st.dictionaries(NAMES, inner, min_size=1), max_leaves=4), min_size=1
)
DOTTED = st.tuples(st.lists(NAMES, min_size=1, max_size=3).map(".".join), PLAIN | TREES)
FILES = st.lists(st.tuples(st.sampled_from(["file", "with a base", "with a part"]), TREES, TREES), max_size=3)


def lay(tree: dict[str, Any], layer: dict[str, Any]) -> None:
    """One layer over what is there, in the obvious way."""
    for key, value in layer.items():
        if isinstance(value, dict) and isinstance(tree.get(key), dict):
            lay(tree[key], value)
        else:
            tree[key] = copy.deepcopy(value)


def nested(key: str, value: Any) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    return {first: nested(rest, value) if rest else value}


@given(files=FILES, options=st.lists(DOTTED, max_size=5))
def test_any_layers_in_any_order_say_what_the_last_of_them_said(files, options):
    """Files, their bases, parts in files of their own, dotted options and inline mappings."""
    wanted: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        names = []
        for number, (kind, first, second) in enumerate(files):
            content = dict(second)
            (Path(folder) / f"other{number}.yaml").write_text(json.dumps(first))
            if kind == "with a base":
                lay(wanted, first)
                content = {"base": f"other{number}.yaml", **second}
            if kind == "with a part":
                content = {**second, "part": f"other{number}.yaml"}
                second = {**second, "part": first}
            lay(wanted, second)
            names.append(str(Path(folder) / f"layer{number}.yaml"))
            Path(names[-1]).write_text(json.dumps(content))
        for key, value in options:
            lay(wanted, nested(key, value))
        found = read_layers(names, [(key, json.dumps(value)) for key, value in options]).tree
    assert repr(sorted_tree(found)) == repr(sorted_tree(wanted))  # repr tells 1 from True


def sorted_tree(value: Any) -> Any:
    return {key: sorted_tree(value[key]) for key in sorted(value)} if isinstance(value, dict) else value
