"""What types the entries of a checkpoint have; a file from elsewhere may have any others under the same names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

Check = Callable[[Any], bool]


def misfit(content: Mapping[str, Any], *, key: str) -> str | None:
    """The first entry of another type than it should be, and what it should be; None if all are right.

    Args:
        content: of the checkpoint, with its weights.
        key: the entry in which rankdet says how the model is built and what its classes are.

    >>> misfit({"state_dict": {}, "rankdet": {"thresholds": {"1": "high"}}}, key="rankdet")
    "rankdet.thresholds is {'1': 'high'}, not numbers by category id"
    >>> misfit({"state_dict": {}, "rankdet": {"thresholds": {"1": 0.3}}}, key="rankdet")
    """
    found = next(_misfits(content, {"state_dict": _WEIGHTS, key: _MAPPING, **_TRAINING}, ""), None)
    return found or next(_misfits(content[key], _RECORD, f"{key}."), None)


def _misfits(entries: Mapping[str, Any], form: Mapping[str, tuple[Check, str]], prefix: str) -> Iterator[str]:
    for name, (is_right, wanted) in form.items():
        if name in entries and not is_right(entries[name]):
            yield f"{prefix}{name} is {_shown(entries[name])}, not {wanted}"


def _shown(value: Any) -> str:
    try:
        return repr(value)[:60]
    except RecursionError:
        return f"a {type(value).__name__} of many levels"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_number, value.values()))


def _is_plan(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("class_path"), str)


def _are_classes(value: Any) -> bool:
    names, ids = (value.get("names"), value.get("ids")) if isinstance(value, Mapping) else (None, None)
    if not isinstance(names, list) or not isinstance(ids, list):
        return False
    return all(isinstance(name, str) for name in names) and all(map(_is_whole, ids)) and len(names) == len(ids) > 0


def _are_weights(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())


def _is_progress(value: Any) -> bool:
    settings = value.get("settings", {}) if isinstance(value, Mapping) else None
    if not isinstance(settings, Mapping) or not _is_whole(settings.get("schedule.epochs", 1)):
        return False
    seen, of_epoch = value.get("batches_seen"), value.get("batches_per_epoch")
    return _is_whole(seen) and _is_whole(of_epoch) and int(of_epoch or 0) > 0


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _are_mappings(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_mapping, value.values()))


_WEIGHTS = (_are_weights, "tensors by name")
_MAPPING = (_is_mapping, "a mapping")
_TRAINING = {
    "epoch": (_is_whole, "a whole number"),
    "global_step": (_is_whole, "a whole number"),
    "callbacks": (_are_mappings, "mappings by name"),
    "rankdet_progress": (_is_progress, "how far the training is"),
}
_RECORD = {
    "version": (_is_whole, "a whole number"),
    "model": (_or_none(_is_plan), "a plan of a model with class_path"),
    "categories": (_or_none(_are_classes), "names and ids of classes"),
    "image_size": (_or_none(_is_mapping), "a rule of resizing"),
    "metrics": (_or_none(_are_numbers), "numbers by name"),
    "thresholds": (_or_none(_are_numbers), "numbers by category id"),
    "score_mapping": (_or_none(_is_mapping), "a mapping of scores"),
}
