"""``rankdet study data``: what more training images are worth, by trainings on nested parts of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankdet.cli.errors import CommandError
from rankdet.cli.options import CONFIG, HELP, Given, Option, describe_options, read_options

if TYPE_CHECKING:
    from rankdet.eval.learning_curve import TrainedOn

SHARES, STEPS, EPOCHS = "1/8,1/4,1/2,1", "steps", "epochs"
OPTIONS = {
    "config": CONFIG,
    "shares": Option("SHARES", f"of the training images, ascending; by default {SHARES}"),
    "seeds": Option("SEEDS", "of the trainings and of the choice of images, such as 0,1,2; by default 0"),
    "budget": Option(
        "steps|epochs", "what all trainings have alike: steps (default), or epochs, so that few images get few steps"
    ),
    "start-from": Option("CHECKPOINT", "start every training from these weights, as in rankdet train"),
    "help": HELP,
}
USAGE = """\
usage: rankdet study data --config FILE [--config FILE ...] --output FOLDER [--KEY VALUE ...]

Trains one experiment on nested parts of its training images, evaluates each training on all validation images, and says
whether more images still help. The parts are random, and stratified by class. Each training is a run in a folder of its
own. After an interruption the same command continues; with more shares or seeds it adds to what is there.

Prints AP and oLRP by the number of images, and what each step to more images brought, with a 95 % interval if there are
several seeds. Also writes study.json and study.png.

examples:
  rankdet study data --config demo --output runs/more_data
  rankdet study data --config finetune --start-from coco.ckpt --data.train train.json --data.val val.json \\
      --seeds 0,1,2 --output runs/more_data
"""
JSON, PICTURE = "study.json", "study.png"
_DEVICES = "trainer.devices"


@dataclass(frozen=True)
class PlannedRun:
    """One training of a study: its folder, how many images it learns from, and the options that make it."""

    folder: Path
    images: int
    seed: int
    overrides: tuple[tuple[str, str], ...]


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0 when all trainings are finished."""
    given = read_options(arguments, OPTIONS, plain=1)
    if "help" in given.own:
        print(
            f"{USAGE}\noptions:\n{describe_options(OPTIONS)}\n\nand the keys of a configuration: rankdet train --help"
        )
        return 0
    if given.plain != ["data"]:
        raise CommandError("say what is to be studied: rankdet study data --config FILE --output FOLDER")
    study_data(given)
    return 0


def study_data(given: Given) -> None:
    """Train what is not trained yet, and say what comes out."""
    from rankdet.eval.learning_curve import LearningCurve
    from rankdet.train.display import Display
    from rankdet.train.files import write_text
    from rankdet.train.folder import is_first_process

    output, runs = plan_runs(given)
    trained = []
    for number, run in enumerate(runs, start=1):
        print(f"training {number} of {len(runs)}: {run.images} images, seed {run.seed}, in {run.folder}", flush=True)
        trained.append(_trained(run, given))
    if is_first_process():
        curve, display = LearningCurve(trained), Display()
        write_text(output / JSON, json.dumps(curve.as_json(), indent=2, allow_nan=False))
        curve.draw(output / PICTURE)
        display.print(curve.table())
        display.print(f"{curve.verdict()}\nThe study is in {output}: {JSON}, {PICTURE}, and a folder for each training")


def plan_runs(given: Given) -> tuple[Path, list[PlannedRun]]:
    """The folder of a study and its trainings; `CommandError` for what cannot be studied."""
    from rankdet.cli.experiment import Experiment
    from rankdet.data import PartOfImages

    _check_options(given)
    shares, seeds, start_from = _shares(given), _seeds(given), given.take("start-from")
    experiment = Experiment(files=given.files, overrides=given.overrides, model_of=start_from)
    if experiment.output is None:
        raise CommandError("--output FOLDER is needed: the trainings go there, and the same command continues them")
    whole = len(experiment.build(start_from=start_from).data.train)
    sizes = {share: PartOfImages(share=share).size(whole) for share in shares}
    if len(set(sizes.values())) < len(shares):
        raise CommandError(f"--shares: of {whole} training images they are {list(sizes.values())}; give fewer shares")
    output, budget = Path(experiment.output), given.own.get("budget", STEPS)
    _keep_configuration(output, f"# equal {budget}, started from: {start_from}\n{experiment.dump()}")
    sampling = experiment.section("data")["sampling"]
    return output, [
        PlannedRun(
            folder := output / f"images_{images}_seed_{seed}",
            images,
            seed,
            (
                ("data.sampling", json.dumps(_part(sampling, share=share, seed=seed, repeat=budget == STEPS))),
                ("seed", str(seed)),
                ("output", str(folder)),
            ),
        )
        for seed in seeds
        for share, images in sizes.items()
    ]


def _trained(run: PlannedRun, given: Given) -> TrainedOn:
    """The metrics of a run, which is begun, continued or finished already."""
    from rankdet.cli.train import train
    from rankdet.eval import Evaluation
    from rankdet.eval.learning_curve import TrainedOn
    from rankdet.train import TrainingInterrupted
    from rankdet.train.folder import BEST_EVALUATION, RECORD
    from rankdet.train.record import FINISHED, read_sessions

    sessions = read_sessions(run.folder / RECORD)
    if not sessions or sessions[-1].outcome != FINISHED:
        overrides = [*given.overrides, *([] if _is_launched() else [(_DEVICES, "1")]), *run.overrides]
        try:
            train(files=given.files, overrides=overrides, resume="auto", start_from=given.take("start-from"))
        except TrainingInterrupted as stop:
            raise TrainingInterrupted("the study was stopped; give the same command to go on") from stop
    metrics = Evaluation.from_json((run.folder / BEST_EVALUATION).read_text(encoding="utf-8")).metrics
    return TrainedOn(images=run.images, seed=run.seed, AP=metrics["AP"], oLRP=metrics["oLRP"])


def _part(sampling: Mapping[str, Any] | None, **arguments: Any) -> dict[str, Any]:
    """The sampling of a part of the images, as a configuration states it; ``sampling`` is that of the experiment."""
    return {"class_path": "rankdet.data.PartOfImages", "init_args": {**arguments, "sampling": sampling}}


def _check_options(given: Given) -> None:
    if (budget := given.own.get("budget", STEPS)) not in (STEPS, EPOCHS):
        raise CommandError(f"--budget must be {STEPS} or {EPOCHS}, got {budget}")
    for key, value in given.overrides:
        if key == "seed":
            raise CommandError(f"--seed {value} is what a study varies; give --seeds {value}")
        if key == _DEVICES and value != "1" and not _is_launched():
            raise CommandError(f"--{_DEVICES} {value}: a study trains on one device, unless torchrun starts it")


def _is_launched() -> bool:
    """Whether somebody else starts the processes of a training, as torchrun does; Lightning starts them once only."""
    return "WORLD_SIZE" in os.environ


def _shares(given: Given) -> list[float]:
    text = given.own.get("shares", SHARES)
    try:
        shares = [float(Fraction(part.strip())) for part in text.split(",")]
    except (ValueError, ZeroDivisionError):
        raise CommandError(f"--shares must be fractions separated by commas, such as {SHARES}, got {text}") from None
    if len(shares) < 2 or shares[0] <= 0 or shares[-1] > 1 or shares != sorted(set(shares)):
        raise CommandError(f"--shares must be at least two, above 0 and at most 1, in ascending order, got {text}")
    return shares


def _seeds(given: Given) -> list[int]:
    parts = given.own.get("seeds", "0").split(",")
    seeds = [int(part) for part in parts if part.strip().isdecimal()]
    if len(set(seeds)) < len(parts):
        raise CommandError(f"--seeds must be different whole numbers, such as 0,1,2, got {','.join(parts)}")
    return seeds


def _keep_configuration(output: Path, text: str) -> None:
    """Write down what a study is made with; `CommandError` if its folder holds one that is made with something else."""
    from rankdet.train.files import write_text
    from rankdet.train.folder import CONFIG as NAME

    file = output / NAME
    if not file.is_file():
        output.mkdir(parents=True, exist_ok=True)
        write_text(file, text)
        return
    lines = zip_longest(file.read_text(encoding="utf-8").splitlines(), text.splitlines(), fillvalue="")
    if different := next(((there.strip(), here.strip()) for there, here in lines if there != here), None):
        raise CommandError(
            f"{output} holds a study with another configuration; the first difference is {different[0]!r} there and "
            f"{different[1]!r} here. Give another --output, or the options of that study"
        )
