"""``rankdet benchmark``: how fast the images of an experiment are loaded, and how fast its model trains and detects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rankdet.cli.errors import CommandError, near
from rankdet.cli.options import CONFIG, DEVICE, HELP, Given, Option, describe_options, read_options
from rankdet.cli.values import height_and_width, json_target, seconds, whole_number
from rankdet.garbage import without_garbage_collection

if TYPE_CHECKING:
    import torch
    from rich.table import Table
    from torch import nn

    from rankdet.cli.experiment import Experiment
    from rankdet.data.loader import Batch
    from rankdet.train import DataSpeed, ModelSpeed, Optimiser, TrainerOptions

_JSON = Option("FILE", "also write all numbers, and what they were measured on, to this file")
OF_DATA = {
    "config": CONFIG,
    "seconds": Option("SECONDS", "for loading alone, and again for the steps of a training (default: 30)"),
    "batches": Option("N", "batches to load, and steps to make, at most (default: what there is time for; 20 steps)"),
    "json": _JSON,
    "help": HELP,
}
OF_MODEL = {
    "config": CONFIG,
    "device": DEVICE,
    "precision": Option(
        "NAMES", "32-true, 16-mixed, bf16-mixed, or several with commas between (default: trainer.precision)"
    ),
    "size": Option("HxW", "random images of this height and width instead of data, such as 800x1333"),
    "steps": Option("N", "steps and predictions that are timed, behind 3 that are not (default: 10)"),
    "seconds": Option("SECONDS", "for the steps in one precision, and again for its predictions (default: 60)"),
    "json": _JSON,
    "help": HELP,
}
USAGE = """\
usage: rankdet benchmark data --config FILE [--config FILE ...] [--KEY VALUE ...] [--seconds SECONDS] [--json FILE]
       rankdet benchmark model --config FILE [--config FILE ...] [--KEY VALUE ...] [--precision NAMES] [--size HxW]
                               [--device DEVICE] [--steps N] [--json FILE]

data: loads training images as the configuration says, alone and then for the first steps of a training, and tells how
many come in a second and how much of a step waits for them. Nothing is kept.

model: times training steps and predictions with random weights, batches already being on the device, and tells the
memory that they take: the columns that papers print beside AP.

examples:
  rankdet benchmark data --config demo --seconds 10
  rankdet benchmark data --config atss/rank_sort_r50_1x_coco --data.train train.json --data.val val.json
  rankdet benchmark model --config demo --precision 32-true,bf16-mixed
  rankdet benchmark model --config mask_rcnn/rank_sort_r50_1x_coco --size 800x1333 --data.batch_size 2 --json speed.json
"""
OPTIONS = {"data": OF_DATA, "model": OF_MODEL}
_CLASSES, _PROPOSALS, _BATCHES = 80, 1000, 8


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    what, *rest = arguments or ["--help"]
    if what in ("-h", "--help") or "--help" in rest or "-h" in rest:
        texts = (f"options of `benchmark {name}`:\n{describe_options(options)}" for name, options in OPTIONS.items())
        print("\n\n".join([USAGE.rstrip(), *texts, "and the keys of a configuration: rankdet train --help"]))
        return 0
    if what not in OPTIONS:
        raise CommandError(
            f"there is no `rankdet benchmark {what}`{near(what, OPTIONS)} (there are `benchmark data` and `benchmark "
            "model`)"
        )
    given = read_options(rest, OPTIONS[what])
    if not given.files:
        raise CommandError(f"what is to be measured? Give --config FILE, as in rankdet benchmark {what} --config demo")
    found = _of_data(given) if what == "data" else _of_model(given)
    if (target := json_target(given)) is not None:
        from rankdet.environment import facts
        from rankdet.train.files import write_text

        said = {"configuration": given.files, "overrides": dict(given.overrides), "environment": dict(facts())}
        write_text(target, json.dumps({"benchmark": what, **said, **found}, indent=2))
    return 0


def _of_data(given: Given) -> dict[str, Any]:
    """Measure, print, and return what goes into the file."""
    limit = seconds(given, "seconds", default=30.0)
    batches = whole_number(given, "batches", default=1) if "batches" in given.own else None
    json_target(given)
    with without_garbage_collection():
        from rankdet.cli.experiment import Experiment
        from rankdet.nn import without_pretrained_weights
        from rankdet.train import benchmark_data
        from rankdet.train.data_speed import available_cores

    experiment = Experiment(files=given.files, overrides=given.overrides)
    with without_pretrained_weights():
        parts = experiment.build()
    speed = benchmark_data(
        model=parts.model,
        data=parts.data,
        optimiser=parts.optimiser,
        schedule=parts.schedule,
        trainer=parts.trainer,
        seed=experiment.seed,
        batches=batches,
        seconds=limit,
    )
    advice = speed.advice(cores=available_cores())
    print(f"{_lines(speed)}\n{advice}")
    return {**speed.to_dict(), "cores": available_cores(), "advice": advice}


def _lines(speed: DataSpeed) -> str:
    workers = f"{speed.workers} loading process{'' if speed.workers == 1 else 'es'}" if speed.workers else "no workers"
    return (
        f"loading   {speed.images_per_second:.3g} images/s with {workers}, from {speed.batches} batches of "
        f"{speed.batch_size}; the first batch took {speed.first_batch:.2g} s\n"
        f"an image  {1e3 * speed.reading:.3g} ms of reading and {1e3 * speed.transforming:.3g} ms of transforms "
        f"in one process\n"
        f"a step    {speed.waiting + speed.computing:.3g} s, of which {speed.waiting:.2g} s wait for data "
        f"({speed.waiting_share:.0%}), from {speed.steps} step{'s' if speed.steps > 1 else ''}"
        f"{'' if speed.steady else '; they used what had been loaded in advance: give more --seconds'}"
    )


def _of_model(given: Given) -> dict[str, Any]:
    """Measure, print, and return what goes into the file."""
    limit, steps = seconds(given, "seconds", default=60.0), whole_number(given, "steps", default=10)
    size = height_and_width(given.own["size"]) if "size" in given.own else None
    json_target(given)
    with without_garbage_collection():
        from rankdet.cli.experiment import MISSING, Experiment
        from rankdet.cli.inference import choose_device
        from rankdet.train import benchmark_model
        from rankdet.train.display import Display
        from rankdet.train.engine import compile_parts, recompute_parts
        from rankdet.train.header import describe_device, describe_model

    device = choose_device(given.take("device"))
    experiment = Experiment(files=given.files, overrides=given.overrides, complete=False)
    if size is None and MISSING in (experiment.section("data")[part] for part in ("train", "val")):
        raise CommandError(
            f"{given.files[-1]} leaves the data to you; give --data.train and --data.val, or measure with random "
            "images: --size 800x1333"
        )
    precisions = _precisions(given.own.get("precision", experiment.section("trainer")["precision"]), device)
    model, optimiser, options, batches, images = _subject(experiment, size=size, steps=steps)
    compile_parts(model, options.compile or [])
    recompute_parts(model, options.recompute or [])
    speeds = [
        benchmark_model(
            model,
            batches,
            images=images,
            optimiser=optimiser,
            device=device,
            precision=precision,
            gradient_clip=options.gradient_clip,
            steps=steps,
            seconds=limit,
        )
        for precision in precisions
    ]
    source = "images of the data" if size is None else f"random images of {size[0]} x {size[1]}"
    display = Display()
    display.print(f"{describe_model(model)}\n{source}, {speeds[0].batch_size} in a step; {describe_device(device)}")
    display.print(_table(speeds, process=device.type == "cpu"))
    found = {"model": type(model).__name__, "classes": getattr(model, "num_classes", None), "images": source}
    return {**found, "device": describe_device(device), "speeds": [speed.to_dict() for speed in speeds]}


def _precisions(text: str, device: torch.device) -> list[Any]:
    from rankdet.train.model_speed import check_precision

    names = [name.strip() for name in text.split(",")]
    for name in names:
        try:
            check_precision(name, device)
        except ValueError as error:
            raise CommandError(f"--{error}") from None
    return names


def _subject(
    experiment: Experiment, *, size: tuple[int, int] | None, steps: int
) -> tuple[nn.Module, Optimiser, TrainerOptions, Sequence[Batch], Sequence[Batch] | None]:
    """The model and what it is measured with: batches to train on, and single images to detect in."""
    import torch

    from rankdet.data.loader import collate
    from rankdet.nn import without_pretrained_weights
    from rankdet.train import random_batch

    torch.manual_seed(experiment.seed)
    with without_pretrained_weights():
        if size is not None:
            model, optimiser, options = experiment.build_without_data(num_classes=_CLASSES)
            classes = int(getattr(model, "num_classes", _CLASSES))
            number = experiment.section("data")["batch_size"]
            batch = random_batch(
                number, height=size[0], width=size[1], num_classes=classes, proposals=_proposals(model)
            )
            return model, optimiser, options, [batch], None
        parts = experiment.build()
    data, loader = parts.data, parts.data.train_loader(seed=experiment.seed, rank=0, world_size=1)
    batches = [batch for _, batch in zip(range(min(steps, _BATCHES)), loader, strict=False)]
    images = [collate([data.resize(*data.val[index])]) for index in range(min(steps, len(data.val)))]
    return parts.model, parts.optimiser, parts.trainer, batches, images


def _proposals(model: nn.Module) -> int:
    """Of each random image: none unless the model looks at such, as a Fast R-CNN does."""
    return _PROPOSALS if getattr(model, "needs_proposals", False) else 0


def _table(speeds: Sequence[ModelSpeed], *, process: bool) -> Table:
    """One row for each precision."""
    from rich import box
    from rich.table import Table

    whose = "of the process" if process else "of the GPU"
    least = [min(getattr(speed, kind).repetitions for speed in speeds) for kind in ("training", "prediction")]
    caption = f"medians of {least[0]} steps and {least[1]} predictions"
    table = Table(box=box.SIMPLE_HEAD, padding=0, caption=f"{caption}, loading aside; memory is the most {whose}")
    table.add_column("precision")
    for name in ("s/step", "images/s", "GiB", "images/s, predicting one by one", "GiB"):
        table.add_column(name, justify="right")
    for speed in speeds:
        numbers = (speed.training.seconds, speed.images_per_second, _gib(speed.training.memory))
        more = (speed.predictions_per_second, _gib(speed.prediction.memory))
        table.add_row(speed.precision, *("–" if value is None else f"{value:.3g}" for value in (*numbers, *more)))
    return table


def _gib(memory: int | None) -> float | None:
    return None if memory is None else memory / 2**30
