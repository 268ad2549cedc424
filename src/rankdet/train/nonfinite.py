"""Steps whose losses or gradients are not finite are skipped, reported and saved; too many end the training."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from typing_extensions import override

from rankdet.data.loader import Batch
from rankdet.ops.distributed import gather_objects, rank, world_size
from rankdet.train.display import Display
from rankdet.train.errors import TrainingError
from rankdet.train.files import make_folder, write_bytes
from rankdet.train.folder import NONFINITE, RunFolder
from rankdet.train.task import NOT_FINITE, RECORD, DetectionTask

_KEPT = 3  # steps of a process whose batches are saved


@dataclass(frozen=True)
class NonfiniteReport:
    """What one process knows of a batch: losses by name or a complaint of the model, and the ids of the images."""

    rank: int
    losses: dict[str, float]
    images: tuple[Any, ...]
    complaint: str

    @property
    def bad(self) -> dict[str, float]:
        """The losses that are not finite."""
        return {name: value for name, value in self.losses.items() if not math.isfinite(value)}

    def __str__(self) -> str:
        terms = ", ".join(f"{name} {value:.4g}" for name, value in self.losses.items())
        terms = self.complaint if NOT_FINITE in self.losses else terms
        where = f" on process {self.rank}" if world_size() > 1 else ""
        return f"{terms}; image{'s' if len(self.images) > 1 else ''} {', '.join(map(str, self.images))}{where}"


class LeaveOutNonFinite(Callback):
    """Makes no step of losses or gradients that are not finite, on any process, and none of the others either.

    Weights, optimiser state and buffers stay as they were before the step; the schedule goes on. The batches of
    the first such steps are saved with the weights at that time. A loss that is not finite on one process counts on
    all. With the loss scaling of ``16-mixed``, gradients that are too large are its business while losses are finite.

    Args:
        folder: of the run.
        display: reports each step.
        most: such steps in a row that are tolerated; one more raises TrainingError.

    Invariant: a training with such a step equals one in which the gradient of that step was missing.
    """

    def __init__(self, folder: RunFolder, *, display: Display, most: int) -> None:
        self.folder = folder
        self.display = display
        self.most = most
        self.in_a_row = 0
        self.steps: list[int] = []
        self._batches: list[Batch] = []
        self._buffers: list[tuple[Tensor, Tensor]] = []

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._batches = []
            self._buffers = [(buffer, buffer.clone()) for buffer in changing_buffers(pl_module)]
        self._batches.append(batch)

    @override
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        assert isinstance(pl_module, DetectionTask), "goes with a DetectionTask"
        losses = pl_module.losses_of_step
        gradients = [] if scales_losses(trainer) else [p.grad for p in pl_module.parameters() if p.grad is not None]
        if not is_anywhere(trainer, not_finite([*(value for named in losses for value in named.values()), *gradients])):
            self.in_a_row = 0
            return
        self.in_a_row += 1
        self.steps.append(trainer.global_step)
        with torch.no_grad():
            for buffer, before in self._buffers:
                buffer.copy_(before)
        self._name(trainer, pl_module, losses)
        optimizer.zero_grad(set_to_none=True)  # optimisers pass over parameters without a gradient

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.steps:
            some = ", ".join(map(str, self.steps[:10])) + (", ..." if len(self.steps) > 10 else "")
            self.display.print(
                f"  {len(self.steps)} step{'s were' if len(self.steps) > 1 else ' was'} left out, as losses or "
                f"gradients were not finite: {some}"
            )

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"in_a_row": self.in_a_row, "steps": list(self.steps)}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.in_a_row, self.steps = state_dict["in_a_row"], list(state_dict["steps"])

    def _name(self, trainer: pl.Trainer, task: DetectionTask, losses: list[dict[str, Tensor]]) -> None:
        """Say what is not finite, keep it, and end the training when it has happened too often."""
        own = [
            NonfiniteReport(
                rank(), {name: float(value) for name, value in named.items()}, ids_of(batch), task.complaint
            )
            for named, batch in zip(losses, self._batches, strict=True)
        ]
        reports = [report for of_one in gather_objects(own) for report in of_one]
        guilty = [report for report in reports if report.bad]
        what = f"the loss is not finite ({'; '.join(map(str, guilty))})"
        if not guilty:
            what = f"the gradient is not finite ({names_of_bad_gradients(task)}; {'; '.join(map(str, reports))})"
        kept = self._keep(trainer, task, losses, [bool(report.bad) or not guilty for report in own])
        where = f"step {trainer.global_step} (epoch {task.epoch + 1}, lr {task.rate_now:.3g})"
        if self.in_a_row <= self.most:
            self.display.print(f"  {where} was skipped: {what}{kept}")
            return
        go_on = f"go on with --resume {self.folder.last}" if self.folder.last.exists() else "start again"
        precision = ", or in full precision (--trainer.precision 32-true)" if is_mixed(trainer) else ""
        raise TrainingError(
            f"{self.in_a_row} step{'s' if self.in_a_row > 1 else ''} in a row could not be made, the last of them "
            f"{where}: {what}{kept}. To mend this, {go_on} and a lower learning rate (--optimiser.init_args.lr "
            f"{task.optimiser.lr / 10:g}), a longer warm-up (--schedule.warmup_iterations) or a clipped gradient "
            f"(--trainer.gradient_clip 10){precision}"
        )

    def _keep(
        self, trainer: pl.Trainer, task: DetectionTask, losses: list[dict[str, Tensor]], guilty: list[bool]
    ) -> str:
        """Save the guilty batches of this process and the weights that they met; a remark about where."""
        folder = self.folder.path / NONFINITE
        if len(self.steps) > _KEPT:
            return ""
        content = {
            "step": trainer.global_step,
            "epoch": task.epoch,
            "batches": [
                {"images": list(images), "targets": list(targets), "losses": named}
                for (images, targets), named, bad in zip(self._batches, losses, guilty, strict=True)
                if bad
            ],
            "state_dict": task.state_dict(),
            RECORD: dict(task.record),
        }
        path = folder / f"step-{trainer.global_step}-process-{rank()}.pt"
        try:
            if content["batches"]:
                file = io.BytesIO()
                torch.save(content, file)
                write_bytes(make_folder(folder) / path.name, file.getbuffer())
        except OSError as error:
            return f"; the batch could not be kept: {error}"
        return f"; the batch is in {folder}"


def changing_buffers(module: nn.Module) -> list[Tensor]:
    """The buffers of those parts that are in training mode, such as live statistics; frozen ones do not change."""
    return [buffer for part in module.modules() if part.training for buffer in part.buffers(recurse=False)]


def not_finite(values: list[Tensor]) -> Tensor:
    """Whether anything in some tensors is not finite, as a scalar 0 or 1 on their device, which is not waited for.

    >>> float(not_finite([torch.ones(2), torch.tensor([1.0, float("nan")])]))
    1.0
    """
    floats = [value.detach() for value in values if value.is_floating_point()]
    largest = torch.stack([value.float() for value in torch._foreach_norm(floats, math.inf)])
    return 1.0 - largest.isfinite().all().float()


def is_anywhere(trainer: pl.Trainer, flag: Tensor) -> bool:
    """Whether the flag of any process is raised; waits for the device."""
    if trainer.world_size > 1:
        flag = trainer.strategy.reduce(flag, reduce_op="max")  # type: ignore[assignment]
    return bool(flag > 0)


def scales_losses(trainer: pl.Trainer) -> bool:
    """Whether the losses are scaled, so that gradients are looked at there."""
    return getattr(trainer.precision_plugin, "scaler", None) is not None


def is_mixed(trainer: pl.Trainer) -> bool:
    """Whether anything is computed in less than single precision."""
    return trainer.precision != "32-true"


def ids_of(batch: Batch) -> tuple[Any, ...]:
    """The ids of the images in a batch."""
    return tuple(target.get("image_id") for target in batch[1])


def names_of_bad_gradients(model: nn.Module) -> str:
    """Which parameters have a gradient that is not finite, the first few."""
    named = [(name.removeprefix("model."), p.grad) for name, p in model.named_parameters() if p.grad is not None]
    bad = [name for name, gradient in named if not bool(gradient.isfinite().all())]
    return f"of {', '.join(bad[:3])}{f' and {len(bad) - 3} more' if len(bad) > 3 else ''}"
