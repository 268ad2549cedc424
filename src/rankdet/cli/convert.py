"""``rankdet convert``: weights of other tools as checkpoints of rankdet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rankdet.cli.errors import CommandError, near
from rankdet.cli.options import CONFIG, HELP, Given, Option, describe_options, read_options
from rankdet.cli.values import target_file

if TYPE_CHECKING:
    from rankdet.convert import Conversion, Source
    from rankdet.data import Categories

OPTIONS = {
    "from": Option("TOOL", "mmdet, torchvision or detectron2"),
    "preset": Option(
        "NAME", "the model that the file was trained as: a preset of rankdet for mmdet, otherwise the name in that tool"
    ),
    "output": Option("FILE", "the checkpoint to write"),
    "config": CONFIG,
    "style": Option("STYLE", "pytorch or caffe: where the stride of the ResNet's blocks is, and the order of colours"),
    "classes": Option("FILE", "class names: a text file with one per line, or annotations in COCO's format"),
    "tool-version": Option("VERSION", "version of MMDetection, such as 2.8, if the file does not name it"),
    "epsilon": Option("NUMBER", "for torchvision: what batch norms add to the variance (0 or 1e-5)"),
    "help": HELP,
}
USAGE = """\
usage: rankdet convert --from TOOL --preset NAME WEIGHTS --output FILE [--KEY VALUE ...]

Makes a rankdet checkpoint from weights of another tool: every command accepts it, and `rankdet train --start-from`
trains it further. Lists tensors of the file that are left out, and the assumptions made. No code in the file is run.

examples:
  rankdet convert --from mmdet --preset atss/rank_sort_r50_1x_coco rs_atss_r50.pth --output rs_atss.ckpt
  rankdet convert --from torchvision --preset fasterrcnn_resnet50_fpn fasterrcnn.pth --output faster.ckpt
  rankdet convert --from detectron2 --preset mask_rcnn_R_50_FPN_3x model_final.pkl --output mask.ckpt
"""
TOOLS = ("mmdet", "torchvision", "detectron2")
_SHOWN = 6


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0 when the checkpoint is written."""
    given = read_options(arguments, OPTIONS, plain=1)
    if "help" in given.own:
        keys = "keys of the configuration, such as --model.init_args.backbone, change the model of a preset"
        print(f"{USAGE}\noptions:\n{describe_options(OPTIONS)}\n\n{keys}")
        return 0
    for needed in ("from", "preset", "output"):
        if needed not in given.own and not (needed == "preset" and given.files):
            raise CommandError(f"--{needed} {OPTIONS[needed].value} is needed: {OPTIONS[needed].help}")
    if not given.plain:
        raise CommandError("no weights file is given")
    output = target_file(given, "output")
    from rankdet.convert import read_source

    conversion = convert(read_source(given.plain[0]), given)
    conversion.save(output)
    _tell(conversion, output)
    return 0


def convert(source: Source, given: Given) -> Conversion:
    """The conversion that the options ask for."""
    from rankdet.convert import from_detectron2, from_torchvision

    tool, preset = given.own["from"], given.own.get("preset", "")
    if tool not in TOOLS:
        raise CommandError(f"--from {tool} is not known{near(tool, TOOLS)} (known are {', '.join(TOOLS)})")
    style = given.take("style")
    if style not in (None, "pytorch", "caffe"):
        raise CommandError(f"--style must be pytorch or caffe; got {style}")
    categories = _categories(given.take("classes"))
    if tool == "mmdet":
        return _from_mmdet(source, given, categories)
    if given.overrides or given.files:
        raise CommandError(f"--from {tool} takes the name of a model there, and no configuration")
    if tool == "detectron2":
        return from_detectron2(source, preset, categories=categories, caffe=style != "pytorch")
    return from_torchvision(source, preset, categories=categories, epsilon=_number(given.take("epsilon")))


def _from_mmdet(source: Source, given: Given, categories: Categories | None) -> Conversion:
    from rankdet.cli.blueprint import resize_of
    from rankdet.cli.experiment import Experiment
    from rankdet.convert import from_mmdetection

    files = [*([given.own["preset"]] if "preset" in given.own else []), *given.files]
    experiment = Experiment(files=files, overrides=given.overrides, complete=False)
    return from_mmdetection(
        source,
        experiment.section("model"),
        resize=resize_of(experiment),
        style=given.take("style"),  # type: ignore[arg-type]  # checked before
        version=_version(given.take("tool-version")),
        categories=categories,
    )


def _categories(path: str | None) -> Categories | None:
    """The classes in a text file, or in annotations of COCO's format."""
    from rankdet.data import Categories
    from rankdet.data.encoding import decode_text

    if path is None:
        return None
    try:
        text = decode_text(Path(path).read_bytes())
    except UnicodeDecodeError as error:
        raise CommandError(f"--classes {path} is not in UTF-8 ({error}); save it as UTF-8") from error
    if not path.endswith(".json"):
        return Categories.from_names([line.strip() for line in text.splitlines() if line.strip()])
    try:
        listed = sorted(json.loads(text)["categories"], key=lambda entry: entry["id"])
        return Categories(tuple(str(entry["name"]) for entry in listed), tuple(entry["id"] for entry in listed))
    except (ValueError, KeyError, TypeError) as error:
        raise CommandError(
            f"--classes {path} has no categories with id and name, as COCO's annotations have"
        ) from error


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        raise CommandError(f"--epsilon must be a number; got {text}") from None


def _version(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = text.split(".")
    if not all(part.isdigit() for part in parts):
        raise CommandError(f"--tool-version must be a version such as 2.8 or 3.3.0; got {text}")
    return tuple(int(part) for part in parts)


def _tell(conversion: Conversion, output: Path) -> None:
    model, names = conversion.model, conversion.categories.names
    classes = f"{len(names)} classes ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
    print(f"{type(model).__name__} with {classes}; images: {conversion.resize.to_dict()}")
    for remark in conversion.remarks:
        print(f"note: {remark}")
    for said, listed in (
        ("of the file, left out as the model has no place for them", conversion.left_out),
        ("of the model, not in the file and as the model begins", conversion.kept),
    ):
        if listed:
            print(
                f"{len(listed)} tensors {said}: {', '.join(listed[:_SHOWN])}{', ...' if len(listed) > _SHOWN else ''}"
            )
    print(f"The checkpoint is in {output}")
