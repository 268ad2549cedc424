"""``rankdet check``: finds what ruins trainings before it costs one, and writes a repaired copy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankdet.cli.errors import CommandError
from rankdet.cli.options import CONFIG, HELP, Given, Option, describe_options, read_options
from rankdet.cli.values import whole_number
from rankdet.extras import require

if TYPE_CHECKING:
    from rankdet.cli.anchor_fit import AnchorFit
    from rankdet.cli.check_report import DiagnosisPrinter
    from rankdet.cli.subject import Subject
    from rankdet.doctor import Diagnosis, Finding

FOUND = 1
"""The exit code when there are errors in the data."""
OPTIONS = {
    "val": Option("DATA", "the validation data for DATA: classes and images of both are compared"),
    "images": Option(None, "decode all images, to find corrupt, duplicate and plain ones and wrong sizes"),
    "image-folder": Option("FOLDER", "the folder of the images of DATA, if it is not found automatically"),
    "val-image-folder": Option("FOLDER", "the same for --val"),
    "preset": Option("NAME", "compare objects with the anchors of this preset or configuration; same as --config"),
    "config": CONFIG,
    "fix": Option("FOLDER", "write a repaired copy to this folder; the original is not changed"),
    "copy": Option(None, "with --fix: copy the images instead of linking to them"),
    "preview": Option(
        "FOLDER", "write pictures of the first training batches, as the model will see them, to this folder"
    ),
    "json": Option("FILE", "also write all findings to this file"),
    "workers": Option("NUMBER", "number of threads that read images; by default the number of processors"),
    "help": HELP,
}
USAGE = """\
usage: rankdet check DATA [--val DATA] [--images] [--preset NAME] [--fix FOLDER] [--preview FOLDER] [--json FILE]
       rankdet check CONFIGURATION [--KEY VALUE ...] [--images] ...

Finds problems in a dataset. DATA is a COCO or LVIS file, a VOC folder (VOC2007:trainval for a split), or the
configuration of an experiment. The exit code is 1 when there are errors, 0 when there are none, 2 for invalid input.

examples:
  rankdet check instances_train.json --val instances_val.json --images
  rankdet check instances_train.json --preset retinanet/focal_r50_1x_coco --preview pictures
  rankdet check VOC2007:trainval --fix VOC2007-repaired
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command; 1 when there are errors in the data."""
    given = read_options(arguments, OPTIONS, plain=1)
    if "help" in given.own:
        print(f"{USAGE}\noptions:\n{describe_options(OPTIONS)}")
        return 0
    _check_first(given)
    from rankdet.cli.subject import find_subject

    return check(find_subject(given), given)


def check(subject: Subject, given: Given) -> int:
    """Examine, report, and write what is to be written."""
    from rankdet.cli.check_report import DiagnosisPrinter
    from rankdet.doctor import Severity

    report = DiagnosisPrinter()
    for made in subject.made:
        report.print(f"data.{made}, which is made or put together while it is read: it has no files to be checked")
    diagnosis = _diagnose(subject, given)
    findings: list[Finding] = []
    fits: list[AnchorFit] = []
    if diagnosis is not None:
        report.diagnosis(diagnosis)
        fits = _fit_anchors(subject, diagnosis, report)
        findings = [*diagnosis.findings, *(finding for fit in fits for finding in fit.findings)]
        report.verdict(findings, repairable=given.take("fix") is None)
        _write_json(given, diagnosis, fits, report)
        _fix(given, diagnosis, report)
    shown = _preview(subject, given, diagnosis, report)
    return FOUND if not shown or any(finding.severity is Severity.ERROR for finding in findings) else 0


def _check_first(given: Given) -> None:
    """What is better said before minutes of decoding: nothing that is there is overwritten, no library is missing."""
    for name in ("fix", "preview"):
        if (folder := given.take(name)) and Path(folder).exists():
            raise CommandError(f"--{name} {folder} exists already; name a folder that does not exist")
    if "copy" in given.own and "fix" not in given.own:
        raise CommandError("--copy says how --fix treats the images; give --fix FOLDER too")
    if (target := given.take("json")) and not Path(target).absolute().parent.is_dir():
        raise CommandError(f"--json {target}: there is no folder {Path(target).parent}; make it first")
    if "preview" in given.own:
        require("--preview", "torch", "torchvision", torch_with="train")


def _diagnose(subject: Subject, given: Given) -> Diagnosis | None:
    from rankdet.doctor import Headers, Pixels, diagnose
    from rankdet.train.display import Display

    first, second = (subject.train, subject.val) if subject.train else (subject.val, None)
    if first is None:
        return None
    display = Display()
    return diagnose(
        first,
        second,
        scan=Pixels() if "images" in given.own else Headers(),
        workers=whole_number(given, "workers", default=os.cpu_count() or 1),
        track=lambda rows: display.track(rows, "looking at images"),
    )


def _fit_anchors(subject: Subject, diagnosis: Diagnosis, report: DiagnosisPrinter) -> list[AnchorFit]:
    """The objects of the training data against the anchors of the experiment, if there is one."""
    table = diagnosis.train.table
    if subject.experiment is None or table is None:
        return []
    from rankdet.cli.anchor_fit import fit_anchors
    from rankdet.cli.blueprint import model_of, resize_of

    model = model_of(subject.experiment, num_classes=max(len(table.classes), 1))
    fits = fit_anchors(model, table, resize_of(subject.experiment))
    report.anchors(fits, model=f"{type(model).__name__} of {subject.experiment.name}")
    return fits


def _write_json(given: Given, diagnosis: Diagnosis, fits: Sequence[AnchorFit], report: DiagnosisPrinter) -> None:
    if target := given.take("json"):
        import json

        from rankdet.train.files import write_text

        content: dict[str, Any] = {**diagnosis.to_dict(), "anchors": [fit.to_dict() for fit in fits]}
        write_text(Path(target), json.dumps(content, indent=2, ensure_ascii=False))
        report.print(f"All findings are in {target}")


def _fix(given: Given, diagnosis: Diagnosis, report: DiagnosisPrinter) -> None:
    """Write the copy, say what was changed, and look at it again."""
    folder = given.take("fix")
    if folder is None:
        return
    from rankdet.doctor import Copies, Links, Part, Severity, Source, diagnose, write_repaired

    train, val = diagnosis.train, diagnosis.val
    if train.table is None or (val is not None and val.table is None):
        report.print(f"No copy was written to {folder}: a file that cannot be read cannot be repaired.")
        return
    parts = [Part(train.table, [*train.findings, *diagnosis.between], "train" if val else "")]
    if val is not None and val.table is not None:
        parts.append(Part(val.table, val.findings, "val"))
    changes = write_repaired(parts, Path(folder), placement=Copies() if "copy" in given.own else Links())
    copies = [str(Path(folder, part.subfolder)) for part in parts]
    for copy, changed in zip(copies, changes, strict=True):
        report.print(f"\nWrote {copy}:" if changed else f"\nWrote {copy}: there was nothing to change")
        for line in changed:
            report.print(f"- {line}", indent=2)
    again = diagnose(*map(Source, copies))
    left = ", ".join(dict.fromkeys(finding.name for finding in again.findings if finding.severity is Severity.ERROR))
    report.print(f"Errors left in it: {left}" if left else "No errors are left in it.")


def _preview(subject: Subject, given: Given, diagnosis: Diagnosis | None, report: DiagnosisPrinter) -> bool:
    """Write the pictures; False when the data are in no state to be trained on."""
    folder = given.take("preview")
    if folder is None:
        return True
    from rankdet.cli.blueprint import data_of
    from rankdet.cli.preview import write_previews
    from rankdet.data import DatasetError

    try:
        data = data_of(subject, diagnosis)
        paths = write_previews(data, Path(folder), seed=subject.experiment.seed if subject.experiment else 0)
    except DatasetError as error:
        report.print(f"\nThere are no pictures of batches, because the data cannot be trained on: {error}")
        return False
    report.print(f"\nPictures of training batches: {', '.join(map(str, paths))}")
    return True
