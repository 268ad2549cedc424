"""Where a run goes: a folder of its own, agreed on by all processes, never one that holds another run."""

from __future__ import annotations

import os
from pathlib import Path

from rankdet.train.checkpoints import LAST
from rankdet.train.files import fresh_folder, make_folder

_AGREED = "RANKDET_RUN_FOLDER"
_ALL_RUNS = Path("runs")


def choose_folder(output: str | Path | None, *, name: str, resume: Path | None) -> Path:
    """The folder of a run, made and writable.

    Args:
        output: what the user asked for; None for the folder of `resume`, or a new one in ``runs``.
        name: of the new folder.
        resume: checkpoint to go on from.

    Raises:
        ValueError: when `output` holds another run, or processes started by others cannot know of a new folder.
        OSError: when it cannot be written to.
    """
    if output is None:
        return make_folder(resume.parent if resume is not None else _new_folder(name))
    folder = Path(output)
    continues = resume is not None and resume.parent.resolve() == folder.resolve()
    if is_first_process() and not continues and (folder / LAST).exists():
        raise ValueError(
            f"the folder {folder} already holds a run; choose another one, or continue that run with "
            f"--resume {folder / LAST}"
        )
    return make_folder(folder)


def is_first_process() -> bool:
    """Whether this process speaks and writes for all; known from the environment before they have met."""
    return all(int(os.environ.get(name, "0")) == 0 for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK"))


def _new_folder(name: str) -> Path:
    if not is_first_process() and _AGREED in os.environ:
        return Path(os.environ[_AGREED])
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise ValueError("torchrun starts processes that must agree on the folder of the run; name it with --output")
    folder = fresh_folder(_ALL_RUNS, name)
    os.environ[_AGREED] = str(folder)  # Lightning starts the other processes with this environment
    return folder
