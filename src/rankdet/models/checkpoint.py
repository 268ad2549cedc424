"""Loading a trained detector from a checkpoint, without running any code that the file might bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rankdet.models.budget import limited
from rankdet.models.spec import Spec, build
from rankdet.models.upgrade import upgraded
from rankdet.nn.weights import without_pretrained_weights
from rankdet.ops.checkpoint import KEY, CheckpointError, check_weights, model_weights, read_checkpoint

__all__ = ["CheckpointError", "load", "plan_of", "read_checkpoint"]


def plan_of(record: Mapping[str, Any]) -> Spec | None:
    """The plan of the model in what a checkpoint says of itself, in the words of this version; None if it has none."""
    plan = record.get("model")
    return None if plan is None else upgraded(plan, version=int(record.get("version", 1)))


def load(path: str | Path, *, model: nn.Module | None = None, trusted: Sequence[str] = ("rankdet",)) -> nn.Module:
    """A trained detector in evaluation mode, from a checkpoint of ``rankdet train``, or what `read_checkpoint` takes.

    The model is built from the plan in the file, or the weights go into the given ``model``. Nothing is downloaded,
    unless the path is one of the hub.

    Raises:
        CheckpointError: when the file cannot be used, or its weights do not fit the model; the message names the first
            tensors that differ.
    """
    return model_in(read_checkpoint(path), path=path, model=model, trusted=trusted)


def model_in(
    content: Mapping[str, Any],
    *,
    path: str | Path,
    model: nn.Module | None = None,
    trusted: Sequence[str] = ("rankdet",),
) -> nn.Module:
    """The same of the content of a checkpoint; `path` is what messages call it."""
    weights = model_weights(content)
    if model is None:
        plan = plan_of(content[KEY])
        if plan is None:
            raise CheckpointError(
                f"{path} holds weights but no plan of the model; give the model: load(path, model=...)"
            )
        with without_pretrained_weights(), limited(**_budget(weights)):
            model = build(plan, trusted=trusted)
    check_weights(weights, model, path)
    model.load_state_dict(weights)
    return model.eval()


def _budget(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """What building a model may take whose weights are known: more than they are can only be refused later."""
    elements = sum(weight.numel() for weight in weights.values())
    return {"elements": 4 * elements + 50_000_000, "tensors": 20 * len(weights) + 10_000}
