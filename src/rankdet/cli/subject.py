"""What `rankdet check` is to look at: a dataset, a pair of them, or the data of an experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankdet.cli.errors import CommandError
from rankdet.cli.options import Given
from rankdet.cli.presets import preset_names
from rankdet.data.files import split_off
from rankdet.data.yolo_folder import describes_dataset, of_split
from rankdet.doctor import Source

if TYPE_CHECKING:
    from rankdet.cli.experiment import Experiment

_ON_DISK = {
    "rankdet.data.CocoDetection": "annotations",
    "rankdet.data.VOCDetection": "root",
    "rankdet.data.YOLODetection": "file",
}


@dataclass(frozen=True)
class Subject:
    """Training and validation data, and the experiment that they belong to.

    ``train`` and ``val`` are None where there is nothing on disk; ``made`` names what makes such data.
    """

    train: Source | None
    val: Source | None
    experiment: Experiment | None = None
    made: tuple[str, ...] = ()


def find_subject(given: Given) -> Subject:
    """What the arguments of the command mean; `CommandError` if they mean nothing, too much, or what is not there."""
    subject = _interpret(given)
    for source in filter(None, (subject.train, subject.val)):
        if not split_off(source.path)[0].exists():
            accepted = "a COCO file (*.json), a VOC folder or a YOLO file (data.yaml)"
            raise CommandError(f"there is no file or folder {source.path}; name {accepted}")
    return subject


def _interpret(given: Given) -> Subject:
    data = given.plain[0] if given.plain else None
    files = [*given.files, *filter(None, [given.take("preset")])]
    if data is not None and _is_configuration(data):
        files, data = [data, *files], None
    if data is None and not files:
        raise CommandError(
            "give a dataset to check: a COCO file, a VOC folder, a YOLO file, or the configuration of an experiment"
        )
    if data is None:
        return _of_experiment(files, given.overrides, given)
    pair = _pair(data, given)
    if not files:
        if given.overrides:
            key = given.overrides[0][0]
            raise CommandError(f"--{key} is a key of a configuration; give one beside {data} with --preset")
        return Subject(*pair)
    from rankdet.cli.experiment import Experiment

    overrides = [*given.overrides, *_as_overrides(pair)]
    return Subject(*pair, experiment=Experiment(files=files, overrides=overrides))


def _is_configuration(data: str) -> bool:
    if data.endswith((".yaml", ".yml")):
        return not describes_dataset(Path(data))
    return not Path(data).exists() and data in preset_names()


def _pair(data: str, given: Given) -> tuple[Source, Source | None]:
    val, folder = given.take("val"), given.take("val-image-folder")
    if folder is not None and val is None:
        raise CommandError("--val-image-folder says where the images of --val are; give --val too")
    train = Source(str(of_split(data, "train")), images=given.take("image-folder"))
    return train, None if val is None else Source(str(of_split(val, "val")), images=folder)


def _as_overrides(pair: tuple[Source, Source | None]) -> list[tuple[str, str]]:
    """The data as options; data without validation are validated on themselves."""
    train, val = pair[0], pair[1] or pair[0]
    found = [("data.train", train.path), ("data.val", val.path)]
    folders = [("data.train_images", train.images), ("data.val_images", val.images)]
    return found + [(key, folder) for key, folder in folders if folder is not None]


def _of_experiment(files: Sequence[str], overrides: Sequence[tuple[str, str]], given: Given) -> Subject:
    for name, key in {"val": "val", "image-folder": "train_images", "val-image-folder": "val_images"}.items():
        if given.take(name) is not None:
            raise CommandError(f"--{name} goes with a dataset; in a configuration it is --data.{key}")
    from rankdet.cli.experiment import MISSING, Experiment

    experiment = Experiment(files=files, overrides=overrides, complete=False)
    settings = experiment.section("data")
    if MISSING in (settings["train"], settings["val"]):
        raise CommandError(
            f"{files[-1]} leaves the data to you; give --data.train and --data.val, or a dataset beside it"
        )
    sources = {part: _source(settings, part) for part in ("train", "val")}
    made = tuple(f"{part} is {_name(settings[part])}" for part, source in sources.items() if source is None)
    return Subject(sources["train"], sources["val"], experiment, made)


def _source(settings: Mapping[str, Any], part: str) -> Source | None:
    """The files of one dataset; None for one that is made while it is read, or assembled from others."""
    data = settings[part]
    if isinstance(data, str):
        same = {"images": settings[f"{part}_images"], "classes": settings["classes"]}
        return None if data == "shapes" else Source(str(of_split(data, part)), **same)
    if isinstance(data, list):
        return None
    stated = data["init_args"]
    key = _ON_DISK.get(data["class_path"])
    if key is None:
        return None
    split = stated.get("split")
    return Source(
        str(stated[key]) + (f":{split}" if isinstance(split, str) else ""),
        images=None if stated.get("images") is None else str(stated["images"]),
        classes=stated["classes"] if isinstance(stated["classes"], list) else None,
    )


def _name(data: Any) -> str:
    if isinstance(data, list):
        return " + ".join(data)
    return data if isinstance(data, str) else str(data["class_path"]).rpartition(".")[2]
