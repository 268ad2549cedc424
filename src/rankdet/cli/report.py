"""``rankdet report``: one HTML page about a run, or about results from any tool."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankdet.cli.comparing import OPTIONS as COMPARE
from rankdet.cli.comparing import RESULTS_OF_RUNS, check_options, compare_with, other_file
from rankdet.cli.errors import CommandError
from rankdet.cli.judging import boxes_or_masks
from rankdet.cli.options import CONFIG, DEVICES, HELP, TRUST, Given, Option, describe_options, read_options
from rankdet.cli.results import BY, CONVERT, SIZES, describe_conversions, properties_of, sizes_of, tell_of_ids, telling

if TYPE_CHECKING:
    from rankdet.data import DetectionDataset
    from rankdet.eval.columns import IouType
    from rankdet.report import OpenImage, Problem

OPTIONS = {
    "annotations": Option("DATA", "with results: the ground truth, a COCO or LVIS file or a VOC folder"),
    "images": Option("FOLDER", "with results: the folder of the images, if it is not found automatically"),
    "convert": CONVERT,
    "sizes": SIZES,
    "by": BY,
    **COMPARE,
    "iou-type": Option("TYPE", "bbox or segm; by default segm for a run of a model that draws masks, else bbox"),
    "output": Option("FILE", "the page to write; by default report.html in the run, or next to the results"),
    "title": Option("TEXT", "title of the page; by default the name of the run or of the file"),
    "config": CONFIG,
    "device": Option(DEVICES.value, f"with a run: {DEVICES.help}"),
    "trust": Option(TRUST.value, f"with a run: {TRUST.help}"),
    "help": HELP,
}
USAGE = """\
usage: rankdet report RUN_OR_MODEL [--data.val DATA] [--output FILE]
       rankdet report RESULTS --annotations DATA [--images FOLDER] [--iou-type segm] [--output FILE]

Writes one self-contained HTML page: AP and oLRP, classes, curves, thresholds, confusions, scores, and the worst images.
RUN is the folder of a training. Its best model detects in the validation images, and the detections are kept there in
results.json for the next time. For a checkpoint, such as a calibrated one, a folder of Predictor.save_pretrained or
hf://owner/name they are not kept. RESULTS are detections from any tool: COCO's JSON, or a folder of txt files.

examples:
  rankdet report runs/demo
  rankdet report hf://owner/name --data.val instances_val2017.json
  rankdet report detections.json --annotations instances_val2017.json --images val2017
  rankdet report runs/new --compare runs/old
"""
PAGE, METRICS, CHECKPOINT = "report.html", "metrics.csv", ".ckpt"


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0 when the page is written."""
    given = read_options(arguments, OPTIONS, plain=1)
    if "help" in given.own:
        print(
            f"{USAGE}\noptions:\n{describe_options(OPTIONS)}\n\n{describe_conversions()}\n\n"
            "and with a run, keys of the configuration, such as --data.batch_size 4"
        )
        return 0
    if not given.plain:
        raise CommandError("give the subject of the report: the folder of a run, or a file of COCO results")
    place = Path(given.plain[0])
    if not place.exists() and not _on_hub(place):
        raise CommandError(f"there is no {place}; give the folder of a run or of a model, or a file of COCO results")
    check_options(given)
    (report_run if _is_run(place) else report_results)(place, given)
    return 0


def _is_run(place: Path) -> bool:
    """Whether it is a run, a checkpoint or a model, and not results, which may be a folder of txt files."""
    return place.suffix == CHECKPOINT or _on_hub(place) or (place.is_dir() and not any(place.glob("*.txt")))


def _on_hub(place: Path) -> bool:
    """Whether it is ``hf://owner/name``; here as well as in `rankdet.ops`, since results are reported without torch."""
    return place.parts[:1] == ("hf:",)


def report_results(file: Path, given: Given) -> None:
    """The page of a file of results."""
    from rankdet.data.files import coco_file
    from rankdet.report import dataset_images, read_problem

    annotations, images = given.take("annotations"), given.take("images")
    if annotations is None:
        raise CommandError(f"{file} needs --annotations, the ground truth that the results are compared with")
    if given.files or given.overrides:
        raise CommandError("results need no configuration; leave out --config and the keys of a configuration")
    if images is not None and not Path(images).is_dir():
        raise CommandError(f"there is no folder {images}; give the one with the images, or leave --images out")
    target = _target(given, file.parent / PAGE)
    truth, iou_type = coco_file(Path(annotations)), boxes_or_masks(given) or "bbox"
    read = partial(
        read_problem,
        results=file,
        iou_type=iou_type,
        convert=given.own.get("convert", ""),
        area_ranges=sizes_of(given),
        properties=properties_of(given),
    )
    if truth is not None:
        with telling() as told:
            problem = read(truth)
        open_image = _file_images(problem, truth, images)
    else:
        from rankdet.data import VOCDetection, open_dataset

        dataset = open_dataset(annotations, images=images, shapes_seed=1)
        if isinstance(dataset, VOCDetection):
            print(f"In {annotations} {dataset.ids_in_words()}")
        with telling() as told:
            problem = read(dataset.ground_truth())
        open_image = dataset_images(dataset)
    if len(problem.detections):
        tell_of_ids(problem.truth, problem.evaluation, told)
    title = given.own.get("title", file.stem)
    facts = {"Results": str(file), "Annotations": annotations}
    _write(target, problem, given, title=title, facts=facts, open_image=open_image)


def report_run(place: Path, given: Given) -> None:
    """The page of a run, whose best model detects first unless its detections are there, or of a checkpoint or model.

    A model is a folder of `Predictor.save_pretrained`, or ``hf://owner/name``.
    """
    from rankdet.ops.pretrained import CONFIG as DESCRIPTION
    from rankdet.report import dataset_images, read_problem
    from rankdet.train.folder import BEST

    if "by" in given.own:
        raise CommandError(
            "--by goes with a file of results; first make the report without it, which keeps the results in the run, "
            "then that of the results with --annotations"
        )
    for name in ("annotations", "images", "convert"):
        if name in given.own:
            raise CommandError(f"--{name} goes with a file of results; other data for a run: --data.val DATA")
    is_run = (place / BEST).is_file()
    checkpoint = place / BEST if is_run else place
    if place.is_dir() and not is_run and not (place / DESCRIPTION).is_file():
        raise CommandError(
            f"{place} is not the folder of a run: it has no {BEST}; give one that `rankdet train` made, or one of "
            "Predictor.save_pretrained"
        )
    usual = place / PAGE if place.is_dir() else place.with_suffix(".html")
    target = _target(given, usual if place.exists() else Path(usual.name))
    dataset, results, iou_type = run_results(checkpoint, given)
    _write(
        target,
        read_problem(dataset.ground_truth(), results, iou_type=iou_type, area_ranges=sizes_of(given)),
        given,
        title=given.own.get("title", place.resolve().name if is_run else place.stem),
        facts={"Model": str(checkpoint), "Validation": dataset.report.source},
        open_image=dataset_images(dataset),
        metrics_file=place / METRICS if is_run else None,
    )


def run_results(checkpoint: Path, given: Given) -> tuple[DetectionDataset, Any, IouType]:
    """The validation data of a run, its detections in them, and what these are compared by.

    The detections of a run's best model are kept beside it, and used again while they are newer, unless the user asks
    for other data or another configuration.
    """
    from rankdet.cli.inference import check_categories, on_devices, open_predictor, open_validation
    from rankdet.train.display import Display
    from rankdet.train.files import write_text
    from rankdet.train.folder import BEST

    trusted = given.take("trust")
    validation, plan = open_validation(given.files, given.overrides, checkpoint=str(checkpoint), trusted=trusted)
    classes = validation.data.categories
    predictor = open_predictor(str(checkpoint), plan=plan, num_classes=len(classes), trusted=trusted)
    check_categories(predictor, classes, checkpoint=str(checkpoint))
    model = predictor.model
    iou_type: IouType = boxes_or_masks(given) or ("segm" if getattr(model, "needs_masks", False) else "bbox")
    kept, is_kept = (
        checkpoint.with_name(RESULTS_OF_RUNS[iou_type]),
        checkpoint.name == BEST and not (given.files or given.overrides),
    )
    display = Display()
    if is_kept and kept.is_file() and kept.stat().st_mtime >= checkpoint.stat().st_mtime:
        display.print(f"The detections are those in {kept}; remove the file to compute them again")
        return validation.data, kept, iou_type
    display.print(f"{checkpoint}: {type(model).__name__}\n{validation.data.report.summary()}")
    on_devices(predictor, given.take("device"))
    results = validation.detect(predictor, masks=iou_type == "segm", display=display)
    if is_kept:
        write_text(kept, json.dumps(results))
    return validation.data, results, iou_type


def _file_images(problem: Problem, truth: Path, images: str | None) -> OpenImage:
    """The images of an annotation file: in the given folder, or the first of the likely ones that has one of them."""
    from rankdet.data.files import coco_image_folders
    from rankdet.report import folder_images

    names = dict(zip(problem.truth.image_ids.tolist(), problem.file_names, strict=True))
    first = next(iter(names.values()), "")
    likely = [Path(images)] if images is not None else coco_image_folders(truth)
    return folder_images(next((folder for folder in likely if (folder / first).is_file()), likely[0]), names)


def _target(given: Given, usual: Path) -> Path:
    """Where the page goes; `CommandError` before anything is computed if it cannot go there."""
    target = Path(given.own.get("output", usual))
    if target.is_dir():
        raise CommandError(f"--output {target} is a folder; give the name of the page, such as {target / PAGE}")
    if not target.parent.is_dir():
        raise CommandError(f"there is no folder {target.parent} for the page; make it, or give another --output")
    return target


def _write(
    target: Path,
    problem: Problem,
    given: Given,
    *,
    title: str,
    facts: dict[str, str],
    open_image: OpenImage,
    metrics_file: Path | None = None,
) -> None:
    from rankdet.report import render, report_content
    from rankdet.train.files import write_text

    comparison = None
    if "compare" in given.own:
        comparison = compare_with(given, problem.evaluation, problem.rules, problem.iou_type)
        facts = {**facts, "Beside": str(other_file(given, problem.iou_type))}
    content = report_content(
        problem,
        title=title,
        facts=facts,
        open_image=open_image,
        metrics_file=metrics_file,
        comparison=comparison,
    )
    write_text(target, render(content))
    images = content["images"]
    without = "" if images["pictures"] else "; no image file was found (--images FOLDER), boxes are drawn alone"
    print(
        f"The report is in {target} ({target.stat().st_size / 1e6:.1f} MB, {images['pictures']} pictures, "
        f"{len(images['entries'])} of {images['total']} images to browse{without})"
    )
