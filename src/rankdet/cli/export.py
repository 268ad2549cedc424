"""``rankdet export``: a detector as a graph, and whether the graph gives what the detector gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankdet.cli.errors import CommandError, near
from rankdet.cli.options import CHECKPOINT, CONFIG, HELP, TRUST, Given, Option, describe_options, read_options
from rankdet.cli.values import height_and_width, whole_number

if TYPE_CHECKING:
    from rankdet.cli.inference import Validation
    from rankdet.export import About
    from rankdet.predictor import Predictor

OPTIONS = {
    "checkpoint": CHECKPOINT,
    "output": Option("FILE", "the file to write; it ends in .onnx, or in .pt2 for --format torch"),
    "format": Option("FORMAT", "onnx (default), or torch for a program of torch.export"),
    "size": Option("HxW", "height and width of the images that the graph takes, such as 640x640, or any"),
    "batch": Option("N", "number of images in a batch, or any (default: 1)"),
    "raw": Option(None, "leave suppression out: the graph gives candidates, and you suppress duplicates among them"),
    "precision": Option(
        "TYPE", "of the network: 32-true (default), or 16-mixed: half the size, convolutions in float16"
    ),
    "images": Option("FOLDER", "images on which the file is compared with the detector; noise by default"),
    "config": Option(CONFIG.value, "a YAML file or preset whose validation images give the AP of detector and file"),
    "trust": TRUST,
    "help": HELP,
}
USAGE = """\
usage: rankdet export --checkpoint FILE --output FILE --size HxW|any [--format onnx|torch] [--images FOLDER]
                      [--data.val DATA]

Exports a detector as a graph that decodes boxes and suppresses duplicates; classes, thresholds and the resizing rule
are in the file. Then runs the file and compares it with the detector, and by their AP if there are annotated images
(--data.val); the command fails if they differ.

examples:
  rankdet export --checkpoint runs/demo/best.ckpt --size 256x256 --output demo.onnx
  rankdet export --checkpoint calibrated.ckpt --size 800x1344 --images val2017 --output detector.onnx
  rankdet export --checkpoint calibrated.ckpt --size 800x1344 --data.val instances_val2017.json --output detector.onnx
  rankdet export --checkpoint calibrated.ckpt --size any --batch any --images val2017 --output detector.onnx
"""
FORMATS = ("onnx", "torch")
PRECISIONS = ("32-true", "16-mixed")
ANY = "any"


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0 when the file is written and gives what the detector gives, 1 when it differs."""
    given = read_options(arguments, OPTIONS)
    if "help" in given.own:
        print(f"{USAGE}\noptions:\n{describe_options(OPTIONS)}\n\nand keys of the configuration, such as --data.val")
        return 0
    for needed in ("checkpoint", "output", "size"):
        if needed not in given.own:
            raise CommandError(f"--{needed} {OPTIONS[needed].value} is needed: {OPTIONS[needed].help}")
    form, precision = _one_of(FORMATS, given, "format"), _one_of(PRECISIONS, given, "precision")
    output = Path(given.own["output"])
    if (output.suffix == ".onnx") != (form == "onnx"):
        raise CommandError(f"--output {output} must end in .onnx for ONNX, and in .pt2 for torch")
    from rankdet.export import export

    size = None if given.own["size"] == ANY else height_and_width(given.own["size"])
    batch = None if given.take("batch") == ANY else whole_number(given, "batch", default=1)
    predictor, validation = _opened(given)
    how: Any = {"form": form, "precision": precision, "raw": "raw" in given.own}
    about = export(predictor, output, size=size, batch=batch, **how)
    _tell(about, output)
    if _same(predictor, output, validation, images=given.take("images")):
        return 0
    print(f"{output} does not give what the detector gives")
    return 1


def _one_of(known: Sequence[str], given: Given, name: str) -> str:
    """The value of an option, the first of those known by default."""
    value = given.own.get(name, known[0])
    if value not in known:
        raise CommandError(f"--{name} {value} is not known{near(value, known)} (known are {' and '.join(known)})")
    return value


def _opened(given: Given) -> tuple[Predictor, Validation | None]:
    """The detector, and annotated images if data or a configuration are named."""
    from rankdet.cli.inference import check_categories, open_predictor, open_validation

    checkpoint, trusted = given.own["checkpoint"], given.take("trust")
    if not given.files and not given.overrides:
        return open_predictor(checkpoint, trusted=trusted), None
    validation, plan = open_validation(given.files, given.overrides, checkpoint=checkpoint, trusted=trusted)
    categories = validation.data.categories
    predictor = open_predictor(checkpoint, plan=plan, num_classes=len(categories), trusted=trusted)
    check_categories(predictor, categories, checkpoint=checkpoint)
    return predictor, validation


def _same(predictor: Predictor, output: Path, validation: Validation | None, *, images: str | None) -> bool:
    """Whether detector and file differ by no more than arithmetic explains; prints by how much they do."""
    from rankdet.cli.export_checks import compare_accuracies, images_to_compare, table_of_differences
    from rankdet.export import BOUNDS, ExportedDetector, compare_sizes, overall

    exported = ExportedDetector(output)
    bounds = BOUNDS[exported.about.precision]
    compared_on = images_to_compare(images, validation, exported.about, rule=predictor.resize)
    compared = compare_sizes(predictor.detect, exported, compared_on, together=exported.about.batch or 2)
    parity = overall([part for _, part in compared])
    print(table_of_differences(compared, parity))
    if not parity.detections:
        print("the detector found nothing there, so nothing was compared; name photos by --images FOLDER")
    if validation is None:
        return parity.within(bounds)
    accuracies = compare_accuracies(validation, predictor, exported)
    print(accuracies.table())
    return parity.within(bounds) and accuracies.within(bounds)


def _tell(about: About, output: Path) -> None:
    from rankdet.export.about import LEAST, MOST

    height, width = about.size or ("H", "W")
    free = f" (H and W from {LEAST} to {MOST})" if about.size is None else ""
    print(f"{output} takes {about.batch or 'N'} x 3 x {height} x {width}{free}: {about.colours}")
    known = "with the threshold of each class" if about.thresholds else "without thresholds, as the checkpoint has none"
    masks = f", masks {about.masks}" if about.masks else ""
    print(f"gives boxes, scores, labels{masks}; {len(about.names)} classes, {known}")
    if about.precision != "32-true":
        print("convolutions and linear layers are in float16, everything else is in float32")
    if left := about.suppression:
        print(
            f"these are candidates: suppress duplicates in a class, with an IoU above {left.nms_threshold:g}, and take "
            f"the best {left.max_detections} of the rest"
        )
