"""Messages of the library, which name arguments of Python, in the words of the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rankdet.data import errors

_OPTIONS = {
    errors.IMAGES: "--data.train_images FOLDER or --data.val_images FOLDER",
    errors.MASKS: "--data.masks true",
    errors.NO_MASKS: "--data.masks false",
    errors.CLASSES: "--data.classes '[NAME, ...]'",
    errors.KEEP_EMPTY: "--data.skip_empty false",
    errors.MIN_SIZE: "--data.min_size PIXELS",
    "fresh needs start_from": "--fresh needs --start-from",
    "iou_type='bbox'": "--iou-type bbox",
    "iou_type='segm'": "--iou-type segm",
}
_OF_COMMANDS: Mapping[str, Mapping[str, str]] = {
    "check": {errors.IMAGES: "--image-folder FOLDER or --val-image-folder FOLDER"},
    "data": {errors.IMAGES: "--image-folder FOLDER"},
    "report": {errors.IMAGES: "--images FOLDER"},
}
_TWICE = re.compile(r"--([\w.]+): \1(:?) ")
_LIST = re.compile(r"\b(fresh|trusted)=\[([^]]*)\]")


def in_options(message: str, command: str = "") -> str:
    """A message with the options of a command where it names arguments of Python.

    >>> in_options("train on boxes alone: masks=False", "train")
    'train on boxes alone: --data.masks false'
    >>> in_options("start these parts from fresh weights: fresh=['neck', 'stage.head']", "train")
    'start these parts from fresh weights: --fresh neck,stage.head'
    >>> in_options("--data.batch_size: data.batch_size must be of the type int, got x", "train")
    '--data.batch_size must be of the type int, got x'
    >>> in_options("--schedule.decay: schedule.decay: there is no Decay called None", "train")
    '--schedule.decay: there is no Decay called None'
    """
    for argument, option in {**_OPTIONS, **_OF_COMMANDS.get(command, {})}.items():
        message = message.replace(argument, option)
    return _TWICE.sub(r"--\1\2 ", _LIST.sub(_list, message))


def _list(found: re.Match[str]) -> str:
    names = [name.strip(" '") for name in found[2].split(",")]
    return f"--fresh {','.join(names)}" if found[1] == "fresh" else f"--trust {names[-1]}"
