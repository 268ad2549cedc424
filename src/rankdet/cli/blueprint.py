"""Single objects of an experiment, without the rest of it: a model without weights, a resizing rule, the data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from jsonargparse import ArgumentParser
from torch import nn

from rankdet.cli.experiment import objects_of
from rankdet.cli.inference import ModelPlan
from rankdet.cli.layers import ARGUMENTS
from rankdet.data import DetectionData, FixedResize, ResizeShorter
from rankdet.models import Detector

if TYPE_CHECKING:
    from rankdet.cli.experiment import Experiment
    from rankdet.cli.subject import Subject
    from rankdet.doctor import Diagnosis

_CLASSES = 80  # of a model whose data are not known
_BATCH = 8  # images of a picture, where no configuration says how many


def model_of(experiment: Experiment, *, num_classes: int) -> nn.Module:
    """The model on `meta`, which takes neither memory nor a download."""
    with torch.device("meta"):
        return ModelPlan(experiment.section("model")).build(num_classes)


def chosen_by(experiment: Experiment) -> Iterator[tuple[str, Any]]:
    """The arguments of the model that are null in a configuration, with the plans of what it makes of them."""
    stated = experiment.section("model")
    model = model_of(experiment, num_classes=_CLASSES)
    if isinstance(model, Detector):
        plan = model.plan()[ARGUMENTS]
        yield from ((name, plan[name]) for name, value in stated[ARGUMENTS].items() if value is None and plan.get(name))


def resize_of(experiment: Experiment) -> FixedResize:
    """The rule by which images are brought to the scale of the network."""
    stated = experiment.section("data")["resize"]
    if stated is None:
        return ResizeShorter()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(FixedResize, "resize", required=True)
    return objects_of(parser, parser.parse_object({"resize": stated})).resize


def data_of(subject: Subject, diagnosis: Diagnosis | None) -> DetectionData:
    """The data of the experiment, or of a dataset alone with the default transforms, and masks if it has any.

    They are loaded in this process.
    """
    if subject.experiment is not None:
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(DetectionData, "data")
        stated = {**subject.experiment.section("data"), "workers": 0}
        return objects_of(parser, parser.parse_object({"data": stated})).data
    assert subject.train is not None, "without an experiment there is a dataset"
    train, val = subject.train, subject.val or subject.train
    census = diagnosis.train.census if diagnosis else None
    return DetectionData(
        train=train.path,
        val=val.path,
        train_images=train.images,
        val_images=val.images,
        masks=bool(census and census.masks),
        batch_size=_BATCH,
        workers=0,
    )
