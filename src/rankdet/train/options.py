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
        devices: their number, a list of their indices, or "auto" for all available ones.
        num_nodes: number of machines.
        strategy: "auto", "ddp", or another of Lightning's "ddp" strategies, such as
            "ddp_find_unused_parameters_true". Those that shard the weights of a model are refused.
        precision: "32-true", "16-mixed" (loss scaling included) or "bf16-mixed".
        gradient_clip: largest norm of the gradient; None for no clipping.
        max_steps: the most optimiser steps. Epochs that would end later are left out; if this is the first one, it ends
            after this many steps.
        overfit: train on only this many of the training images, without augmentation, and evaluate on them: a sound
            model learns them by heart. None for a proper training.
        accumulate: batches whose gradients are added up for one step.
        ema: decay of an exponential moving average of the weights, which is then evaluated and saved in best.ckpt;
            0.999 averages over about 1,000 steps. None for no average.
        most_nonfinite: steps in a row that may be skipped because a loss or a gradient is not finite; one more ends the
            training.
        recompute: names of the parts, such as backbone, whose activations are recomputed in the backward pass instead
            of being kept (gradient checkpointing): less memory, more time.
        compile: names of the parts of the model to compile with torch.compile, such as backbone and neck.
        sync_batchnorm: share the statistics of live batch normalisation between the devices.
        log_every: steps between two lines of the log, and two rows of losses in metrics.csv; at least one row per
            epoch.
        evaluate_every: epochs between two evaluations; the last epoch is always evaluated.
        loggers: any of "csv", "tensorboard", "wandb" and "mlflow"; metrics.csv is always written.
        callbacks: Lightning's or your own, each as class_path and init_args; they can monitor AP, oLRP and the other
            metrics.
        pictures: number of pictures of predictions next to the ground truth, drawn at the end; 0 for none.

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
