"""Where and how precisely to compute, and how often to report: everything of a run that does not change the method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

LOGGERS = ("csv", "tensorboard", "wandb", "mlflow")
Precision = Literal["32-true", "16-mixed", "bf16-mixed"]


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """Settings of the engine; the names in brackets are Lightning's.

    Args:
        accelerator: "auto", "cpu", "gpu" or "mps".
        devices: how many, a list of their numbers, or "auto" for all there are.
        num_nodes: machines that train together.
        strategy: "auto", "ddp", or another of Lightning's strategies of that name, such as
            "ddp_find_unused_parameters_true". Those that share out the weights of a model are refused.
        precision: "32-true", "16-mixed" (loss scaling included) or "bf16-mixed".
        gradient_clip: largest norm of the gradient; None for no clipping.
        max_steps: optimiser steps at most. Epochs that would end later are left out; if the first is one of them, it
            ends after so many steps.
        overfit: train on so many of the training images alone, without augmentation, and evaluate on them: a model
            that is sound learns them by heart. None for a proper training.
        accumulate: batches whose gradients are added up for one step.
        ema: decay of a running average of the weights, which is then evaluated and saved in best.ckpt; 0.999 remembers
            about 1,000 steps. None for none.
        most_nonfinite: steps in a row that may be left out because a loss or a gradient is not finite; one more ends
            the training.
        recompute: names of the parts, such as backbone, whose activations are computed again in the backward pass
            instead of being kept (gradient checkpointing): less memory, more time.
        compile: names of the parts of the model that torch.compile is to compile, such as backbone and neck.
        sync_batchnorm: share the statistics of live batch normalisation between the devices.
        log_every: steps between two lines of the log and two rows of losses in metrics.csv; at least one row an epoch.
        evaluate_every: epochs between two evaluations; the last epoch is always evaluated.
        loggers: any of "csv", "tensorboard", "wandb" and "mlflow"; metrics.csv is always written.
        callbacks: Lightning's, or yours, each as class_path and init_args; AP, oLRP and the other metrics can be
            monitored.
        pictures: pictures of predictions beside the ground truth drawn at the end; 0 for none.

    >>> TrainerOptions(precision="bf16-mixed").accumulate
    1
    """

    accelerator: str = "auto"
    devices: int | list[int] | str = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    precision: Precision = "32-true"
    gradient_clip: float | None = None
    max_steps: int | None = None
    overfit: int | None = None
    accumulate: int = 1
    ema: float | None = None
    most_nonfinite: int = 10
    recompute: list[str] | None = None
    compile: list[str] | None = None
    sync_batchnorm: bool = False
    log_every: int = 50
    evaluate_every: int = 1
    loggers: list[str] = field(default_factory=lambda: ["tensorboard"])
    callbacks: list[dict[str, Any]] | None = None
    pictures: int = 8

    def __post_init__(self) -> None:
        for name, least in (
            ("num_nodes", 1),
            ("max_steps", 1),
            ("overfit", 1),
            ("accumulate", 1),
            ("log_every", 1),
            ("evaluate_every", 1),
            ("most_nonfinite", 0),
            ("pictures", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"trainer.{name} must be at least {least}, got {value}")
        if unknown := [name for name in self.loggers if name not in LOGGERS]:
            raise ValueError(f"trainer.loggers: there is no logger {unknown[0]!r}; there are {', '.join(LOGGERS)}")
        if self.strategy != "auto" and not self.strategy.startswith("ddp"):
            raise ValueError(
                f'trainer.strategy must be "auto" or one of the "ddp" kind, got {self.strategy!r}: each device holds '
                "the whole model, as the weights of a detector are little beside its activations"
            )
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"trainer.ema must be > 0 and < 1, or null, got {self.ema}")
        if self.gradient_clip is not None and self.gradient_clip <= 0:
            raise ValueError(f"trainer.gradient_clip must be > 0 or null, got {self.gradient_clip}")
