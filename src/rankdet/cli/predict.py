"""``rankdet predict``: detections in images, as pictures and as COCO results."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankdet.cli.errors import CommandError, near
from rankdet.cli.options import HELP, Option, describe_options

if TYPE_CHECKING:
    from torch import Tensor

    from rankdet.data import Categories

OPTIONS = {
    "checkpoint": Option("FILE", "best.ckpt of a run"),
    "output": Option("FOLDER", "where the pictures and results.json go"),
    "threshold": Option("SCORE", "lowest score shown; none; or optimal: the LRP-optimal one of each class (default)"),
    "batch-size": Option("N", "images that go through the model together (default: 8)"),
    "device": Option("DEVICE", "cpu, cuda, cuda:1, mps; by default the best there is"),
    "trust": Option("PACKAGE", "build the model from classes of this package, too, if the checkpoint names them"),
    "help": HELP,
}
USAGE = """\
usage: rankdet predict --checkpoint FILE IMAGE_OR_FOLDER --output FOLDER [--threshold SCORE|optimal|none]

Detects objects in an image or in all images of a folder; files that cannot be read are named and left out.

example:
  rankdet predict --checkpoint runs/demo/best.ckpt photos --output out --threshold 0.3
"""
RESULTS = "results.json"
"""COCO results: image_id, category_id, bbox (x, y, width, height) and score; file_name and category_name besides."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0 when at least one image could be read."""
    options, places = _split(arguments)
    if "help" in options:
        print(f"{USAGE}\noptions:\n{describe_options(OPTIONS)}")
        return 0
    for needed in ("checkpoint", "output"):
        if needed not in options:
            raise CommandError(f"--{needed} {OPTIONS[needed].value} is needed: {OPTIONS[needed].help}")
    if len(places) != 1:
        raise CommandError(f"one image or one folder is needed, got {places or 'none'}")
    predict_files(
        checkpoint=options["checkpoint"],
        place=Path(places[0]),
        output=Path(options["output"]),
        threshold=options.get("threshold"),
        batch_size=_whole("batch-size", options.get("batch-size", "8")),
        device=options.get("device"),
        trusted=options.get("trust"),
    )
    return 0


def predict_files(
    *,
    checkpoint: str,
    place: Path,
    output: Path,
    threshold: str | None,
    batch_size: int,
    device: str | None,
    trusted: str | None,
) -> None:
    """Pictures and results of an image or a folder."""
    from rankdet.cli.inference import choose_device, open_model, resize_rule
    from rankdet.data import Categories
    from rankdet.eval.draw import draw
    from rankdet.eval.inference import find_images, predict
    from rankdet.train.display import Display
    from rankdet.train.files import make_folder, write_text

    display = Display()
    files = [file for file in find_images(place) if output.resolve() not in file.resolve().parents]
    make_folder(output)
    model, record = open_model(checkpoint, trusted=trusted)
    categories = _categories(record, model.num_classes, Categories)  # type: ignore[arg-type]
    least, said = choose_threshold(threshold, record, categories)
    images = _Reader(files, display)
    results: list[dict[str, Any]] = []
    numbers, names = _image_ids(files), _picture_names(files, place)
    found = predict(
        model.to(choose_device(device)), images, resize=resize_rule(record), threshold=least, batch_size=batch_size
    )
    for detection in display.track(found, "predicting"):
        file, image = images.waiting.popleft()
        picture = output / names[file]
        draw(image, detection, names=categories.names).save(make_folder(picture.parent) / picture.name, quality=92)
        results += _entries(detection, file, numbers[file], categories)
    if images.done == 0:
        several = f"none of the {len(files)} images in {place} can be read"
        raise CommandError(several if len(files) > 1 else f"{files[0]} cannot be read")
    write_text(output / RESULTS, json.dumps(results, indent=1))
    display.print(
        f"{_counted(images.done, 'image')}, {_counted(len(results), 'object')} ({said}); pictures and {RESULTS} are in "
        f"{output}" + (f"; {_counted(len(images.unreadable), 'file')} could not be read" if images.unreadable else "")
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def choose_threshold(
    text: str | None, record: dict[str, Any], categories: Categories
) -> tuple[float | list[float] | None, str]:
    """The score from which on detections count, and how to say it. Without a wish: optimal if known, else 0.3."""
    from rankdet.eval.inference import class_thresholds

    known = record.get("thresholds")
    if text == "none":
        return None, "of any score"
    if text == "optimal" and not known:
        raise CommandError("the checkpoint has no optimal thresholds: it was never evaluated; give --threshold 0.3")
    if text == "optimal" or (text is None and known):
        return class_thresholds(known or {}, categories), "from the optimal threshold of each class on"
    try:
        value = float(text if text is not None else 0.3)
    except ValueError:
        raise CommandError(f"--threshold must be a score from 0 to 1, optimal or none; got {text}") from None
    if not 0 <= value <= 1:
        raise CommandError(f"--threshold must be a score from 0 to 1, optimal or none; got {text}")
    return value, f"of a score of at least {value:g}"


class _Reader:
    """Reads images one after another, names those that it cannot read, and keeps the others until they are drawn."""

    def __init__(self, files: Sequence[Path], display: Any) -> None:
        self.files = files
        self.display = display
        self.waiting: deque[tuple[Path, Tensor]] = deque()
        self.unreadable: list[Path] = []
        self.done = 0

    def __iter__(self) -> Iterator[Tensor]:
        from rankdet.data import CorruptImageError
        from rankdet.data.image import read_upright

        for file in self.files:
            try:
                image = read_upright(file)
            except CorruptImageError as error:
                self.unreadable.append(file)
                self.display.print(f"left out: {error}")
                continue
            self.done += 1
            self.waiting.append((file, image))
            yield image


def _entries(detection: Any, file: Path, image_id: int, categories: Categories) -> list[dict[str, Any]]:
    from rankdet.eval.inference import to_results

    names = dict(zip(categories.ids, categories.names, strict=True))
    return [
        {**entry, "file_name": file.name, "category_name": names[entry["category_id"]]}
        for entry in to_results(detection, image_id=image_id, categories=categories)
    ]


def _image_ids(files: Sequence[Path]) -> dict[Path, int]:
    """The number that each file is called, as in COCO's 000000000139.jpg, if all are; else 1, 2, ... in their order."""
    stems = [file.stem for file in files]
    if all(stem.isascii() and stem.isdigit() for stem in stems) and len({int(stem) for stem in stems}) == len(stems):
        return {file: int(file.stem) for file in files}
    return {file: number for number, file in enumerate(files, start=1)}


def _picture_names(files: Sequence[Path], place: Path) -> dict[Path, Path]:
    """Where each picture goes, below the output: as the file lies in the folder, ending in .jpg, without collisions."""
    inner = {file: file.relative_to(place) if file != place else Path(file.name) for file in files}
    short = [path.with_suffix(".jpg") for path in inner.values()]
    return {
        file: path.with_suffix(".jpg") if short.count(path.with_suffix(".jpg")) == 1 else Path(f"{path}.jpg")
        for file, path in inner.items()
    }


def _categories(record: dict[str, Any], num_classes: int, kind: type[Categories]) -> Categories:
    if record.get("categories") is not None:
        return kind.from_dict(record["categories"])
    return kind.from_names([f"class {label}" for label in range(num_classes)])


def _split(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Options with their values, and what is none."""
    options: dict[str, str] = {}
    places: list[str] = []
    rest = ["--help" if argument == "-h" else argument for argument in arguments]
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("--"):
            places.append(argument)
            continue
        name, equals, value = argument[2:].partition("=")
        if name not in OPTIONS:
            raise CommandError(f"unknown option --{name}{near(name, OPTIONS)} (accepted: --{', --'.join(OPTIONS)})")
        if OPTIONS[name].value is not None and not equals:
            if not rest:
                raise CommandError(f"--{name} needs a value, as in --{name} {OPTIONS[name].value}")
            value = rest.pop(0)
        options[name] = value
    return options, places


def _whole(name: str, text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise CommandError(f"--{name} must be a whole number of at least 1, got {text}")
    return int(text)
