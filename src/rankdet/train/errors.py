"""What can go wrong in a training, as exceptions whose message says what to do."""

from __future__ import annotations

from pathlib import Path


class TrainingError(RuntimeError):
    """A training that cannot continue, such as one whose loss is no longer a number."""


class TrainingInterrupted(RuntimeError):  # noqa: N818 (nothing went wrong)
    """Somebody asked the training to stop; `checkpoint` continues it exactly where it was, None if it never began."""

    def __init__(self, message: str, *, checkpoint: Path | None = None) -> None:
        super().__init__(message)
        self.checkpoint = checkpoint
