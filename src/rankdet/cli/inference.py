"""What ``eval`` and ``predict`` share: a model from a checkpoint, and the validation part of a configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentError, ArgumentParser
from torch import Tensor, nn

from rankdet.cli.errors import CommandError
from rankdet.cli.experiment import NUM_CLASSES, SECTIONS, model_of, objects_of, one_message
from rankdet.cli.layers import ARGUMENTS, Configuration, read_layers
from rankdet.cli.mask_data import draws_masks, read_masks
from rankdet.cli.signatures import Section, check
from rankdet.data import BlankCorrupt, Categories, DetectionDataset, ProposalFiles, build_loader, open_dataset
from rankdet.data.one_class import one_class_of
from rankdet.data.proposals import with_proposals
from rankdet.data.transforms import FixedResize
from rankdet.eval.devices import ManyDevices
from rankdet.eval.inference import Detection, answer, boxes_only, rescale_batch, size_of, to_results
from rankdet.models import plan_of
from rankdet.nn import without_pretrained_weights
from rankdet.ops.checkpoint import KEY, CheckpointError, read_checkpoint
from rankdet.ops.part import parameters_of
from rankdet.predictor import Predictor
from rankdet.train.display import Display


class Validation:
    """The validation images of an experiment.

    Args:
        val: a dataset, or what `rankdet.data.open_dataset` takes.
        val_images: the folder of the images, where it is not found automatically.
        classes: use only these classes, by name and in this order.
        masks: give masks too.
        batch_size: images in a batch.
        workers: loading processes.
        resize: None for the rule of the predictor.
        one_class: all objects are of one class, "object".
        proposals: files of regions that come with the images, for a detector without a first stage.
    """

    def __init__(
        self,
        *,
        val: str | DetectionDataset,
        val_images: str | None = None,
        classes: list[str] | None = None,
        masks: bool = False,
        batch_size: int = 16,
        workers: int = 2,
        resize: FixedResize | None = None,
        one_class: bool = False,
        proposals: ProposalFiles | None = None,
    ) -> None:
        opened = (
            open_dataset(val, images=val_images, classes=classes, masks=masks, shapes_seed=1)
            if isinstance(val, str)
            else val
        )
        self._tolerant = BlankCorrupt(opened)
        self.data = with_proposals(one_class_of(self._tolerant, one_class), (proposals or ProposalFiles()).val)
        self.batch_size = batch_size
        self.workers = workers
        self.resize = resize

    def detect(self, predictor: Predictor, *, masks: bool, display: Display) -> list[dict[str, Any]]:
        """COCO results of all images, in their own pixels; with masks if they are wanted and the model gives any."""
        return [
            entry
            for image_id, found in self.detections(predictor, masks=masks, display=display)
            for entry in to_results(found, image_id=image_id, categories=self.data.categories)
        ]

    def detections(self, predictor: Predictor, *, masks: bool, display: Display) -> Iterator[tuple[int, Detection]]:
        """The id of each image and its detections, as `detect`."""
        model = predictor.model
        device = next(model.parameters()).device

        def find(images: list[Tensor], targets: list[dict[str, Any]]) -> list[Detection]:
            images = [image.to(device) for image in images]
            found = [predictor.calibrated(detection) for detection in answer(model, images, targets)]
            return found if masks else [boxes_only(detection) for detection in found]

        yield from self.each(find, resize=predictor.resize, display=display)

    def each(
        self,
        find: Callable[..., list[Detection]],
        *,
        resize: FixedResize,
        display: Display,
        doing: str = "evaluating",
    ) -> Iterator[tuple[int, Detection]]:
        """The id of each image and what ``find(images, targets)`` finds in it, in the pixels of the original image.

        Images are resized by the rule of the data, or else by ``resize``.
        """
        loader = build_loader(
            self.data, batch_size=self.batch_size, transforms=self.resize or resize, workers=self.workers
        )
        for images, targets in display.track(loader, doing):
            with torch.no_grad():
                detections = find(images, targets)
            sizes = [tuple(target["original_size"]) for target in targets]
            in_originals = rescale_batch(detections, from_sizes=map(size_of, images), to_sizes=sizes)
            for target, found in zip(targets, in_originals, strict=True):
                yield int(target["image_id"]), found
        if skipped := self._tolerant.summary():
            display.print(skipped)


@dataclass(frozen=True)
class ModelPlan:
    """The model that a configuration describes; its number of classes is still to come."""

    settings: dict[str, Any]

    def build(self, num_classes: int) -> nn.Module:
        """The model with random weights; nothing is downloaded."""
        parser = ArgumentParser(exit_on_error=False)
        parser.add_subclass_arguments(nn.Module, "model", required=True)
        stated = {**self.settings[ARGUMENTS], NUM_CLASSES: num_classes}
        settings = parser.parse_object({"model": {**self.settings, ARGUMENTS: stated}})
        with without_pretrained_weights():
            return model_of(settings.model.as_dict(), num_classes=num_classes)


def open_validation(
    files: Sequence[str], overrides: Sequence[tuple[str, str]], *, checkpoint: str, trusted: str | None = None
) -> tuple[Validation, ModelPlan | None]:
    """The validation data of a configuration, and its model if the user named the configuration.

    Without files the configuration beside the checkpoint is used, if there is one. There are masks if the model draws
    any.
    """
    record = read_checkpoint(checkpoint)[KEY]
    beside = Path(checkpoint).parent / "config.yaml"
    is_run = beside.is_file() and Path(checkpoint).is_file()  # what lies beside a folder belongs to something else
    chosen = list(files) or ([str(beside)] if is_run else [])
    configuration = read_layers(chosen, overrides)
    configuration.tree.setdefault("data", {})
    check(configuration, _sections())
    wants_model = bool(files) or any(key.split(".")[0] == "model" for key, _ in overrides)
    model = configuration.tree.get("model") if wants_model else None
    known = plan_of(record) or {}
    if draws_masks(model) if model is not None else draws_masks(known, trusted=_trusted(trusted)):
        read_masks(configuration)
    return _make_validation(configuration), ModelPlan(model) if model is not None else None


def open_predictor(
    checkpoint: str, *, plan: ModelPlan | None = None, num_classes: int = 0, trusted: str | None = None
) -> Predictor:
    """The predictor of a checkpoint, its model built by the plan in it or by that of a configuration."""
    model = plan.build(num_classes) if plan is not None else None
    return Predictor.load(checkpoint, model=model, trusted=_trusted(trusted))


def _trusted(package: str | None) -> tuple[str, ...]:
    """Packages whose classes a checkpoint may name."""
    return ("rankdet",) if package is None else ("rankdet", package)


def check_categories(predictor: Predictor, categories: Categories, *, checkpoint: str) -> None:
    """`CheckpointError` unless the model knows the classes of the data, in their order."""
    if predictor.record.get("categories") is None or predictor.categories.names == categories.names:
        return
    raise CheckpointError(
        f"{checkpoint} (the first) was trained on other classes than those of the data (the second): "
        f"{predictor.categories.difference(categories)}; give data with the same classes, or choose them with "
        "--data.classes"
    )


def choose_device(name: str | None) -> torch.device:
    """The device of a name, or the best one; `CommandError` when there is no such device."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise CommandError(f"the device {name} cannot be used: {str(error).splitlines()[0]}") from error
    return device


def on_devices(predictor: Predictor, names: str | None) -> Predictor:
    """The predictor on the device of a name, on several whose names are separated by commas, or on the best one.

    To be called last: on several, each has a copy of the detector as it is now.
    """
    devices = [choose_device(name) for name in names.split(",")] if names else [choose_device(None)]
    predictor.to(devices[0])
    if len(devices) > 1:
        try:
            predictor.model = ManyDevices(predictor.model, devices=devices)
        except ValueError as error:
            raise CommandError(f"--device {names}: {error}") from error
    return predictor


def _sections() -> dict[str, Section]:
    sections = {name: replace(section, needed=False) for name, section in SECTIONS.items()}
    return {**sections, "data": replace(sections["data"], given=frozenset({"train"}))}


def _make_validation(configuration: Configuration) -> Validation:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Validation, "data")
    stated = configuration.tree["data"]
    settings = {name: value for name, value in stated.items() if name in parameters_of(Validation)}
    try:
        parsed = parser.parse_object({"data": settings})
    except ArgumentError as error:
        raise CommandError(one_message(str(error), configuration)) from error
    return objects_of(parser, parsed).data
