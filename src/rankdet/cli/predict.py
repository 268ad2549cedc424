"""``rankdet predict``: detections in images, as pictures and as COCO results."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rankdet.cli.errors import CommandError
from rankdet.cli.looking import OPTIONS as LOOKS
from rankdet.cli.looking import check_looks, looking
from rankdet.cli.options import CHECKPOINT, DEVICES, HELP, TRUST, Given, Option, describe_options, read_options
from rankdet.cli.values import whole_number

if TYPE_CHECKING:
    from torch import Tensor

    from rankdet.cli.predict_inputs import Inputs
    from rankdet.predictor import Predictor, Threshold
    from rankdet.train.display import Display

Save = Literal["both", "pictures", "results", "none"]
OPTIONS = {
    "checkpoint": CHECKPOINT,
    "output": Option("FOLDER", "where the pictures and results.json go"),
    "list": Option("FILE", "a text file with more images, folders or patterns, one in a line"),
    "save": Option("WHAT", "pictures, results, both (default) or none, which only counts the objects"),
    "threshold": Option("SCORE", "lowest score shown; none; or optimal: the LRP-optimal one of each class (default)"),
    **LOOKS,
    "batch-size": Option("N", "images or tiles that go through the model together, on all devices (default: 8)"),
    "device": DEVICES,
    "trust": TRUST,
    "help": HELP,
}
USAGE = """\
usage: rankdet predict --checkpoint FILE IMAGES ... --output FOLDER [--save WHAT] [--threshold SCORE|optimal|none]

Detects objects in images: files, folders with their subfolders, patterns; and in the frames of video files that are
named. Those that cannot be read are named and left out.

examples:
  rankdet predict --checkpoint runs/demo/best.ckpt photos --output out --threshold 0.3
  rankdet predict --checkpoint runs/demo/best.ckpt aerial --output out --tiles 800 --overlap 0.2
  rankdet predict --checkpoint runs/demo/best.ckpt a.jpg "photos/**/*.png" --list more.txt --save results --output out
"""
_EVERY = 60.0
"""Seconds between two lines of progress where there is no terminal."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0 when at least one image could be read."""
    from rankdet.cli.predict_inputs import find_inputs

    given = read_options(arguments, OPTIONS, plain=len(arguments))
    options = given.own
    if "help" in options:
        print(f"{USAGE}\noptions:\n{describe_options(OPTIONS)}")
        return 0
    if given.files or given.overrides:
        raise CommandError("predict takes a checkpoint and no configuration")
    save = _save(options.get("save", "both"))
    for needed in ("checkpoint", "output") if save != "none" else ("checkpoint",):
        if needed not in options:
            raise CommandError(f"--{needed} {OPTIONS[needed].value} is needed: {OPTIONS[needed].help}")
    check_looks(given)
    lists = [Path(options["list"])] if "list" in options else []
    if not given.plain and not lists:
        raise CommandError("no image is named: give files, folders or patterns, or --list FILE")
    output = Path(options["output"]) if save != "none" else None
    predict_files(
        checkpoint=options["checkpoint"],
        inputs=find_inputs(given.plain, lists=lists, output=output),
        output=output,
        save=save,
        threshold=options.get("threshold"),
        batch_size=whole_number(given, "batch-size", default=8),
        device=options.get("device"),
        trusted=options.get("trust"),
        looks=given,
    )
    return 0


def predict_files(
    *,
    checkpoint: str,
    inputs: Inputs,
    output: Path | None,
    save: Save,
    threshold: str | None,
    batch_size: int,
    device: str | None,
    trusted: str | None,
    looks: Given,
) -> None:
    """Pictures and results of some images, one batch in memory at a time; `looks` are the options of `looking`."""
    from rankdet.cli.inference import on_devices, open_predictor
    from rankdet.cli.predict_outputs import open_outputs
    from rankdet.train.display import Display

    display = Display()
    if not inputs.files:
        raise CommandError("; ".join(inputs.told()) or "the list names no image")
    for line in inputs.told():
        display.print(f"left out: {line}")
    with ExitStack() as opened:
        predictor = open_predictor(checkpoint, trusted=trusted)
        predictor.batch_size = batch_size
        predictor = on_devices(looking(predictor, looks), device)
        least, said = choose_threshold(threshold, predictor)
        writers = open_outputs(output, inputs, predictor.categories, save=save)
        outputs = [opened.enter_context(writer) for writer in writers]
        images, objects = _Reader(inputs.files, display), 0
        found = predictor.stream(images, threshold=least)
        for detection in _tracked(found, display, total=images.total):
            place, frame, image = images.waiting.popleft()
            objects += len(detection["boxes"])
            for writer in outputs:
                writer.add(place, image, detection, frame=frame)
        if images.done + images.frames == 0:
            several = f"none of the {len(inputs.files)} images can be read"
            raise CommandError(several if len(inputs.files) > 1 else f"{inputs.files[0]} cannot be read")
    display.print(_summary(images, objects, said, where="; ".join(writer.said for writer in outputs)))


def _tracked(found: Iterable[Any], display: Display, *, total: int | None) -> Iterator[Any]:
    """Shows how far it is: by a bar on a terminal, else by a line now and then."""
    last = time.monotonic()
    sized = found if total is None else _Sized(found, total)
    for done, detection in enumerate(display.track(sized, "predicting"), start=1):
        yield detection
        if not display.live and time.monotonic() - last > _EVERY:
            last = time.monotonic()
            display.print(f"{done:,} images are done" if total is None else f"{done:,} of {total:,} images are done")


@dataclass(frozen=True)
class _Sized:
    """An iterable of which the length is known."""

    items: Iterable[Any]
    length: int

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:
        return self.length


def _summary(images: _Reader, objects: int, said: str, *, where: str) -> str:
    frames = [_counted(images.frames, "frame")] if images.frames else []
    pictures = [_counted(images.done, "image")] if images.done or not frames else []
    done = f"{' and '.join(pictures + frames)}, {_counted(objects, 'object')} ({said})"
    left_out = f"{_counted(len(images.unreadable), 'file')} could not be read" if images.unreadable else ""
    return "; ".join(part for part in (done, where, left_out) if part)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def choose_threshold(text: str | None, predictor: Predictor) -> tuple[Threshold, str]:
    """The score from which on detections count, and how to say it. Without a wish: optimal if known, else 0.3."""
    from rankdet.eval.inference import FALLBACK_SCORE
    from rankdet.predictor import OPTIMAL

    known = predictor.thresholds
    if text == "none":
        return None, "of any score"
    if text == "optimal" and not known:
        raise CommandError("the checkpoint has no optimal thresholds: it was never evaluated; give --threshold 0.3")
    if text == "optimal" or (text is None and known):
        return OPTIMAL, "from the optimal threshold of each class on"
    try:
        value = float(text if text is not None else FALLBACK_SCORE)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise CommandError(f"--threshold must be a score from 0 to 1, optimal or none; got {text}")
    return value, f"of a score of at least {value:g}"


class _Reader:
    """Reads images and videos one after another, and keeps what it has read until it is drawn: place, frame, pixels.

    Those that it cannot read are named and left out.
    """

    def __init__(self, files: Sequence[Path], display: Any) -> None:
        from rankdet.data.video import is_video

        self.files = files
        self.display = display
        self.videos = {file for file in files if is_video(file.name)}
        self.waiting: deque[tuple[int, int | None, Tensor]] = deque()
        self.unreadable: list[Path] = []
        self.done = self.frames = 0

    @property
    def total(self) -> int | None:
        """How many images there are; None with videos, whose frames are not counted before."""
        return None if self.videos else len(self.files)

    def __iter__(self) -> Iterator[Tensor]:
        from rankdet.data import CorruptImageError
        from rankdet.data.image import read_upright

        for place, file in enumerate(self.files):
            try:
                if file in self.videos:
                    yield from self._frames(place, file)
                    continue
                image = read_upright(file)
            except CorruptImageError as error:
                self.unreadable.append(file)
                self.display.print(f"left out: {error}")
                continue
            self.done += 1
            self.waiting.append((place, None, image))
            yield image

    def _frames(self, place: int, file: Path) -> Iterator[Tensor]:
        from rankdet.data.video import read_frames

        for number, frame in enumerate(read_frames(file), start=1):
            self.frames += 1
            self.waiting.append((place, number, frame))
            yield frame


def _save(text: str) -> Save:
    for known in ("both", "pictures", "results", "none"):
        if text == known:
            return known  # type: ignore[return-value]
    raise CommandError(f"--save must be pictures, results, both or none, got {text}")
