"""``rankdet proposals``: what the first stage of a detector proposes in images, as a file for other detectors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankdet.cli.errors import CommandError
from rankdet.cli.options import CONFIG, DEVICE, HELP, TRUST, Option, describe_options, read_options
from rankdet.cli.values import target_file
from rankdet.garbage import without_garbage_collection

if TYPE_CHECKING:
    from torch import Tensor

OPTIONS = {
    "checkpoint": Option("FILE", "best.ckpt of a run: of a region proposal network, or of a detector that has one"),
    "output": Option("FILE", "the file to write: COCO results without categories"),
    "keep": Option("NUMBER", "most proposals per image; by default as many as the detector itself uses"),
    "config": CONFIG,
    "device": DEVICE,
    "trust": TRUST,
    "help": HELP,
}
USAGE = """\
usage: rankdet proposals --checkpoint FILE --output FILE [--keep NUMBER] [--data.val DATA] [--KEY VALUE ...]

Writes the proposals for all validation images (data.val), best first. `rankdet eval --proposals` prints their recall. A
Fast R-CNN trains on them with data.proposals, which also needs the proposals for the training images.

examples:
  rankdet proposals --checkpoint runs/rpn/best.ckpt --output val.json
  rankdet proposals --checkpoint runs/rpn/best.ckpt --data.val instances_train2017.json --keep 2000 --output train.json
  rankdet eval --proposals val.json --annotations instances_val2017.json
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0 when the file is there."""
    given = read_options(arguments, OPTIONS)
    if "help" in given.own:
        print(
            f"{USAGE}\noptions:\n{describe_options(OPTIONS)}\n\nand the keys of a configuration: rankdet train --help"
        )
        return 0
    for name in ("checkpoint", "output"):
        if name not in given.own:
            raise CommandError(f"--{name} FILE is needed: {OPTIONS[name].help}")
    target = target_file(given, "output")
    keep = _keep(given.take("keep"))

    with without_garbage_collection():
        from rankdet.cli.inference import choose_device, open_predictor, open_validation
        from rankdet.train.display import Display

    checkpoint, trusted = given.own["checkpoint"], given.take("trust")
    device = choose_device(given.take("device"))
    validation, plan = open_validation(given.files, given.overrides, checkpoint=checkpoint, trusted=trusted)
    classes = len(validation.data.categories)
    predictor = open_predictor(checkpoint, plan=plan, num_classes=classes, trusted=trusted).to(device)
    propose = getattr(predictor.model, "proposals", None)
    if propose is None:
        raise CommandError(
            f"{checkpoint} is a {type(predictor.model).__name__}, which proposes no regions; give one of an "
            "RPNDetector, or of a detector with two stages such as FasterRCNN"
        )

    def find(images: list[Tensor], _targets: Any) -> Any:
        return propose([image.to(device) for image in images], keep=keep)

    found = validation.each(find, resize=predictor.resize, display=Display(), doing="proposing")
    images, entries = write_proposals(target, found)
    print(f"{entries} proposals of {images} images are in {target}")
    return 0


def write_proposals(target: Path, found: Iterable[tuple[int, dict[str, Tensor]]]) -> tuple[int, int]:
    """Write the proposals of one image after another, as they come; the file has its name once all are there.

    Returns the numbers of images and of proposals.
    """
    from rankdet.eval.inference import exact_scores
    from rankdet.ops.writing import replacing
    from rankdet.train.files import naming

    images = entries = 0
    with naming(target), replacing(target) as partial, partial.open("w", encoding="utf-8") as file:
        file.write("[")
        for image_id, proposals in found:
            images += 1
            corners = proposals["boxes"].double()
            corners[:, 2:] -= corners[:, :2]
            for box, score in zip(corners.tolist(), exact_scores(proposals).tolist(), strict=True):
                entry = {"image_id": image_id, "bbox": box, "score": score}
                file.write((",\n" if entries else "\n") + json.dumps(entry))
                entries += 1
        file.write("\n]\n")
    return images, entries


def _keep(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdigit() or int(text) < 1:
        raise CommandError(f"--keep must be a number of proposals, at least 1; got {text}")
    return int(text)
