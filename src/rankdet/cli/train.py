"""``rankdet train``: an experiment from configuration files and options, trained and evaluated."""

from __future__ import annotations

from collections.abc import Sequence

from rankdet.cli.errors import CommandError
from rankdet.cli.options import CONFIG, HELP, Option, describe_options, read_options
from rankdet.garbage import without_garbage_collection

OPTIONS = {
    "config": CONFIG,
    "resume": Option(
        "CHECKPOINT",
        "continue from a last.ckpt, with the configuration of its run unless another is given; auto: from the one in "
        "--output if there is one, otherwise start a new training",
    ),
    "start-from": Option(
        "CHECKPOINT",
        "start from the weights of a run or of a converted file, with classes matched by name; the model is that of "
        "the file unless the configuration has one",
    ),
    "fresh": Option("PARTS", "parts of the model not taken from --start-from, such as stage.head.regress,neck.*"),
    "dry-run": Option(None, "check everything, make three steps, detect in a few images, and keep nothing"),
    "help": HELP,
}
USAGE = """\
usage: rankdet train --config FILE [--config FILE ...] [--KEY VALUE ...] [--resume CHECKPOINT | --start-from CHECKPOINT]

Trains a detector, evaluates it after each epoch, keeps the best one, and draws its predictions.

examples:
  rankdet train --config demo
  rankdet train --config atss/rank_sort_r50_1x_coco --data.train instances_train.json --data.val instances_val.json
  rankdet train --config demo --model.init_args.backbone resnet34 --schedule.epochs 20 --output runs/longer
  rankdet train --resume runs/demo/last.ckpt
  rankdet train --config demo --dry-run
  rankdet train --config demo --output runs/mine --resume auto
  rankdet train --config finetune --start-from runs/coco/best.ckpt --data.train train.json --data.val val.json
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0 when the training came to its end."""
    given = read_options(arguments, OPTIONS)
    if "help" in given.own:
        from rankdet.cli.describe import describe_sections
        from rankdet.cli.experiment import SECTIONS

        print(f"{USAGE}\noptions:\n{describe_options(OPTIONS)}\n\nkeys of the configuration, which are also options:")
        print(describe_sections(SECTIONS))
        return 0
    train(
        files=given.files,
        overrides=given.overrides,
        resume=given.take("resume"),
        start_from=given.take("start-from"),
        fresh=[part for part in (given.take("fresh") or "").split(",") if part],
        dry_run="dry-run" in given.own,
    )
    return 0


def train(
    *,
    files: Sequence[str],
    overrides: Sequence[tuple[str, str]],
    resume: str | None,
    start_from: str | None = None,
    fresh: Sequence[str] = (),
    dry_run: bool = False,
) -> None:
    """Read, build and train."""
    if dry_run and resume not in (None, "auto"):
        raise CommandError("--dry-run tries a training from its start; leave out --resume")
    with without_garbage_collection():
        import torch

        from rankdet.cli.experiment import Experiment

    files = list(files) or _files_of(resume)
    experiment = Experiment(files=files, overrides=overrides, model_of=start_from)
    torch.manual_seed(experiment.seed)
    parts = experiment.build(start_from=start_from)

    from rankdet.train import fit, rehearse

    if dry_run:
        said = rehearse(
            model=parts.model,
            data=parts.data,
            optimiser=parts.optimiser,
            schedule=parts.schedule,
            trainer=parts.trainer,
            output=experiment.output,
            start_from=start_from,
            fresh=fresh,
            seed=experiment.seed,
            name=experiment.name,
        )
        print(said)
        return
    fit(
        model=parts.model,
        data=parts.data,
        optimiser=parts.optimiser,
        schedule=parts.schedule,
        trainer=parts.trainer,
        output=experiment.output,
        resume=resume,
        start_from=start_from,
        fresh=fresh,
        seed=experiment.seed,
        name=experiment.name,
        config=experiment.dump(),
    )


def _files_of(resume: str | None) -> list[str]:
    """The configuration beside a checkpoint."""
    from pathlib import Path

    from rankdet.train.start import check_resumable

    if resume is None or resume == "auto":
        raise CommandError("what is to be trained? Give --config FILE; `rankdet show presets` lists what there is")
    check_resumable(resume)
    if not Path(resume).is_file():
        raise CommandError(f"there is no checkpoint {resume}; give the last.ckpt of a run")
    file = Path(resume).parent / "config.yaml"
    if not file.is_file():
        raise CommandError(f"there is no {file}; give the configuration {resume} was trained with: --config FILE")
    return [str(file)]
