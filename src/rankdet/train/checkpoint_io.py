"""Lightning's way to write checkpoints, replaced by one that never touches the old file before the new one is whole."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from typing_extensions import override

from rankdet.train.files import write_bytes


class ReplacingIO(TorchCheckpointIO):
    """Writes beside the old checkpoint and takes its place when the new one is on the disk.

    Lightning writes to the folder for temporary files and moves, which is a copy into the old checkpoint wherever the
    two folders are on different file systems.
    """

    @override
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        if storage_options is not None:
            raise TypeError(f"storage_options are not supported, got {storage_options!r}")
        content = io.BytesIO()  # torch hides what the disk complains about
        torch.save(checkpoint, content)
        write_bytes(Path(path), content.getbuffer())
