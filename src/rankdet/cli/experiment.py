"""An experiment from configuration files and options: read, checked, and made into objects."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings
from torch import nn

from rankdet.cli.errors import CommandError
from rankdet.cli.layers import ARGUMENTS, CLASS, Configuration, Tree, read_layers
from rankdet.cli.mask_data import draws_masks, read_masks
from rankdet.cli.signatures import Section, check, complete_arguments
from rankdet.data import DetectionData, augment, copy_paste, erasing, jitter, mosaic  # noqa: F401, to name transforms
from rankdet.models import Detector, PlanError, build, plan_of, read_checkpoint
from rankdet.models.spec import check_trusted
from rankdet.nn import without_pretrained_weights
from rankdet.ops.checkpoint import KEY, model_weights
from rankdet.train import Optimiser, ParameterGroup, Schedule, TrainerOptions

set_parsing_settings(subclasses_enabled=[ParameterGroup])  # which it does not expect of data classes

NUM_CLASSES = "num_classes"
MISSING = "???"
SECTIONS = {
    "model": Section(Detector, chosen=True, needed=True, wider=nn.Module, given=frozenset({NUM_CLASSES})),
    "data": Section(DetectionData, needed=True),
    "optimiser": Section(Optimiser, chosen=True, needed=True),
    "schedule": Section(Schedule, needed=True),
    "trainer": Section(TrainerOptions),
    "seed": Section(help="of weights, order, augmentation and every step; a whole number, 0 by default", default=0),
    "output": Section(help="folder of the run; by default a new one in runs, named after the last --config"),
}


@dataclass(frozen=True)
class ExperimentParts:
    """The objects of an experiment, fit for :func:`rankdet.train.fit`."""

    model: nn.Module
    data: DetectionData
    optimiser: Optimiser
    schedule: Schedule
    trainer: TrainerOptions


class Experiment:
    """A checked configuration.

    Args:
        files: configuration files or names of presets, later ones winning.
        overrides: options ``(dotted key, text)`` on top of them.
        complete: refuse a configuration that lacks something; if not, `MISSING` is put in its place, to be looked at.
        model_of: a checkpoint whose model it is where the configuration names none.

    Raises:
        CommandError: naming the key, where it was stated, and what is accepted.
    """

    def __init__(
        self,
        *,
        files: Sequence[str],
        overrides: Sequence[tuple[str, str]],
        complete: bool = True,
        model_of: str | None = None,
    ) -> None:
        configuration = read_layers(files, overrides)
        if model_of is not None and not _names_model(configuration):
            configuration = read_layers(files, overrides, below=_plan_in(model_of))
        if not complete:
            _mark_missing(configuration)
        check(configuration, SECTIONS)
        if "data" in configuration.tree and draws_masks(configuration.tree["model"]):
            read_masks(configuration)
        self._stated_classes = _take_num_classes(configuration)
        complete_arguments(configuration.tree, SECTIONS)
        self._parser = experiment_parser()
        self._settings = _parse(self._parser, configuration)
        self.name = Path(files[-1]).stem if files else "run"

    @property
    def seed(self) -> int:
        """Of everything random."""
        return self._settings.seed

    @property
    def output(self) -> str | None:
        """The folder that the configuration names, if any."""
        return self._settings.output

    def dump(self) -> str:
        """The resolved configuration as YAML: every argument with its value, fit for ``--config``."""
        settings = self._settings.clone()
        settings.pop("output", None)  # a second run must not go where the first one is
        return self._parser.dump(settings, skip_unset=False, skip_validation=True)

    def build(self, *, start_from: str | None = None) -> ExperimentParts:
        """Open the data and make the model and all else; `CommandError` if their numbers of classes differ.

        What a checkpoint to start from will bring is not downloaded before.
        """
        settings = self._settings.clone()
        plan = settings.pop("model").as_dict()
        objects = objects_of(experiment_parser(model=False), settings)
        if self._stated_classes is not None:
            stated, origin = self._stated_classes
            if stated != objects.data.num_classes:
                raise CommandError(
                    f"{origin}: model.{ARGUMENTS}.{NUM_CLASSES} is {stated}, but the data have "
                    f"{objects.data.num_classes} classes ({', '.join(objects.data.categories.names[:8])}"
                    f"{', ...' if objects.data.num_classes > 8 else ''}); leave it out, it follows from the data"
                )
        model = _begun(plan, num_classes=objects.data.num_classes, start_from=start_from)
        return ExperimentParts(model, objects.data, objects.optimiser, objects.schedule, objects.trainer)

    def build_without_data(self, *, num_classes: int) -> tuple[nn.Module, Optimiser, TrainerOptions]:
        """The model, for the stated number of classes or else for so many, and what has nothing to do with data."""
        settings = self._settings.clone()
        plan = settings.pop("model").as_dict()
        del settings["data"]
        objects = objects_of(experiment_parser(model=False, data=False), settings)
        stated = self._stated_classes[0] if self._stated_classes is not None else num_classes
        return model_of(plan, num_classes=stated), objects.optimiser, objects.trainer

    def section(self, name: str) -> dict[str, Any]:
        """The settings below a key as plain data."""
        return self._settings[name].as_dict()


def model_of(plan: Mapping[str, Any], *, num_classes: int) -> nn.Module:
    """The model of a checked configuration, of classes from anywhere."""
    try:
        return build({**plan, ARGUMENTS: {**plan.get(ARGUMENTS, {}), NUM_CLASSES: num_classes}}, trusted=None)
    except PlanError as error:
        raise CommandError(str(error)) from error


def _begun(plan: Mapping[str, Any], *, num_classes: int, start_from: str | None) -> nn.Module:
    """The model, with the pretrained weights of its backbone unless a checkpoint brings the whole of it."""
    if start_from is not None:
        brought = model_weights(read_checkpoint(start_from))
        with without_pretrained_weights():
            model = model_of(plan, num_classes=num_classes)
        if all(name in brought for name, _ in model.named_parameters() if name.startswith("backbone.")):
            return model
    return model_of(plan, num_classes=num_classes)


def experiment_parser(*, model: bool = True, data: bool = True) -> ArgumentParser:
    """The options of an experiment, with their help, from the signatures; those of the model and data if wanted."""
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False, add_help=False)
    if model:
        parser.add_subclass_arguments(nn.Module, "model", required=True)
    if data:
        parser.add_class_arguments(DetectionData, "data")
    parser.add_subclass_arguments(Optimiser, "optimiser", required=True)
    parser.add_class_arguments(Schedule, "schedule")
    parser.add_class_arguments(TrainerOptions, "trainer")
    parser.add_argument("--seed", type=int, default=0, help=SECTIONS["seed"].help)
    parser.add_argument("--output", type=str | None, default=None, help=SECTIONS["output"].help)
    if model:
        parser.link_arguments(
            "data", f"model.{ARGUMENTS}.{NUM_CLASSES}", compute_fn=_number_of_classes, apply_on="instantiate"
        )
    return parser


def _names_model(configuration: Configuration) -> bool:
    """Whether the class of a model is stated."""
    model = configuration.tree.get("model")
    return isinstance(model, str) or (isinstance(model, dict) and CLASS in model)


def _plan_in(checkpoint: str) -> tuple[Tree, str]:
    """A layer with the model of a checkpoint, for any number of classes; CommandError if it is none of rankdet's."""
    plan = plan_of(read_checkpoint(checkpoint)[KEY])
    if plan is None:
        raise CommandError(f"{checkpoint} does not say what its model is; name the model in the configuration")
    try:
        check_trusted(plan, trusted=("rankdet",))
    except PlanError as error:
        raise CommandError(f"{checkpoint}: {error}; if you know it, name its model in the configuration") from error
    arguments = {name: value for name, value in plan[ARGUMENTS].items() if name != NUM_CLASSES}
    return {"model": {**plan, ARGUMENTS: arguments}}, checkpoint


def _mark_missing(configuration: Configuration) -> None:
    """Presets leave the data to their users."""
    data = configuration.tree.setdefault("data", {})
    if isinstance(data, dict):
        data.setdefault("train", MISSING)
        data.setdefault("val", MISSING)


def _number_of_classes(data: DetectionData) -> int:
    return data.num_classes


def _take_num_classes(configuration: Configuration) -> tuple[Any, str] | None:
    """Take the stated number of classes out: it follows from the data, and is compared with them."""
    arguments = configuration.tree["model"][ARGUMENTS]
    if NUM_CLASSES not in arguments:
        return None
    return arguments.pop(NUM_CLASSES), configuration.origin(f"model.{ARGUMENTS}.{NUM_CLASSES}")


def _parse(parser: ArgumentParser, configuration: Configuration) -> Namespace:
    try:
        return parser.parse_object(configuration.tree, defaults=False)
    except ArgumentError as error:
        raise CommandError(one_message(str(error), configuration)) from error


def objects_of(parser: ArgumentParser, settings: Namespace) -> Namespace:
    """The objects that the settings describe.

    Raises:
        CommandError: a constructor refused its arguments, in its own words, and the name of its class before them.
    """
    try:
        return parser.instantiate(settings)
    except ValueError as error:
        complaint = _COMPLAINT.search(str(error))
        if complaint is None:
            raise
        message = " ".join(complaint[2].split())
        refused = re.search(r"class_path='(?:\w+\.)*(\w+)'", str(error)[complaint.end() :])
        raise CommandError(f"{refused[1]}: {message}" if refused else message) from error


# What a constructor said, in the list of what jsonargparse tried for a value of one type or another.
_COMPLAINT = re.compile(r"^( *)- (?!Does not validate|Expected an? <)(.*(?:\n\1  .*)*)", re.MULTILINE)


def one_message(text: str, configuration: Configuration) -> str:
    """The innermost complaint of jsonargparse about a value, with the key and where it was stated."""
    keys = re.findall(r'[Kk]ey "([\w.]+)"', text)
    complaint = re.findall(r"(Expected .*?\. Got value: .*|Expected .*|[Kk]ey .* is required.*)", text)
    key = keys[0] + "".join(f".{ARGUMENTS}.{inner}" for inner in keys[1:]) if keys else ""
    wanted = re.sub(r"<class '([\w.]+)'>", r"\1", complaint[0] if complaint else " ".join(text.split()))
    wanted = re.sub(r"^Expected an? typing\.Literal\[(.*?)\]", r"must be one of \1", wanted)
    wanted = re.sub(r"^Expected an? ", "must be of the type ", wanted)
    wanted = re.sub(r"^Expected list$", "must be a list, as in [a, b]", wanted)
    wanted = re.sub(r"\. Got value: (.*)$", r", got \1", wanted)
    wanted = re.sub(
        r"(str, got (?:True|False|None))$", r"\1; YAML reads an unquoted yes, no or null so: quote it", wanted
    )
    return f"{configuration.origin(key)}: {key} {wanted}" if key else wanted
