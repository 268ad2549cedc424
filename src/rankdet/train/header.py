"""The first lines of a training: what will be trained, on what, how, where, and what becomes of the learning rate."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from rankdet.data.dataset import DetectionDataset
from rankdet.data.module import DetectionData
from rankdet.train.optimiser import Optimiser
from rankdet.train.options import TrainerOptions
from rankdet.train.schedule import Schedule
from rankdet.train.settings import SettingChange

_NAMES_SHOWN = 12


def describe_run(
    *,
    model: nn.Module,
    data: DetectionData,
    optimiser: Optimiser,
    schedule: Schedule,
    options: TrainerOptions,
    world_size: int,
    device: torch.device,
    folder: Path,
    seed: int,
    steps_per_epoch: int,
    changed: Sequence[SettingChange] = (),
    step: int = 0,
) -> str:
    """A column of facts, for people, and of what looks wrong; `changed` are settings that are others than before."""
    batch = data.batch_size * world_size * options.accumulate
    devices = f"{world_size} device{'s' if world_size > 1 else ''}"
    together = f" x {options.accumulate} accumulated" if options.accumulate > 1 else ""
    facts = {
        "model": describe_model(model),
        "classes": describe_classes(data.categories.names),
        "train": describe_dataset(data.train),
        "validation": describe_dataset(data.val),
        "batch": f"{batch} images ({data.batch_size} on {devices}{together})",
        "lr": schedule.describe_rate(optimiser.lr, batch),
        "optimiser": str(optimiser),
        "schedule": schedule.describe(),
        "device": f"{describe_device(device)}, {options.precision}",
        "seed": str(seed),
        "output": str(folder),
    }
    if data.strong is not None:
        facts["augment"] = data.strong.describe(schedule.epochs)
    if options.ema is not None:
        facts["weights"] = f"evaluated and saved as a running average (EMA {options.ema:g})"
    if step:
        facts["resumed"] = f"after step {step}"
    if changed:
        facts["changed"] = f"from here on: {', '.join(map(str, changed))}"
    warnings = schedule.warnings(batch_size=batch, steps_per_epoch=steps_per_epoch)
    lines = [*facts.items(), *(("warning", text) for text in warnings)]
    return "\n".join(f"  {name:<11} {text}" for name, text in lines)


def describe_model(model: nn.Module) -> str:
    """Name, criterion and number of parameters.

    >>> describe_model(nn.Linear(3, 4))
    'Linear, 16 parameters'
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    frozen = f", of which {_count(trained)} are trained" if trained != total else ""
    return f"{type(model).__name__}, {_count(total)} parameters{frozen}"


def describe_classes(names: tuple[str, ...]) -> str:
    """How many, and what they are called.

    >>> describe_classes(("cat", "dog"))
    '2: cat, dog'
    """
    rest = f", ... and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"{len(names)}: {', '.join(names[:_NAMES_SHOWN])}{rest}"


def describe_dataset(dataset: DetectionDataset) -> str:
    """What the dataset says of itself, its faults indented below."""
    return dataset.report.summary().replace("\n", "\n" + " " * 14)


def describe_device(device: torch.device) -> str:
    """The kind of device, its name or its threads."""
    if device.type == "cuda":
        return f"{device.type} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} of {os.cpu_count()} cores)"
    return device.type


def _count(number: int) -> str:
    return f"{number / 1e6:.1f} M" if number >= 1e5 else str(number)
