"""What a training is made with, as plain data under the keys of a configuration, and what may change on resume.

A key is either *applied*, from the next step on, or *refused*, with a reason. What decides where a training is, and
what its numbers are compared by, is refused; how it goes on is applied. `REFUSED` has the former; all others are the
latter.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from rankdet.data.batches import DetectionBatches
from rankdet.data.dataset import DetectionDataset
from rankdet.data.module import DetectionData
from rankdet.data.seeding import seed_for
from rankdet.train.optimiser import Optimiser
from rankdet.train.options import TrainerOptions
from rankdet.train.schedule import Schedule

Settings = dict[str, Any]
CLASS, ARGUMENTS = "class_path", "init_args"

REFUSED = {
    r"seed": "order, augmentation and every step follow from it",
    r"processes": "each process has its share of the images; change trainer.devices and trainer.num_nodes together",
    r"trainer\.accumulate": "schedule and epochs are counted in steps of so many batches",
    r"data\.batch_size": "schedule and epochs are counted in batches of so many images",
    r"data\.train\.images": "the place within an epoch is one among these images",
    r"data\.order": "the place within an epoch is one in this order, which data.sampling and the images make",
    r"data\.val\..*": "best.ckpt is chosen by the AP on these images and objects",
    r"data\.resize(\..*)?": "AP at another size is another number, and best.ckpt is chosen by it",
    r"optimiser": "the state of one optimiser means nothing to another",
    r"model(.*\.(backbone|initial|prior_probability))?": "it says how the weights begin, and they have begun",
}


@dataclass(frozen=True)
class SettingChange:
    """A setting that is another one than before the interruption."""

    key: str
    before: Any
    now: Any

    @property
    def refusal(self) -> str | None:
        """Why the training cannot continue with it; None if it can."""
        return next((reason for keys, reason in REFUSED.items() if re.fullmatch(keys, self.key)), None)

    def __str__(self) -> str:
        return f"{self.key} {_short(self.before)} -> {_short(self.now)}"


def settings_of(
    *,
    model: nn.Module,
    data: DetectionData,
    optimiser: Optimiser,
    schedule: Schedule,
    options: TrainerOptions,
    seed: int,
    processes: int,
) -> Settings:
    """All settings of a training, by key; plain types."""
    parts: dict[str, Any] = {"optimiser": plain(optimiser)}
    if callable(plan := getattr(model, "plan", None)):
        parts["model"] = plan()
    own = {"schedule": plain(schedule)[ARGUMENTS], "trainer": plain(options)[ARGUMENTS], "data": _of_data(data)}
    return {**dict(_flat({**parts, **own})), "seed": seed, "processes": processes}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[SettingChange]:
    """What differs; of an object of another class the class alone, and nothing that one of the two does not know.

    >>> print(*changes({"schedule.epochs": 3, "seed": 0}, {"schedule.epochs": 4, "seed": 0}))
    schedule.epochs 3 -> 4
    """
    found: list[SettingChange] = []
    for key in sorted(before.keys() & now.keys()):
        within = any(key.startswith(f"{change.key}.{ARGUMENTS}") for change in found)
        if before[key] != now[key] and not within:
            found.append(SettingChange(key, before[key], now[key]))
    return found


def plan_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[SettingChange]:
    """What differs between the plans of two models, the number of classes aside.

    >>> old = {CLASS: "ATSS", ARGUMENTS: {"num_classes": 3, "channels": 64}}
    >>> print(*plan_changes(old, {CLASS: "ATSS", ARGUMENTS: {"num_classes": 4, "channels": 32}}))
    model.init_args.channels 64 -> 32
    """
    found = changes(dict(_flat({"model": before})), dict(_flat({"model": now})))
    return [change for change in found if not change.key.endswith(".num_classes")]


def plain(value: Any) -> Any:
    """An object as its class and constructor arguments, as far as it keeps them; plain data as they are.

    >>> from rankdet.train import Steps
    >>> plain(Steps(milestones=(8, 11)))
    {'class_path': 'rankdet.train.schedule.Steps', 'init_args': {'milestones': [8, 11], 'gamma': 0.1}}
    """
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    try:
        names = [name for name in inspect.signature(type(value)).parameters if hasattr(value, name)]
    except (ValueError, TypeError):  # not written in Python
        return _text(value)
    return {
        CLASS: f"{type(value).__module__}.{type(value).__qualname__}",
        ARGUMENTS: {name: plain(getattr(value, name)) for name in names},
    }


def _of_data(data: DetectionData) -> dict[str, Any]:
    sampler = data.train_loader(seed=0, rank=0, world_size=1).batch_sampler
    assert isinstance(sampler, DetectionBatches), "made by build_loader"
    order = sampler.order.indices(torch.Generator().manual_seed(seed_for(0, 0)))
    return {
        "batch_size": data.batch_size,
        "resize": plain(data.resize),
        "train_transforms": _text(data.train_transforms),
        "strong": plain(data.strong),
        "proposals": plain(data.proposals),
        "semantic": data.semantic,
        "train": _of_images(data.train),
        "val": _of_images(data.val),
        "order": f"{len(order)} draws, {_digest(order.numpy(), np.asarray(sampler.groups))}",
    }


def _of_images(dataset: DetectionDataset) -> dict[str, Any]:
    images = _digest(np.asarray(dataset.image_ids), np.asarray(dataset.image_sizes))
    return {"images": f"{len(dataset)} images, {images}", "objects": _of_objects(dataset)}


def _of_objects(dataset: DetectionDataset) -> int | str:
    if dataset.report.objects is not None:
        return int(dataset.report.objects)
    return _digest(*(dataset.labels(index) for index in range(len(dataset))))


def _text(value: Any) -> str:
    """What an object says of itself, without its place in the memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:12]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys; an object is its class, and its arguments below it."""
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and CLASS in value:
            yield key, value[CLASS]
            yield from _flat(value.get(ARGUMENTS) or {}, f"{key}.{ARGUMENTS}.")
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{key}.")
        else:
            yield key, value


def _short(value: Any) -> str:
    text = "null" if value is None else " ".join(str(value).split())
    name = text.rpartition(".")[2] if re.fullmatch(r"[a-z_]\w*(\.\w+)+", text) else text
    return name if len(name) <= 40 else f"{name[:37]}..."
