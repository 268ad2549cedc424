"""Says when the strong augmentation of a training ends."""

from __future__ import annotations

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from rankdet.data.strong import StrongAugmentation
from rankdet.train.display import Display
from rankdet.train.task import DetectionTask


class SayClosing(Callback):
    """Prints a line before the first epoch without strong augmentation; the loader sees to it that it is so.

    Args:
        strong: knows which epoch that is.
        display: where to.
    """

    def __init__(self, strong: StrongAugmentation, display: Display) -> None:
        self.strong = strong
        self.display = display

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DetectionTask), "trainings here are of this kind"
        epochs = pl_module.schedule.epochs
        if 0 < trainer.current_epoch == self.strong.closed_from(epochs):
            self.display.print(f"epoch {trainer.current_epoch + 1}/{epochs}  from here on without {self.strong.names}")
