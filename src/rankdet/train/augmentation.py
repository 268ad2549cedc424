"""Says when the strong augmentation of a training changes."""

from __future__ import annotations

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from rankdet.data.mixing import names_of
from rankdet.data.strong import StrongAugmentation
from rankdet.train.display import Display
from rankdet.train.task import DetectionTask


class SayAugmentation(Callback):
    """Prints a line before an epoch whose strong augmentation is another than before; the loader makes it so.

    Args:
        strong: knows which epochs those are.
        display: where to.
    """

    def __init__(self, strong: StrongAugmentation, display: Display) -> None:
        self.strong = strong
        self.display = display

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DetectionTask), "trainings here are of this kind"
        epoch, epochs = trainer.current_epoch, pl_module.schedule.epochs
        before, now = (self.strong.in_epoch(one, epochs=epochs) for one in (epoch - 1, epoch))
        if epoch == 0 or before == now:
            return
        what = f"with {names_of(now)}" if now else f"without {names_of(before)}"
        self.display.print(f"epoch {epoch + 1}/{epochs}  from here on {what}")
