"""``rankdet data convert``: a dataset of one format written in another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rankdet.cli.errors import CommandError, near
from rankdet.cli.options import HELP, Given, Option, describe_options, read_options
from rankdet.garbage import without_garbage_collection

if TYPE_CHECKING:
    from rankdet.doctor import Source

OPTIONS = {
    "to": Option("FORMAT", "the format to write: coco, voc or yolo"),
    "output": Option("FOLDER", "the folder to write; it must not exist"),
    "val": Option("DATA", "the validation data for DATA, in any format"),
    "image-folder": Option("FOLDER", "the folder of the images of DATA, if it is not found automatically"),
    "val-image-folder": Option("FOLDER", "the same for --val"),
    "copy": Option(None, "copy the images instead of linking to them"),
    "help": HELP,
}
USAGE = """\
usage: rankdet data convert DATA [--val DATA] --to coco|voc|yolo --output FOLDER [--copy]

Converts a dataset to another format. DATA is a COCO or LVIS file, a VOC folder (VOC2007:trainval for a split), or the
YAML file of a YOLO dataset (data.yaml:val for a split; without one, its training and validation data). The images are
links unless you give --copy. Whatever the format cannot represent is left out and counted.

examples:
  rankdet data convert instances_train.json --val instances_val.json --to yolo --output yolo
  rankdet data convert data.yaml --to coco --output coco
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    given = read_options(arguments, OPTIONS, plain=2)
    if "help" in given.own or not given.plain:
        print(f"{USAGE}\noptions:\n{describe_options(OPTIONS)}")
        return 0
    if given.plain[0] != "convert":
        raise CommandError(f"there is no `rankdet data {given.plain[0]}`{near(given.plain[0], ['convert'])}")
    if len(given.plain) < 2:
        raise CommandError("give a dataset to convert: a COCO file, a VOC folder or a YOLO file")
    return convert(given)


def convert(given: Given) -> int:
    """Read, write, and say what was written."""
    with without_garbage_collection():
        from rankdet.doctor.conversion import FORMS
        from rankdet.doctor.conversion import convert as convert_datasets
        from rankdet.doctor.placement import Copies, Links

    name, output = (given.take("to") or "").lower(), given.take("output")
    if name not in FORMS:
        raise CommandError(f"--to must be one of {', '.join(FORMS)}, got {name or 'nothing'}{near(name, FORMS)}")
    if output is None:
        raise CommandError("--output FOLDER is needed: where the dataset is to be written")
    placement = Copies() if "copy" in given.own else Links()
    said = convert_datasets(_sources(given), Path(output), form=FORMS[name], placement=placement)
    for key, lines in said.items():
        print(f"{output}{f' ({key})' if len(said) > 1 else ''}: {'; '.join(lines)}")
    return 0


def _sources(given: Given) -> dict[str, Source]:
    from rankdet.data.yolo_folder import has_split, of_split, yolo_file
    from rankdet.doctor import Source

    data, val = given.plain[1], given.take("val")
    file = yolo_file(Path(data))
    if val is None and file is not None and has_split(file, "val"):
        val = data
    sources = {"train": Source(str(of_split(data, "train")), images=given.take("image-folder"))}
    if val is not None:
        sources["val"] = Source(str(of_split(val, "val")), images=given.take("val-image-folder"))
    return sources
