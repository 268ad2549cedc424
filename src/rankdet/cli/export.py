"""``rankdet export``: a detector as a graph, and whether the graph gives what the detector gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rankdet.cli.errors import CommandError, near
from rankdet.cli.options import CHECKPOINT, HELP, Option, describe_options, read_options
from rankdet.cli.values import height_and_width, whole_number

if TYPE_CHECKING:
    from torch import Tensor

    from rankdet.data.transforms import FixedResize
    from rankdet.export import About, Parity

OPTIONS = {
    "checkpoint": CHECKPOINT,
    "output": Option("FILE", "the file to write; it ends in .onnx, or in .pt2 for --format torch"),
    "format": Option("FORMAT", "onnx (default), or torch for a program of torch.export"),
    "size": Option("HxW", "height and width of the images that the graph takes, such as 640x640, or any"),
    "batch": Option("N", "number of images in a batch, or any (default: 1)"),
    "raw": Option(None, "leave suppression out: the graph gives candidates, and you suppress duplicates among them"),
    "images": Option("FOLDER", "images on which the file is compared with the detector; noise by default"),
    "trust": Option("PACKAGE", "also build classes of this package if the checkpoint names them"),
    "help": HELP,
}
USAGE = """\
usage: rankdet export --checkpoint FILE --output FILE --size HxW|any [--format onnx|torch] [--images FOLDER]

Exports a detector as a graph that decodes boxes and suppresses duplicates; classes, thresholds and the resizing rule
are in the file. Then runs the file and compares it with the detector; the command fails if they differ.

examples:
  rankdet export --checkpoint runs/demo/best.ckpt --size 256x256 --output demo.onnx
  rankdet export --checkpoint calibrated.ckpt --size 800x1344 --images val2017 --output detector.onnx
  rankdet export --checkpoint calibrated.ckpt --size any --batch any --images val2017 --output detector.onnx
"""
FORMATS = ("onnx", "torch")
ANY = "any"
_COMPARED = 4
_SIZES = ((192, 256), (256, 192), (203, 331))
"""Of the noise that a file for any size is compared on."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0 when the file is written and gives what the detector gives, 1 when it differs."""
    given = read_options(arguments, OPTIONS)
    if "help" in given.own:
        print(f"{USAGE}\noptions:\n{describe_options(OPTIONS)}")
        return 0
    if given.files or given.overrides:
        raise CommandError("export takes a checkpoint and no configuration")
    for needed in ("checkpoint", "output", "size"):
        if needed not in given.own:
            raise CommandError(f"--{needed} {OPTIONS[needed].value} is needed: {OPTIONS[needed].help}")
    form = given.own.get("format", "onnx")
    if form not in FORMATS:
        raise CommandError(f"--format {form} is not known{near(form, FORMATS)} (known are onnx and torch)")
    output = Path(given.own["output"])
    if (output.suffix == ".onnx") != (form == "onnx"):
        raise CommandError(f"--output {output} must end in .onnx for ONNX, and in .pt2 for torch")
    from rankdet.cli.inference import open_predictor
    from rankdet.export import ExportedDetector, compare_sizes, export, overall

    size = None if given.own["size"] == ANY else height_and_width(given.own["size"])
    batch = None if given.take("batch") == ANY else whole_number(given, "batch", default=1)
    predictor = open_predictor(given.own["checkpoint"], trusted=given.take("trust"))
    about = export(predictor, output, size=size, form=form, batch=batch, raw="raw" in given.own)  # type: ignore[arg-type]
    _tell(about, output)
    images = _images(given.take("images"), size, predictor.resize)
    compared = compare_sizes(predictor.detect, ExportedDetector(output), images, together=batch or 2)
    parity = overall([part for _, part in compared])
    print(_table(compared, parity))
    if not parity.holds:
        print(f"{output} does not give what the detector gives")
    return 0 if parity.holds else 1


def _table(compared: Sequence[tuple[tuple[int, int], Parity]], all_sizes: Parity) -> str:
    """The largest differences between detector and file, for each size of images."""
    rows = [(f"{height} x {width}", part) for (height, width), part in compared]
    if len(rows) > 1:
        rows.append(("all", all_sizes))
    head = f"{'compared on':<14}{'detections':>12}{'not in file':>13}{'score':>10}{'pixels':>10}"
    return "\n".join(
        [head] + [f"{name:<14}{p.detections:>12}{p.alone:>13}{p.score:>10.1e}{p.pixels:>10.1e}" for name, p in rows]
    )


def _tell(about: About, output: Path) -> None:
    from rankdet.export.about import LEAST, MOST

    height, width = about.size or ("H", "W")
    free = f" (H and W from {LEAST} to {MOST})" if about.size is None else ""
    print(f"{output} takes {about.batch or 'N'} x 3 x {height} x {width}{free}: {about.colours}")
    known = "with the threshold of each class" if about.thresholds else "without thresholds, as the checkpoint has none"
    masks = f", masks {about.masks}" if about.masks else ""
    print(f"gives boxes, scores, labels{masks}; {len(about.names)} classes, {known}")
    if left := about.suppression:
        print(
            f"these are candidates: suppress duplicates in a class, with an IoU above {left.nms_threshold:g}, and take "
            f"the best {left.max_detections} of the rest"
        )


def _images(folder: str | None, size: tuple[int, int] | None, rule: FixedResize) -> list[Tensor]:
    """Images that fill the size, or as the detector's own rule resizes them; or noise."""
    import torch

    from rankdet.cli.predict_inputs import find_inputs
    from rankdet.data.image import read_upright
    from rankdet.data.transforms import ResizeExactly

    if folder is None:
        generator = torch.Generator().manual_seed(0)
        sizes = [size] * _COMPARED if size else [each for each in _SIZES for _ in range(2)]
        return [torch.rand(3, *each, generator=generator) for each in sizes]
    inputs = find_inputs([folder], lists=[], output=None)
    if not inputs.files:
        raise CommandError(f"--images {folder}: {'; '.join(inputs.told()) or 'there are none'}")
    resize = ResizeExactly(height=size[0], width=size[1]) if size else rule
    return [resize(read_upright(file)) for file in inputs.files[: 8 * _COMPARED]]
